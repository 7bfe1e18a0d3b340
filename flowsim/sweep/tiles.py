"""A scenario cut into tiles: the unit of work, of storage and of loss.

A tile is one rank and one block of seeds at one point of the sweep, with all its schedules. The list of tiles follows
from the scenario alone, never from workers, memory or the order of work: numbers that share a batch may differ in
their last bits from the same numbers computed alone, so that another cut would be another result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowsim.sweep.schedules import Clock, clock_of, expand, nominal_times

if TYPE_CHECKING:
    from flowsim.scenario.read import Document

MOST_SEEDS = 32  # of a tile; a batch of more gains little
MOST_BYTES = 2**29  # of the states of a tile, unless a single seed needs more


@dataclass(frozen=True)
class Tile:
    """One rank and one block of seeds at one point.

    Attributes
    ----------
    index : int
        Its place among all tiles of the scenario.
    point : int
        Place of the point in `Document.points`.
    place, rank : int
        Place of the rank in the scenario's list, and the rank.
    first, last : int
        Places of its seeds: first ≤ place < last.
    """

    index: int
    point: int
    place: int
    rank: int
    first: int
    last: int

    @property
    def seeds(self) -> int:
        """How many seeds it holds."""
        return self.last - self.first

    def about(self, digest: str) -> dict[str, Any]:
        """What a stored tile says of itself; `digest` is that of the whole scenario."""
        return {"digest": digest, "tile": [self.index, self.point, self.rank, self.first, self.last]}


def clock(document: Document) -> Clock:
    """The schedules of a scenario and their recorded times; the same for all its points."""
    return clock_of(expand(document.scenario), nominal_times(document.scenario.time))


def states_bytes(document: Document, times: Clock, rank: int) -> int:
    """Bytes of the states of one seed of a tile: the flow at all times, its variations, and every schedule."""
    n, m = document.shape
    flow = len(times.union) * (5 if len(times.items) > 1 else 1)
    return 8 * (flow + len(times.items) * len(times.times)) * (n + m) * rank


def tiles_of(document: Document, times: Clock) -> tuple[Tile, ...]:
    """All tiles of a scenario, point by point; within a point block by block of seeds, and rank by rank.

    Parameters
    ----------
    document : Document
        With or without a sweep.
    times : Clock
        As `clock` gives it.
    """
    ranks, seeds = document.scenario.adapter.ranks, len(document.scenario.adapter.seeds)
    found: list[Tile] = []
    for number, point in enumerate(document.points):
        # One block for all ranks: nested ranks share one solution.
        block = min(MOST_SEEDS, max(1, MOST_BYTES // states_bytes(point, times, max(ranks))))
        for first in range(0, seeds, block):
            for place, rank in enumerate(ranks):
                found.append(Tile(len(found), number, place, rank, first, min(first + block, seeds)))
    return tuple(found)
