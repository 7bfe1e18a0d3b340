"""Options of ``flowsim plot`` for the look of the figures, and for the part of a result that they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from flowsim.cli.completion import words

if TYPE_CHECKING:
    from flowsim.report.options import Options

DPI = 200


def look_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add them to a command, which gets their texts by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--size",
        metavar="SIZE",
        default="text",
        show_default=True,
        shell_complete=words("text", "column"),
        help="WIDTHxHEIGHT or WIDTH in inches; column: 3.25 wide, text: 6.5 wide.",
    ),
    click.option("--dpi", type=int, default=DPI, show_default=True, help="Dots per inch of PNG pictures."),
    click.option(
        "--log",
        metavar="AXES",
        shell_complete=words("x", "y", "x,y", "none"),
        help="Logarithmic axes: x, y, x,y or none.  [default: as suits the data]",
    ),
    click.option("--ranks", metavar="LIST", help="Show these ranks alone, as in 1,2,4."),
    click.option("--seeds", metavar="LIST", help="Show these seeds alone, as in 0,1."),
    click.option("--x", metavar="KEY", help="Of a sweep: the key along x of the phase diagram; also rank."),
    click.option("--y", metavar="KEY", help="Of a sweep: the key along y of the phase diagram; also rank."),
)


def options_from(texts: Mapping[str, Any]) -> Options:
    """What they mean together.

    Raises
    ------
    InputError
        A text that means nothing, or what cannot be drawn.
    """
    from flowsim.report.options import Options, scales_of, size_of, whole_numbers

    width, height = size_of(texts["size"])
    return Options(
        width=width,
        height=height,
        dpi=texts["dpi"],
        log=None if texts["log"] is None else scales_of(texts["log"]),
        x=texts["x"] or "",
        y=texts["y"] or "",
        ranks=() if texts["ranks"] is None else whole_numbers(texts["ranks"], "rank"),
        seeds=() if texts["seeds"] is None else whole_numbers(texts["seeds"], "seed"),
    )
