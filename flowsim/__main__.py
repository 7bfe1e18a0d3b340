"""``python -m flowsim`` is the command ``flowsim``."""

from flowsim.cli import main

if __name__ == "__main__":
    main()
