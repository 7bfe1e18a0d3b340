"""The list of tiles: every trajectory once, and the same list whatever the machine."""

from __future__ import annotations

from typing import Any

import pytest

from flowsim.scenario.read import parse_scenario
from flowsim.sweep import tiles as module
from flowsim.sweep.tiles import clock, states_bytes, tiles_of

TEXT = """\
name: tiles
objective: {{kind: frobenius}}
pretrained: {{kind: gaussian, shape: [5, 4], std: 0.6}}
adapter: {{ranks: [1, 3, 2], seeds: {seeds}, init: {{kind: gaussian, std: 0.5}}}}
time: {{stop: 1.0, points: 5}}
{more}
"""


def document(seeds: int = 3, more: str = "") -> Any:
    return parse_scenario(TEXT.format(seeds=seeds, more=more), name="s.yaml", folder=".")


def cut(given: Any) -> list[tuple[int, int, int, int]]:
    found = tiles_of(given, clock(given))
    assert [tile.index for tile in found] == list(range(len(found)))
    ranks = given.scenario.adapter.ranks
    assert all(ranks[tile.place] == tile.rank for tile in found)
    return [(tile.point, tile.rank, tile.first, tile.last) for tile in found]


def test_a_rank_is_a_tile() -> None:
    assert cut(document()) == [(0, 1, 0, 3), (0, 3, 0, 3), (0, 2, 0, 3)]


def test_many_seeds_are_cut_into_blocks_that_all_ranks_share() -> None:
    found = cut(document(seeds=70))
    assert found[:4] == [(0, 1, 0, 32), (0, 3, 0, 32), (0, 2, 0, 32), (0, 1, 32, 64)]
    assert found[-1] == (0, 2, 64, 70)
    covered = sorted((rank, seed) for _, rank, first, last in found for seed in range(first, last))
    assert covered == [(rank, seed) for rank in (1, 2, 3) for seed in range(70)]


def test_points_come_one_after_the_other() -> None:
    found = cut(document(more="sweep: {adapter.init.std: [0.1, 0.2], objective.coefficient: [1, 2, 3]}"))
    assert [point for point, *_ in found] == [point for point in range(6) for _ in range(3)]


def test_large_states_make_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    given = document()
    one = states_bytes(given, clock(given), 3)
    assert one == 8 * (5 + 5) * (5 + 4) * 3
    monkeypatch.setattr(module, "MOST_BYTES", 2 * one)
    assert cut(given)[:4] == [(0, 1, 0, 2), (0, 3, 0, 2), (0, 2, 0, 2), (0, 1, 2, 3)]
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    assert cut(given)[0] == (0, 1, 0, 1)


def test_several_schedules_hold_variations_too() -> None:
    given = document(more="schedules: [{kind: flow}, {kind: descent, learning_rates: [0.25]}]")
    times = clock(given)
    assert states_bytes(given, times, 2) == 8 * (5 * len(times.union) + 2 * 5) * 9 * 2


def test_the_list_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim.scenario import memory

    before = cut(document(seeds=70))
    monkeypatch.setattr(memory, "available_memory", lambda: 2**62)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert cut(document(seeds=70)) == before
