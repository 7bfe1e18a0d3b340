"""Loss against rank, and excess loss against time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    UPDATE_LOOK,
    VERMILLION,
    Sheet,
    axis_label,
    below_axis,
    log_y,
    rank_axis,
    rank_looks,
    say_inside,
    shifted,
    time_axis,
)
from flowsim.report.data import Array, Family, Result, number, schedule_words, spread

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS_DECADES = 16.0  # below the start by more than a float64 carries
EXCESS_DECADES = 20.0  # the excess is free of cancellation and may fall further
FEW_LINES = 16  # other schedules × ranks that still leave a figure of loss against time readable
DIFFERENT = 1e-6  # relative difference at which a limit is drawn beside the floor


def has_loss(tree: xr.DataTree) -> str:
    """Empty if there is a loss to draw, else why not."""
    return "" if Result.of(tree).has("trajectory", "loss") else "the result holds no finite loss"


def loss_vs_rank(tree: xr.DataTree) -> Figure:
    """Final loss of the flow against rank, the theory as another mark, and what is left above the floor below."""
    result = Result.of(tree)
    floor = result.theory("loss_floor")[:, 0]
    flat = not (floor > 0).any()  # then loss and excess are the same numbers: one panel says it all
    heights = {} if flat else {"height_ratios": [1.45, 1]}
    sheet = Sheet("Final loss against rank", 3.4 if flat else 4.4, 1 if flat else 2, sharex=True, **heights)
    upper, lower = sheet.axes[0], sheet.axes[-1]
    wide = rank_axis(lower, result.ranks)
    if not flat:
        _loss_panel(result, sheet, upper, floor, wide)
    _excess_panel(result, sheet, lower, wide, alone=flat)
    lower.set_xlabel("rank r")
    handles: dict[str, object] = {}
    for axes in sheet.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        sheet.body.legend(list(handles.values()), list(handles), loc="outside right upper")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _loss_panel(result: Result, sheet: Sheet, axes: Axes, floor: Array, wide: bool) -> None:
    ranks = np.array(result.ranks, dtype=float)
    limit = spread(result.theory("loss_limit")).middle
    start = spread(result.paths("loss")[:, :, 0]).middle
    measured = result.finals("loss")
    seen = np.concatenate([measured.ravel(), floor, limit, start])
    low, _ = log_y(axes, seen, decades=LOSS_DECADES)
    axes.plot(ranks, start, color=GREY, linestyle=":", marker="_", label="at the start")
    axes.plot(
        ranks, np.where(floor >= low, floor, np.nan), color=ORANGE, marker="s", markersize=8, markerfacecolor="none",
        label="theory: floor of this rank",
    )  # fmt: skip
    apart = np.isfinite(limit) & (np.abs(limit - floor) > DIFFERENT * np.abs(limit))
    if apart.any():
        axes.plot(
            ranks[apart], limit[apart], linestyle="none", marker="x", markersize=8, color=VERMILLION,
            label="theory: limit of this start",
        )  # fmt: skip
    _measured(result, axes, measured, low)
    under = below_axis(axes, ranks, np.where(floor > 0, floor, 0.0), low, ORANGE)
    under |= _descents(result, axes, "loss", low, wide)
    if under:
        sheet.note("Arrows at the lower edge: zero, or below the axis.")
    axes.set_ylabel(axis_label(result.attrs("final", "loss"), 30))


def _excess_panel(result: Result, sheet: Sheet, axes: Axes, wide: bool, *, alone: bool) -> None:
    ranks = np.array(result.ranks, dtype=float)
    goals, start = result.goals(), spread(result.paths("excess_loss")[:, :, 0]).middle
    limit = spread(result.theory("loss_limit") - result.theory("loss_floor")).middle
    measured = result.finals("excess_loss")
    seen = np.concatenate([measured.ravel(), goals, start if alone else goals])
    top = float(np.max(np.where(np.isfinite(start), start, 0.0)))
    low, _ = log_y(axes, seen, decades=EXCESS_DECADES, top=top)
    if not np.isfinite(measured).any():
        say_inside(axes, "no finite excess loss at the last time")
    if alone:
        axes.plot(ranks, start, color=GREY, linestyle=":", marker="_", label="at the start")
    reach = number(float(result.view.tree.attrs.get("reach", np.nan)))
    axes.plot(ranks, goals, color=BLACK, linestyle="--", marker="_", linewidth=0.9, label=f"goal: {reach} × start")
    apart = np.isfinite(limit) & (limit > goals)
    if apart.any():
        axes.plot(
            ranks[apart], limit[apart], linestyle="none", marker="x", markersize=8, color=VERMILLION,
            label="theory: limit of this start",
        )  # fmt: skip
    _measured(result, axes, measured, low)
    under = below_axis(axes, ranks, spread(measured).middle, low, BLUE)
    under |= _descents(result, axes, "excess_loss", low, wide)
    if under:
        sheet.note("Arrows at the lower edge: zero, or below the axis.")
    if alone:
        sheet.note("The floor is 0 at every rank: the loss is the excess loss.")
        axes.set_ylabel(axis_label(result.attrs("final", "loss"), 30))
    else:
        axes.set_ylabel(axis_label(result.attrs("final", "excess_loss"), 24, "excess over the floor"))


def _measured(result: Result, axes: Axes, values: Array, low: float) -> None:
    """Medians over seeds with their range; hollow where some seed has not reached the goal."""
    ranks, over = np.array(result.ranks, dtype=float), spread(values)
    done = (result.outcomes() == "reached").all(-1)
    many = values.shape[1] > 1
    middle = np.where(over.middle >= low, over.middle, np.nan)
    if many:
        bottom, top = np.maximum(over.low, low / 10), np.maximum(over.high, low / 10)
        axes.fill_between(ranks, bottom, top, color=BLUE, alpha=0.15, linewidth=0)
        axes.vlines(ranks, bottom, top, color=BLUE, linewidth=1)
    name = "flow: median and\nrange over seeds" if many else "flow"
    for hit, face, label in ((done, BLUE, name), (~done, "white", "flow, goal not\nreached by all seeds" if many else "flow, goal not reached")):
        if (hit & np.isfinite(middle)).any():
            axes.plot(
                ranks[hit], middle[hit], linestyle="none", marker="o", markersize=4.5, color=BLUE,
                markerfacecolor=face, label=label, zorder=4,
            )  # fmt: skip


def _descents(result: Result, axes: Axes, name: str, low: float, wide: bool) -> bool:
    """Final medians of every descent family, beside the flow's; returns whether some are below the axis."""
    families = [family for family in result.families if family.kind == "descent"]
    ranks, under = np.array(result.ranks, dtype=float), False
    room = 0.018 if len(ranks) > 1 else 0.03
    _, high = axes.get_ylim()
    for index, family in enumerate(families):
        colour, marker = _family_look(family)
        x = shifted(ranks, room * (index + 1 - (0 if index < len(families) / 2 else len(families) + 1)), wide)
        shown = False
        for place in family.places:
            values = spread(result.finals(name, place)).middle
            inside = (values >= low) & (values <= high)
            label = None if shown else family.label
            axes.plot(
                x[inside], values[inside], linestyle="none", marker=marker, color=colour, markerfacecolor="none",
                markersize=3.2, markeredgewidth=0.7, label=label, zorder=3,
            )  # fmt: skip
            shown = True
            under |= below_axis(axes, x, values, low, colour)
    return under


def _family_look(family: Family) -> tuple[str, str]:
    colour, marker = UPDATE_LOOK.get(family.update, (GREY, "o"))
    return ("#56B4E9" if colour == BLUE else colour), ("p" if family.inner_steps > 1 else "s" if marker == "o" else marker)


def loss_vs_time(tree: xr.DataTree) -> Figure:
    """Excess loss of the flow over time, one colour and marker per rank, with full fine-tuning beside it."""
    result = Result.of(tree)
    sheet = Sheet("Excess loss over time", 3.5)
    [axes] = sheet.axes
    times, paths = result.times(), result.paths("excess_loss")
    over = spread(paths, axis=1)
    start, goals = spread(paths[:, :, 0]).middle, result.goals()
    seen = np.concatenate([over.low.ravel(), over.high.ravel(), goals])
    top = float(np.max(np.where(np.isfinite(start), start, 0.0)))
    low, high = log_y(axes, seen, decades=EXCESS_DECADES, top=top)
    early = time_axis(result, axes)
    looks = rank_looks(result.ranks)
    many = paths.shape[1] > 1
    if not (paths > 0).any():
        say_inside(axes, "no positive excess loss: the flow is at its floor throughout")
    for place, (rank, (colour, marker)) in enumerate(zip(result.ranks, looks, strict=True)):
        x, middle = times[early:], over.middle[place, early:]
        if many:
            bottom, upper = (np.clip(v[place, early:], low / 10, high * 10) for v in (over.low, over.high))
            axes.fill_between(x, bottom, upper, color=colour, alpha=0.18, linewidth=0)
        every = (max(len(x) // 24, 0) * (place % 4), max(len(x) // 6, 1))
        axes.plot(
            x, np.where(middle > 0, middle, np.nan), color=colour, marker=marker, markevery=every, label=f"r = {rank}"
        )
        _limit_line(result, axes, place, colour, low)
    _goal(result, axes, goals)
    _baseline(result, axes, early)
    _other_schedules(result, axes, looks, high)
    handles, labels = axes.get_legend_handles_labels()
    title = "flow, median\nand range over seeds" if many else "flow"
    legend = sheet.body.legend(handles, labels, loc="outside right upper", title=title, alignment="left")
    legend.get_title().set_multialignment("left")
    axes.set_xlabel("flow time t (time)")
    axes.set_ylabel(axis_label(result.attrs("trajectory", "excess_loss"), 48))
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _limit_line(result: Result, axes: Axes, place: int, colour: object, low: float) -> None:
    """The exact limit of the excess where this start does not reach the floor."""
    limit = float(spread(result.theory("loss_limit") - result.theory("loss_floor")).middle[place])
    if limit > max(low, float(result.goals()[place])):
        axes.axhline(limit, color=colour, linestyle=":", linewidth=0.9)


def _goal(result: Result, axes: Axes, goals: Array) -> None:
    known = goals[np.isfinite(goals) & (goals > 0)]
    if not known.size:
        return
    reach = number(float(result.view.tree.attrs.get("reach", np.nan)))
    label = f"goal: {reach} × start"
    if known.max() < 1.2 * known.min():
        axes.axhline(float(np.median(known)), color=BLACK, linestyle=":", linewidth=0.9, label=label)
    else:
        axes.axhspan(known.min(), known.max(), color=BLACK, alpha=0.10, linewidth=0, label=label)


def _baseline(result: Result, axes: Axes, early: int) -> None:
    """Full fine-tuning: one line, or the median over ranks and seeds where the start depends on them."""
    if not result.has("baseline", "loss"):
        return
    values = np.asarray(result.view.tree["baseline"]["loss"].values, dtype=float)
    middle = spread(values.reshape(-1, values.shape[-1]), axis=0).middle[early:]
    times = np.asarray(result.view.tree["baseline"]["time"].values, dtype=float)[early:]
    axes.plot(
        times, np.where(middle > 0, middle, np.nan), color=BLACK, linestyle=(0, (4, 2)), linewidth=1,
        label="full fine-tuning", zorder=1.5,
    )  # fmt: skip


def _other_schedules(result: Result, axes: Axes, looks: list[tuple[tuple[float, float, float], str]], high: float) -> None:
    """Medians of the other schedules as thin lines, where they are few."""
    others = [row for row in result.view.schedules if row["place"] != 0]
    if not others or len(others) * len(result.ranks) > FEW_LINES:
        return
    dashes = [(0, (1, 1)), (0, (3, 1, 1, 1)), (0, (5, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (2, 2)), (0, (7, 2))]
    for index, row in enumerate(others):
        place = int(row["place"])
        middles = spread(result.paths("excess_loss", place), axis=1).middle
        dash = dashes[index % len(dashes)]
        for (colour, _), middle in zip(looks, middles, strict=True):
            inside = np.where((middle > 0) & (middle < high * 1e6), middle, np.nan)
            axes.plot(result.times(place), inside, color=colour, linestyle=dash, linewidth=0.8)
        axes.plot([], [], color=GREY, linestyle=dash, linewidth=0.8, label=schedule_words(row))
