"""Canonical coordinates: the same weight, loss and gradients as in the user's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics.coordinates import canonical
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.errors import InputError
from flowsim.problem.objectives import Adapter, Frobenius, TraceSquared
from tests.oracles import reference as ref
from tests.oracles.reference import EPS

SHAPES = [(4, 4, 2), (9, 3, 2), (9, 3, 7), (3, 9, 2), (3, 8, 6), (4, 5, 1), (2, 2, 5)]


def problem(n: int, m: int, r: int, *, c: float = 0.8, s: float = 0.6):
    rng = np.random.default_rng([n, m, r])
    loss = ref.Loss(rng.standard_normal((n, m)), rng.standard_normal((n, m)), c, s)
    A, B = ref.stack(ref.starts(rng, loss.target - loss.W0, r))
    return loss, A, B, canonical(Frobenius(loss.W0, loss.target, c), Adapter(A, B, s))


@pytest.mark.parametrize(("n", "m", "r"), SHAPES)
def test_factors_come_back(n: int, m: int, r: int) -> None:
    _, A, B, batch = problem(n, m, r)
    back_a, back_b = batch.factors(batch.B, batch.C)
    np.testing.assert_allclose(back_a, A, rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(back_b, B, rtol=0, atol=50 * EPS)
    assert batch.B.shape[-2] <= min(n, m) + r  # the state does not grow with the longer side


@pytest.mark.parametrize(("n", "m", "r"), SHAPES)
def test_loss_gradient_and_imbalance_are_the_user_s(n: int, m: int, r: int) -> None:
    loss, A, B, batch = problem(n, m, r)
    landscape, s, kappa = batch.landscape, batch.scale, batch.curvature
    value = kappa * (landscape.floor(r) + landscape.excess(batch.B, batch.C))
    np.testing.assert_allclose(value, [loss.value(a, b) for a, b in zip(A, B, strict=True)], rtol=1e-12)
    pull_b, pull_c = landscape.pull(batch.B, batch.C), landscape.pull(batch.C, batch.B)
    dA, dB = batch.factors(pull_b, pull_c)
    for i, (a, b) in enumerate(zip(A, B, strict=True)):
        want_a, want_b = loss.slopes(a, b)
        np.testing.assert_allclose(kappa * s * dA[i], want_a, rtol=0, atol=1e-12)
        # What B has outside the range of Δ is the coordinate that another basis could lose.
        np.testing.assert_allclose(kappa * s * dB[i], want_b, rtol=0, atol=1e-12)
    Q = batch.B.mT @ batch.B - batch.C.mT @ batch.C
    np.testing.assert_allclose(Q, s * ref.imbalance(A, B), rtol=0, atol=1e-13)


def test_trace_squared_keeps_its_coordinates() -> None:
    rng = np.random.default_rng(1)
    W0, A, B = rng.standard_normal((4, 4)), rng.standard_normal((2, 4)), rng.standard_normal((4, 2))
    batch = canonical(TraceSquared(W0, 0.7), Adapter(A, B, 2.0))
    assert isinstance(batch.landscape, TraceLandscape) and batch.left is None
    loss = ref.Loss(W0, None, 0.7, 2.0)
    value = batch.curvature * batch.landscape.excess(batch.B, batch.C)
    np.testing.assert_allclose(value, [loss.value(A, B)], rtol=1e-14)
    assert batch.clock == pytest.approx(2.8)


def test_exact_zeros_stay_exact() -> None:
    """A zero factor, and a zero column of B with a zero row of A, are zero in canonical coordinates too."""
    for n, m in [(5, 5), (9, 3), (3, 9)]:
        rng = np.random.default_rng(n)
        objective = Frobenius(rng.standard_normal((n, m)), rng.standard_normal((n, m)))
        A, B = rng.standard_normal((3, m)), rng.standard_normal((n, 3))
        assert not canonical(objective, Adapter(A, 0 * B)).B.any()
        assert not canonical(objective, Adapter(0 * A, B)).C.any()
        A[1], B[:, 1] = 0, 0
        batch = canonical(objective, Adapter(A, B))
        assert not batch.B[..., 1].any() and not batch.C[..., 1].any()


def test_members_of_a_batch_are_what_they_are_alone() -> None:
    loss, A, B, batch = problem(7, 3, 2)
    objective = Frobenius(loss.W0, loss.target, loss.c)
    for i in range(len(A)):
        alone = canonical(objective, Adapter(A[i], B[i], loss.s))
        here = batch.member(torch.tensor([i]))
        for one, other in zip(alone.factors(alone.B, alone.C), here.factors(here.B, here.C), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=50 * EPS)
        sliced = batch.member(slice(i, i + 1))
        assert torch.equal(sliced.B, here.B) and torch.equal(sliced.C, here.C)


def test_an_adapter_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="adapter"):
        canonical(TraceSquared(np.eye(3)), Adapter(np.ones((2, 4)), np.ones((3, 2))))


def test_singular_values_below_rounding_are_zero() -> None:
    rng = np.random.default_rng(2)
    target = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 5))
    batch = canonical(Frobenius(np.zeros((6, 5)), target), Adapter(np.ones((1, 5)), np.ones((6, 1))))
    assert int((batch.landscape.sigma > 0).sum()) == 2
