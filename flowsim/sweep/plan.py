"""What a run would do, found without solving anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowsim.errors import HypothesisError
from flowsim.integrators.selection import choose
from flowsim.problem.assemble import assemble
from flowsim.scenario.digest import digest_of, folder_name
from flowsim.sweep.campaign import Campaign
from flowsim.sweep.sizes import Sizes, sizes_of, workers_that_fit
from flowsim.sweep.starts import Starts
from flowsim.trajectory.provenance import choose_device

if TYPE_CHECKING:
    from flowsim.scenario.read import Document


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    trajectories : int
        Points × schedules × ranks × seeds.
    points, tiles : int
        Points of the sweep, and units of work.
    jobs : int
        Workers of this machine that make sense.
    sizes : Sizes
        Bytes of states, of a worker's memory, and on disk.
    methods : list of (rank, method, reason)
        At the first point.
    """

    name: str
    digest: str
    folder_name: str
    trajectories: int
    points: int
    tiles: int
    jobs: int
    ranks: list[int]
    seeds: list[int]
    schedules: list[str]
    sizes: Sizes
    methods: list[tuple[int, str, str]]


def plan(document: Document, device: str | None = None) -> Plan:
    """Say what a run would do: tiles, trajectories, bytes, and the method of each rank with its reason."""
    scenario, campaign = document.scenario, Campaign(document)
    where = choose_device(device or scenario.compute.device)
    sizes = sizes_of(document, campaign.times, campaign.layout, campaign.tiles)
    return Plan(
        name=scenario.name,
        digest=digest_of(document),
        folder_name=folder_name(document),
        trajectories=campaign.trajectories,
        points=len(document.points),
        tiles=len(campaign.tiles),
        jobs=workers_that_fit(sizes, scenario.compute.threads, len(campaign.tiles), where.type),
        ranks=list(scenario.adapter.ranks),
        seeds=list(scenario.adapter.seeds),
        schedules=[item.label for item in campaign.times.items],
        sizes=sizes,
        methods=list(_methods(Starts(assemble(document.points[0]), where))),
    )


def _methods(starts: Starts) -> Iterator[tuple[int, str, str]]:
    scenario = starts.problem.document.scenario
    solver, factors = scenario.solver, scenario.save.factors != "none"
    for rank in starts.problem.ranks:
        try:
            choices = choose(starts.batch(rank), solver.method, rtol=solver.rtol, factors=factors)
        except HypothesisError as refusal:
            yield rank, solver.method, refusal.message
            continue
        ways = {f"{one.method} ({one.stepper})": one.reason for one in reversed(choices)}
        yield from ((rank, name, reason) for name, reason in reversed(ways.items()))
