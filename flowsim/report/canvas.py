"""What all figures share: a sheet with title, notes and footer, the house style, safe logarithmic axes."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.data import Array, Result, number
from flowsim.trajectory.points import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
WIDTH = 6.5  # inches, a column of text
FARTHEST = 240.0  # decades from 1 that an axis may reach; ticks beyond would overflow
DIGITS = 5  # of places on the sheet
TITLE, LINE, EDGE = 0.30, 0.125, 0.06  # inches: the title, a line of notes, the rim below

# Okabe and Ito's palette, which readers without full colour vision can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"
UPDATE_LOOK = {
    "simultaneous": (BLUE, "o"),
    "a_first": (VERMILLION, "^"),
    "b_first": (GREEN, "v"),
    "symmetric": (PURPLE, "D"),
}
Colour = tuple[float, float, float]
RANK_MARKERS = "osD^vP*X<>hp"


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults plus flowsim's style inside the block; the caller's settings come back after it."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(mpl.rc_params_from_file(STYLE, use_default_template=False))
        yield


class Sheet:
    """One figure: title above, panels (and legends beside them) in the middle, notes and a footer below.

    Parameters
    ----------
    title : str
        A few words.
    height : float
        Height of the middle part, inches.
    rows, columns : int
        Panels.
    **options
        For `subplots`: sharex, height_ratios, ...
    """

    def __init__(self, title: str, height: float, rows: int = 1, columns: int = 1, **options: Any) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.title, self.height, self.notes = title, height, list[str]()
        self.figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(self.figure)
        self.grid = self.figure.add_gridspec(3, 1, height_ratios=[TITLE, height, LINE])
        self.body = self.figure.add_subfigure(self.grid[1])
        axes = self.body.subplots(rows, columns, squeeze=False, **options)
        self.axes: list[Axes] = list(axes.flat)

    def note(self, text: str) -> None:
        """A sentence below the panels; once, however often it is said."""
        if text not in self.notes:
            self.notes.append(text)

    def finish(self, result: Result) -> Figure:
        """Fit the sheet to its notes and sign it."""
        lines = [line for note in self.notes for line in textwrap.wrap(note, 132, subsequent_indent="   ")]
        lines.append(footer(result))
        below = LINE * len(lines) + EDGE
        total = TITLE + self.height + below
        self.figure.set_size_inches(WIDTH, total)
        self.grid.set_height_ratios([TITLE, self.height, below])
        # Text alone does not claim room in the layout: the empty rows of the grid keep it.
        for row in (0, 2):
            self.figure.add_subfigure(self.grid[row])
        self.figure.text(0.01, 1 - 0.08 / total, self.title, ha="left", va="top", fontsize=10, weight="bold")
        for place, line in enumerate(reversed(lines)):
            bottom = (EDGE + LINE * place) / total
            colour = GREY if place == 0 else BLACK
            self.figure.text(0.01, bottom, line, ha="left", va="bottom", fontsize=6.5, color=colour)
        self._settle()
        return self.figure

    def _settle(self) -> None:
        """Lay the sheet out once and round all places.

        The layout's solver orders its unknowns by memory address, so that its last digits differ from run to run.
        """
        from matplotlib.transforms import Bbox

        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        for part in self.figure.subfigs:
            part.bbox_relative.set_points(np.round(part.bbox_relative.get_points(), DIGITS))
        for axes in self.axes:
            axes.set_position(Bbox(np.round(axes.get_position(original=True).get_points(), DIGITS)))
        for text in self.body.texts:
            x, y = text.get_position()
            text.set_position((round(x, DIGITS), round(y, DIGITS)))


def footer(result: Result) -> str:
    """Which result this is: name, digest, objective with its coefficient, version; of a sweep what its points share."""
    c = number(result.view.coefficient)
    norm = r"\mathrm{tr}(W)^2" if result.view.objective == "trace_squared" else r"\|W - W^*\|_F^2"
    attrs = result.view.tree.attrs
    axes = axes_of(result.view.tree)
    swept = {axis.path for axis in axes}
    shapes = json.loads(str(attrs.get("points", "[]")))
    count = math.prod(len(axis.values) for axis in axes)
    varies = swept & {"objective", "objective.kind"}
    parts = [
        str(attrs.get("name", "")),
        str(attrs["digest"])[:8],
        drawable(shortened(str(attrs.get("point", "")), 60)),
        "" if varies else rf"$f(W) = {'c' if 'objective.coefficient' in swept else c}\,{norm}$",
        "" if any(shape != shapes[0] for shape in shapes) else f"{attrs['rows']} × {attrs['columns']}",
        f"{count} point{'s' * (count > 1)}" if axes else "",
        f"flowsim {attrs.get('flowsim_version', '')}".rstrip(),
    ]
    return "  ·  ".join(part for part in parts if part)


def rank_looks(ranks: Sequence[int]) -> list[tuple[Colour, str]]:
    """Colour (dark for small ranks to light for large ones) and marker of each rank."""
    from matplotlib import colormaps

    places = np.linspace(0.0, 0.82, max(len(ranks), 2))[: len(ranks)]
    return [
        (_rgb(colormaps["viridis"](float(place))), RANK_MARKERS[index % len(RANK_MARKERS)])
        for index, place in enumerate(places)
    ]


def _rgb(colour: Sequence[float]) -> Colour:
    red, green, blue, *_ = (float(part) for part in colour)
    return red, green, blue


def rank_axis(axes: Axes, ranks: Sequence[int], *, wide: bool | None = None) -> bool:
    """Scale and ticks of a rank axis, increasing `ranks`; logarithmic (`wide`) from a factor 8 on; returns that."""
    from matplotlib.ticker import FixedLocator, NullLocator

    wide = ranks[-1] >= 8 * ranks[0] if wide is None else wide
    if wide:
        axes.set_xscale("log", base=2)
    scaled = np.log2(ranks) if wide else np.asarray(ranks, float)
    span = max(float(scaled[-1] - scaled[0]), 1.0)
    rim = np.array([scaled[0] - 0.08 * span, scaled[-1] + 0.08 * span])
    axes.set_xlim(*(2.0**rim if wide else rim))
    kept, last = [], -np.inf
    for rank, place in zip(ranks, scaled, strict=True):
        if place - last >= 0.045 * span:
            kept.append(rank)
            last = place
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    return wide


def time_axis(result: Result, axes: Axes) -> int:
    """Scale the time axis as the scenario spaced it; returns the place of the first time that is shown."""
    times = result.times()
    if result.view.scenario.get("time", {}).get("spacing") == "log" and len(times) > 2 and times[1] > 0:
        axes.set_xscale("log")
        axes.set_xlim(times[1], times[-1])
        return 1
    axes.set_xlim(0, times[-1])
    return 0


def shifted(ranks: Array, offset: float, wide: bool) -> Array:
    """Ranks moved sideways by a part of the axis' span, so that marks lie beside one another."""
    scaled = np.log2(ranks) if wide else ranks
    moved = scaled + offset * max(float(scaled[-1] - scaled[0]), 1.0)
    return 2.0**moved if wide else moved


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
    if not logs.size:
        logs = np.array([0.0])
    high = float(logs.max())
    reference = high if top is None or not top > 0 else float(np.log10(top))
    low = float(logs[logs >= min(reference - decades, high)].min())
    rim = max(0.07 * (high - low), (least - (high - low)) / 2)
    limits = float(10.0 ** (low - rim)), float(10.0 ** (high + rim))
    axes.set_ylim(*limits)
    log_ticks(axes.yaxis, np.log10(limits[1] / limits[0]), crowded=1.7)
    return limits


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


def say_inside(axes: Axes, text: str) -> None:
    """A sentence in the middle of a panel that has nothing to show."""
    axes.text(
        0.5, 0.5, textwrap.fill(text, 34), transform=axes.transAxes, ha="center", va="center",
        fontsize=7.5, color=GREY, zorder=6, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


def drawable(text: str) -> str:
    """A user's text as the figures' font can show it: nothing is read as mathematics, what has no glyph is a box."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    glyphs = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    shown = "".join(letter if letter == "\n" or ord(letter) in glyphs else "□" for letter in text)
    return shown.replace("$", r"\$")


def shortened(text: str, most: int) -> str:
    """A long text by its beginning and end.

    Examples
    --------
    >>> shortened("weights/layer_0/query.safetensors", 17)
    'weights/…fetensors'
    """
    return text if len(text) <= most + 1 else f"{text[: most // 2]}…{text[-(most - most // 2) :]}"


def axis_label(attrs: dict[str, Any], width: int = 60, name: str | None = None) -> str:
    """`long_name (units)` of a stored variable, wrapped to `width` letters a line; pure numbers have no unit."""
    units = str(attrs.get("units", "1")).replace("weight2", "weight²").replace("coefficient ", "coefficient × ")
    text = name or str(attrs.get("long_name", ""))
    if units in ("1", ""):
        return textwrap.fill(text, width)
    unit = f"({units})"
    lines = textwrap.wrap(text, width)
    joined = f"{lines[-1]} {unit}"
    return "\n".join([*lines[:-1], joined] if len(joined) <= width else [*lines, unit])
