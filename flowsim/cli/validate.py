"""``flowsim validate``: look for mistakes in scenarios; nothing is computed."""

from __future__ import annotations

from pathlib import Path

import click

from flowsim.cli.common import debug_option, note, say, worst
from flowsim.errors import InputError


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...", type=click.Path(path_type=Path))
@debug_option
@click.pass_context
def validate(ctx: click.Context, scenarios: tuple[Path, ...]) -> None:
    """Look for mistakes in scenarios; nothing is computed.

    Every mistake of every file is told at once, on stderr, with its line and column and what to do about it.
    The exit code is 2 if there is any.

    \b
    Example:
      flowsim validate scenarios/*.yaml
    """
    from flowsim.scenario import read_scenario

    codes = []
    for path in scenarios:
        try:
            document = read_scenario(path)
        except InputError as error:
            for line in error.lines():
                note(line)
            codes.append(error.exit_code)
            continue
        for warning in document.warnings:
            note(f"{path}: warning: {warning}")
        count = len(document.warnings)
        say(f"{path}: ok" + (f", {count} warning{'s' * (count > 1)}" if count else ""))
    ctx.exit(worst(codes))
