"""Scales and ticks of axes: logarithmic ones that no number can break, linear ones, axes of ranks and of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.data import Array, Result
from flowsim.report.options import Options

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

FARTHEST = 240.0  # decades from 1 that an axis may reach; ticks beyond would overflow
DIGIT = 0.062  # inches that a digit of a tick label takes


def rank_axis(axes: Axes, ranks: Sequence[int], options: Options, *, wide: bool | None = None) -> bool:
    """Scale and ticks of a rank axis, increasing `ranks`; logarithmic (`wide`) from a factor 8 on; returns that."""
    from matplotlib.ticker import FixedLocator, NullLocator

    wide = options.is_log("x", ranks[-1] >= 8 * ranks[0] if wide is None else wide)
    if wide:
        axes.set_xscale("log", base=2)
    scaled = np.log2(ranks) if wide else np.asarray(ranks, float)
    span = max(float(scaled[-1] - scaled[0]), 1.0)
    rim = np.array([scaled[0], scaled[-1]]) + np.array([-1, 1]) * (0.08 if options.roomy else 0.14) * span
    axes.set_xlim(*(2.0**rim if wide else rim))
    panel = 0.6 * options.width if options.roomy else 0.72 * options.width
    apart = max(0.045, DIGIT * (len(str(ranks[-1])) + 1) / panel) * span
    kept, last = [], -np.inf
    for rank, place in zip(ranks, scaled, strict=True):
        if place - last >= apart:
            kept.append(rank)
            last = place
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    return wide


def time_axis(result: Result, axes: Axes, options: Options) -> int:
    """Scale the time axis as asked, else as the scenario spaced it; returns the place of the first time shown."""
    times = result.times()
    spaced = result.view.scenario.get("time", {}).get("spacing") == "log"
    if options.is_log("x", spaced) and len(times) > 2 and times[1] > 0:
        axes.set_xscale("log")
        axes.set_xlim(times[1], times[-1])
        log_ticks(axes.xaxis, float(np.log10(times[-1] / times[1])), crowded=1.7)
        return 1
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, times[-1])
    axes.xaxis.set_major_locator(MaxNLocator(6 if options.roomy else 5, steps=[1, 2, 2.5, 5, 10]))
    return 0


def shifted(ranks: Array, offset: float, wide: bool) -> Array:
    """Ranks moved sideways by a part of the axis' span, so that marks lie beside one another."""
    scaled = np.log2(ranks) if wide else ranks
    moved = scaled + offset * max(float(scaled[-1] - scaled[0]), 1.0)
    return 2.0**moved if wide else moved


def value_axis(
    axes: Axes, values: Array, options: Options, *, decades: float, top: float | None = None
) -> tuple[float, float]:
    """The axis of the numbers, logarithmic unless asked otherwise; returns its limits. Arguments as of `log_y`."""
    if options.is_log("y"):
        return log_y(axes, values, decades=decades, top=top)
    return linear_y(axes, values)


def log_y(
    axes: Axes, values: Array, *, decades: float, least: float = 1.0, top: float | None = None
) -> tuple[float, float]:
    """A logarithmic axis that holds the positive values, at most `decades` of them; returns its limits.

    Parameters
    ----------
    values : ndarray
        Any shape; zeros, negative and non-finite ones are left out.
    decades : float
        Values further below the largest do not count: they are below the axis.
    least : float
        The axis spans at least so many decades.
    top : float, optional
        Reference for `decades` in place of the largest value.
    """
    logs = np.log10(values[np.isfinite(values) & (values > 0)]).clip(-FARTHEST, FARTHEST)
    axes.set_yscale("log")
    known = logs.size > 0
    if not known:
        logs = np.array([0.0])
    high = float(logs.max())
    reference = high if top is None or not top > 0 else float(np.log10(top))
    low = float(logs[logs >= min(reference - decades, high)].min())
    rim = max(0.07 * (high - low), (least - (high - low)) / 2)
    limits = float(10.0 ** (low - rim)), float(10.0 ** (high + rim))
    axes.set_ylim(*limits)
    log_ticks(axes.yaxis, np.log10(limits[1] / limits[0]), crowded=1.7)
    if not known:  # numbers beside an empty axis would speak of nothing
        axes.tick_params(axis="y", which="both", left=False, labelleft=False)
    return limits


def linear_y(axes: Axes, values: Array) -> tuple[float, float]:
    """A linear axis that holds zero and all finite values; returns its limits."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    known = values[np.isfinite(values)].clip(-(10.0**FARTHEST), 10.0**FARTHEST)
    low, high = min(float(known.min(initial=0.0)), 0.0), max(float(known.max(initial=0.0)), 0.0)
    rim = 0.05 * (high - low) if high - low > 10.0**-FARTHEST else 1.0
    axes.set_ylim(low - rim, high + rim)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value)))
    return low - rim, high + rim


def on_axis(axes: Axes, values: Array) -> Array:
    """The values that an axis of numbers can show; NaN for what is not finite or, on logarithms, not positive."""
    shown = np.isfinite(values) & ((values > 0) | (axes.get_yscale() != "log"))
    return np.where(shown, values, np.nan)


def beyond(limit: float, factor: float) -> float:
    """A little outside a limit of an axis: where what leaves it is cut."""
    return limit * factor if limit > 0 else limit


def log_ticks(axis: Axis, span: float, *, crowded: float) -> None:
    """Ticks of a logarithmic axis over `span` decades: 1, 2, 5 where it is short, powers of ten where `crowded`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if span < crowded:
        subs = (1.0, 2.0, 5.0) if span < 0.7 * crowded else (1.0, 3.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    else:
        axis.set_major_locator(LogLocator(numticks=8))
    if span > 12:
        axis.set_minor_locator(LogLocator(numticks=1))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """A tick label: digits where they are few, else a power of ten."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    lead, power = f"{value:.0e}".split("e")
    return rf"$10^{{{int(power)}}}$" if lead == "1" else rf"${lead}\times10^{{{int(power)}}}$"


def rounded(value: float) -> str:
    r"""A tick label of a linear axis.

    Examples
    --------
    >>> rounded(0.25), rounded(0.0), rounded(-2.5e5)
    ('0.25', '0', '$-2.5\\times10^{5}$')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.6g}".replace("-", "−")
    lead, power = f"{value:.5e}".split("e")
    return rf"${float(lead):g}\times10^{{{int(power)}}}$"
