"""How the distance from the flow, and between update orders, falls with the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.canvas import BLACK, GREY, UPDATE_LOOK, Sheet, say_inside
from flowsim.report.data import UPDATE_WORDS, Array, Family, Result, Spread, spread
from flowsim.report.marks import legend
from flowsim.report.options import Options
from flowsim.report.scales import log_ticks, log_y

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST = 1e2  # gaps beyond are no longer small steps; they would flatten everything else
DECADES = 9.0
FILLS = ("full", "none", "left", "bottom", "right", "top")
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)), (0, (2, 1)), (0, (7, 2)))


@dataclass(frozen=True)
class Panel:
    """One comparison: which gap, against which prediction, of which schedules."""

    title: str
    gap: str
    predicted: str
    step: str
    kind: str


PANELS = (
    Panel("descent against\nthe flow", "flow_gap", "predicted_gap", "step h = kη (time)", "descent"),
    Panel(
        "sequential against\nsimultaneous descent", "update_order_gap", "predicted_order_gap", "step h = kη (time)",
        "descent",
    ),
    Panel("windows against\nthe flow", "flow_gap", "predicted_gap", "window h (time)", "flow"),
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Gaps of one family at its steps, and the prediction (NaN where there is none)."""

    family: Family
    measured: Spread
    predicted: Array


def has_gaps(tree: xr.DataTree) -> str:
    """Empty if there are gaps to draw, else why not."""
    result = Result.of(tree)
    if not result.families:
        return "the scenario has neither descent nor windows"
    if not any(curves_of(result, panel, place) for panel in PANELS for place in range(len(result.ranks))):
        return "no gap is positive and finite (nothing moves, or everything diverged)"
    return ""


def equivalence(tree: xr.DataTree, options: Options) -> Figure:
    """Largest gap over time against the step, a panel for each comparison, with the predicted line."""
    result = Result.of(tree)
    place = shown_rank(result)
    panels = [(panel, curves_of(result, panel, place)) for panel in PANELS]
    panels = [(panel, curves) for panel, curves in panels if curves]
    rank = result.ranks[place]
    count = max(len(panels), 1)
    rows, columns = (1, count) if options.roomy else (count, 1)
    title = f"Gap against step, rank {rank}"
    sheet = Sheet(title, 1.3 + 2.0 * rows, rows, columns, options=options, least=1.4, sharey=True)
    if not panels:
        sheet.axes[0].set_axis_off()
        say_inside(sheet.axes[0], "no positive and finite gap")
        return sheet.finish(result)
    every = [curve for _, curves in panels for curve in curves]
    seen = np.concatenate([np.concatenate([c.measured.low, c.measured.high, c.predicted]) for c in every])
    inner = sorted({curve.family.inner_steps for curve in every})
    corners = [spot[2] / 1.6 for _, curves in panels if (spot := _guide_spot(curves))]
    log_y(sheet.axes[0], np.append(seen, corners), decades=DECADES)
    drawn = [_draw(axes, panel, curves, inner) for axes, (panel, curves) in zip(sheet.axes, panels, strict=True)]
    sheet.axes[0].set_ylabel(
        "largest gap over time\n" + r"$\|s(BA-BA')\|_F\,/\,\mathrm{max}_t\,\|s\,BA_{\mathrm{flow}}\|_F$"
    )
    _legend(sheet, every, inner)
    seeds = len(result.view.seeds)
    notes = [f"Points: median over {seeds} seeds; bars: their range."] if seeds > 1 else []
    notes += ["Triangles: slopes 1 and 2."] if any(drawn) else []
    if notes:
        sheet.note(" ".join(notes))
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def shown_rank(result: Result) -> int:
    """The largest rank for which every comparison has as many curves as for any rank."""
    counts = [sum(len(curves_of(result, panel, place)) for panel in PANELS) for place in range(len(result.ranks))]
    return max(place for place, count in enumerate(counts) if count == max(counts))


def curves_of(result: Result, panel: Panel, rank: int) -> list[Curve]:
    """The families that have gaps of this kind at a rank, by its place."""
    found = []
    for family in result.families:
        if family.kind != panel.kind:
            continue
        rows = [_largest(result, panel.gap, place, rank) for place in family.places]
        expected = [_largest(result, panel.predicted, place, rank) for place in family.places]
        gaps = np.stack(rows)
        gaps[~((gaps > 0) & (gaps < LARGEST))] = np.nan
        if np.isfinite(gaps).any():
            predicted = spread(np.stack(expected)).middle
            predicted[~((predicted > 0) & (predicted < LARGEST))] = np.nan
            found.append(Curve(family, spread(gaps), predicted))
    return found


def _largest(result: Result, name: str, schedule: int, rank: int) -> Array:
    """Largest over time of a gap, (seed,); NaN for runs that diverged."""
    values = result.view.largest(schedule, name, result.order[rank]).astype(float)
    values[result.outcomes(schedule)[rank] == "diverged"] = np.nan
    return values


def _draw(axes: Axes, panel: Panel, curves: list[Curve], inner: list[int]) -> bool:
    """One panel; returns whether there was room for the guides."""
    axes.set_xscale("log")
    steps, _ = _points(curves)
    rim = max(0.08 * np.log10(steps.max() / steps.min()), 0.12)
    axes.set_xlim(steps.min() / 10**rim, steps.max() * 10**rim)
    for curve in curves:
        colour, marker = UPDATE_LOOK.get(curve.family.update, (GREY, "o"))
        index = inner.index(curve.family.inner_steps) % len(FILLS)
        h, over = curve.family.steps, curve.measured
        alone: dict[str, Any] = {"marker": "_", "markersize": 16} if len(h) == 1 else {}
        axes.plot(h, curve.predicted, color=colour, linestyle=DASHES[index], linewidth=0.9, zorder=2, **alone)
        axes.vlines(h, over.low, over.high, color=colour, linewidth=0.9, zorder=2.5)
        axes.plot(
            h, over.middle, color=colour, linestyle="none", marker=marker, fillstyle=FILLS[index],
            markerfacecoloralt="white", markersize=4.5, markeredgewidth=0.8, zorder=3,
        )  # fmt: skip
    log_ticks(axes.xaxis, float(np.log10(steps.max() / steps.min()) + 2 * rim), crowded=1.3)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.step)
    return _triangles(axes, curves)


def _points(curves: list[Curve]) -> tuple[Array, Array]:
    """All steps with a gap, and the lowest gap over seeds at each."""
    steps = np.concatenate([curve.family.steps for curve in curves])
    lowest = np.concatenate([curve.measured.low for curve in curves])
    known = np.isfinite(lowest)
    return steps[known], lowest[known]


def _guide_spot(curves: list[Curve]) -> tuple[float, float, float] | None:
    """Left edge, right edge and height of the guides' common corner: below the data, at its right end."""
    steps, gaps = _points(curves)
    if steps.max() <= 1.5 * steps.min():
        return None
    right = float(steps.max())
    left = right / (steps.max() / steps.min()) ** 0.4
    near = steps >= left / 1.01
    # Slopes through the lowest point: the curve's own height at the right edge is at least this.
    lowest = float((gaps[near] * np.minimum(left / steps[near], 1.0) ** 2).min())
    return left, right, lowest / 3


def _triangles(axes: Axes, curves: list[Curve]) -> bool:
    """Guides of order 1 and 2, rising from one corner."""
    spot = _guide_spot(curves)
    if spot is None:
        return False
    left, right, height = spot
    for order in (1, 2):
        top = height * (right / left) ** order
        axes.plot([left, right], [height, top], color=GREY, linewidth=0.7)
        number = axes.annotate(
            str(order), (right, top), xytext=(3, -1), textcoords="offset points", fontsize=6.5, color=GREY,
            va="center", clip_on=True,
        )  # fmt: skip
        number.set_in_layout(False)
    axes.plot([left, right, right], [height, height, height * (right / left) ** 2], color=GREY, linewidth=0.7)
    return True


def _legend(sheet: Sheet, curves: list[Curve], inner: list[int]) -> None:
    """Update orders by colour and marker, inner steps by fill and dashes."""
    axes = sheet.axes[0]
    for update in dict.fromkeys(curve.family.update for curve in curves):
        colour, marker = UPDATE_LOOK.get(update, (GREY, "o"))
        axes.plot([], [], color=colour, marker=marker, linestyle="none", label=UPDATE_WORDS.get(update, update))
    for index, k in enumerate(inner if inner != [1] else []):
        axes.plot(
            [], [], color=BLACK, marker="o", fillstyle=FILLS[index % len(FILLS)], markerfacecoloralt="white",
            linestyle=DASHES[index % len(DASHES)], linewidth=0.9, label=f"k = {k}",
        )  # fmt: skip
    if any(np.isfinite(curve.predicted).any() for curve in curves):
        axes.plot([], [], color=BLACK, linewidth=0.9, label="line: predicted,\nfirst order")
    legend(sheet)
