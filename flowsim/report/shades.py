"""A bar of colours for numbers of any size: logarithmic where they span decades, safe where they are all alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.report.cells import TICK, round_ticks
from flowsim.report.data import Array, number
from flowsim.report.scales import FARTHEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADES = 20.0  # of a bar
ALIKE = 5e-4  # relative difference below which three digits say the same


@dataclass(frozen=True)
class Shades:
    """Numbers to colours.

    Attributes
    ----------
    low, high : float
        Ends of the bar, of a logarithmic one their log10.
    log : bool
    colours : str
        A map of matplotlib's.
    alike : bool
        Whether all numbers agree to the three digits that labels show: they are the one in the middle.
    """

    low: float
    high: float
    log: bool
    colours: str
    alike: bool = False

    @classmethod
    def of(cls, values: Array, colours: str) -> Shades:
        """The bar that holds the finite ones of the values, at most `DECADES` of them."""
        known = values[np.isfinite(values)].clip(-(10.0**FARTHEST), 10.0**FARTHEST)
        positive = known[known > 10.0**-FARTHEST]
        if positive.size and float(np.log10(positive.max()) - np.log10(positive.min())) >= 1.0:
            high = float(np.log10(positive.max()))
            return cls(max(float(np.log10(positive.min())), high - DECADES), high, True, colours)
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        if number(low) == number(high) or high - low <= ALIKE * max(abs(low), abs(high)):  # the middle of the bar
            rim = 0.05 * max(abs(low), abs(high)) or 1.0
            return cls(low - rim, high + rim, False, colours, alike=True)
        return cls(low, high, False, colours)

    def places(self, values: Array) -> Array:
        """Where values lie on the bar; NaN for what is not finite."""
        finite = np.isfinite(values)
        if not self.log:
            return np.where(finite, values.clip(self.low, self.high), np.nan)
        positive = finite & (values > 0)
        logs = np.log10(np.where(positive, values, 1.0)).clip(self.low, self.high)
        return np.where(positive, logs, np.where(finite, self.low, np.nan))

    def below(self, values: Array) -> bool:
        """Whether some values lie below the bar."""
        known = values[np.isfinite(values)]
        return bool((known < (0.999 * 10.0**self.low if self.log else self.low)).any())

    @cached_property
    def norm(self) -> Any:
        """Matplotlib's norm of the places."""
        from matplotlib.colors import Normalize

        return Normalize(self.low, self.high)

    @cached_property
    def cmap(self) -> Any:
        """Matplotlib's map."""
        from matplotlib import colormaps

        return colormaps[self.colours]

    def dark(self, place: float) -> bool:
        """Whether black text could not be read on the colour of a place; never where there is no number."""
        if np.isnan(place):
            return False
        red, green, blue, _ = self.cmap(self.norm(place))
        return bool(0.299 * red + 0.587 * green + 0.114 * blue < 0.5)

    def bar(self, axes: Axes, *, below: bool) -> None:
        """Draw the bar into axes of its own, ticks above."""
        from matplotlib.cm import ScalarMappable

        figure: Any = axes.figure
        axes.set_axis_on()
        bar = figure.colorbar(
            ScalarMappable(self.norm, self.cmap), cax=axes, orientation="horizontal", ticklocation="top",
            extend="min" if below else "neither", extendfrac=0.04,
        )  # fmt: skip
        places, labels, minor = round_ticks(self.low, self.high, 5, log=self.log)
        if self.alike:
            places = np.array([self.low / 2 + self.high / 2])
            labels = [number(float(places[0]))]
        bar.set_ticks(places, labels=labels, fontsize=TICK)
        bar.set_ticks(minor, minor=True)
        bar.outline.set_linewidth(0.5)
