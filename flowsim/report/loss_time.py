"""Excess loss over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.canvas import (
    BLACK,
    GREY,
    Colour,
    Sheet,
    axis_label,
    rank_looks,
    say_inside,
)
from flowsim.report.data import Array, Result, number, schedule_words, spread
from flowsim.report.marks import curve, legend
from flowsim.report.options import Options
from flowsim.report.scales import beyond, time_axis, value_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXCESS_DECADES = 20.0
FEW_LINES = 16  # other schedules × ranks, or seeds × ranks, that still leave the figure readable
HEADROOM = 1e4  # over the start: how far up the axis follows other schedules
DASHES = ((1, 1), (3, 1, 1, 1), (5, 1), (5, 1, 1, 1, 1, 1), (2, 2), (7, 2))
TICKS = ("", "|", "x")  # marks on the lines of further schedules, whose dashes come round again


def loss_vs_time(tree: xr.DataTree, options: Options) -> Figure:
    """Excess loss of the flow over time, one colour and marker per rank, with full fine-tuning beside it."""
    result = Result.of(tree)
    sheet = Sheet("Excess loss over time", 3.5, options=options, least=1.6)
    [axes] = sheet.axes
    times, over, seeds = result.times(), result.over_seeds("excess_loss"), len(result.view.seeds)
    start, goals = over.middle[:, 0], result.goals()
    others = _other_schedules(result)
    seen = np.concatenate([over.low.ravel(), over.high.ravel(), goals])
    top = float(np.max(np.where(np.isfinite(start), start, 0.0)))
    rises = [middle[middle <= HEADROOM * top] for _, middles in others for middle in middles]
    low, high = value_axis(axes, np.concatenate([seen, *rises]), options, decades=EXCESS_DECADES, top=top)
    each = seeds > 1 and seeds * len(result.ranks) <= FEW_LINES and not others
    early = time_axis(result, axes, options)
    looks = rank_looks(result.ranks)
    if not (over.high > 0).any():
        known = np.isfinite(over.high).any()
        say_inside(axes, "the flow is at its floor throughout" if known else "no finite excess loss")
    edges = beyond(low, 0.1), beyond(high, 10.0)
    for place, (rank, (colour, marker)) in enumerate(zip(result.ranks, looks, strict=True)):
        x, middle = times[early:], over.middle[place, early:]
        if seeds > 1:
            bottom, upper = (np.clip(v[place, early:], *edges) for v in (over.low, over.high))
            axes.fill_between(x, bottom, upper, color=colour, alpha=0.18, linewidth=0)
        for single in result.path("excess_loss", place) if each else ():
            curve(axes, x, single[early:], color=colour, linewidth=0.6, alpha=0.6)
        every = (len(x) // 24 * (place % 4), max(len(x) // 6, 1))
        curve(axes, x, middle, color=colour, marker=marker, markevery=every, label=f"r = {rank}")
    _limits(result, axes, looks, low)
    _goal(result, axes, goals)
    _baseline(result, axes, early)
    _draw_others(result, axes, looks, others, high)
    legend(sheet)
    axes.set_xlabel("flow time t (time)")
    axes.set_ylabel(axis_label(result.attrs("trajectory", "excess_loss"), 48 if options.roomy else 26))
    spoken = f", median over {seeds} seeds with their range{', each a thin line' * each}" if seeds > 1 else ""
    if spoken or others:
        thin = "; thin: the other schedules" + (", medians" if spoken else "") if others else ""
        sheet.note(f"Lines with markers: flow{spoken}{thin}.")
    for rank, words in zip(result.ranks, result.outcomes(), strict=True):
        done = int((words == "reached").sum())
        if 0 < done < len(words):
            sheet.note(f"r = {rank}: {done} of {len(words)} seeds reach the goal; the median may be of neither kind.")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _limits(result: Result, axes: Axes, looks: list[tuple[Colour, str]], low: float) -> None:
    """The exact limit of the excess, where a start does not tend to the floor; seeds may have their own."""
    with np.errstate(invalid="ignore", over="ignore"):
        limits = result.theory("loss_limit") - result.theory("loss_floor")
    named = False
    for (colour, _), own, goal in zip(looks, limits, result.goals(), strict=True):
        for limit in sorted({float(f"{limit:.3g}") for limit in own[own > max(low, goal)]}):
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


def _other_schedules(result: Result) -> list[tuple[dict[str, Any], Array]]:
    """The other schedules, where they are few: what each is, and its medians (rank, time)."""
    others = [row for row in result.view.schedules if row["place"] != 0]
    if len(others) * len(result.ranks) > FEW_LINES:
        return []
    return [(row, result.over_seeds("excess_loss", int(row["place"])).middle) for row in others]


def _draw_others(
    result: Result, axes: Axes, looks: list[tuple[Colour, str]], others: list[tuple[dict[str, Any], Array]], high: float
) -> None:
    """Medians of the other schedules as thin lines."""
    for index, (row, middles) in enumerate(others):
        look: dict[str, Any] = {
            "linestyle": (0, DASHES[index % len(DASHES)]), "linewidth": 1.1, "markersize": 4,
            "marker": TICKS[index // len(DASHES) % len(TICKS)],
        }  # fmt: skip
        for (colour, _), middle in zip(looks, middles, strict=True):
            inside = np.where(middle < high * 1e6, middle, np.nan)
            curve(axes, result.times(int(row["place"])), inside, color=colour, markevery=0.15, **look)
        words = schedule_words(row)
        for mark in (", η", ", h"):
            words = words.replace(mark, f",\n{mark[2:]}")
        axes.plot([], [], color=GREY, label=words, **look)
