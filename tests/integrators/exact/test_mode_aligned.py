"""The mode-aligned closed form against DOP853, against the λ-balanced one, and at times no integrator reaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim import Adapter, Frobenius, simulate
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.exact import balanced, mode_aligned
from tests.oracles import reference as ref

SIGMA = np.array([2.0, 1.4, 0.9, 0.4, 0.2])
TIMES = [0.0, 0.3, 1.0, 2.5, 6.0]


def aligned(b: list[float], a: list[float], n: int = 6, m: int = 5) -> tuple[Frobenius, np.ndarray, np.ndarray]:
    """An objective with singular values SIGMA, and factors whose modes have the amplitudes b and a."""
    rng = np.random.default_rng(3)
    U, V, turn = (np.linalg.qr(rng.standard_normal((k, k)))[0] for k in (n, m, len(b)))
    target = U[:, :5] @ np.diag(SIGMA) @ V[:, :5].T
    r = len(b)
    return Frobenius(np.zeros((n, m)), target), turn @ np.diag(a) @ V[:, :r].T, U[:, :r] @ np.diag(b) @ turn.T


@pytest.mark.parametrize(
    ("b", "a"),
    [([0.3, -0.2, 0.1], [0.1, 0.4, -0.5]), ([0.0, 0.0], [0.5, -0.3]), ([1.9, 0.2, 0.7], [0.4, 0.0, 0.7])],
)
def test_factors_are_those_of_the_flow(b: list[float], a: list[float]) -> None:
    objective, A0, B0 = aligned(b, a)
    got = simulate(objective, Adapter(A0, B0, 1.3), TIMES, solver="exact")
    assert got.stepper == "mode_aligned"
    loss = ref.Loss(np.zeros((6, 5)), objective.target.numpy(), 0.5, 1.3)
    A, B = ref.flow(loss, A0, B0, TIMES)
    looser = ref.flow(loss, A0, B0, TIMES, 1e-11)
    allowed = max(np.abs(A - looser[0]).max(), np.abs(B - looser[1]).max()) + 1e3 * np.finfo(float).eps
    assert np.abs(got.A.values - A).max() <= allowed and np.abs(got.B.values - B).max() <= allowed


def test_it_equals_the_balanced_form_where_both_hold() -> None:
    landscape = FrobeniusLandscape(torch.tensor(SIGMA), 5)
    B, C = torch.zeros(1, 5, 2, dtype=torch.float64), torch.zeros(1, 5, 2, dtype=torch.float64)
    C[0, 0, 0], C[0, 1, 1] = 0.7, -0.7
    times = torch.tensor([0.0, 0.5, 2.0, 8.0], dtype=torch.float64)
    one = mode_aligned.solve(landscape, B, C, times)
    other = balanced.solve(landscape, B, C, times, factors=True)
    # The rotation of the balanced factors is good to about 1e-13 at its step.
    torch.testing.assert_close(one.B, other.B, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.C, other.C, rtol=0, atol=1e-12)


def test_times_add_up_and_the_longest_is_finite() -> None:
    objective, A0, B0 = aligned([0.3, -0.2, 0.1], [0.1, 0.4, -0.5])
    two = simulate(objective, Adapter(A0, B0), [0.7, 3.0])
    rest = simulate(objective, Adapter(two.A.values[0], two.B.values[0]), [2.3])
    np.testing.assert_allclose(rest.A.values[0], two.A.values[1], rtol=0, atol=1e-13)
    late = simulate(objective, Adapter(A0, B0), [1e12])
    assert float(late.excess_loss[0]) <= 1e-28 and np.isfinite(late.A.values).all()


def test_an_absent_mode_stays_absent_and_an_anti_aligned_one_dies() -> None:
    landscape = FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64), 3)
    B, C = torch.zeros(1, 3, 2, dtype=torch.float64), torch.zeros(1, 3, 2, dtype=torch.float64)
    B[0, 1, 0] = C[0, 1, 0] = 0.3
    B[0, 2, 1], C[0, 2, 1] = 0.4, -0.4
    end = mode_aligned.solve(landscape, B, C, torch.tensor([1e3], dtype=torch.float64))
    product = end.B[0, 0] @ end.C[0, 0].mT
    expected = torch.diag(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-14)


def test_starts_that_are_not_aligned_are_not_taken_for_it() -> None:
    rng = np.random.default_rng(0)
    B = torch.tensor(rng.standard_normal((3, 5, 2)))
    C = torch.tensor(rng.standard_normal((3, 5, 2)))
    C[1], B[2] = 0.0, B[2] * torch.tensor([1.0, 0, 0, 0, 0]).double()[:, None]
    assert not mode_aligned.directions(B, C)[1].any()
