"""Runs the commands of a page in its folder, as a reader would."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import ROOT, Block
from tests.docs.match import same_output

SECONDS = {False: 300, True: 3600}  # for a command of a plain and of a slow block
SCHEDULER = "tcp://scheduler:8786"  # the address that the pages use
NOT_COPIED = (".git", ".venv", "build", "dist", "results", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")

#: What `make TARGET` has to run. Only the demo is run itself: the others run these tests, install, or take an hour.
EXPANDS = {
    "test": ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"),
    "slow": ("pytest", "-m slow"),
    "bench": ("tests.benchmarks",),
    "docs": ("sphinx-build --fail-on-warning",),
    "minilm": ("scenarios/minilm_query.yaml",),
}


class Shell:
    """The commands of one page; background processes end with it.

    Parameters
    ----------
    folder : Path
        Where commands run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._address: str | None = None

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def block(self, block: Block) -> str | None:
        """Run a `console` block; what went wrong is returned. The last command ends with the exit code said."""
        commands = list(_commands(block.source))
        if not commands:
            return "a console block without a line that begins with '$ '"
        for place, (command, shown) in enumerate(commands):
            code = int(block.said.get("exit", "0")) if place == len(commands) - 1 else 0
            done = self.run(command, slow=block.slow)
            if done.returncode != code:
                return f"$ {command}\nended with {done.returncode}, {code} expected\n{done.stdout}\n{done.stderr}"
            if shown.strip() and not same_output(shown, done.stdout):
                return f"$ {command}\nshown:\n{shown}\ngiven:\n{done.stdout}\n{done.stderr}"
        return None

    def run(self, command: str, *, slow: bool) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; a scheduler or worker of Dask stays in the background."""
        words = shlex.split(command, comments=True)
        if "dask" in words:
            self._start(words)
            return subprocess.CompletedProcess(command, 0, "", "")
        if words[0] == "make":
            return self._make(words[1:], slow=slow)
        if self._address:
            command = command.replace(SCHEDULER, self._address)
        return self._finish(["bash", "-c", command], self.folder, slow=slow)

    def _finish(self, words: list[str], folder: Path, *, slow: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=SECONDS[slow], check=False
        )

    def _make(self, arguments: list[str], *, slow: bool) -> subprocess.CompletedProcess[str]:
        """Run `make demo` in a copy, with what is installed here; of other targets see what they would run."""
        if arguments == ["demo"]:
            copy = self.folder / "copy"
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
            installed = ["-o", f"{sys.prefix}/installed", f"VENV={sys.prefix}"]  # -o: nothing is installed again
            return self._finish(["make", *installed, "demo"], copy, slow=slow)
        done = self._finish(["make", "-n", *arguments], ROOT, slow=slow)
        missing = [words for words in EXPANDS.get(arguments[0], ()) if words not in done.stdout]
        if done.returncode == 0 and (missing or not done.stdout.strip()):
            return subprocess.CompletedProcess(done.args, 1, done.stdout, f"does not run {', '.join(missing)}")
        return subprocess.CompletedProcess(done.args, done.returncode, "", done.stderr)

    def _start(self, words: list[str]) -> None:
        """Start `dask scheduler` or `dask worker` on a free port of this machine, and wait until it is ready."""
        kind = words[words.index("dask") + 1]
        if kind == "scheduler":
            port = _free_port()
            self._address = f"tcp://127.0.0.1:{port}"
            words = [*words, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        elif self._address is None:
            raise AssertionError("a worker before its scheduler")
        words = [str(self._address) if word == SCHEDULER else word for word in words]
        log = self.folder / f"dask-{len(list(self.folder.glob('dask-*.log')))}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["env", *words], cwd=self.folder, env=_environment() | {"PYTHONWARNINGS": "ignore"},
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._stack.callback(_end, process)
        _wait_for("Scheduler at:" if kind == "scheduler" else "Registered to:", log, process)


def _commands(source: str) -> Iterator[tuple[str, str]]:
    """Each command with the output shown below it."""
    for piece in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
        command, _, shown = piece.partition("\n")
        yield command.strip(), shown


def _environment() -> dict[str, str]:
    """The present environment with flowsim on PATH, and nothing of a `make` that runs these tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    bins = [str(Path(sys.prefix) / "bin"), *kept.get("PATH", "").split(os.pathsep)]
    return kept | {"PATH": os.pathsep.join(bins), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(words: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{process.args}: never said {words!r}\n{log.read_text(errors='replace')}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
