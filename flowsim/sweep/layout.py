"""The shape of a result file: its groups, dimensions, coordinates and variables, and where a tile goes in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from flowsim.sweep.companions import AGAINST, LABELS, RTOL_FACTOR
from flowsim.sweep.schedules import Clock
from flowsim.trajectory.content import COUNTS
from flowsim.trajectory.variables import (
    BASELINE,
    COMPANIONS,
    FINAL_NUMBERS,
    FINAL_WORDS,
    THEORY,
    THEORY_WORDS,
    TRAJECTORY,
    Variable,
)

if TYPE_CHECKING:
    from flowsim.scenario.read import Document
    from flowsim.sweep.tiles import Tile
    from flowsim.trajectory.draft import Writer

CHUNK_BYTES = 2**20  # of a variable: what HDF5 keeps in memory, and little enough to read one rank
PER_RANK = ("loss_floor", "parameters", "energy", "spectral_gap")  # theory that no seed changes


@dataclass(frozen=True)
class Place:
    """One variable of the file: its group, its dimensions there without those of the sweep, and its kind."""

    group: str
    name: str
    dims: tuple[str, ...]
    kind: type
    about: Variable

    @property
    def in_tile(self) -> tuple[str, ...]:
        """Its dimensions in a tile: no rank and no companion, and always the seed."""
        kept = tuple(dim for dim in self.dims if dim not in ("rank", "companion"))
        return kept if "seed" in kept else ("seed", *kept)

    @property
    def is_last(self) -> bool:
        """Whether it is the last time of a trajectory, which a tile does not store twice."""
        return self.group == "final" and self.name in TRAJECTORY


class Layout:
    """The result file of a scenario.

    Parameters
    ----------
    document : Document
    times : Clock
    block : int
        Seeds of a tile.
    one_baseline : bool
        W(0) is the same for every rank and seed, so full fine-tuning has no such dimensions.
    """

    def __init__(self, document: Document, times: Clock, block: int, *, one_baseline: bool) -> None:
        scenario = document.scenario
        self.axes, self.times = document.axes, times
        self.ranks, self.seeds = tuple(scenario.adapter.ranks), tuple(scenario.adapter.seeds)
        self.points = [len(axis.values) for axis in self.axes]
        self.factors, self.shape = scenario.save.factors, document.shape
        self.modes, self.block = max(self.ranks), min(block, len(self.seeds))
        self.sizes = {axis.name: len(axis.values) for axis in self.axes} | {
            "schedule": len(times.items), "rank": len(self.ranks), "seed": len(self.seeds), "time": len(times.times),
            "mode": self.modes, "side": 2, "companion": len(LABELS),
        }  # fmt: skip
        # As many ranks are written at once as fill a chunk of a plain variable.
        one = 8 * len(times.items) * self.block * len(times.times)
        self.gathered = max(1, min(len(self.ranks), CHUNK_BYTES // one))
        self.places = list(self._places(one_baseline))

    def point(self, tile: Tile) -> tuple[int, ...]:
        """Places of a tile's point along the axes of the sweep."""
        return tuple(int(place) for place in np.unravel_index(tile.point, self.points)) if self.points else ()

    def _places(self, one_baseline: bool) -> Iterator[Place]:
        base = ("schedule", "rank", "seed")
        for name, about in TRAJECTORY.items():
            extra = (about.extra,) if about.extra else ()
            yield Place("trajectory", name, (*base, "time", *extra), float, about)
            yield Place("final", name, (*base, *extra), float, about)
        for name, about in FINAL_NUMBERS.items():
            yield Place("final", name, base, int if name in COUNTS else float, about)
        for name, about in FINAL_WORDS.items():
            yield Place("final", name, base, str, about)
        for name, about in BASELINE.items():
            yield Place("baseline", name, ("time",) if one_baseline else ("rank", "seed", "time"), float, about)
        for name, about in (THEORY | THEORY_WORDS).items():
            dims = ("rank",) if name in PER_RANK else ("rank", "seed")
            yield Place("theory", name, dims, str if name in THEORY_WORDS else float, about)
        for name, about in COMPANIONS.items():
            yield Place("companions", name, ("companion", "rank", "seed", "time"), float, about)
        method = Variable("method of the companion", "", "name")
        yield Place("companions", "method", ("companion", "rank", "seed"), str, method)

    def declare(self, out: Writer, attributes: Mapping[str, object]) -> None:
        """Write everything that is known before any tile: attributes, dimensions, coordinates, empty variables."""
        out.attributes(attributes)
        for group in dict.fromkeys(place.group for place in self.places):
            own = [place for place in self.places if place.group == group]
            names = [axis.name for axis in self.axes] + list(dict.fromkeys(dim for one in own for dim in one.dims))
            out.group(group, {name: self.sizes[name] for name in names}, self._coordinates(names))
            for place in own:
                dims = (*(axis.name for axis in self.axes), *place.dims)
                out.declare(group, place.name, dims, place.kind, place.about.attrs(), self._chunks(dims))
            self._put_static(out, group)
        if self.factors != "none":
            for rank in self.ranks:
                self._declare_factors(out, rank)

    def _put_static(self, out: Writer, group: str) -> None:
        whole: dict[str, tuple[np.ndarray, type, Variable]] = {
            "flow_time": (
                self.times.flow_time, float,
                Variable("flow time of the recorded round", "time", "rounds x window, or rounds x k eta"),
            ),
            "step": (self.times.rounds, int, Variable("recorded round", "1", "nearest round to the nominal time")),
        }  # fmt: skip
        if group not in ("trajectory", "final"):
            return
        for name, (values, kind, about) in whole.items():
            last = group == "final"
            dims = ("schedule",) if last else ("schedule", "time")
            out.declare(group, name, dims, kind, about.attrs())
            out.put(group, name, (slice(None),) * len(dims), values[:, -1] if last else values)

    def _declare_factors(self, out: Writer, rank: int) -> None:
        n, m = self.shape
        kept = self.times.times if self.factors == "all" else self.times.times[[0, -1]]
        group = f"factors/rank_{rank}"
        sizes = self.sizes | {"time": len(kept), "factor": rank, "row": n, "column": m}
        axes = [axis.name for axis in self.axes]
        names = [*axes, "schedule", "seed", "time", "factor", "column", "row"]
        coords = self._coordinates([*axes, "schedule", "seed", "time"]) | {
            "time": xr.Variable(("time",), kept, _about("nominal flow time", "as in the scenario", "time"))
        }
        out.group(group, {name: sizes[name] for name in names}, coords)
        for name, (own, formula) in FACTORS.items():
            attrs = {"long_name": name, "units": "weight0.5", "formula": formula}
            dims = (*axes, *own)
            chunks = {dim: 1 if dim in (*axes, "schedule", "seed") else sizes[dim] for dim in dims}
            out.declare(group, name, dims, float, attrs, _fit(chunks))

    def _chunks(self, dims: tuple[str, ...]) -> dict[str, int] | None:
        """Chunks that tiles fill whole, of at most `CHUNK_BYTES`; None for variables without time, which are small."""
        if "time" not in dims:
            return None
        chunks = {dim: self.sizes[dim] for dim in dims}
        chunks |= {axis.name: 1 for axis in self.axes}
        if "seed" in dims:
            chunks |= {"rank": self.gathered, "seed": self.block}
        if "companion" in dims:
            chunks["companion"] = 1
        return _fit(chunks)

    def _coordinates(self, names: Sequence[str]) -> dict[str, xr.Variable]:
        known = self._schedule_coordinates() if "schedule" in names else {}
        for axis in self.axes:
            values = axis.coordinate
            text = any(isinstance(value, str) for value in values)
            about = _about(axis.path, "as in the scenario") | {"key": axis.path}
            known[axis.name] = xr.Variable((axis.name,), np.array(values, dtype=object if text else None), about)
        single = {
            "rank": (np.array(self.ranks, dtype=np.int64), _about("rank of the update", "r", "1")),
            "seed": (np.array(self.seeds, dtype=np.int64), _about("seed", "as in the scenario", "1")),
            "time": (self.times.times, _about("nominal flow time", "as in the scenario", "time")),
            "mode": (np.arange(1, self.modes + 1), _about("singular mode", "1 is the strongest", "1")),
            "side": (_texts(["left", "right"]), _about("side of the update", "left: B, right: A")),
            "companion": (_texts(LABELS), _about("companion solve", "label")),
        }  # fmt: skip
        known |= {name: xr.Variable((name,), *single[name]) for name in names if name in single}
        if "companion" in names:
            against = _texts([AGAINST[label] for label in LABELS])
            factor = np.array([RTOL_FACTOR[label] for label in LABELS])
            known["against"] = xr.Variable(("companion",), against, _about("what it is held against", "label"))
            about = _about("its rtol over the scenario's", "ratio", "1")
            known["rtol_factor"] = xr.Variable(("companion",), factor, about)
        return known

    def _schedule_coordinates(self) -> dict[str, xr.Variable]:
        items = self.times.items
        rows: dict[str, tuple[np.ndarray, str, str]] = {
            "schedule": (_texts([item.label for item in items]), "schedule", ""),
            "kind": (_texts([item.kind for item in items]), "flow or descent", ""),
            "update": (_texts([item.update for item in items]), "order of updates", ""),
            "window": (np.array([item.window for item in items]), "window of the sequential flow", "time"),
            "learning_rate": (np.array([item.learning_rate for item in items]), "learning rate", "time"),
            "inner_steps": (
                np.array([item.inner_steps for item in items], dtype=np.int64),
                "steps on one factor before the other moves", "1",
            ),
        }  # fmt: skip
        return {
            name: xr.Variable(("schedule",), values, _about(long, "as in the scenario", units))
            for name, (values, long, units) in rows.items()
        }


FACTORS = {
    "A": (("schedule", "seed", "time", "factor", "column"), "r x m factor"),
    "B": (("schedule", "seed", "time", "row", "factor"), "n x r factor"),
}


def _fit(chunks: dict[str, int]) -> dict[str, int]:
    """The same chunks cut down to `CHUNK_BYTES`, from the first dimension on, time last."""
    known = ["companion", "rank", "schedule", "mode", "seed", "time"]
    order = [*(dim for dim in known if dim in chunks), *(dim for dim in chunks if dim not in known)]
    chunks = dict(chunks)
    for dim in order:
        excess = 8 * math.prod(chunks.values()) / CHUNK_BYTES
        if excess <= 1:
            break
        chunks[dim] = max(1, math.floor(chunks[dim] / excess))
    return chunks


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def _about(long_name: str, formula: str, units: str = "") -> dict[str, str]:
    return {"long_name": long_name, "units": units, "formula": formula}
