"""Relative error of the update against rank, with the laws it should follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Sheet,
    axis_label,
    below_axis,
    log_y,
    rank_axis,
    say_inside,
)
from flowsim.report.data import Array, Result, spread

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = 8.0
UNIFORM_EXCESS_KURTOSIS = -1.2


def has_error(tree: xr.DataTree) -> str:
    """Empty if there is a relative error to draw, else why not."""
    if Result.of(tree).has("final", "relative_error"):
        return ""
    return "no relative error is finite (full fine-tuning does not move, or every run diverged)"


def relative_error_vs_rank(tree: xr.DataTree) -> Figure:
    """Relative error at the last time, the exact limit of each start, the laws of its kind, and r^(-1/2)."""
    result = Result.of(tree)
    sheet = Sheet("Relative error of the update against rank", 3.4)
    [axes] = sheet.axes
    ranks = np.array(result.ranks, dtype=float)
    measured, exact = result.finals("relative_error"), result.theory("relative_error_limit")
    over = spread(measured)
    rank_axis(axes, result.ranks)
    laws = _laws(result)
    at_ranks = [values(ranks) for _, _, _, values in laws]
    seen = np.concatenate([measured.ravel(), exact.ravel(), *at_ranks])
    low, _ = log_y(axes, seen, decades=DECADES)
    if not np.isfinite(measured).any():
        say_inside(axes, "no finite relative error at the last time")
    _reference(axes, ranks, over.middle)
    for (label, colour, style, values), points in zip(laws, at_ranks, strict=True):
        x = np.geomspace(ranks[0], ranks[-1], 200) if "tail" not in label else ranks
        curve = values(x) if "tail" not in label else points
        axes.plot(x, np.where(curve >= low, curve, np.nan), color=colour, linestyle=style, label=label, zorder=2)
        if len(ranks) == 1:
            axes.plot(ranks, points, linestyle="none", marker="_", markersize=14, color=colour)
    _exact(axes, ranks, exact, low)
    _measured(result, sheet, axes, measured, low)
    axes.set_xlabel("rank r")
    axes.set_ylabel(axis_label(result.attrs("final", "relative_error"), 44))
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        sheet.body.legend(handles, labels, loc="outside right upper")
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _measured(result: Result, sheet: Sheet, axes: Axes, values: Array, low: float) -> None:
    ranks, over = np.array(result.ranks, dtype=float), spread(values)
    middle = np.where(over.middle >= low, over.middle, np.nan)
    name = "flow at the last time"
    if values.shape[1] > 1:
        bottom, top = np.maximum(over.low, low / 10), np.maximum(over.high, low / 10)
        axes.fill_between(ranks, bottom, top, color=BLUE, alpha=0.15, linewidth=0)
        axes.vlines(ranks, bottom, top, color=BLUE, linewidth=1)
        name += ":\nmedian, range over seeds"
    done = (result.outcomes() == "reached").all(-1)
    for hit, face, label in ((done, BLUE, name), (~done, "white", "the same, loss goal\nnot reached")):
        if (hit & np.isfinite(middle)).any():
            shown = name if hit.all() or done.any() == 0 and face == "white" else label
            axes.plot(
                ranks[hit], middle[hit], linestyle="none", marker="o", markersize=4.5, color=BLUE,
                markerfacecolor=face, label=shown, zorder=4,
            )  # fmt: skip
    if below_axis(axes, ranks, over.middle, low, BLUE):
        sheet.note("Arrows at the lower edge: zero, or below the axis.")


def _exact(axes: Axes, ranks: Array, exact: Array, low: float) -> None:
    """The exact limit of every seed: one mark each, so that the laws' own spread shows."""
    x = np.repeat(ranks, exact.shape[1])
    y = np.where(exact >= low, exact, np.nan).ravel()
    if np.isfinite(y).any():
        axes.plot(
            x, y, linestyle="none", marker="s", markersize=8, markerfacecolor="none", color=ORANGE,
            markeredgewidth=0.9 if exact.shape[1] <= 4 else 0.5, label="theory: limit of each start", zorder=3,
        )  # fmt: skip


def _reference(axes: Axes, ranks: Array, middle: Array) -> None:
    """The slope r^(-1/2), through the first point."""
    known = np.isfinite(middle) & (middle > 0)
    if not known.any() or len(ranks) < 2:
        return
    first = int(np.argmax(known))
    x = np.array([ranks[0], ranks[-1]])
    axes.plot(
        x, middle[first] * np.sqrt(ranks[first] / x), color=GREY, linestyle=(0, (5, 3)), linewidth=0.9,
        label=r"reference: $\propto r^{-1/2}$", zorder=1.5,
    )  # fmt: skip


def _laws(result: Result) -> list[tuple[str, str, object, Law]]:
    """Laws of whole kinds of starts that speak of this scenario."""
    view = result.view
    init = view.scenario.get("adapter", {}).get("init", {})
    kind, n = str(init.get("kind", "")), float(view.rows)
    if view.objective == "frobenius":
        energy = result.theory("energy")[:, 0]
        if "rank" in view.tree["baseline"].dims or not np.isfinite(energy).any():
            return []
        tail = np.sqrt(np.clip(1.0 - energy, 0.0, None))
        return [("theory: Eckart–Young tail", GREEN, "-", lambda ranks: tail)]
    if str(init.get("zero", "B")) == "none" or float(init.get("b", 0.0)) != 0.0:
        return []
    orthonormal = (
        r"orthonormal rows: $\sqrt{n/r-1}$", PURPLE, "-.", lambda r: np.sqrt(np.clip(n / r - 1, 0.0, None))
    )  # fmt: skip
    if kind == "orthogonal" or (kind == "spectral" and float(init.get("power", 0.0)) == 0.0):
        return [orthonormal]
    if kind == "gaussian":
        return [("Gaussian start, root\nof the mean square", GREEN, "-", lambda r: np.sqrt((n - 1) * (n + 2) / (r * n + 2))), orthonormal]
    if kind == "kaiming":
        g = UNIFORM_EXCESS_KURTOSIS
        return [("uniform start, root of\nthe mean square (approx.)", GREEN, "-",
                 lambda r: np.sqrt(np.clip(n * (n + r + 1 + g) / (n * r + 2 + g) - 1, 0.0, None))), orthonormal]
    return []
