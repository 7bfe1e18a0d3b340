"""``flowsim validate``: look for mistakes in scenarios; nothing is computed."""

from __future__ import annotations

from pathlib import Path

import click

from flowsim.cli.common import PathName, debug_option, note, say, worst
from flowsim.cli.completion import setting_keys
from flowsim.errors import InputError


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...", type=PathName())
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    shell_complete=setting_keys,
    help="Change a value of every scenario first, as in --set adapter.ranks=[1,2]; may be repeated.",
)
@debug_option
@click.pass_context
def validate(ctx: click.Context, scenarios: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Look for mistakes in scenarios; nothing is computed.

    Every mistake of every file is told at once, on stderr, with its line and column and what to do about it.
    The exit code is 2 if there is any. Of a sweep every point is looked at, and their number is told.

    \b
    Examples:
      flowsim validate scenarios/*.yaml
      flowsim validate mine.yaml --set 'adapter.init={kind: file, path: start.npz}'
    """
    from flowsim.scenario import read_scenario

    codes = []
    for path in scenarios:
        try:
            document = read_scenario(path, overrides)
        except InputError as error:
            for line in error.lines():
                note(line)
            codes.append(error.exit_code)
            continue
        for warning in document.warnings:
            note(f"{path}: warning: {warning}")
        facts = [f"{path}: ok"]
        if document.axes:
            facts.append(_counted(len(document.points), "point"))
        if document.warnings:
            facts.append(_counted(len(document.warnings), "warning"))
        say(", ".join(facts))
    ctx.exit(worst(codes))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"
