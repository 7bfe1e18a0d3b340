"""How the flow ended at every point of a sweep: medians and counts over seeds, read a slab at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowsim.checks.view import FLOW
from flowsim.report.data import Array, spread
from flowsim.scenario.sweep import Axis
from flowsim.sweep.outcome import Outcome

WORDS = (*(str(word) for word in Outcome), "other")  # "other": of a newer flowsim


@dataclass(frozen=True)
class Ends:
    """Ends of the flow of one rank, an entry a point.

    Attributes
    ----------
    loss : ndarray, (axes…)
        Median over seeds of the final loss, of those that are finite; NaN where none is.
    reach_time : ndarray, (axes…)
        Median over seeds of the time to reach; a seed that did not reach counts as later than all others, NaN where
        the median is such a one.
    arrived : ndarray of int, (axes…)
        Seeds with a time to reach.
    counts : ndarray of int, (axes…, word)
        Seeds of each outcome, in the order of `WORDS`.
    seeds : int
    """

    loss: Array
    reach_time: Array
    arrived: NDArray[np.int64]
    counts: NDArray[np.int64]
    seeds: int

    def arranged(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Ends:
        """The same with its arrays laid out anew."""
        return Ends(change(self.loss), change(self.reach_time), change(self.arrived), change(self.counts), self.seeds)

    @classmethod
    def stacked(cls, rows: Sequence[Ends]) -> Ends:
        """Several as one, along a new first dimension."""
        return cls(
            np.stack([one.loss for one in rows]), np.stack([one.reach_time for one in rows]),
            np.stack([one.arrived for one in rows]), np.stack([one.counts for one in rows]), rows[0].seeds,
        )  # fmt: skip


def flow_ends(tree: xr.DataTree, axes: Sequence[Axis], rank: int, at: dict[str, int] | None = None) -> Ends:
    """Read the ends of the flow of one rank.

    Parameters
    ----------
    tree : DataTree
        A result, in memory or opened lazily: at most one place of the first axis is held at a time.
    axes : sequence of Axis
        Those that the entries run over, in this order; without any there is one entry.
    rank : int
        Place along `rank`.
    at : dict of str to int, optional
        Places along the other axes, by dimension.

    Returns
    -------
    Ends
    """
    final = tree["final"].dataset
    seeds, shape = final.sizes["seed"], tuple(len(axis.values) for axis in axes)
    ends = Ends(
        np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64),
        np.zeros((*shape, len(WORDS)), np.int64), seeds,
    )  # fmt: skip
    for place in np.ndindex(shape[:1]):
        own = {"schedule": FLOW, "rank": rank, **(at or {})}
        own |= {axis.name: spot for axis, spot in zip(axes, place, strict=False)}
        dims = [axis.name for axis in axes[len(place) :]]
        ends.loss[place] = spread(_slab(final, "loss", own, dims, shape)).middle
        times = np.asarray(_slab(final, "reach_time", own, dims, shape), dtype=float)
        ends.reach_time[place], ends.arrived[place] = _late_median(times), np.isfinite(times).sum(-1)
        ends.counts[place] = count_words(_slab(final, "outcome", own, dims, shape))
    return ends


def _slab(final: xr.Dataset, name: str, own: dict[str, int], dims: list[str], shape: tuple[int, ...]) -> NDArray[Any]:
    """(`dims`…, seed) of a final variable at the places `own`; repeated along an axis on which it does not depend."""
    variable = final[name].variable
    part = variable.isel({dim: place for dim, place in own.items() if dim in variable.dims})
    values = np.asarray(part.transpose(*(dim for dim in dims if dim in part.dims), "seed").values)
    seeds = part.sizes["seed"]
    thin = values.reshape(*(part.sizes.get(dim, 1) for dim in dims), seeds)
    return np.broadcast_to(thin, (*shape[len(shape) - len(dims) :], seeds))


def count_words(outcomes: NDArray[Any]) -> NDArray[np.int64]:
    """How often each of `WORDS` stands along the last axis: (…, seed) to (…, word)."""
    counts = np.stack([(outcomes == word).sum(-1) for word in WORDS[:-1]], axis=-1)
    return np.concatenate([counts, outcomes.shape[-1] - counts.sum(-1, keepdims=True)], axis=-1).astype(np.int64)


def _late_median(times: Array) -> Array:
    """Median along the last axis of times of which NaN is later than all others; NaN where that is the median."""
    ordered = np.sort(np.where(np.isfinite(times), times, np.inf), axis=-1)
    count = ordered.shape[-1]
    middle = ordered[..., (count - 1) // 2] / 2 + ordered[..., count // 2] / 2
    return np.where(np.isfinite(middle), middle, np.nan)
