"""What all figures share: a sheet with title, notes and footer, the house style, safe logarithmic axes."""

from __future__ import annotations

import json
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.errors import InputError
from flowsim.report.complete import completeness_in_short
from flowsim.report.data import Result, number
from flowsim.report.options import DEFAULT, Options
from flowsim.report.words import printable, shortened
from flowsim.trajectory.points import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
DIGITS = 5  # of places on the sheet
LOWEST_PANEL = 0.4  # inches, where the height of the whole is asked for
TITLE, BOLD, LINE, EDGE = 0.30, 0.17, 0.125, 0.06  # inches: the title, each line of it and of notes, the rim below

# Okabe and Ito's palette, which readers without full colour vision can tell apart; the grey is dark for that reason.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#606060"
UPDATE_LOOK = {
    "simultaneous": (BLUE, "o"),
    "a_first": (VERMILLION, "^"),
    "b_first": (GREEN, "v"),
    "symmetric": (PURPLE, "D"),
}
Colour = tuple[float, float, float]
RANK_MARKERS = "osD^vP*X<>hpd8+x1234|_"


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults plus flowsim's style inside the block; the caller's settings come back after it."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(mpl.rc_params_from_file(STYLE, use_default_template=False))
        yield


class Sheet:
    """One figure: title above, panels and legends in the middle, notes and a footer below.

    Parameters
    ----------
    title : str
        A few words.
    height : float
        Height of the middle part, inches, where none is asked for.
    rows, columns : int
        Panels.
    options : Options
        Size of the whole.
    least : float
        A panel is at least so many inches high: a sheet grows, or is refused where its height is asked for.
    **layout
        For `subplots`: sharex, height_ratios, ...
    """

    def __init__(
        self,
        title: str,
        height: float,
        rows: int = 1,
        columns: int = 1,
        *,
        options: Options = DEFAULT,
        least: float = 1.0,
        **layout: Any,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.title, self.height, self.options, self.least = title, height, options, least
        self.notes = list[str]()
        self.figure = Figure(figsize=(options.width, height), dpi=options.dpi, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.grid = self.figure.add_gridspec(3, 1, height_ratios=[TITLE, height, LINE])
        self.body = self.figure.add_subfigure(self.grid[1])
        axes = self.body.subplots(rows, columns, squeeze=False, **layout)
        self.axes: list[Axes] = list(axes.flat)
        self.panels = self.axes  # those that have to be high enough

    def note(self, text: str) -> None:
        """A sentence below the panels; once, however often it is said."""
        if text not in self.notes:
            self.notes.append(text)

    def finish(self, result: Result) -> Figure:
        """Fit the sheet to its words and sign it."""
        width = self.options.width
        above = textwrap.wrap(self.title, int(11.2 * width))
        called = [drawable(line) for line in textwrap.wrap(_called(result), int(19 * width), max_lines=2)]
        most = int(20.3 * width)
        notes = [line for note in self.notes for line in textwrap.wrap(note, most, subsequent_indent="   ")]
        lines = [*notes, *folded_parts(footer_parts(result), most)]
        top = TITLE + BOLD * (len(above) - 1) + LINE * len(called)
        below = LINE * len(lines) + EDGE
        # Text alone does not claim room in the layout: the empty rows of the grid keep it.
        for row in (0, 2):
            self.figure.add_subfigure(self.grid[row])
        total = self._settle(top, below)
        look: dict[str, Any] = {"x": 0.01 * 6.5 / width, "ha": "left"}
        for place, line in enumerate(above):
            self.figure.text(y=1 - (0.08 + BOLD * place) / total, s=line, va="top", fontsize=10, weight="bold", **look)
        for place, line in enumerate(called):
            y = 1 - (0.1 + BOLD * len(above) + LINE * place) / total
            self.figure.text(y=y, s=line, va="top", fontsize=7, color=GREY, **look)
        for place, line in enumerate(reversed(lines)):
            colour = BLACK if len(lines) - place <= len(notes) else GREY
            y = (EDGE + LINE * place) / total
            self.figure.text(y=y, s=line, va="bottom", fontsize=6.5, color=colour, **look)
        return self.figure

    def _settle(self, top: float, below: float) -> float:
        """Find the height at which every panel has room, and round all places; returns it, in inches."""
        height, fixed = self.height, not math.isnan(self.options.height)
        if fixed:
            height = max(self.options.height - top - below, 0.1)
        for _ in range(6):
            total = top + height + below
            self.options.check_pixels(total)
            self.figure.set_size_inches(self.options.width, total)
            self.grid.set_height_ratios([top, height, below])
            lacks = self._lacks(LOWEST_PANEL if fixed else self.least)
            if lacks <= 0:
                break
            if fixed:
                raise InputError(
                    f"a height of {self.options.height:g} inches is too low for the figure {self.title!r}",
                    f"At a width of {self.options.width:g} inches take a height of at least {total + lacks:.1f} or so.",
                )
            height += lacks
        self._round()
        return total

    def _lacks(self, least: float) -> float:
        """Lay the sheet out; returns the inches that its panels lack to be so high, and its legends to fit."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*constrained_layout not applied.*")
                self.figure.draw_without_rendering()
        except UserWarning:
            return 0.75
        heights = [axes.get_window_extent().height for axes in self.panels if axes.get_visible()]
        lacks = [len(heights) * (least - height / self.figure.dpi) for height in heights]
        room = self.body.bbox.height
        lacks += [(legend.get_window_extent().height - room) / self.figure.dpi for legend in self.body.legends]
        return max(lack if lack > 0.01 else 0.0 for lack in lacks)

    def _round(self) -> None:
        """Round all places.

        The layout's solver orders its unknowns by memory address, so that its last digits differ from run to run.
        """
        from matplotlib.transforms import Bbox

        self.figure.set_layout_engine("none")
        for part in self.figure.subfigs:
            part.bbox_relative.set_points(np.round(part.bbox_relative.get_points(), DIGITS))
        for axes in self.axes:
            axes.set_position(Bbox(np.round(axes.get_position(original=True).get_points(), DIGITS)))
        for text in self.body.texts:
            x, y = text.get_position()
            text.set_position((round(x, DIGITS), round(y, DIGITS)))


def _called(result: Result) -> str:
    """The scenario's title, if it has one of its own."""
    attrs = result.view.tree.attrs
    title = str(attrs.get("title", ""))
    return "" if title == str(attrs.get("name", "")) else printable(shortened(title, 160))


def footer_parts(result: Result) -> list[str]:
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
        drawable(str(attrs.get("shown", ""))),
        completeness_in_short(result.view.tree),
        f"flowsim {attrs.get('flowsim_version', '')}".rstrip(),
    ]
    return [part for part in parts if part]


def folded_parts(parts: Sequence[str], most: int) -> list[str]:
    """Parts on as few lines as so many letters each allow; a formula counts as the letters that it shows."""
    lines, last = [""], 0
    for part in parts:
        long = 20 if part.startswith("$") else len(part)
        for piece, size in [(part, long)] if long <= most else [(piece, most) for piece in textwrap.wrap(part, most)]:
            if lines[-1] and last + 3 + size > most:
                lines.append("")
                last = 0
            lines[-1] += f"  ·  {piece}" if lines[-1] else piece
            last += size + 4
    return lines


def rank_looks(ranks: Sequence[int]) -> list[tuple[Colour, str]]:
    """Colour (dark for small ranks to light for large ones) and marker of each rank; no two have the same marker."""
    from matplotlib import colormaps

    places = np.linspace(0.0, 0.82, max(len(ranks), 2))[: len(ranks)]
    markers = [*RANK_MARKERS, *(f"${rank}$" for rank in ranks[len(RANK_MARKERS) :])]
    return [(_rgb(colormaps["viridis"](float(place))), marker) for place, marker in zip(places, markers, strict=False)]


def _rgb(colour: Sequence[float]) -> Colour:
    red, green, blue, *_ = (float(part) for part in colour)
    return red, green, blue


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
