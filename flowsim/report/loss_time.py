"""Excess loss over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import (
    BLACK,
    GREY,
    Colour,
    Sheet,
    axis_label,
    log_y,
    rank_looks,
    say_inside,
    time_axis,
)
from flowsim.report.data import Array, Result, number, schedule_words, spread
from flowsim.report.marks import curve, legend

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXCESS_DECADES = 20.0
FEW_LINES = 16  # other schedules × ranks that still leave the figure readable
DASHES = ((1, 1), (3, 1, 1, 1), (5, 1), (5, 1, 1, 1, 1, 1), (2, 2), (7, 2))


def loss_vs_time(tree: xr.DataTree) -> Figure:
    """Excess loss of the flow over time, one colour and marker per rank, with full fine-tuning beside it."""
    result = Result.of(tree)
    sheet = Sheet("Excess loss over time", 3.5)
    [axes] = sheet.axes
    times, over, seeds = result.times(), result.over_seeds("excess_loss"), len(result.view.seeds)
    start, goals = over.middle[:, 0], result.goals()
    seen = np.concatenate([over.low.ravel(), over.high.ravel(), goals])
    top = float(np.max(np.where(np.isfinite(start), start, 0.0)))
    low, high = log_y(axes, seen, decades=EXCESS_DECADES, top=top)
    early = time_axis(result, axes)
    looks = rank_looks(result.ranks)
    if not (over.high > 0).any():
        known = np.isfinite(over.high).any()
        say_inside(axes, "the flow is at its floor throughout" if known else "no finite excess loss")
    for place, (rank, (colour, marker)) in enumerate(zip(result.ranks, looks, strict=True)):
        x, middle = times[early:], over.middle[place, early:]
        if seeds > 1:
            bottom, upper = (np.clip(v[place, early:], low / 10, high * 10) for v in (over.low, over.high))
            axes.fill_between(x, bottom, upper, color=colour, alpha=0.18, linewidth=0)
        every = (len(x) // 24 * (place % 4), max(len(x) // 6, 1))
        curve(axes, x, middle, color=colour, marker=marker, markevery=every, label=f"r = {rank}")
    _limits(result, axes, looks, low)
    _goal(result, axes, goals)
    _baseline(result, axes, early)
    others = _other_schedules(result, axes, looks, high)
    legend(sheet)
    axes.set_xlabel("flow time t (time)")
    axes.set_ylabel(axis_label(result.attrs("trajectory", "excess_loss"), 48))
    spoken = f", median over {seeds} seeds with their range" if seeds > 1 else ""
    if spoken or others:
        thin = "; thin: the other schedules" + (", medians" if spoken else "") if others else ""
        sheet.note(f"Lines with markers: flow{spoken}{thin}.")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _limits(result: Result, axes: Axes, looks: list[tuple[Colour, str]], low: float) -> None:
    """The exact limit of the excess, where a start does not tend to the floor."""
    limits = result.limit_excess()
    named = False
    for (colour, _), limit, goal in zip(looks, limits, result.goals(), strict=True):
        if limit > max(low, goal):
            label = None if named else "theory: limit\nof this start"
            axes.axhline(limit, color=colour, linestyle=(0, (1, 2)), linewidth=1.4, label=label, zorder=1.6)
            named = True


def _goal(result: Result, axes: Axes, goals: Array) -> None:
    known = goals[np.isfinite(goals) & (goals > 0)]
    if not known.size:
        return
    label = f"goal: {number(float(result.view.tree.attrs.get('reach', np.nan)))} × start"
    if known.max() < 1.2 * known.min():
        axes.axhline(float(np.median(known)), color=BLACK, linestyle=":", linewidth=0.9, label=label)
    else:
        axes.axhspan(known.min(), known.max(), color=BLACK, alpha=0.12, linewidth=0, label=label)


def _baseline(result: Result, axes: Axes, early: int) -> None:
    """Full fine-tuning: one line, or the median over ranks and seeds where the start depends on them."""
    if not result.has("baseline", "loss"):
        return
    values = result.values("baseline", "loss")
    middle = spread(values.reshape(-1, values.shape[-1]), axis=0).middle[early:]
    times = result.values("baseline", "time")[early:]
    curve(axes, times, middle, color=BLACK, linestyle=(0, (4, 2)), linewidth=1, label="full fine-tuning", zorder=1.5)


def _other_schedules(result: Result, axes: Axes, looks: list[tuple[Colour, str]], high: float) -> bool:
    """Medians of the other schedules as thin lines, where they are few; returns whether there are any."""
    others = [row for row in result.view.schedules if row["place"] != 0]
    if not others or len(others) * len(result.ranks) > FEW_LINES:
        return False
    for index, row in enumerate(others):
        place = int(row["place"])
        middles = result.over_seeds("excess_loss", place).middle
        dash = (0, DASHES[index % len(DASHES)])
        for (colour, _), middle in zip(looks, middles, strict=True):
            inside = np.where(middle < high * 1e6, middle, np.nan)
            curve(axes, result.times(place), inside, color=colour, linestyle=dash, linewidth=0.8)
        words = schedule_words(row)
        for mark in (", η", ", h"):
            words = words.replace(mark, f",\n{mark[2:]}")
        axes.plot([], [], color=GREY, linestyle=dash, linewidth=0.8, label=words)
    return True
