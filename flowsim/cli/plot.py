"""``flowsim plot``: draw the figures of a result again."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowsim.cli.common import PathName, debug_option, ensure_writable, note, say
from flowsim.cli.completion import FIGURE_NAMES, listed_words, words
from flowsim.cli.look import look_options, options_from
from flowsim.cli.points import at_option, example, folder_of, places_at, said
from flowsim.errors import InputError

if TYPE_CHECKING:
    from flowsim.report.plots import Drawing

_FORMATS = ("png", "svg", "pdf")


def _formats(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
    unknown = [name for name in names if name not in _FORMATS]
    if unknown or not names:
        raise click.BadParameter(f"{value!r} is not a list of formats; take some of {', '.join(_FORMATS)}")
    return names


@click.command()
@click.argument("result", type=PathName())
@click.option(
    "--figure",
    "figures",
    multiple=True,
    metavar="NAME",
    shell_complete=words(*FIGURE_NAMES),
    help="Draw only this one; may be repeated.",
)
@click.option(
    "--format",
    "formats",
    default="png,svg",
    show_default=True,
    callback=_formats,
    metavar="LIST",
    shell_complete=listed_words(*_FORMATS),
    help="Formats, with commas between them: png, svg, pdf.",
)
@click.option(
    "--out",
    type=PathName(folder=True),
    metavar="DIR",
    help="The folder for the figures.  [default: figures/ beside the data]",
)
@at_option
@look_options
@debug_option
def plot(
    result: Path,
    figures: tuple[str, ...],
    formats: tuple[str, ...],
    out: Path | None,
    at: tuple[str, ...],
    **look: str | int | None,
) -> None:
    """Draw the figures of RESULT again, from its file alone.

    RESULT is a result's folder or the .nc file in it. Without --figure all figures that apply are drawn;
    their paths are printed, and captions.md holds a caption and an alternative text for each.

    Of a sweep that is the figure phase_diagram: final loss, time to reach and outcome over the swept keys. All
    other figures show one point of it, which --at chooses by its values; they go into a folder of its own, such
    as figures/std=0.01_exponent=2/.

    \b
    Examples:
      flowsim plot results/frobenius-1a2b3c4d --figure loss_vs_rank --format pdf --size column
      flowsim plot results/frobenius-1a2b3c4d --ranks 1,4 --log none --dpi 600
      flowsim plot results/phases-5e6f7a8b
      flowsim plot results/phases-5e6f7a8b --at std=0.01 --at exponent=2
      flowsim plot results/phases-5e6f7a8b --x exponent --y rank
    """
    from flowsim.trajectory.points import axes_of, point_of
    from flowsim.trajectory.store import open_result

    options = options_from(look)
    with open_result(result) as tree:
        axes = axes_of(tree)
        places = places_at(axes, at) if at else ()
        folder = out or (result if result.is_dir() else result.parent) / "figures"
        if places:
            tree = point_of(tree, places)
            tree.attrs["point"] = said(axes, places)  # for the footer
            folder = folder if out else folder / folder_of(axes, places)
        ensure_writable(folder)

        from flowsim.report.plots import FIGURES, draw

        for name in figures:
            if name not in FIGURES:
                close = get_close_matches(name, FIGURES, n=1)
                guess = f"did you mean {close[0]}? " if close else ""
                raise InputError(f"there is no figure {name!r}", f"{guess}the figures are: {', '.join(FIGURES)}")
            if axes and not places and not FIGURES[name].of_sweep:
                raise InputError(
                    f"figure {name!r} shows one point, and {result} is a sweep",
                    f"Choose a point, such as {example(axes)}, or draw {_of_sweeps(FIGURES)}.",
                )
            if places and FIGURES[name].of_sweep:
                raise InputError(f"figure {name!r} shows a whole sweep, not one point", "Leave --at out.")
        paths = draw(tree, folder, figures=list(figures) or None, formats=formats, options=options)
    if not paths:
        note("no figure applies to this result")
    for path in paths:
        say(str(path))


def _of_sweeps(figures: Mapping[str, Drawing]) -> str:
    return ", ".join(name for name, one in figures.items() if one.of_sweep)
