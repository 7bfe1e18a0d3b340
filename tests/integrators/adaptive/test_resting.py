"""Long horizons: who has arrived stays, who waits at a saddle does not, and the tolerance holds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.adaptive.radius import frobenius_radius
from flowsim.integrators.adaptive.resting import Resting
from flowsim.integrators.adaptive.stabilised import Stabilised
from flowsim.integrators.base import Integrated, Status

SIGMA = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0], dtype=torch.float64)
LANDSCAPE = FrobeniusLandscape(SIGMA, 4)
RTOL, ATOL = 1e-6, 1e-9


def field(Z: Tensor) -> Tensor:
    return velocity(LANDSCAPE, Z)


def bare(like: Tensor) -> Stabilised:
    return Stabilised(field, like, rtol=RTOL, atol=ATOL, spectral_radius=frobenius_radius(LANDSCAPE))


def resting(like: Tensor, factors: bool) -> Resting:
    return Resting(bare(like), SIGMA, rtol=RTOL, atol=ATOL, factors=factors)


def starts() -> Tensor:
    """Small, Kaiming-like, and lopsided, (3, 2, 5, 2)."""
    Z = torch.randn(3, 2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    Z[0] *= 1e-2
    Z[1, 0] = 0.0
    Z[2, 1] *= 1.5
    return Z


def solve(stepper: Stabilised | Resting, Z: Tensor, times: list[float], max_steps: int = 100_000) -> Integrated:
    return integrate(stepper, Z, torch.tensor(times, dtype=torch.float64), max_steps=max_steps)


@pytest.mark.parametrize("member", range(3))
@pytest.mark.parametrize("factors", [False, True])
def test_a_far_horizon_costs_no_more_and_is_right(member: int, factors: bool) -> None:
    """The same steps on the way, so that the two differ by what rest leaves out alone."""
    Z, times = starts()[member : member + 1], [5.0, 30.0, 200.0, 1000.0]
    plain, far = solve(bare(Z), Z, times), solve(resting(Z, factors), Z, [*times, 1e9])
    assert far.status == [Status.COMPLETED] and far.steps[0] <= plain.steps[0] + 40
    for one, other in zip(far.states[:4], plain.states, strict=True):
        first, second = (X[:, 0] @ X[:, 1].mT for X in (one, other))
        allowed = ATOL * 5 + RTOL * torch.linalg.matrix_norm(second)
        assert torch.linalg.matrix_norm(first - second) <= allowed
        if factors:
            allowed = ATOL * math.sqrt(20) + RTOL * torch.linalg.vector_norm(other)
            assert torch.linalg.vector_norm(one - other) <= allowed
    limit = torch.diag(SIGMA * (torch.arange(5) < 2))
    B, C = far.states[-1].unbind(1)
    torch.testing.assert_close(B @ C.mT, limit[None], rtol=0, atol=2 * RTOL)


@pytest.mark.parametrize("factors", [False, True])
def test_a_saddle_is_no_place_to_rest(factors: bool) -> None:
    """Mode 2 missing but for 1e-9: the slope there is below the tolerance for a long time, and then it moves."""
    Z = torch.zeros(1, 2, 5, 2, dtype=torch.float64)
    Z[0, :, 0, 0] = 1.0
    Z[0, :, 1, 1] = 1e-9
    states = solve(resting(Z, factors), Z, [5.0, 100.0]).states
    B, C = states.unbind(2)
    assert abs(float((B @ C.mT)[0, 0, 1, 1])) < 1e-12
    assert float((B @ C.mT)[1, 0, 1, 1]) == pytest.approx(0.7, rel=1e-5)


def test_who_rests_does_not_hold_up_others() -> None:
    """One at its minimum, one on its way: each as alone, and the first does not move at all."""
    Z = starts()[:2]
    Z[0] = 0.0
    Z[0, :, [0, 1], [0, 1]] = SIGMA[:2].sqrt()
    times = [0.0, 2.0, 50.0]
    both, alone = solve(resting(Z, True), Z, times).states, solve(resting(Z[1:], True), Z[1:], times).states
    assert torch.equal(both[:, 0], Z[:1].expand(3, -1, -1, -1))
    torch.testing.assert_close(both[:, 1], alone[:, 0], rtol=0, atol=1e-12)


def test_the_curvature_is_no_more_than_half_that_of_the_hessian() -> None:
    """At minima of several imbalances: the least eigenvalue that is not the gauge's zero."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        root = torch.diag(SIGMA[:2].sqrt())
        turn = torch.eye(2, dtype=torch.float64) + 0.5 * torch.randn(2, 2, dtype=torch.float64, generator=generator)
        Z = torch.zeros(1, 2, 5, 2, dtype=torch.float64)
        Z[0, 0, :2], Z[0, 1, :2] = root @ turn, root @ torch.linalg.inv(turn).mT

        def loss(flat: Tensor) -> Tensor:
            B, C = flat.view(2, 5, 2)
            return 0.5 * (torch.diag(SIGMA) - B @ C.mT).square().sum()

        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, Z.flatten()))
        gauge = values.abs() < 1e-10
        assert int(gauge.sum()) == 4  # r²
        got = float(resting(Z, True)._curvature(Z))
        assert 0 < got <= 0.5 * float(values[~gauge].min()) * (1 + 1e-10) or float(values.min()) < -1e-10


def test_what_is_not_finite_does_not_rest() -> None:
    Z = starts()
    Z[0, 0, 0, 0] = torch.nan
    assert resting(Z, True)._rest(Z).tolist() == [0.0, 0.0, 0.0]
    assert solve(resting(Z, True), Z, [1.0]).status[0] is Status.DIVERGED
