"""What a run will take, and what is refused because it cannot fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from flowsim.errors import InputError, OutputError
from flowsim.scenario.read import parse_scenario
from flowsim.sweep import sizes as module
from flowsim.sweep.campaign import Campaign
from flowsim.sweep.sizes import (
    Sizes,
    refuse_what_cannot_fit,
    refuse_what_finds_no_room,
    sizes_of,
    workers_that_fit,
)
from flowsim.sweep.work import Job, solve_job

TEXT = """\
name: sizes
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [30, 20], std: 0.2}
adapter: {ranks: [1, 4], seeds: 5, init: {kind: gaussian, std: 0.5}}
schedules: [{kind: flow}, {kind: descent, learning_rates: [0.1]}]
time: {stop: 2.0, points: 101}
solver: {rtol: 1e-4}
"""
GIB = 2**30


def campaign(more: str = "") -> Campaign:
    return Campaign(parse_scenario(TEXT + more, name="s.yaml", folder="."))


def sizes(of: Campaign) -> Sizes:
    return sizes_of(of.document, of.times, of.layout, of.tiles)


@pytest.mark.parametrize("more", ["", "save: {factors: all}\n", "sweep: {objective.coefficient: [1, 2, 3]}\n"])
def test_the_bytes_of_tiles_are_those_on_disk(more: str) -> None:
    """Nearly: how many companions there are, and how long a sentence is, depends on how a run is solved."""
    given = campaign(more)
    found = 0
    for tile in given.tiles:
        document = given.document.points[tile.point]
        found += len(solve_job(Job(document, tile, more, "cpu", None)))
    assert 0.9 * found < sizes(given).tiles < 1.1 * found


def test_a_sweep_needs_no_more_memory() -> None:
    one, many = sizes(campaign()), sizes(campaign("sweep: {objective.coefficient: [1, 2, 3, 4]}\n"))
    assert (one.states, one.worker) == (many.states, many.worker)
    assert many.tiles == 4 * one.tiles and many.file > 2 * one.file


def test_workers_are_counted_by_cores_memory_and_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Sizes(states=0, worker=GIB, tiles=0, file=0)
    monkeypatch.setattr(module, "cores", lambda: 8)
    for free, threads, tiles, wanted in (
        (100 * GIB, 1, 100, 8), (100 * GIB, 3, 100, 2), (100 * GIB, 16, 100, 1), (100 * GIB, 1, 3, 3),
        (5 * GIB, 1, 100, 4), (GIB // 2, 1, 100, 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, "available_memory", lambda free=free: free)
        assert workers_that_fit(need, threads, tiles, "cpu") == wanted
        assert workers_that_fit(need, threads, tiles, "cuda") == 1


def test_workers_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Sizes(states=0, worker=GIB, tiles=0, file=0)
    monkeypatch.setattr(module, "available_memory", lambda: 3 * GIB)
    refuse_what_cannot_fit(need, 1)
    refuse_what_cannot_fit(need, 3)
    with pytest.raises(InputError) as caught:
        refuse_what_cannot_fit(need, 4)
    line = "4 workers of about 1.0 GiB each do not fit into the 3.0 GiB of memory that are free"
    assert caught.value.lines()[0] == line and "--jobs" in caught.value.lines()[1]
    with pytest.raises(InputError, match="do not fit"):
        refuse_what_cannot_fit(Sizes(states=0, worker=4 * GIB, tiles=0, file=0), 1)


def test_tiles_without_room_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_text: Any) -> None:
    usage = shutil.disk_usage(tmp_path)
    refuse_what_finds_no_room(usage.free // 2, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError) as caught:
        run_text(TEXT)
    assert "KiB on disk, 1000 bytes are free" in caught.value.lines()[0]
    assert list(tmp_path.iterdir()) == []


def test_more_runs_than_a_table_can_hold_are_refused() -> None:
    values = ", ".join(str(1 + place / 1000) for place in range(1000))
    text = TEXT.replace("seeds: 5", "seeds: 100000") + f"sweep: {{objective.coefficient: [{values}]}}\n"
    with pytest.raises(InputError, match="1000 points, 2 ranks and 100000 seeds are more than 10,000,000 runs"):
        Campaign(parse_scenario(text, name="s.yaml", folder="."))
