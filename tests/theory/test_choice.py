"""The choice of a rank: floors and energies against plain sums, and problems of either objective."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsim.problem.assemble import Problem, assemble
from flowsim.scenario import parse_scenario
from flowsim.theory.choice import choose, energies, loss_floors, significant


def problem(objective: str, pretrained: str, adapter: str) -> Problem:
    text = (
        f"name: x\nobjective: {{{objective}}}\npretrained: {{{pretrained}}}\n"
        f"adapter: {{{adapter}}}\ntime: {{stop: 1.0}}\n"
    )
    return assemble(parse_scenario(text, name="x", folder=Path()))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8), st.floats(0.1, 10))
def test_floors_and_energies_are_the_sums_they_stand_for(values: list[float], coefficient: float) -> None:
    sigma = np.sort(values)[::-1]
    floors, shares = loss_floors(sigma, coefficient), energies(sigma)
    for rank in range(sigma.size + 1):
        tail = sum(value**2 for value in sigma[rank:])
        assert floors[rank] == pytest.approx(coefficient * tail, rel=1e-12)
        assert shares[rank] == pytest.approx(1 - tail / np.sum(sigma**2), abs=1e-12)


def test_a_small_tail_beside_a_large_head_keeps_its_digits() -> None:
    assert loss_floors(np.array([1e9, 3e-9]), 1.0)[1] == pytest.approx(9e-18, rel=1e-15)


def test_energy_of_nothing_is_undefined_and_of_extremes_is_not() -> None:
    assert np.isnan(energies(np.zeros(3))).all()
    assert energies(np.array([1e200, 1e200])).tolist() == [0.0, 0.5, 1.0]


def test_rounding_of_the_largest_is_no_singular_value() -> None:
    values = significant(np.array([1.0, 1e-10, 1e-17]), (4, 3))
    assert values.tolist() == [1.0, 1e-10, 0.0]


def test_ranks_beyond_the_smaller_dimension_reach_zero() -> None:
    choice = choose(problem("kind: frobenius", "kind: values, values: [[2, 0], [0, 1]]", "ranks: [1, 5]"), 0.0)
    assert [row.loss_floor for row in choice.rows] == [0.5, 0.0]
    assert [row.energy for row in choice.rows] == pytest.approx([0.8, 1.0])
    assert choice.smallest == 2


def test_start_away_from_the_pretrained_weight() -> None:
    init = "init: {kind: values, A: [[1, 0]], B: [[-2], [0]]}"
    made = problem("kind: frobenius", "kind: values, values: [[2, 0], [0, 1]]", f"ranks: [1], {init}")
    [row] = choose(made, 0.5).rows
    assert row.loss_start == pytest.approx(0.5)  # W(0) = diag(0, 1)
    assert row.excess == pytest.approx(1.0)


def test_pissa_measures_from_the_residual_that_it_freezes() -> None:
    # W0 = diag(3, 2, 1), target 0: the residual of rank 1 is diag(0, 2, 1), of rank 2 diag(0, 0, 1).
    made = problem(
        "kind: frobenius",
        "kind: values, values: [[3, 0, 0], [0, 2, 0], [0, 0, 1]]",
        "ranks: [1, 2], init: {kind: pissa}",
    )
    choice = choose(made, 0.01)
    assert [row.loss_floor for row in choice.rows] == pytest.approx([0.5, 0.0], abs=1e-25)
    assert [row.loss_start for row in choice.rows] == pytest.approx([7.0, 7.0])
    assert (choice.smallest, choice.looked_at) == (2, "the ranks of the scenario")


def test_trace_squared_has_floor_zero_and_equal_singular_values() -> None:
    made = problem("kind: trace_squared", "kind: values, values: [[2, 0], [0, 1]]", "ranks: [1, 2]")
    choice = choose(made, 0.05)
    assert [(row.energy, row.loss_floor) for row in choice.rows] == [(0.5, 0.0), (1.0, 0.0)]
    assert choice.rows[0].loss_start == pytest.approx(4.5)
    assert choice.smallest == 1


def test_a_target_that_is_reached_at_the_start_needs_no_rank() -> None:
    choice = choose(problem("kind: frobenius", "kind: zeros, shape: [3, 2]", "ranks: [1]"), 0.0)
    assert choice.rows[0].excess == 0.0
    assert choice.smallest == 1
