"""All ranks in one pass against one solve a rank, and the losses of every rank against full matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.integrators.exact import balanced, nested
from flowsim.problem.objectives import Adapter, Frobenius
from tests.oracles import reference as ref
from tests.oracles.reference import EPS

TIMES = torch.tensor([0.0, 0.3, 2.0, 9.0], dtype=torch.float64)


def case(n: int, m: int, r: int, value: float) -> Canonical:
    rng = np.random.default_rng([n, m, r])
    delta = rng.standard_normal((n, m))
    delta[:, -1] = delta[:, 0]  # Δ of lower rank
    if value < 0:
        A, B = math.sqrt(-value) * ref.haar(rng, m, r).T, np.zeros((n, r))
    else:
        A, B = ref.balanced_start(rng, n, m, r, value)
    return canonical(Frobenius(np.zeros((n, m)), delta), Adapter(A, B))


@pytest.mark.parametrize(("n", "m", "r"), [(7, 5, 5), (5, 7, 4), (4, 4, 4), (30, 6, 3)])
@pytest.mark.parametrize("value", [-1.0, 0.7])
def test_the_leading_columns_are_the_solution_of_every_rank(n: int, m: int, r: int, value: float) -> None:
    batch = case(n, m, r, value)
    whole = nested.solve(batch.landscape, batch.B, batch.C, TIMES)
    assert whole.stepper == ["nested"]
    every = nested.losses(batch.landscape, whole.B, whole.C)
    for rank in range(1, r + 1):
        alone = balanced.solve(batch.landscape, batch.B[..., :rank], batch.C[..., :rank], TIMES)
        part = nested.leading(whole, rank)
        distance = products.distance(part.B, part.C, alone.B, alone.C)
        assert (distance <= part.rounding + alone.rounding).all()
        dense = torch.diag(batch.landscape.sigma) - alone.B @ alone.C.mT
        size = float(batch.landscape.sigma.square().sum())
        torch.testing.assert_close(
            every[..., rank - 1], 0.5 * dense.square().sum((-2, -1)), rtol=0, atol=1e4 * EPS * size
        )


def test_one_pass_is_for_short_steps_only() -> None:
    batch = case(7, 5, 3, -1.0)
    long = torch.tensor([0.0, 1e4], dtype=torch.float64)
    assert nested.one_pass(batch.landscape, batch.B, batch.C, TIMES)
    assert not nested.one_pass(batch.landscape, batch.B, batch.C, long)


SCENARIO = """
name: nested
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [12, 9], singular_values: [4, 2, 1, 0.5], seed: 1}
adapter: {ranks: RANKS, seeds: 2, init: {kind: orthogonal, scale: 0.8}, scaling: SCALING}
time: {stop: 60.0, points: 61}
checks: [eckart_young, closed_form]
"""


def run(solve, ranks: str, scaling: str = "{kind: constant, value: 1.0}"):
    return solve(SCENARIO.replace("RANKS", ranks).replace("SCALING", scaling)).tree


def test_a_scenario_shares_one_pass_and_each_rank_says_so(solve) -> None:
    together = run(solve, "[4, 1, 2]")
    assert set(together["final"]["stepper"].values[0].ravel()) == {"nested"}
    assert set(map(str, together["checks"]["verdict"].values)) == {"pass"}
    for rank in (1, 2, 4):
        alone = run(solve, f"[{rank}]")
        assert "nested" not in set(alone["final"]["stepper"].values.ravel())
        got, wanted = (tree["trajectory"]["loss"].sel(rank=rank).values for tree in (together, alone))
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_a_scale_that_depends_on_the_rank_is_not_nested(solve) -> None:
    tree = run(solve, "[1, 2]", "{kind: lora, alpha: 2}")
    assert "nested" not in set(tree["final"]["stepper"].values.ravel())


def test_dependent_columns_are_not_nested(solve) -> None:
    """A balanced start of rank 2 in three and four columns: each rank is solved on its own, and rightly."""
    A = [[-0.5, 0.0, -1.0], [0.0, 0.5, 0.0], [0.0, -0.5, 0.0], [-1.0, 2.0, 2.0]]
    B = [[0.5, 0.0, 0.0, 1.0], [0.0, -0.5, 0.5, -2.0], [1.0, 0.0, 0.0, -2.0]]
    text = SCENARIO.replace("RANKS", "[3, 4]").replace("SCALING", "{kind: constant, value: 1.0}")
    text = text.replace("{kind: orthogonal, scale: 0.8}", f"{{kind: values, A: {A}, B: {B}}}").replace("seeds: 2, ", "")
    weight = "{kind: values, values: [[1, 0, 0], [1, 1, 2], [1, 2, 0.5]]}"
    text = text.replace("{kind: spectrum, shape: [12, 9], singular_values: [4, 2, 1, 0.5], seed: 1}", weight)
    tree = solve(text.replace("time: {stop: 60.0, points: 61}", "time: {stop: 0.5, points: 9}")).tree
    assert "nested" not in set(tree["final"]["stepper"].values.ravel())
    rows = tree["checks"]["verdict"].values[tree["checks"]["name"].values == "closed_form"]
    assert len(rows) and set(map(str, rows)) == {"pass"}
