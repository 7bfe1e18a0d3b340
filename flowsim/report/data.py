"""A stored result as the figures see it: ranks in order, families of schedules, spreads over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowsim.checks.view import FLOW, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Schedules that differ in their step alone.

    Attributes
    ----------
    places : tuple of int
        Along `schedule`, from the largest step to the smallest.
    steps : ndarray
        Flow time of one round, h: the window, or inner steps × learning rate.
    """

    kind: str
    update: str
    inner_steps: int
    places: tuple[int, ...]
    steps: Array

    @property
    def label(self) -> str:
        """`descent, a first, k = 4`."""
        word = "descent" if self.kind == "descent" else "windows"
        tail = f", k = {self.inner_steps}" if self.inner_steps > 1 else ""
        return f"{word}, {UPDATE_WORDS.get(self.update, self.update)}{tail}"


UPDATE_WORDS = {"a_first": "A first", "b_first": "B first"}


@dataclass(frozen=True)
class Spread:
    """Median and range over seeds; NaN where no seed is finite."""

    low: Array
    middle: Array
    high: Array


@dataclass(frozen=True)
class Result:
    """One result with what figures ask of it again and again."""

    view: View

    @classmethod
    def of(cls, tree: xr.DataTree) -> Result:
        """Wrap a tree; nothing is copied or changed."""
        return cls(View(tree))

    @cached_property
    def order(self) -> list[int]:
        """Places of the ranks, by increasing rank."""
        return [int(place) for place in np.argsort(self.view.ranks, kind="stable")]

    @cached_property
    def ranks(self) -> list[int]:
        """Ranks, increasing."""
        return sorted(self.view.ranks)

    @cached_property
    def families(self) -> list[Family]:
        """All schedules but the flow itself, grouped."""
        groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
        for row in self.view.schedules:
            if row["place"] != FLOW:
                key = (str(row["kind"]), str(row["update"]), int(row["inner_steps"]))
                groups.setdefault(key, []).append(row)
        found = []
        for key, rows in groups.items():
            rows = sorted(rows, key=lambda row: -float(row["duration"]))
            steps = np.array([float(row["duration"]) for row in rows])
            found.append(Family(*key, tuple(int(row["place"]) for row in rows), steps))
        return found

    def attrs(self, group: str, name: str) -> dict[str, Any]:
        """Attributes of a stored variable."""
        return {str(key): value for key, value in self.view.tree[group][name].attrs.items()}

    def values(self, group: str, name: str) -> NDArray[Any]:
        """A stored variable as it is, whole; for the small ones."""
        return self.view.slabs.read(group, name)

    def has(self, group: str, name: str) -> bool:
        """Whether the variable is there and has a finite entry; read by its first dimension."""
        tree, read = self.view.tree, self.view.slabs.read
        if group not in tree.children or name not in tree[group].dataset:
            return False
        shape = tree[group].dataset[name].shape
        if len(shape) < 2:
            return bool(np.isfinite(read(group, name)).any())
        return any(bool(np.isfinite(read(group, name, place)).any()) for place in range(shape[0]))

    def times(self, schedule: int = FLOW) -> Array:
        """Flow times of the recorded rounds of a schedule, (time,)."""
        return np.asarray(self.values("trajectory", "flow_time")[schedule], dtype=float)

    def path(self, name: str, rank: int, schedule: int = FLOW) -> Array:
        """(seed, time) of a trajectory variable, `rank` the place among increasing ranks."""
        return np.asarray(self.view.trajectory(name, schedule, self.order[rank]), dtype=float)

    def over_seeds(self, name: str, schedule: int = FLOW) -> Spread:
        """Spread over seeds of a trajectory variable, (rank, time), ranks increasing."""
        spreads = [spread(self.path(name, rank, schedule), axis=0) for rank in range(len(self.ranks))]
        return Spread(*(np.stack([getattr(one, part) for one in spreads]) for part in ("low", "middle", "high")))

    def starts(self, name: str) -> Array:
        """(rank, seed) of a trajectory variable of the flow at time 0, ranks increasing."""
        return np.stack([np.asarray(self.view.first(FLOW, name, place), dtype=float) for place in self.order])

    def finals(self, name: str, schedule: int = FLOW) -> Array:
        """(rank, seed) of a final variable, ranks increasing."""
        return np.stack([np.asarray(self.view.final(name, schedule, place), dtype=float) for place in self.order])

    def outcomes(self, schedule: int = FLOW) -> NDArray[np.str_]:
        """(rank, seed) words, ranks increasing."""
        return np.stack([self.view.final("outcome", schedule, place).astype(str) for place in self.order])

    def theory(self, name: str) -> Array:
        """(rank, seed) of a theory variable, ranks increasing."""
        return np.stack([np.asarray(self.view.theory(name, place), dtype=float) for place in self.order])

    def limit_excess(self) -> Array:
        """Exact limit of the excess loss of the flow, (rank,), median over seeds; NaN where it is not known."""
        limit, floor = self.theory("loss_limit"), self.theory("loss_floor")
        known = np.isfinite(limit) & np.isfinite(floor)
        return spread(np.where(known, np.where(known, limit, 0.0) - np.where(known, floor, 0.0), np.nan)).middle

    def goals(self) -> Array:
        """Excess loss at or below which a rank counts as reached, (rank,): reach × its start, median over seeds."""
        reach = float(self.view.tree.attrs.get("reach", np.nan))
        return reach * spread(self.starts("excess_loss")).middle

    def endings(self) -> list[str]:
        """A sentence for every schedule that did not come to its end for some rank or seed."""
        sentences = []
        for row in self.view.schedules:
            words = self.outcomes(int(row["place"]))
            label = schedule_words(row)
            label = label[0].upper() + label[1:]
            for word in sorted(set(words.flat) - ENDED_WELL):
                hit = words == word
                ranks = ", ".join(str(r) for r, any_ in zip(self.ranks, hit.any(1), strict=True) if any_)
                count = f"{'rank' if ',' not in ranks else 'ranks'} {ranks}; {int(hit.sum())} of {hit.size} runs"
                if word == "diverged":
                    alive = [
                        np.isfinite(self.path("loss", rank, int(row["place"]))[hit[rank]]).sum(-1).clip(1).min()
                        for rank in np.flatnonzero(hit.any(1)).tolist()
                    ]
                    after = float(self.times(int(row["place"]))[min(alive) - 1])
                    sentences.append(f"{label}: diverged after t = {number(after)} ({count}).")
                else:
                    sentences.append(f"{label}: {word.replace('_', ' ')} ({count}).")
        if len(sentences) > MOST_SENTENCES:
            rest = len(sentences) - MOST_SENTENCES
            sentences = [*sentences[:MOST_SENTENCES], f"{rest} more schedules did not come to their end."]
        return sentences


ENDED_WELL = {"reached", "not_yet", "stationary_elsewhere", "left_minimum"}
MOST_SENTENCES = 4


def schedule_words(row: dict[str, Any]) -> str:
    """`descent, A first, η = 0.1, k = 4`."""
    if row["place"] == FLOW:
        return "flow"
    update = UPDATE_WORDS.get(str(row["update"]), str(row["update"]))
    if row["kind"] != "descent":
        return f"windows, {update}, h = {number(float(row['window']))}"
    tail = f", k = {int(row['inner_steps'])}" if int(row["inner_steps"]) > 1 else ""
    return f"descent, {update}, η = {number(float(row['learning_rate']))}{tail}"


def spread(values: Array, axis: int = -1) -> Spread:
    """Lowest, median and highest over an axis, of the finite entries alone; never warns."""
    values = np.moveaxis(np.asarray(values, dtype=float), axis, -1)
    finite = np.isfinite(values)
    known = finite.any(-1)
    ordered = np.sort(np.where(finite, values, np.inf), axis=-1)
    count = np.maximum(finite.sum(-1), 1)

    def at(place: Array) -> Array:
        return np.take_along_axis(ordered, place[..., None].astype(int), axis=-1)[..., 0]

    low, lower, upper, high = (at(p) for p in (0 * count, (count - 1) // 2, count // 2, count - 1))
    # Halves first: the sum of two numbers near the largest float would overflow.
    middle = np.where(known, lower, 0.0) / 2 + np.where(known, upper, 0.0) / 2
    nan = np.full_like(low, np.nan)
    return Spread(np.where(known, low, nan), np.where(known, middle, nan), np.where(known, high, nan))


def largest_over_time(values: Array) -> Array:
    """Largest entry along the last axis, NaN aside; NaN where all are."""
    known = ~np.isnan(values)
    top = np.where(known, values, -np.inf).max(-1)
    return np.asarray(np.where(known.any(-1), top, np.nan))


def some(count: int, most: int) -> list[int]:
    """At most `most` of the places 0 … count − 1, the first and last among them, evenly spread.

    Examples
    --------
    >>> some(3, 6), some(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    if count <= most:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, most).round()]


def number(value: float) -> str:
    """A number for a label: three digits, no trailing zeros.

    Examples
    --------
    >>> number(0.05), number(2.0), number(1e-6)
    ('0.05', '2', '1e-6')
    """
    lead, _, power = f"{value:.3g}".partition("e")
    return f"{lead}e{int(power)}" if power else lead
