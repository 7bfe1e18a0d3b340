"""``flowsim new``: a commented scenario to start from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from flowsim.cli.common import debug_option, say
from flowsim.errors import InputError, OutputError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@click.command()
@click.argument("name")
@debug_option
def new(name: str) -> None:
    """Write NAME.yaml, a commented scenario to start from.

    NAME consists of lower-case letters, digits, - and _; a folder that exists may stand before it. A file
    that exists is never overwritten.

    \b
    Example:
      flowsim new mine
      flowsim run mine.yaml
    """
    path = Path(name)
    stem = path.name.removesuffix(".yaml")
    if not _NAME.fullmatch(stem):
        raise InputError(
            f"{stem!r} cannot be the name of a scenario",
            "take lower-case letters, digits, - and _, and begin with a letter or digit, as in my_scenario-2",
        )
    path = path.with_name(f"{stem}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template(stem))
    except FileExistsError as error:
        raise OutputError(f"{path} exists already", "choose another name, or remove the file first") from error
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}",
            "choose a folder that exists and is writable",
        ) from error
    say(f"{path} written; next: flowsim run {path} --dry-run")


def template(name: str) -> str:
    """The text of the scenario to start from, under this name."""
    from importlib.resources import files

    text = files("flowsim.cli").joinpath("templates", "scenario.yaml").read_text(encoding="utf-8")
    return text.replace("NAME", name)
