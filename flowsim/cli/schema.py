"""``flowsim schema``: the JSON schema of a scenario, for editors."""

from __future__ import annotations

import click

from flowsim.cli.common import debug_option, say


@click.command()
@debug_option
def schema() -> None:
    """Print the JSON schema of a scenario.

    Editors that know YAML schemas complete and check a scenario as it is written, once its first line names
    the schema file: # yaml-language-server: $schema=schema.json

    \b
    Example:
      flowsim schema > schema.json
    """
    from flowsim.scenario import schema_text

    say(schema_text().rstrip("\n"))
