"""Marks that several figures share: curves, the flow's measured points, what lies below an axis, legends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.canvas import BLUE, Sheet
from flowsim.report.data import Array, Result, Spread, spread
from flowsim.report.scales import beyond, on_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER = 0.056  # inches that a letter of a legend takes
BELOW = "Arrows at the lower edge: zero, or below the axis."


def curve(axes: Axes, x: Array, y: Array, **look: Any) -> None:
    """A line; what the axis cannot show is left out, and nothing is drawn if nothing is left."""
    y = on_axis(axes, y)
    if np.isfinite(y).any():
        axes.plot(x, y, **look)


def below_axis(
    axes: Axes, x: Array, y: Array, low: float, colour: Any, label: str | None = None, size: float = 5.0
) -> bool:
    """Mark values in (−∞, low) by an arrow at the lower edge; returns whether there were any."""
    under = np.isfinite(y) & (y < low)
    if under.any():
        axes.plot(
            x[under], np.full(int(under.sum()), 0.025), linestyle="none", marker=11, markersize=size, color=colour,
            label=label, transform=axes.get_xaxis_transform(), clip_on=False, zorder=4,
        )  # fmt: skip
    return bool(under.any())


def measured(result: Result, axes: Axes, values: Array, low: float) -> bool:
    """The flow's final values against rank: medians over seeds with their range.

    Hollow where some seed has not reached its goal for the loss.

    Parameters
    ----------
    values : ndarray, (rank, seed)
    low : float
        Lower end of the axis.

    Returns
    -------
    bool
        Whether some medians are below the axis.
    """
    ranks, over = np.array(result.ranks, dtype=float), spread(values)
    many = values.shape[1] > 1
    if many:
        bars(axes, ranks, over, low)
    done = (result.outcomes() == "reached").all(-1)
    seen = over.middle >= low
    name = "flow, median and\nrange over seeds" if many else "flow"
    open_name = "flow, goal not\nreached by all seeds" if many else "flow, goal not reached"
    for hit, face, label in ((done & seen, BLUE, name), (~done & seen, "white", open_name)):
        if hit.any():
            axes.plot(
                ranks[hit], over.middle[hit], linestyle="none", marker="o", markersize=4.5, color=BLUE,
                markerfacecolor=face, label=label, zorder=4,
            )  # fmt: skip
    return below_axis(axes, ranks, over.middle, low, BLUE, None if seen.any() else f"{name}:\nbelow the axis")


def bars(axes: Axes, ranks: Array, over: Spread, low: float) -> None:
    """Range over seeds: a band, and a bar at each rank."""
    least = beyond(low, 0.1)
    bottom, top = np.maximum(over.low, least), np.maximum(over.high, least)
    axes.fill_between(ranks, bottom, top, color=BLUE, alpha=0.15, linewidth=0)
    axes.vlines(ranks, bottom, top, color=BLUE, linewidth=1)


def legend(sheet: Sheet) -> None:
    """One legend for all panels, each entry once: at the right, or below where the sheet is narrow."""
    handles: dict[str, Any] = {}
    for axes in sheet.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(str(label), handle)
    if not handles:
        return
    options: dict[str, Any] = {"loc": "outside right upper"}
    if not sheet.options.roomy:
        longest = max(len(line) for label in handles for line in label.replace("$", "").split("\n"))
        columns = int((sheet.options.width - 0.1) / (0.4 + LETTER * longest))
        options = {"loc": "outside lower center", "ncols": max(min(columns, len(handles), 4), 1), "columnspacing": 1.0}
    sheet.body.legend(list(handles.values()), list(handles), **options)
