"""Drift of the imbalance Q, which the flow conserves and steps do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import BLACK, GREY, UPDATE_LOOK, Sheet, axis_label, log_y, rank_looks, say_inside, time_axis
from flowsim.report.data import Array, Family, Result, largest_over_time, number, spread

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = 20.0
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
Handles = list[tuple[object, str]]


def has_drift(tree: xr.DataTree) -> str:
    """Empty if there is a drift to draw, else why not."""
    return "" if Result.of(tree).has("trajectory", "imbalance_drift") else "no drift of the imbalance is finite"


def imbalance(tree: xr.DataTree) -> Figure:
    """‖Q − Q0‖ over time: the flow of every rank on the left, descent and windows of one rank on the right."""
    result = Result.of(tree)
    families = [family for family in result.families if _drifts(result, family)]
    sheet = Sheet("Drift of the imbalance, which the flow conserves", 3.3, 1, 2 if families else 1, sharey=True)
    levels = _levels(result)
    seen = [result.paths("imbalance_drift").ravel(), _integrated(result).ravel(), levels]
    place = len(result.ranks) - 1
    for family in families:
        seen += [_path(result, schedule, place) for schedule in _ends(family)]
    flat = np.concatenate(seen)
    # A diverged run would hide everything else: the factors' own size squared is as far as the axis goes.
    norms = result.paths("factor_norm")
    size = float(np.max(np.where(np.isfinite(norms), norms, 0.0))) ** 2
    flat = flat[flat <= 1e3 * size] if size > 0 else flat
    for axes in sheet.axes:
        low, _ = log_y(axes, flat, decades=DECADES)
        axes.set_xlabel("flow time t (time)")
    handles = _flow_panel(result, sheet.axes[0], levels)
    if families:
        sheet.axes[0].set_title("flow")
        sheet.axes[1].set_title(f"descent and windows, r = {result.ranks[place]}")
        handles += _steps_panel(result, sheet.axes[1], families, place)
        sheet.note("Right: thick lines the largest step of each kind, thin lines the smallest.")
    sheet.axes[0].set_ylabel(axis_label(result.attrs("trajectory", "imbalance_drift"), 40, r"$\|Q-Q_0\|_F$"))
    legend = sheet.body.legend(*zip(*handles, strict=True), loc="outside right upper")
    legend.set_in_layout(True)
    if len(result.view.seeds) > 1:
        sheet.note("Medians over seeds; an integrated companion is made for the first seed.")
    if not (flat > 0).any():
        say_inside(sheet.axes[0], "no drift at all")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _path(result: Result, schedule: int, rank: int) -> Array:
    return spread(result.paths("imbalance_drift", schedule)[rank], axis=0).middle


def _ends(family: Family) -> list[int]:
    """The largest and the smallest step of a family."""
    return list(dict.fromkeys((family.places[0], family.places[-1])))


def _drifts(result: Result, family: Family) -> bool:
    return any(np.isfinite(result.paths("imbalance_drift", place)).any() for place in family.places)


def _integrated(result: Result) -> Array:
    """(rank, time) drift of the integrated companion of an exact flow; NaN where none was made."""
    paths = [spread(result.view.companion("integrated", "imbalance_drift", place), axis=0).middle for place in result.order]
    return np.stack(paths)


def _levels(result: Result) -> Array:
    """What the solver's own error allows, (rank,): an error δ of the factors moves Q by at most 2·size·δ.

    δ is the distance of the integrated flow from itself at ten times rtol.
    """
    found = []
    for place in result.order:
        size = largest_over_time(np.asarray(result.view.trajectory("factor_norm", 0, place), dtype=float))
        for label in ("loose_10", "integrated_10"):
            distance = largest_over_time(np.asarray(result.view.companion(label, "factor_distance", place), dtype=float))
            if np.isfinite(distance).any():
                found.append(float(spread(2 * size * distance).middle))
                break
        else:
            found.append(np.nan)
    return np.array(found)


def _flow_panel(result: Result, axes: Axes, levels: Array) -> Handles:
    early, times = time_axis(result, axes), result.times()
    handles: Handles = []
    integrated = _integrated(result)
    exact = np.isfinite(integrated).any(-1)
    dashed = None
    for place, (rank, (colour, marker)) in enumerate(zip(result.ranks, rank_looks(result.ranks), strict=True)):
        count = len(times) - early
        every = (max(count // 24, 0) * (place % 4), max(count // 6, 1))
        y = _path(result, 0, place)[early:]
        [line] = axes.plot(
            times[early:], np.where(y > 0, y, np.nan), color=colour, marker=marker, markevery=every, linewidth=1
        )
        handles.append((line, f"r = {rank}" + (" (closed form)" if exact[place] else "")))
        if exact[place]:
            y = integrated[place, early:]
            axes.plot(
                times[early:], np.where(y > 0, y, np.nan), color=colour, marker=marker, markevery=every,
                linestyle=(0, (4, 2)), linewidth=1,
            )  # fmt: skip
            dashed = True
    if dashed:
        handles.append((_proxy(BLACK, (0, (4, 2)), 1.0), "integrated companion"))
    level = largest_over_time(levels[None])[0]
    if level > 0:
        reach = axes.axhline(level, color=BLACK, linestyle=":", linewidth=0.9)
        handles.append((reach, "allowed by the\nsolver's own estimate"))
    return handles


def _steps_panel(result: Result, axes: Axes, families: list[Family], rank: int) -> Handles:
    time_axis(result, axes)
    _, high = axes.get_ylim()
    handles: Handles = []
    inner = sorted({family.inner_steps for family in families})
    for family in families:
        colour, marker = UPDATE_LOOK.get(family.update, (GREY, "o"))
        dash = DASHES[(inner.index(family.inner_steps) + (2 if family.kind == "flow" else 0)) % len(DASHES)]
        for width, schedule in zip((1.6, 0.7), _ends(family), strict=False):
            x, y = result.times(schedule), _path(result, schedule, rank)
            inside = np.where((y > 0) & (y < 1e6 * high), y, np.nan)
            axes.plot(x, inside, color=colour, linestyle=dash, linewidth=width)
        steps = " to ".join(number(float(h)) for h in dict.fromkeys((family.steps[0], family.steps[-1])))
        handles.append((_proxy(colour, dash, 1.2), f"{family.label},\nh = {steps}"))
    return handles


def _proxy(colour: str, dash: object, width: float) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=dash, linewidth=width)
