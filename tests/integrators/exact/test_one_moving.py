"""Starts with one factor zero, by half the rows, against all rows and in closed form at time 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.integrators.exact import balanced
from flowsim.problem.objectives import Adapter, Frobenius
from tests.oracles import reference as ref

TIMES = torch.tensor([0.0, 0.3, 2.0, 9.0], dtype=torch.float64)


def batch_of(n: int, m: int, r: int, sizes: list[float], rank: int) -> Canonical:
    """One member a size: A moves where it is positive, else B; A Aᵀ or BᵀB = size²·I."""
    rng = np.random.default_rng([n, m, r])
    delta = (ref.haar(rng, n, rank) * (0.4 + 1.2 * rng.random(rank))) @ ref.haar(rng, m, rank).T
    A = [size * ref.haar(rng, m, r).T if size > 0 else np.zeros((r, m)) for size in sizes]
    B = [-size * ref.haar(rng, n, r) if size < 0 else np.zeros((n, r)) for size in sizes]
    return canonical(Frobenius(np.zeros((n, m)), delta), Adapter(np.stack(A), np.stack(B)))


@pytest.mark.parametrize(("n", "m", "r", "rank"), [(6, 6, 3, 6), (7, 5, 2, 5), (5, 7, 4, 3), (4, 4, 1, 4)])
def test_half_the_rows_are_enough(n: int, m: int, r: int, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(n, m, r, [1.0, -0.5, 0.01, -2.0], rank)
    half = balanced.solve(batch.landscape, batch.B, batch.C, TIMES)
    asked = []
    monkeypatch.setattr(balanced, "_one_moves", lambda *_: asked.append(True) is not None)
    whole = balanced.solve(batch.landscape, batch.B, batch.C, TIMES)
    assert asked and half.steps == whole.steps
    distance = products.distance(half.B, half.C, whole.B, whole.C)
    assert (distance <= half.rounding + whole.rounding).all()
    # The triangular root is unique: the columns are the same too, which is what nesting needs.
    torch.testing.assert_close(half.B, whole.B, rtol=0, atol=1e-12)
    torch.testing.assert_close(half.C, whole.C, rtol=0, atol=1e-12)


def test_what_is_zero_at_first_is_zero_exactly_and_grows_with_all_its_digits() -> None:
    batch = batch_of(6, 6, 2, [1.0, -1.0], 6)
    tiny = 1e-9
    solution = balanced.solve(batch.landscape, batch.B, batch.C, torch.tensor([0.0, tiny], dtype=torch.float64))
    assert not solution.B[0, 0].any() and not solution.C[0, 1].any()
    # B' = ΣC at first, to a relative 1e-9.
    slope = batch.landscape.sigma[:, None] * batch.C[0]
    torch.testing.assert_close(solution.B[1, 0], tiny * slope, rtol=0, atol=4 * tiny**2)


def test_the_product_has_all_digits() -> None:
    """Against sixty digits, from A = 0 and from B = 0."""
    batch = batch_of(4, 4, 2, [0.7, -0.7], 4)
    delta = np.diag(batch.landscape.sigma.numpy())
    solution = balanced.solve(batch.landscape, batch.B, batch.C, TIMES)
    for member, value in ((0, -0.49), (1, 0.49)):
        for i, t in enumerate(TIMES.tolist()):
            A0, B0 = batch.C[member].numpy().T, batch.B[member].numpy()
            exact = ref.balanced_product(delta, A0, B0, value, t)
            got = (solution.B[i, member] @ solution.C[i, member].mT).numpy()
            assert np.linalg.norm(got - exact) <= float(solution.rounding[i, member])


def test_it_is_not_for_two_factors_nor_for_dependent_columns() -> None:
    batch = batch_of(5, 5, 2, [1.0, -1.0], 5)
    value = balanced.imbalance_value(batch.B, batch.C)
    assert balanced._one_moves(batch.B, batch.C, value)
    assert not balanced._one_moves(batch.B + 1e-300, batch.C, value)
    wide = batch.C[:1, :1].expand(1, 1, 2)
    assert not balanced._one_moves(torch.zeros_like(wide), wide, value[:1])
    nothing = torch.zeros_like(batch.B)
    assert not balanced._one_moves(nothing, nothing, torch.zeros_like(value))
    assert math.isclose(float(value[0]), -1.0, rel_tol=1e-14)
