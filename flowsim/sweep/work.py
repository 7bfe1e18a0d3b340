"""One tile solved, wherever it is: in this process, in another one, or on another machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from threadpoolctl import ThreadpoolController

from flowsim.problem.assemble import assemble
from flowsim.problem.objectives import thin_svd
from flowsim.problem.svd_cache import SvdCache
from flowsim.sweep.execute import solve_rank
from flowsim.sweep.schedules import Clock
from flowsim.sweep.slabs import pack
from flowsim.sweep.starts import Starts
from flowsim.sweep.tiles import Tile, clock
from flowsim.trajectory.provenance import choose_device, stamp

if TYPE_CHECKING:
    from flowsim.scenario.read import Document

Advance = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A tile to be solved, with all that a worker needs for it.

    Attributes
    ----------
    document : Document
        The scenario of the tile's point.
    tile : Tile
    digest : str
        Of the whole scenario.
    device : str
        As the user wishes it: `auto` is decided where the work is done.
    cache : Path or None
        Folder of decompositions, where the worker shares the disk.
    """

    document: Document
    tile: Tile
    digest: str
    device: str
    cache: Path | None


def solve_job(job: Job, advance: Advance | None = None) -> bytes:
    """Solve a tile and pack it.

    Parameters
    ----------
    advance : callable, optional
        Called with a label after each schedule.

    Raises
    ------
    InputError
        If a weight file is not what it was, or the init does not exist at this rank.
    """
    with _one_at_a_time, threads(job.document.scenario.compute.threads):
        starts, times = _starts(job)
        slabs = solve_rank(starts, job.tile.rank, times, max(starts.problem.ranks), advance or _nothing)
    return pack(slabs, job.tile.about(job.digest) | {"stamp": stamp(starts.device)})


def _nothing(label: str) -> None:
    """Where nobody watches."""


# A worker of a cluster may have several threads; what tiles share, and the threads of a solve, are of the process.
_one_at_a_time = threading.Lock()
_last: list[tuple[tuple[object, ...], Starts, Clock]] = []


def _starts(job: Job) -> tuple[Starts, Clock]:
    """The starts of a tile's point and seeds; neighbouring tiles share them, their decomposition above all."""
    tile = job.tile
    key = (job.digest, tile.point, tile.first, tile.last, job.device, job.cache)
    if not _last or _last[0][0] != key:
        _last.clear()  # before the new one is made: two large problems may not fit
        problem = assemble(job.document)
        problem = replace(problem, seeds=problem.seeds[tile.first : tile.last])
        decompose = thin_svd if job.cache is None else SvdCache(job.cache)
        _last.append((key, Starts(problem, choose_device(job.device), decompose), clock(job.document)))
    return _last[0][1:]


def forget() -> None:
    """Let go of what the last tile used."""
    _last.clear()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Threads of the scenario, never of the machine or of the number of workers: the last bits may depend on them."""
    previous = torch.get_num_threads()
    with _pools().limit(limits=count, user_api="blas"):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(previous)


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def describe(device: str) -> dict[str, Any]:
    """What a worker computes with; asked before it is given work.

    Raises
    ------
    InputError
        If it lacks the device.
    """
    return stamp(choose_device(device))


def pinned(document: Document) -> Document:
    """The same scenario, with the weight files that were read when it was read: another file of the name is refused."""
    scenario = document.scenario
    known = {file.where: {"sha256": file.sha256} for file in document.weights}
    if "pretrained" in known:
        scenario = scenario.model_copy(
            update={"pretrained": scenario.pretrained.model_copy(update=known["pretrained"])}
        )
    if scenario.target is not None and "target" in known:
        scenario = scenario.model_copy(update={"target": scenario.target.model_copy(update=known["target"])})
    if scenario.target is not None and scenario.target.kind == "shift" and "target.by" in known:
        by = scenario.target.by.model_copy(update=known["target.by"])
        scenario = scenario.model_copy(update={"target": scenario.target.model_copy(update={"by": by})})
    if "adapter.init" in known:
        init = scenario.adapter.init.model_copy(update=known["adapter.init"])
        scenario = scenario.model_copy(update={"adapter": scenario.adapter.model_copy(update={"init": init})})
    return replace(document, scenario=scenario, text="", folder=document.folder.absolute())
