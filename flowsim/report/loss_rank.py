"""Final loss against rank, and what is left above the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.canvas import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    UPDATE_LOOK,
    VERMILLION,
    Sheet,
    axis_label,
    say_inside,
)
from flowsim.report.data import Array, Family, Result, number, spread
from flowsim.report.marks import BELOW, below_axis, curve, legend, measured
from flowsim.report.options import Options
from flowsim.report.scales import rank_axis, shifted, value_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS_DECADES = 12.0
FINAL_DECADES = 40.0  # the excess is free of cancellation and may fall further than a float64 resolves the loss
DIFFERENT = 1e-6  # relative difference from which a limit is drawn beside the floor


def has_loss(tree: xr.DataTree) -> str:
    """Empty if there is a loss to draw, else why not."""
    return "" if Result.of(tree).has("trajectory", "loss") else "the result holds no finite loss"


def loss_vs_rank(tree: xr.DataTree, options: Options) -> Figure:
    """Final loss of the flow against rank, the theory as another mark, and what is left above the floor below."""
    result = Result.of(tree)
    floor = result.theory("loss_floor")[:, 0]
    flat = not (floor > 0).any()  # then loss and excess are the same numbers: one panel says it all
    heights: dict[str, Any] = {} if flat else {"height_ratios": [1.45, 1]}
    rows = 1 if flat else 2
    sheet = Sheet("Final loss against rank", 2.2 + 1.1 * rows, rows, options=options, sharex=True, **heights)
    upper, lower = sheet.axes[0], sheet.axes[-1]
    wide = rank_axis(lower, result.ranks, options)
    if not flat:
        _loss_panel(result, sheet, upper, floor, wide)
    _excess_panel(result, sheet, lower, wide, alone=flat)
    lower.set_xlabel("rank r")
    legend(sheet)
    if flat and np.isfinite(floor).any():
        sheet.note("The floor is 0 at every rank: the loss is the excess loss.")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _loss_panel(result: Result, sheet: Sheet, axes: Axes, floor: Array, wide: bool) -> None:
    ranks, values = np.array(result.ranks, dtype=float), result.finals("loss")
    limit = spread(result.theory("loss_limit")).middle
    start = spread(result.starts("loss")).middle
    seen = np.concatenate([values.ravel(), floor, limit, start])
    low, _ = value_axis(axes, seen, sheet.options, decades=LOSS_DECADES)
    curve(axes, ranks, start, color=GREY, linestyle=":", marker="_", label="at the start")
    curve(
        axes, ranks, np.where(floor >= low, floor, np.nan), color=ORANGE, marker="s", markersize=8,
        markerfacecolor="none", label="theory: floor of this rank",
    )  # fmt: skip
    _limit(axes, ranks, np.where(result.limit_excess() > DIFFERENT * np.abs(limit), limit, np.nan))
    under = below_axis(axes, ranks, floor, low, ORANGE, size=9.0)  # larger: the flow's own may lie on top
    under |= measured(result, axes, values, low)
    under |= _descents(result, axes, "loss", low, wide, sheet.options.roomy)
    if under:
        sheet.note(BELOW)
    axes.set_ylabel(axis_label(result.attrs("final", "loss"), 30))


def _excess_panel(result: Result, sheet: Sheet, axes: Axes, wide: bool, *, alone: bool) -> None:
    ranks, values = np.array(result.ranks, dtype=float), result.finals("excess_loss")
    goals, start = result.goals(), spread(result.starts("excess_loss")).middle
    limit = result.limit_excess()
    seen = np.concatenate([values.ravel(), goals, start if alone else goals])
    top = float(np.max(np.where(np.isfinite(start), start, 0.0)))
    low, _ = value_axis(axes, seen, sheet.options, decades=FINAL_DECADES, top=top)
    if alone:
        curve(axes, ranks, start, color=GREY, linestyle=":", marker="_", label="at the start")
    reach = number(float(result.view.tree.attrs.get("reach", np.nan)))
    curve(axes, ranks, goals, color=BLACK, linestyle="--", marker="_", linewidth=0.9, label=f"goal: {reach} × start")
    _limit(axes, ranks, np.where(limit > goals, limit, np.nan))
    if not np.isfinite(values).any():
        say_inside(axes, "no finite loss at the last time")
    elif not (values > 0).any():
        say_inside(axes, "zero at every rank")
    under = measured(result, axes, values, low)
    if under | _descents(result, axes, "excess_loss", low, wide, sheet.options.roomy):
        sheet.note(BELOW)
    name = None if alone else "excess over the floor"
    axes.set_ylabel(axis_label(result.attrs("final", "loss" if alone else "excess_loss"), 30, name))


def _limit(axes: Axes, ranks: Array, limit: Array) -> None:
    """Where this start does not tend to the floor: its exact limit."""
    curve(
        axes, ranks, limit, linestyle="none", marker="x", markersize=8, color=VERMILLION,
        label="theory: limit of this start",
    )  # fmt: skip


def _descents(result: Result, axes: Axes, name: str, low: float, wide: bool, roomy: bool) -> bool:
    """Final medians of every descent family, beside the flow's; returns whether some are below the axis."""
    families = [family for family in result.families if family.kind == "descent"]
    ranks, under = np.array(result.ranks, dtype=float), False
    _, high = axes.get_ylim()
    for index, family in enumerate(families):
        away = (0.026 + 0.016 * (index // 2)) * (1 if roomy else 1.8)  # the first two outside the theory's square
        x = shifted(ranks, away if index % 2 == 0 else -away, wide)
        colour, marker = _family_look(family)
        values = np.stack([spread(result.finals(name, place)).middle for place in family.places])
        inside = (values >= low) & (values <= high)
        if inside.any():
            axes.plot(
                np.broadcast_to(x, values.shape)[inside], values[inside], linestyle="none", marker=marker,
                color=colour, markerfacecolor="none", markersize=3.2, markeredgewidth=0.7,
                label=family.label.replace("simultaneous, ", "simultaneous,\n"), zorder=3,
            )  # fmt: skip
        for row in values:
            under |= below_axis(axes, x, row, low, colour)
    return under


def _family_look(family: Family) -> tuple[str, str]:
    """The look of an update order; not the flow's own blue disc."""
    colour, marker = UPDATE_LOOK.get(family.update, (GREY, "o"))
    if family.inner_steps > 1:
        marker = {"o": "D", "^": "<", "v": ">"}.get(marker, "p")
    return (SKY if colour == BLUE else colour), ("s" if marker == "o" else marker)
