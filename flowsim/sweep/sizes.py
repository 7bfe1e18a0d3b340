"""What a scenario will take: memory of a worker, room on disk, and how many workers fit."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowsim.errors import InputError, OutputError
from flowsim.scenario.memory import available_memory, size_text
from flowsim.sweep.assemble import contents
from flowsim.sweep.layout import Layout
from flowsim.sweep.schedules import Clock
from flowsim.sweep.tiles import Tile, states_bytes
from flowsim.sweep.workers import cores

if TYPE_CHECKING:
    from flowsim.scenario.read import Document

PROCESS_BYTES = 512 * 2**20  # measured: Python with torch, and what its libraries take at work
STATE_COPIES = 5  # measured: products, measures and gaps beside the states themselves
DENSE_COPIES = 8  # W0, W*, their difference, its singular vectors, and a decomposition at work
SHARE = 0.8  # of the memory that is free, for workers
VARIABLE_BYTES = 6000  # measured: what HDF5 keeps for a variable and its attributes
WORD_BYTES = 60  # a word or a sentence
HEADER_BYTES = 8000  # of a tile
USUAL = ("loose_10", "loose_100", "tight", "tight_10")  # companions of a numerical run; an exact one has three


@dataclass(frozen=True)
class Sizes:
    """Bytes that a run takes.

    Attributes
    ----------
    states : int
        States of the largest tile, held by each worker while it works.
    worker : int
        Memory of a worker at most, as an estimate.
    tiles : int
        All finished tiles on disk, while the run lasts.
    file : int
        The result file before compression.
    """

    states: int
    worker: int
    tiles: int
    file: int


def sizes_of(document: Document, times: Clock, layout: Layout, tiles: Sequence[Tile]) -> Sizes:
    """Estimate what a run takes, from its scenario alone."""
    points = document.points
    states = max(states_bytes(points[tile.point], times, tile.rank) * tile.seeds for tile in tiles)
    dense = max(8 * math.prod(point.shape) for point in points)
    starts = max(sum(file.size for file in point.weights if file.where == "adapter.init") for point in points)
    numbers = 0
    known: dict[tuple[int, int, tuple[int, int]], int] = {}  # tiles of one form are many
    for tile in tiles:
        form = (tile.rank, tile.seeds, points[tile.point].shape)
        if form not in known:
            known[form] = _bytes(layout, tile, points[tile.point].shape)
        numbers += known[form]
    return Sizes(
        states=states,
        worker=PROCESS_BYTES + DENSE_COPIES * dense + STATE_COPIES * states + starts,
        tiles=numbers,
        file=numbers + VARIABLE_BYTES * len(layout.places),
    )


def _bytes(layout: Layout, tile: Tile, shape: tuple[int, int]) -> int:
    wanted, optional = contents(layout, tile, shape)
    forms = list(wanted.values())
    forms += [form for name, form in optional.items() if name.split("/")[1] in USUAL]
    return HEADER_BYTES + sum(math.prod(size) * (WORD_BYTES if kind is str else 8) for size, kind in forms)


def workers_that_fit(sizes: Sizes, threads: int, tiles: int, device: str) -> int:
    """How many workers of this machine make sense: by cores and memory, no more than tiles; one for an accelerator."""
    if device != "cpu":
        return 1
    by_memory = int(SHARE * available_memory() // sizes.worker)
    return max(1, min(cores() // threads, by_memory, tiles))


def refuse_what_cannot_fit(sizes: Sizes, jobs: int) -> None:
    """Refuse workers for which there is not the memory.

    Raises
    ------
    InputError
    """
    free = available_memory()
    wanted = jobs * sizes.worker if jobs > 1 else sizes.worker - PROCESS_BYTES  # this process is there already
    if wanted > free:
        each = f"{jobs} workers of about {size_text(sizes.worker)} each" if jobs > 1 else size_text(sizes.worker)
        raise InputError(
            f"{each} do not fit into the {size_text(free)} of memory that are free",
            "Use fewer --jobs, fewer points in time, a smaller rank or a smaller matrix.",
        )


def refuse_what_finds_no_room(wanted: int, folder: Path) -> None:
    """Refuse tiles for which there is not the disk.

    Raises
    ------
    OutputError
    """
    room = shutil.disk_usage(folder).free
    if wanted > room:
        raise OutputError(
            f"{folder}: the tiles need about {size_text(wanted)} on disk, {size_text(room)} are free",
            "Free some space, or use --out to name another disk.",
        )
