"""A sweep at a glance: final loss, time to reach and outcome of the flow over two of its keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowsim.report.canvas import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Sheet,
    axis_label,
    say_inside,
)
from flowsim.report.cells import LETTER, LONGEST, NARROW, TICK, folded
from flowsim.report.data import Array, Result, number
from flowsim.report.ends import WORDS
from flowsim.report.options import Options
from flowsim.report.phase_layout import Layout, lay_out
from flowsim.report.shades import Shades
from flowsim.trajectory.points import axes_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EMPTY = "#e6e6e6"  # of a cell without a number
# Colour of a cell, its mark, and colour of the mark: each alone tells the outcomes apart. From good to bad.
LOOKS = {
    "reached": (BLUE, "o", "white"),
    "not_yet": (SKY, ">", BLACK),
    "stationary_elsewhere": (ORANGE, "s", BLACK),
    "left_minimum": ("#F0E442", "d", BLACK),
    "diverged": (VERMILLION, "^", "white"),
    "step_underflow": (PURPLE, "v", BLACK),
    "max_steps": ("#882255", "P", "white"),
    "failed": (BLACK, "X", "white"),
    "not_run": ("white", "_", GREY),
    "other": ("#BBBBBB", "*", BLACK),
}
FINE = 2500  # cells from which on a panel is drawn as an image
FEW = 12  # cells each way up to which white lines part them
SMALLEST = 2.2  # points: of smaller cells only some carry a mark
INK = 5.5  # points: text inside a cell
LEGEND_COLUMNS = 4
QUANTITIES = 3  # loss, time, outcome
WORDS_HEIGHT = 1.0  # inches of title, notes and footer, about


@dataclass(frozen=True)
class Room:
    """What the cells of a panel have: points each way."""

    width: Array
    height: Array

    @property
    def least(self) -> float:
        """The smaller side of the smallest cell."""
        return float(min(self.width.min(), self.height.min()))

    @property
    def mark(self) -> float:
        """Size of a mark for which every marked cell has room."""
        return float(np.clip(0.5 * self.least, 1.3, 5.5))

    def fits(self, texts: list[str], lines: int = 1) -> bool:
        """Whether all texts, each on so many lines, have room in every cell."""
        wide = max((len(text) for text in texts), default=0) * LETTER * INK + 3
        return bool(wide <= self.width.min() and (1.4 * lines + 0.2) * INK <= self.height.min())


def has_sweep(tree: xr.DataTree) -> str:
    """Empty if the result is of a sweep, else why there is no phase diagram."""
    return "" if axes_of(tree) else "the scenario has no sweep"


def phase_diagram(tree: xr.DataTree, options: Options) -> Figure:
    """Final loss, time to reach and outcome of the flow over two keys of a sweep."""
    result = Result.of(tree)
    layout = lay_out(result, axes_of(tree), options.x, options.y)
    rows, side = len(layout.blocks), QUANTITIES if options.roomy else 1
    width, keys = _panel_width(layout, options.width, side), _keys(layout)
    titles, columns = _titles(result, width), LEGEND_COLUMNS if options.roomy else 2
    along, beside = folded(layout.x.label, (1 + side // 2) * width), layout.y.label
    above = 9 * max(map(_lines, titles)) + 38  # points: titles, ticks and bars of colours
    below = layout.x.depth(width) + 10 * _lines(along) + 11 * -(-len(keys) // columns) + 28
    stacks = QUANTITIES // side  # groups of panels one below another, each with its bar
    rest = stacks * (above + (rows - 1) * 18) + (stacks - 1) * layout.x.depth(width) + below
    height = _panel_height(layout, width, stacks)
    if not math.isnan(options.height):
        height = max((72 * (options.height - WORDS_HEIGHT) - rest) / (rows * stacks), 8.0)
    total = rest + stacks * rows * height
    sheet = Sheet(
        "Phase diagram of the flow", total / 72, stacks * (rows + 1), side, options=options, least=0.0,
        height_ratios=[6, *[height] * rows] * stacks,
    )  # fmt: skip
    grid = _columns(sheet.axes, rows, side)
    sheet.panels = [axes for column in grid for axes in column[1:]]
    for column, title in zip(grid, titles, strict=True):
        column[0].set_axis_off()  # until a bar is drawn
        bare = side == 1 and title == titles[-1]  # no bar below it
        column[0].set_title(title, fontsize=8, pad=-6 if bare else 17)
    for row, block in enumerate(layout.blocks):
        for place, column in enumerate(grid):
            left, bottom = place % side == 0, row == rows - 1
            _directions(column[row + 1], layout, width, height, left=left, bottom=bottom)
        for column in grid[::side]:
            column[row + 1].set_title(block.title, fontsize=7)
    room = Room(layout.x.sizes * width, layout.y.sizes * height)
    _losses(sheet, layout, grid[0], room)
    drawn = _times(layout, grid[1], room) | _outcomes(layout, grid[2], room)
    grid[-1 - side // 2][-1].set_xlabel(along)
    middle = (total + below - above) / 2 / total
    sheet.body.supylabel(folded(beside, stacks * rows * height + 40), fontsize=8, y=middle)
    sheet.body.legend(
        list(keys.values()), list(keys), loc="outside lower center", ncols=min(len(keys), columns),
        handlelength=1.2, handleheight=1.1, columnspacing=1.6,
    )  # fmt: skip
    for note in [*layout.notes, *_notes(result, layout, room, drawn)]:
        sheet.note(note)
    return sheet.finish(result)


def _columns(axes: list[Axes], rows: int, side: int) -> list[list[Axes]]:
    """Bar and panels of loss, time and outcome: side by side, or one below another."""
    if side == 1:
        return [axes[start : start + rows + 1] for start in range(0, len(axes), rows + 1)]
    return [axes[place::side] for place in range(side)]


def _panel_width(layout: Layout, width: float, side: int) -> float:
    """Points of a panel, about: what the labels of y leave of so many inches."""
    longest = max(len(text) for text in layout.y.texts) if layout.y.numbers is None else 5
    return (72 * width - min(longest, LONGEST) * NARROW * TICK - 60) / side


def _panel_height(layout: Layout, width: float, stacks: int) -> float:
    """Points of a panel: cells about square, with room for labels."""
    blocks, cells = len(layout.blocks), len(layout.y.order)
    square = width * cells / len(layout.x.order)
    labels = min(1.4 * TICK * cells if layout.y.numbers is None else 0.0, 290 / blocks)
    most = (137 if blocks == 1 else 100) / (1 if stacks == 1 else 1.4)
    return max(min(square, most, 55 * cells), 55, labels)


def _titles(result: Result, width: float) -> list[str]:
    """Titles of the three columns; where they are narrow, units stand below."""
    titles = [
        axis_label(result.attrs("final", name), 80, words)
        for name, words in (("loss", "final loss"), ("reach_time", "time to reach"))
    ]
    return [*(one.replace(" (", "\n(") if len(one) * 8 * NARROW > width else one for one in titles), "outcome"]


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _directions(axes: Axes, layout: Layout, width: float, height: float, *, left: bool, bottom: bool) -> None:
    """Limits and ticks of a panel; labels at the left and below alone."""
    axes.set_facecolor(EMPTY)
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.set_xlim(layout.x.edges[0], layout.x.edges[-1])
    low, high = layout.y.edges[[0, -1]]
    axes.set_ylim(*((high, low) if layout.y.numbers is None else (low, high)))  # texts read from the top
    layout.x.label_x(axes, width)
    layout.y.label_y(axes, height)
    axes.tick_params(labelleft=left, labelbottom=bottom, length=2, width=0.5)
    axes.tick_params(which="minor", length=1.2, width=0.4)


def _losses(sheet: Sheet, layout: Layout, column: Any, room: Room) -> None:
    values = layout.together("loss")
    shades = Shades.of(values, "viridis")
    below = shades.below(values)
    if np.isfinite(values).any():
        shades.bar(column[0], below=below)
    texts = _texts(values)
    for axes, own, words in zip(column[1:], values, texts, strict=True):
        _mesh(axes, layout, shades.places(own), shades.cmap, shades.norm)
        if not np.isfinite(own).any():
            say_inside(axes, "no finite loss")
        elif room.fits(list(texts.flat)):
            _write(axes, layout, shades, own, words)
        else:
            _mark(axes, layout, room, ~np.isfinite(own), marker="_", color=GREY)
    if below:
        sheet.note("Final losses of zero, or below the bar, have its lowest colour.")


def _times(layout: Layout, column: Any, room: Room) -> set[str]:
    """Draw the times to reach; returns the ways in which seeds that disagree are told."""
    values, arrived = layout.together("reach_time"), layout.together("arrived")
    shades = Shades.of(values, "magma_r")
    if np.isfinite(values).any():
        shades.bar(column[0], below=False)
    texts, shares = np.where(np.isnan(values), "", _texts(values)), _shares(arrived, layout.seeds)
    split = shares != ""
    roomy = room.fits([*texts.flat, *shares.flat], 2 if split.any() else 1)
    both = np.strings.add(texts, np.where(split & (texts != ""), "\n", ""))
    words = np.strings.add(both, shares)
    for row, axes in enumerate(column[1:]):
        places = shades.places(values[row])
        _mesh(axes, layout, places, shades.cmap, shades.norm)
        _mark(axes, layout, room, arrived[row] == 0, marker="x", color=GREY)
        if roomy:
            _write(axes, layout, shades, values[row], words[row])
            continue
        dark = np.array([[shades.dark(float(place)) for place in line] for line in places])
        for shade, colour in ((dark, "white"), (~dark, BLACK)):
            _mark(axes, layout, room, split[row] & shade, marker="o", color=colour, markerfacecolor="none")
    return _told(shares, roomy)


def _outcomes(layout: Layout, column: Any, room: Room) -> set[str]:
    """Draw the most frequent outcomes; returns the ways in which seeds that disagree are told."""
    from matplotlib.colors import ListedColormap, Normalize

    cmap, norm = ListedColormap([look[0] for look in LOOKS.values()]), Normalize(-0.5, len(LOOKS) - 0.5)
    shown, count = most_frequent(layout)
    shares = _shares(count, layout.seeds)
    # The share of the seeds stands right of the mark or under it.
    letters = max(len(share) for share in shares.flat)
    beside = bool(room.width.min() >= room.mark + 2 * (INK * LETTER * letters + 2.5))
    roomy = beside or (room.fits(list(shares.flat)) and bool(room.height.min() >= room.mark + 3 * INK))
    look: dict[str, Any] = {"xytext": (room.mark / 2 + 2.2, 0), "ha": "left", "va": "center"}
    if not beside:
        look = {"xytext": (0, -room.mark / 2 - 1), "ha": "center", "va": "top"}
    for axes, places, parts in zip(column[1:], shown, shares, strict=True):
        _mesh(axes, layout, places.astype(float), cmap, norm)
        for place, (_, marker, ink) in enumerate(LOOKS.values()):
            here, split = places == place, parts != ""
            _mark(axes, layout, room, here & (~split | roomy), marker=marker, color=ink)
            if not roomy:
                _mark(axes, layout, room, here & split, marker=marker, color=ink, markerfacecolor="none")
                continue
            for y, x in np.argwhere(here & split):
                centre = layout.x.centres[x], layout.y.centres[y]
                axes.annotate(parts[y, x], centre, textcoords="offset points", fontsize=INK, color=ink, **look)
    return _told(shares, roomy)


def most_frequent(layout: Layout) -> tuple[NDArray[np.int64], Array]:
    """The most frequent outcome of each cell as its place in `LOOKS`, the worse among equals, and how many seeds."""
    counts = layout.together("counts")[..., [WORDS.index(word) for word in LOOKS]]
    return counts.shape[-1] - 1 - np.argmax(counts[..., ::-1], axis=-1), counts.max(-1)


def _texts(values: Array) -> NDArray[np.str_]:
    """Numbers as they stand in cells: two digits."""
    return np.array([_short(value) if np.isfinite(value) else "–" for value in values.flat]).reshape(values.shape)


def _short(value: float) -> str:
    if not 0 < abs(value) < 1e-3:
        return number(float(f"{value:.2g}"))
    lead, power = f"{value:.1e}".split("e")
    return f"{lead.removesuffix('.0')}e{int(power)}"


def _shares(counts: Array, seeds: int) -> NDArray[np.str_]:
    """`2/3` where some seeds are counted and others not, else nothing."""
    words = np.array([f"{int(count)}/{seeds}" if 0 < count < seeds else "" for count in counts.flat])
    return words.reshape(counts.shape)


def _told(shares: NDArray[np.str_], roomy: bool) -> set[str]:
    return {"share" if roomy else "hollow"} if (shares != "").any() else set()


def _mesh(axes: Axes, layout: Layout, places: Array, cmap: Any, norm: Any) -> None:
    few = max(places.shape) <= FEW
    axes.pcolormesh(
        layout.x.edges, layout.y.edges, np.ma.masked_invalid(places), cmap=cmap, norm=norm,
        edgecolors="white" if few else "none", linewidth=0.6 if few else 0.0, rasterized=places.size > FINE,
    )  # fmt: skip


def _write(axes: Axes, layout: Layout, shades: Shades, values: Array, words: NDArray[np.str_]) -> None:
    """Words inside the cells, readable on their colours."""
    places = shades.places(values)
    for (y, x), text in np.ndenumerate(words):
        if text:
            look: dict[str, Any] = {"fontsize": INK, "color": "white" if shades.dark(float(places[y, x])) else BLACK}
            axes.text(float(layout.x.centres[x]), float(layout.y.centres[y]), text, ha="center", va="center", **look)


def _mark(axes: Axes, layout: Layout, room: Room, where: NDArray[np.bool_], **look: Any) -> None:
    """Marks in the middle of cells; where cells are too small for one each, in every few of them."""
    step = 1 if room.least >= SMALLEST else int(np.ceil(2 * SMALLEST / room.least))
    thin = np.zeros_like(where)
    thin[step // 2 :: step, step // 2 :: step] = True
    y, x = np.nonzero(where & thin)
    if y.size:
        axes.plot(
            layout.x.centres[x], layout.y.centres[y], linestyle="none", markersize=room.mark,
            markeredgewidth=min(0.18 * room.mark, 0.9), **look,
        )  # fmt: skip


def _keys(layout: Layout) -> dict[str, Any]:
    """Entries of the legend: outcomes by colour and mark, and what a cross means."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def entry(colour: str, marker: str, ink: str) -> Any:
        mark = Line2D([], [], linestyle="none", marker=marker, color=ink, markersize=4)
        return Patch(facecolor=colour, edgecolor=GREY, linewidth=0.4), mark

    shown, _ = most_frequent(layout)
    keys = {word.replace("_", " "): entry(*look) for place, (word, look) in enumerate(LOOKS.items()) if place in shown}
    if (layout.together("arrived") == 0).any():
        keys["not reached" if layout.seeds == 1 else "reached by no seed"] = entry(EMPTY, "x", GREY)
    return keys


def _notes(result: Result, layout: Layout, room: Room, drawn: set[str]) -> list[str]:
    """Sentences below the panels; `drawn` says how seeds that disagree are told."""
    seeds, sentences = layout.seeds, []
    if "reach" not in {axis.path for axis in axes_of(result.view.tree)}:
        reach = number(float(result.view.tree.attrs.get("reach", np.nan)))
        sentences.append(f"Time to reach: until the excess loss is {reach} of its start.")
    if seeds > 1:
        sentences.append(f"Medians over {seeds} seeds (not reached counts as latest), and their most frequent outcome.")
    told = {"share": f"Small print (2/{seeds}): so many of the seeds.", "hollow": "Hollow marks: seeds disagree."}
    sentences += [words for way, words in told.items() if way in drawn]
    if room.least < SMALLEST:
        sentences.append("Where cells are small, only some carry their mark.")
    return [" ".join(sentences)] if sentences else []
