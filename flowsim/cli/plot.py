"""``flowsim plot``: draw the figures of a result again."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

from flowsim.cli.common import debug_option, ensure_writable, note, say
from flowsim.errors import InputError

_FORMATS = ("png", "svg", "pdf")


def _formats(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
    unknown = [name for name in names if name not in _FORMATS]
    if unknown or not names:
        raise click.BadParameter(f"{value!r} is not a list of formats; take some of {', '.join(_FORMATS)}")
    return names


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--figure", "figures", multiple=True, metavar="NAME", help="Draw only this one; may be repeated.")
@click.option(
    "--format",
    "formats",
    default="png,svg",
    show_default=True,
    callback=_formats,
    metavar="LIST",
    help="Formats, with commas between them: png, svg, pdf.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder for the figures.  [default: figures/ beside the data]",
)
@debug_option
def plot(result: Path, figures: tuple[str, ...], formats: tuple[str, ...], out: Path | None) -> None:
    """Draw the figures of RESULT again, from its file alone.

    RESULT is a result's folder or the .nc file in it. Without --figure all figures that apply are drawn;
    their paths are printed.

    \b
    Example:
      flowsim plot results/frobenius-1a2b3c4d --figure loss_vs_rank --format pdf
    """
    from flowsim.trajectory.store import load

    tree = load(result)
    folder = out or (result if result.is_dir() else result.parent) / "figures"
    ensure_writable(folder)

    from flowsim.report.plots import FIGURES, draw

    for name in figures:
        if name not in FIGURES:
            close = get_close_matches(name, FIGURES, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"there is no figure {name!r}", f"{guess}the figures are: {', '.join(FIGURES)}")
    paths = draw(tree, folder, figures=list(figures) or None, formats=formats)
    if not paths:
        note("no figure applies to this result")
    for path in paths:
        say(str(path))
