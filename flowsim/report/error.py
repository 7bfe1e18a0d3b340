"""Relative error of the update against rank, with the laws it should follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import (
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Sheet,
    axis_label,
    say_inside,
)
from flowsim.report.data import Array, Result, spread
from flowsim.report.marks import BELOW, curve, legend, measured
from flowsim.report.options import Options
from flowsim.report.scales import rank_axis, value_axis
from flowsim.theory.ensemble import gaussian_law, orthonormal_law, uniform_law

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = 8.0


def has_error(tree: xr.DataTree) -> str:
    """Empty if there is a relative error to draw, else why not."""
    if Result.of(tree).has("final", "relative_error"):
        return ""
    return "no relative error is finite (full fine-tuning does not move, or every run diverged)"


def relative_error_vs_rank(tree: xr.DataTree, options: Options) -> Figure:
    """Relative error at the last time, the exact limit of each start, the laws of its kind, and r^(-1/2)."""
    result = Result.of(tree)
    sheet = Sheet("Relative error of the update against rank", 3.3, options=options, least=1.6)
    [axes] = sheet.axes
    ranks = np.array(result.ranks, dtype=float)
    values, exact = result.finals("relative_error"), result.theory("relative_error_limit")
    laws = _laws(result)
    rank_axis(axes, result.ranks, options, wide=True)
    at_ranks = [law.curve(ranks) for law in laws]
    seen = np.concatenate([values.ravel(), exact.ravel(), *at_ranks])
    low, _ = value_axis(axes, seen, options, decades=DECADES)
    if not np.isfinite(values).any():
        say_inside(axes, "no finite relative error at the last time")
    _reference(axes, ranks, spread(values).middle)
    x = np.geomspace(ranks[0], ranks[-1], 200)
    for law, points in zip(laws, at_ranks, strict=True):
        y = law.curve(x) if law.smooth else points
        look = {"color": law.colour, "linestyle": law.style, "label": law.label, "zorder": 2}
        mark = {} if law.smooth and len(ranks) > 1 else {"marker": "_", "markersize": 13}
        curve(axes, x if law.smooth else ranks, np.where(y >= low, y, np.nan), **look, **mark)
    _exact(axes, ranks, exact, low)
    _twin(result, axes, ranks, low)
    if measured(result, axes, values, low):
        sheet.note(BELOW)
    axes.set_xlabel("rank r")
    axes.set_ylabel(axis_label(result.attrs("final", "relative_error"), 44 if options.roomy else 26))
    legend(sheet)
    for sentence in result.endings():
        sheet.note(sentence)
    return sheet.finish(result)


def _exact(axes: Axes, ranks: Array, exact: Array, low: float) -> None:
    """The exact limit: a square at the median, a dash for every seed, so that their own spread shows."""
    exact = np.where(exact >= low, exact, np.nan)
    look = {"linestyle": "none", "color": ORANGE, "zorder": 3}
    curve(
        axes, ranks, spread(exact).middle, marker="s", markersize=8, markerfacecolor="none",
        label="theory: limit" + (",\nsquare at the median" if exact.shape[1] > 1 else " of this start"), **look,
    )  # fmt: skip
    if exact.shape[1] > 1:
        curve(
            axes,
            np.repeat(ranks, exact.shape[1]),
            exact.ravel(),
            marker="_",
            markersize=13,
            markeredgewidth=0.6,
            **look,
        )


def _twin(result: Result, axes: Axes, ranks: Array, low: float) -> None:
    """The companion with orthonormal rows, integrated: the least error that any start of its kind can have."""
    if result.view.objective != "trace_squared":
        return
    values = [result.view.companion("orthonormal", "relative_error", place)[:, -1] for place in result.order]
    middle = spread(np.array(values)).middle
    look = {"linestyle": "none", "marker": "D", "markersize": 4.5, "markerfacecolor": "white", "zorder": 3.5}
    curve(axes, ranks, np.where(middle >= low, middle, np.nan), color=PURPLE, label="orthonormal rows,\nflow", **look)


def _reference(axes: Axes, ranks: Array, middle: Array) -> None:
    """The slope r^(-1/2), through the first point."""
    known = np.isfinite(middle) & (middle > 0)
    if not known.any() or len(ranks) < 2:
        return
    first = int(np.argmax(known))
    x = np.geomspace(ranks[0], ranks[-1], 100)
    axes.plot(
        x, middle[first] * np.sqrt(ranks[first] / x), color=GREY, linestyle=(0, (5, 3)), linewidth=0.9,
        label=r"reference: $\propto r^{-1/2}$", zorder=1.5,
    )  # fmt: skip


@dataclass(frozen=True)
class Law:
    """A law of a whole kind of starts.

    Attributes
    ----------
    curve : callable
        Ranks -> relative error.
    smooth : bool
        Whether it speaks of every rank, or of the scenario's own alone.
    """

    label: str
    colour: str
    style: str
    curve: Callable[[Array], Array]
    smooth: bool = True


def _laws(result: Result) -> list[Law]:
    """Laws that speak of this scenario; of trace-squared: those of its kind of start, with one factor zero."""
    init = result.view.scenario.get("adapter", {}).get("init", {})
    kind, n = str(init.get("kind", "")), result.view.rows
    if result.view.objective == "frobenius":
        return _tail(result)
    if str(init.get("zero", "B")) == "none" or float(init.get("b", 0.0)) != 0.0:
        return []
    orthonormal = Law(
        "orthonormal rows:\n" + r"$\sqrt{n/r-1}$", PURPLE, "-.", lambda r: np.sqrt(orthonormal_law(n, r).mean)
    )
    if kind == "gaussian":
        name = "Gaussian rows, root mean\nsquare: " + r"$\sqrt{(n-1)(n+2)/(rn+2)}$"
        return [Law(name, GREEN, "-", lambda r: np.sqrt(gaussian_law(n, r).mean)), orthonormal]
    if kind == "kaiming":
        name = "uniform rows, root mean\nsquare (approximate)"
        return [Law(name, GREEN, "-", lambda r: np.sqrt(uniform_law(n, r).mean)), orthonormal]
    return [orthonormal]


def _tail(result: Result) -> list[Law]:
    """Frobenius: the relative error of the best rank-r update, where the start is W0 for every rank and seed."""
    if "rank" in result.view.tree["baseline"].dims or not result.has("baseline", "loss"):
        return []
    whole = float(result.values("baseline", "loss")[0])
    if not whole > 0:
        return []
    tail = np.sqrt(np.clip(result.theory("loss_floor")[:, 0] / whole, 0.0, None))
    return [Law("theory: best rank-r update\n(Eckart–Young)", GREEN, "-", lambda ranks: tail, smooth=False)]
