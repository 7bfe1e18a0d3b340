"""The cells of a grid: where each value of a key lies, and how it is labelled."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.canvas import drawable
from flowsim.report.data import Array
from flowsim.report.scales import FARTHEST
from flowsim.report.words import shortened
from flowsim.scenario.model import label_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNEVEN = 3.0  # gaps that differ by more than this factor would leave slivers of cells: then all are drawn equal
LETTER, NARROW = 0.58, 0.5  # width of a letter, of its size: so that nothing overlaps; about
TICK = 6.5  # points
LONGEST = 26  # letters of a text label; the notes say the whole of it


@dataclass(frozen=True)
class Direction:
    """One direction of a grid: its cells in order, on a scale that suits the values.

    Attributes
    ----------
    label : str
        Name of the key.
    order : list of int
        Stored place of each cell.
    numbers : ndarray or None
        Value of each cell, increasing; None for texts.
    texts : list of str
        Label of each cell.
    centres, edges : ndarray
        Of the cells, on the scale.
    scale : str
        `log` (centres are log10 of the values), `linear` (the values) or `equal` (the number of the cell).
    """

    label: str
    order: list[int]
    numbers: Array | None
    texts: list[str]
    centres: Array
    edges: Array
    scale: str

    @classmethod
    def of(cls, label: str, values: Sequence[Any], texts: Sequence[str]) -> Direction:
        """Lay out the cells of a key; numbers by size, texts as they are listed.

        Examples
        --------
        >>> Direction.of("std", [1.0, 1e-4, 1e-2], ["1", "0.0001", "0.01"]).scale
        'log'
        >>> Direction.of("c", [1, 2, 3, 4], ["1", "2", "3", "4"]).scale
        'linear'
        >>> Direction.of("kind", ["b", "a"], ["b", "a"]).order
        [0, 1]
        """
        count = len(values)
        if any(isinstance(value, str) for value in values):
            centres = np.arange(count, dtype=float)
            return cls(label, list(range(count)), None, list(texts), centres, _edges(centres), "equal")
        numbers = np.array(values, dtype=float)
        order = [int(place) for place in np.argsort(numbers, kind="stable")]
        numbers = numbers[order]
        scale, centres = _scaled(numbers)
        return cls(label, order, numbers, [texts[place] for place in order], centres, _edges(centres), scale)

    @property
    def sizes(self) -> Array:
        """Part of the whole that each cell takes."""
        return np.diff(self.edges) / (self.edges[-1] - self.edges[0])

    def ticks(self, most: int) -> tuple[Array, list[str], Array]:
        """Places, labels and unlabelled places of at most about `most` ticks."""
        nothing = np.empty(0)
        if len(self.order) <= most:
            return self.centres, self._labels(range(len(self.order))), nothing
        if self.scale == "equal":
            places = range(0, len(self.order), -(-len(self.order) // most))
            return self.centres[places], self._labels(places), nothing
        return round_ticks(float(self.edges[0]), float(self.edges[-1]), most, log=self.scale == "log")

    def _labels(self, places: Sequence[int]) -> list[str]:
        if self.numbers is None:
            return [drawable(shortened(self.texts[place], LONGEST)) for place in places]
        powers = self.scale == "log" and all(_is_power(value) for value in self.numbers.tolist())
        if powers and max(abs(self.centres)) > 2.5:
            return [rf"$10^{{{round(self.centres[place])}}}$" for place in places]
        return [scientific(self.texts[place]) for place in places]

    def label_x(self, axes: Axes, width: float) -> None:
        """Ticks along x, in a panel of `width` points; what is too long for its cell stands upright."""
        minor = np.empty(0)
        if lines := self._folded(width):
            places, labels = self.centres, [drawable("\n".join(parts)) for parts in lines]
        elif self._upright(width):
            places, labels, _ = self.ticks(max(int(width / (1.25 * TICK)), 2))
        else:
            places, labels, minor = self.ticks(len(self.order) if self._fits(width) else self._room(width))
        axes.set_xticks(places, labels, fontsize=TICK, rotation=90 if self._upright(width) else 0)
        axes.set_xticks(minor, minor=True)

    def depth(self, width: float) -> float:
        """Points that the labels along x take, below a panel of `width` points."""
        if self._upright(width):
            return min(self._longest, LONGEST) * TICK * LETTER
        return 1.25 * TICK * max(map(len, self._folded(width)), default=1)

    @property
    def _longest(self) -> int:
        return max(len(text) for text in self.texts)

    def _fits(self, width: float) -> bool:
        """Whether every number's label has room under its cell."""
        return self._longest <= width * float(self.sizes.min()) / (TICK * LETTER) - 0.7

    def _room(self, width: float) -> int:
        """For how many numbers' labels there is room."""
        letters = {"log": 4, "linear": 6}.get(self.scale, self._longest)
        return max(int(width / (TICK * LETTER * (letters + 1.5))), 2)

    def _upright(self, width: float) -> bool:
        if self.numbers is None:
            return not self._folded(width)
        return not self._fits(width) and len(self.order) <= max(self._room(width), 6)

    def _folded(self, width: float) -> list[list[str]]:
        """Texts on up to three lines each, as wide as the cells along x; empty where that is not enough for them."""
        if self.numbers is not None:
            return []
        letters = int(width / len(self.texts) / (TICK * LETTER) - 0.7)
        lines = [textwrap.wrap(text, max(letters, 1), break_long_words=False) for text in self.texts]
        fits = all(len(parts) <= 3 and max(map(len, parts), default=0) <= letters for parts in lines)
        return lines if fits else []

    def label_y(self, axes: Axes, height: float) -> None:
        """Ticks along y, in a panel of `height` points."""
        close = int(height / (1.4 * TICK))
        few = len(self.order) <= close and self.scale != "log"
        places, labels, minor = self.ticks(close if few or self.scale == "equal" else max(min(int(0.65 * close), 8), 2))
        axes.set_yticks(places, labels, fontsize=TICK)
        axes.set_yticks(minor, minor=True)


def _scaled(numbers: Array) -> tuple[str, Array]:
    """The scale on which increasing numbers are most evenly spaced, and where they lie on it."""
    equal = np.arange(len(numbers), dtype=float)
    spread: dict[str, float] = {}
    if len(numbers) > 2 and max(abs(numbers)) < 10.0**FARTHEST:
        gaps = np.diff(numbers)
        spread["linear"] = float(gaps.max() / max(gaps.min(), 1e-300))
        if numbers[0] > 10.0**-FARTHEST:
            gaps = np.diff(np.log10(numbers))
            spread["log"] = float(gaps.max() / max(gaps.min(), 1e-300))
    scale = min(spread, key=spread.__getitem__, default="equal")
    if spread.get(scale, math.inf) > UNEVEN:
        return "equal", equal
    return scale, np.log10(numbers) if scale == "log" else numbers


def _edges(centres: Array) -> Array:
    """Half way between neighbours; the first and last cell as wide outside as inside."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    inner = centres[:-1] / 2 + centres[1:] / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])


def round_ticks(low: float, high: float, most: int, *, log: bool) -> tuple[Array, list[str], Array]:
    """Round numbers between two ends: places, labels, and places between them without a label.

    Parameters
    ----------
    low, high : float
        Ends of the scale, of a logarithmic one their log10.
    """
    from matplotlib.ticker import MaxNLocator

    if not log:
        places = _within(np.asarray(MaxNLocator(max(most - 1, 2)).tick_values(low, high)), low, high)
        return places, [scientific(f"{value:.6g}") for value in places], np.empty(0)
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    powers = np.arange(first, last + 1)
    within = np.log10(np.arange(2, 10))
    if len(powers) >= 3 or (len(powers) == 2 and high - low > 1.5):
        step = -(-len(powers) // most)
        labelled = powers[powers % step == 0] if len(powers[powers % step == 0]) > 1 else powers[::step]
        between = (
            powers.astype(float)
            if step > 1
            else np.concatenate([power + within for power in range(first - 1, last + 1)])
        )
        return labelled.astype(float), [rf"$10^{{{power}}}$" for power in labelled], _within(between, low, high)
    leads = (
        ((1, 2, 5), (1, 3), (1,))
        if high - low > 0.5
        else ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5))
    )
    for lead in leads:
        values = [(m, power) for power in range(math.floor(low), math.floor(high) + 1) for m in lead]
        kept = [(m, power) for m, power in values if low - 1e-9 <= math.log10(m) + power <= high + 1e-9]
        if len(kept) <= most:
            break
    if len(kept) < 2:  # hardly any span: as they come
        places = np.linspace(low, high, 3)[1:2] if high <= low else np.linspace(low, high, 3)
        return places, [scientific(f"{10.0**place:.4g}") for place in places], np.empty(0)
    places = np.array([math.log10(m) + power for m, power in kept])
    return places, [scientific(label_number(float(f"{m}e{power}"))) for m, power in kept], np.empty(0)


def _within(places: Array, low: float, high: float) -> Array:
    rim = 1e-9 * max(high - low, 0.0)
    return places[(places >= low - rim) & (places <= high + rim)]


def _is_power(value: float) -> bool:
    return value > 0 and f"{value:.12e}".startswith("1.000000000000e")


def scientific(text: str) -> str:
    r"""A number's text for a label: powers of ten as such.

    Examples
    --------
    >>> scientific("0.25"), scientific("1e-05"), scientific("2.5e+06")
    ('0.25', '$10^{-5}$', '$2.5\\times10^{6}$')
    """
    lead, _, power = text.partition("e")
    if not power:
        return drawable(text)
    return rf"$10^{{{int(power)}}}$" if lead == "1" else rf"${lead}\times10^{{{int(power)}}}$"


def folded(path: str, width: float) -> str:
    r"""A key path of 8 points on as few lines as fit a width in points, of about equal length, folded at its dots.

    Examples
    --------
    >>> folded("pretrained.singular_values.exponent", 120)
    'pretrained.\nsingular_values.exponent'
    """
    parts = re.split(r"(?<=[a-z_]\.)|(?<=, )|(?<= )(?=\()", path)

    def packed(letters: int) -> list[str]:
        lines = [""]
        for part in parts:
            if lines[-1] and len(lines[-1]) + len(part) > letters:
                lines.append("")
            lines[-1] += part
        return lines

    letters = max(int(width / (8 * NARROW)), 1)
    while letters > 1 and len(packed(letters - 1)) == len(packed(letters)):
        letters -= 1
    return "\n".join(drawable(line.strip()) for line in packed(letters))
