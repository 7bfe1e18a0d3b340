"""What a phase diagram says in words: its caption and its alternative text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from flowsim.report.cells import Direction
from flowsim.report.data import Array, Result, number
from flowsim.report.ends import WORDS
from flowsim.report.options import Options
from flowsim.report.phase_layout import Layout, lay_out
from flowsim.report.words import counted, printable, sentence, shortened
from flowsim.trajectory.points import axes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 60


def caption_of_phases(tree: xr.DataTree, options: Options) -> str:
    """What is shown, and how to read it."""
    layout = _layout(tree, options)
    seeds = f"; numbers are medians over {layout.seeds} seeds" if layout.seeds > 1 else ""
    rows = [block.title for block in layout.blocks if block.title]
    each = f", a row for each of {', '.join(map(printable, rows))}" if len(rows) > 1 else ""
    notes = " ".join(printable(note).replace(r"\\$", "$") for note in layout.notes)
    said = (
        f"Final loss, time to reach the goal, and most frequent outcome of the flow over {_name(layout.x)} and "
        f"{_name(layout.y)}{each}. Every cell is one point of the sweep{seeds}. Marks repeat what colours say."
    )
    return f"{said} {notes}".rstrip()


def alt_of_phases(tree: xr.DataTree, options: Options) -> str:
    """Which cells there are, and the range of what they show."""
    layout = _layout(tree, options)
    said = [f"Maps of {len(layout.x.order)} × {len(layout.y.order)} cells over {_span(layout.x)} and {_span(layout.y)}"]
    for place, block in enumerate(layout.blocks):
        where = f"for {printable(block.title)}, " if block.title else ""
        parts = [
            _range("the final loss", block.ends.loss, layout),
            _range("the time to reach the goal", block.ends.reach_time, layout),
            _outcomes(layout, place),
        ]
        said += [f"{where}{part}" for part in parts]
    return " ".join(sentence(part) for part in said)


def _layout(tree: xr.DataTree, options: Options) -> Layout:
    return lay_out(Result.of(tree), axes_of(tree), options.x, options.y)


def _name(direction: Direction) -> str:
    return printable(shortened(direction.label, 120))


def _span(direction: Direction) -> str:
    """`std from 1e-05 to 1`, or the texts."""
    ends = [printable(shortened(direction.texts[place], LONGEST)) for place in (0, -1)]
    return f"{_name(direction)} " + (f"from {ends[0]} to {ends[1]}" if len(direction.texts) > 1 else f"= {ends[0]}")


def _range(what: str, values: Array, layout: Layout) -> str:
    """The lowest and highest number, and the cells that have them."""
    known = np.isfinite(values)
    if not known.any():
        return f"{what} is not finite in any cell"
    low = _where(np.where(known, values, np.inf).argmin(), values, layout)
    high = _where(np.where(known, values, -np.inf).argmax(), values, layout)
    lacks = counted(int((~known).sum()), "cell has none", "cells have none") if not known.all() else ""
    if number(float(values[known].min())) == number(float(values[known].max())):
        said = f"{what} is {number(float(values[known].min()))} in every cell that has one"
    else:
        said = f"{what} goes from {low} to {high}"
    return f"{said}; {lacks}" if lacks else said


def _where(place: np.intp, values: Array, layout: Layout) -> str:
    y, x = np.unravel_index(int(place), values.shape)
    at = [printable(shortened(one.texts[int(spot)], LONGEST)) for one, spot in ((layout.x, x), (layout.y, y))]
    return f"{number(float(values[y, x]))} (at {at[0]}, {at[1]})"


def _outcomes(layout: Layout, place: int) -> str:
    """How many of all runs ended in which way."""
    counts = layout.blocks[place].ends.counts
    sums: Sequence[int] = counts.reshape(-1, counts.shape[-1]).sum(0).tolist()
    total = sum(sums)
    found = sorted(((count, word) for count, word in zip(sums, WORDS, strict=True) if count), reverse=True)
    return f"of {total} runs, " + ", ".join(f"{count} ended as {word.replace('_', ' ')}" for count, word in found)
