"""Drift of the imbalance Q, which the flow conserves and steps do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import BLACK, GREY, UPDATE_LOOK, Sheet, axis_label, rank_looks, say_inside
from flowsim.report.data import Array, Family, Result, largest_over_time, number, spread
from flowsim.report.marks import curve, legend
from flowsim.report.options import Options
from flowsim.report.scales import time_axis, value_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = 20.0
COMPANION, WINDOWS = (0, (4, 2)), (0, (1, 1.2))
DASHES = ("-", (0, (4, 2)), (0, (5, 1, 1, 1)))


def has_drift(tree: xr.DataTree) -> str:
    """Empty if there is a drift to draw, else why not."""
    return "" if Result.of(tree).has("trajectory", "imbalance_drift") else "no drift of the imbalance is finite"


def imbalance(tree: xr.DataTree, options: Options) -> Figure:
    """‖Q − Q0‖ over time: the flow of every rank on the left, descent and windows of one rank on the right."""
    result = Result.of(tree)
    families = [family for family in result.families if _drifts(result, family)]
    panels = 2 if families else 1
    rows, columns = (1, panels) if options.roomy else (panels, 1)
    title, height = "Drift of the imbalance, which the flow conserves", 1.3 + 2.0 * rows
    sheet = Sheet(title, height, rows, columns, options=options, least=1.4, sharey=True)
    levels = _levels(result)
    over = result.over_seeds("imbalance_drift")
    seen = [*(part.ravel() for part in (over.low, over.middle, over.high)), _integrated(result).ravel(), levels]
    place = len(result.ranks) - 1
    for family in families:
        seen += [_path(result, schedule, place) for schedule in _ends(family)]
    flat = np.concatenate(seen)
    # A diverged run would hide everything else: the factors' own size squared is as far as the axis goes.
    norms = result.over_seeds("factor_norm").high
    size = min(float(np.max(np.where(np.isfinite(norms), norms, 0.0))), 1e100) ** 2
    flat = flat[flat <= 1e3 * size] if size > 0 else flat
    for axes in sheet.axes:
        value_axis(axes, flat, options, decades=DECADES)
        axes.set_xlabel("flow time t (time)")
    _flow_panel(result, sheet.axes[0], levels, options)
    if families:
        sheet.axes[0].set_title("flow")
        sheet.axes[1].set_title(f"descent and windows, r = {result.ranks[place]}")
        _steps_panel(result, sheet.axes[1], families, place, options)
        if any(len(_ends(family)) > 1 for family in families):
            sheet.note("Descent and windows: thick lines the largest step of each kind, thin lines the smallest.")
    sheet.axes[0].set_ylabel(axis_label(result.attrs("trajectory", "imbalance_drift"), 40, r"$\|Q-Q_0\|_F$"))
    legend(sheet)
    if len(result.view.seeds) > 1:
        companion = "; the integrated companion is of the first seed" if np.isfinite(_integrated(result)).any() else ""
        sheet.note(f"Medians over {len(result.view.seeds)} seeds{companion}.")
    if not (flat > 0).any():
        say_inside(sheet.axes[0], "no drift at all" if (flat == 0).any() else "no finite drift")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _path(result: Result, schedule: int, rank: int) -> Array:
    return spread(result.path("imbalance_drift", rank, schedule), axis=0).middle


def _ends(family: Family) -> list[int]:
    """The largest and the smallest step of a family."""
    return list(dict.fromkeys((family.places[0], family.places[-1])))


def _drifts(result: Result, family: Family) -> bool:
    return any(
        bool(np.isfinite(result.path("imbalance_drift", rank, place)).any())
        for place in family.places
        for rank in range(len(result.ranks))
    )


def _integrated(result: Result) -> Array:
    """(rank, time) drift of the integrated companion of an exact flow; NaN where none was made."""
    paths = [
        spread(result.view.companion("integrated", "imbalance_drift", place), axis=0).middle for place in result.order
    ]
    return np.stack(paths)


def _levels(result: Result) -> Array:
    """What the solver's own error allows, (rank,): an error δ of the factors moves Q by at most 2·size·δ.

    δ is the distance of the integrated flow from itself at ten times rtol.
    """
    found = []
    for place in result.order:
        size = largest_over_time(np.asarray(result.view.trajectory("factor_norm", 0, place), dtype=float))
        for label in ("loose_10", "integrated_10"):
            distance = largest_over_time(
                np.asarray(result.view.companion(label, "factor_distance", place), dtype=float)
            )
            if np.isfinite(distance).any():
                with np.errstate(over="ignore", invalid="ignore"):
                    found.append(float(spread(2 * size * distance).middle))
                break
        else:
            found.append(np.nan)
    return np.array(found)


def _flow_panel(result: Result, axes: Axes, levels: Array, options: Options) -> None:
    early, times = time_axis(result, axes, options), result.times()
    x, dashed = times[early:], False
    for place, (rank, (colour, marker)) in enumerate(zip(result.ranks, rank_looks(result.ranks), strict=True)):
        every = (len(x) // 24 * (place % 4), max(len(x) // 6, 1))
        look = {"color": colour, "marker": marker, "markevery": every, "linewidth": 1}
        integrated = _integrated(result)[place, early:]
        closed = " (closed form)" if np.isfinite(integrated).any() else ""
        curve(axes, x, _path(result, 0, place)[early:], label=f"r = {rank}{closed}", **look)
        curve(axes, x, integrated, linestyle=COMPANION, **look)
        dashed |= bool((integrated > 0).any())
    if dashed:
        axes.plot([], [], color=BLACK, linestyle=COMPANION, linewidth=1, label="integrated companion")
    level = float(largest_over_time(levels))
    if level > 0:
        axes.axhline(level, color=BLACK, linestyle=":", linewidth=0.9, label="allowed by the\nsolver's own estimate")


def _steps_panel(result: Result, axes: Axes, families: list[Family], rank: int, options: Options) -> None:
    time_axis(result, axes, options)
    _, high = axes.get_ylim()
    inner = sorted({family.inner_steps for family in families if family.kind == "descent"})
    for index, family in enumerate(families):
        colour, marker = UPDATE_LOOK.get(family.update, (GREY, "o"))
        dash = WINDOWS if family.kind == "flow" else DASHES[inner.index(family.inner_steps) % len(DASHES)]
        for width, schedule in zip((1.6, 0.7), _ends(family), strict=False):
            y = _path(result, schedule, rank)
            curve(
                axes, result.times(schedule), np.where(y < 1e6 * high, y, np.nan), color=colour, linestyle=dash,
                linewidth=width, marker=marker, markersize=3, markerfacecolor="white", markevery=(0.02 * index, 0.17),
            )  # fmt: skip
        steps = " to ".join(number(float(h)) for h in dict.fromkeys((family.steps[0], family.steps[-1])))
        axes.plot(
            [],
            [],
            color=colour,
            linestyle=dash,
            marker=marker,
            markersize=3,
            markerfacecolor="white",
            label=f"{family.label},\nh = {steps}",
        )
