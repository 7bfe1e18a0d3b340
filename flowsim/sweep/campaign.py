"""A scenario cut up and carried out: which tiles there are, which are finished, and getting the others done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flowsim.errors import InputError, ResultError
from flowsim.problem.assemble import all_start_at_pretrained
from flowsim.scenario.memory import MOST_PAIRS
from flowsim.sweep.assemble import Told, failed, fits, put, strips
from flowsim.sweep.carry_out import carry_out
from flowsim.sweep.layout import Layout
from flowsim.sweep.ledger import Ledger
from flowsim.sweep.schedules import Clock
from flowsim.sweep.slabs import DamagedTile, Slabs, unpack
from flowsim.sweep.tiles import Tile, clock, tiles_of
from flowsim.sweep.work import Job, pinned
from flowsim.sweep.workers import Workers
from flowsim.trajectory.points import point_label

if TYPE_CHECKING:
    from flowsim.scenario.read import Document
    from flowsim.trajectory.draft import Writer

Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]


@dataclass
class Campaign:
    """A scenario with its tiles and how far they are.

    Attributes
    ----------
    document : Document
    progress : callable or None
        Called with (what, trajectories done, trajectories in all).
    """

    document: Document
    progress: Progress | None = None
    times: Clock = field(init=False)
    tiles: tuple[Tile, ...] = field(init=False)
    layout: Layout = field(init=False)
    finished: set[int] = field(default_factory=set)
    _done: int = 0
    _watched: int = 0

    def __post_init__(self) -> None:
        document, ranks = self.document, self.document.scenario.adapter.ranks
        points, seeds = len(document.points), len(document.scenario.adapter.seeds)
        if points * len(ranks) * seeds > MOST_PAIRS:
            raise InputError(
                f"{points} points, {len(ranks)} ranks and {seeds} seeds are more than {MOST_PAIRS:,} runs",
                "Use fewer of them, or several scenarios.",
            )
        self.times = clock(document)
        self.tiles = tiles_of(document, self.times)
        block = max(tile.seeds for tile in self.tiles)
        self.layout = Layout(document, self.times, block, one_baseline=all_start_at_pretrained(document))

    @property
    def trajectories(self) -> int:
        """Schedules of all tiles and seeds."""
        return len(self.times.items) * sum(tile.seeds for tile in self.tiles)

    def shape(self, tile: Tile) -> tuple[int, int]:
        """(n, m) at the tile's point."""
        return self.document.points[tile.point].shape

    def name(self, tile: Tile) -> str:
        """What a tile is, for a reader."""
        point = point_label(self.document.axes, self.layout.point(tile))
        return f"{point}/rank={tile.rank}" if point else f"rank {tile.rank}"

    def watch(self, job: Job, label: str) -> None:
        """A schedule of a tile has been solved in this process."""
        if label == self.times.items[0].label:
            self._watched = 0  # perhaps another try
        self._watched += job.tile.seeds
        self.show(f"{self.name(job.tile)}: {label}")

    def note(self, tile: Tile) -> None:
        """A tile is finished and stored."""
        self.finished.add(tile.index)
        self.pass_over(tile)

    def pass_over(self, tile: Tile) -> None:
        """A tile is done with, finished or given up."""
        self._done += tile.seeds * len(self.times.items)
        self._watched = 0

    def show(self, what: str) -> None:
        """Tell whoever watches how far the work is."""
        if self.progress is not None:
            self.progress(what, self._done + self._watched, self.trajectories)

    def how_far(self) -> str:
        """`12 of 40 tiles are finished`."""
        return f"{len(self.finished)} of {len(self.tiles)} tiles are finished"


@dataclass(frozen=True)
class Tools:
    """What a campaign is carried out with.

    Attributes
    ----------
    ledger : Ledger
        Held and open.
    crew : Workers
    stamp : dict
        What they compute with.
    device : str
        As the user wishes it.
    cache : Path or None
        Folder of decompositions that the workers share.
    """

    ledger: Ledger
    crew: Workers
    stamp: dict[str, str]
    device: str
    cache: Path | None


def find_finished(campaign: Campaign, tools: Tools, tell: Tell) -> None:
    """Look at what an earlier run has left; what is damaged goes.

    Parameters
    ----------
    tell : callable
        Called with a sentence that a user should read.
    """
    damaged = 0
    for tile in campaign.tiles:
        try:
            there = _read(campaign, tools, tile)
        except DamagedTile:
            tools.ledger.drop(tile)
            damaged += 1
        else:
            if there is not None:
                campaign.note(tile)
    campaign.show("")
    if campaign.finished:
        tell(f"going on: {campaign.how_far()}")
    if damaged:
        tell(f"{damaged} damaged tile{'s' if damaged > 1 else ''} will be computed again")


def solve_missing(campaign: Campaign, tools: Tools, tell: Tell) -> dict[int, str]:
    """Solve the tiles that are not there yet.

    Parameters
    ----------
    tell : callable
        Called with a sentence that a user should read.

    Returns
    -------
    dict of int to str
        Tiles that could not be solved, and why.
    """
    ledger, points = tools.ledger, [pinned(point) for point in campaign.document.points]

    def done(job: Job, content: bytes) -> None:
        _refuse_other(tools.stamp, unpack(content)[1].get("stamp"))
        ledger.save(job.tile, content)
        campaign.note(job.tile)
        campaign.show(campaign.name(job.tile))

    jobs = (
        Job(points[tile.point], tile, ledger.digest, tools.device, tools.cache)
        for tile in campaign.tiles
        if tile.index not in campaign.finished
    )

    def given_up(job: Job) -> None:
        campaign.pass_over(job.tile)
        campaign.show(campaign.name(job.tile))

    return carry_out(jobs, tools.crew, done, given_up, tell)


def _refuse_other(wanted: dict[str, str], found: object) -> None:
    if found == wanted:
        return
    other = found if isinstance(found, dict) else {}
    name = next(name for name in wanted if other.get(name) != wanted[name])
    raise ResultError(
        f"the workers differ in {name}: {wanted[name]} and {other.get(name)}",
        "Give all of them the same software and kind of device.",
    )


def _read(campaign: Campaign, tools: Tools, tile: Tile) -> Slabs | None:
    about = tile.about(tools.ledger.digest) | {"stamp": tools.stamp}
    slabs = tools.ledger.read(tile, about)
    if slabs is not None and not fits(campaign.layout, tile, slabs, campaign.shape(tile)):
        raise DamagedTile("it does not hold what it should")
    return slabs


def write_tiles(campaign: Campaign, tools: Tools, failures: dict[int, str], out: Writer) -> None:
    """Write all tiles where they belong in the result, a few at a time.

    Raises
    ------
    ResultError
        If a tile is gone or damaged since it was finished.
    """
    told: set[Told] = set()

    def slabs(tile: Tile) -> Slabs:
        if tile.index in failures:
            return failed(campaign.layout, tile, failures[tile.index], campaign.shape(tile))
        try:
            found = _read(campaign, tools, tile)
        except DamagedTile as damage:
            why = str(damage)
        else:
            if found is not None:
                return found
            why = "it is gone"
        path = tools.ledger.path(tile)
        tools.ledger.drop(tile)
        raise ResultError(f"{path}: was finished, but {why}", "Run the same command again: it is computed once more.")

    for strip in strips(campaign.layout, campaign.tiles):
        sound = [tile.index not in failures for tile in strip]
        put(campaign.layout, out, strip, [slabs(tile) for tile in strip], sound, told)
