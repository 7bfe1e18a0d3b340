"""The exact flow in graph coordinates: against the closed form's sub-steps, DOP853 and what the flow cannot do."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive.graph_flow import Coefficients, Exponents, advance
from flowsim.integrators.exact import balanced
from flowsim.integrators.exact.balanced import rotated_modes
from flowsim.integrators.exact.one_shot import Rates
from tests.oracles.reference import balanced_start

EPS = float(np.finfo(np.float64).eps)
SIGMA = torch.tensor([1.5, 1.1, 0.7, 0.4, 0.2, 0.1], dtype=torch.float64)


class Flow:
    """Φ1 of factors (S, 2, q, r) for one λ each."""

    def __init__(self, sigma: Tensor, value: list[float], rank: int) -> None:
        self.value = torch.tensor(value, dtype=torch.float64)
        omega, cos, sin = rotated_modes(sigma, self.value)
        self.cos, self.sin, self.rank = cos[..., None], sin[..., None], rank
        self.rates = Rates.of(sigma, omega, self.value[:, None])
        self.exponents = Exponents.of(self.rates, rank)

    def rows(self, Z: Tensor) -> Tensor:
        B, C = Z.unbind(1)
        return torch.cat([self.cos * B + self.sin * C, self.cos * C - self.sin * B], dim=1)

    def factors(self, rows: Tensor) -> Tensor:
        X, Y = rows.chunk(2, dim=1)
        return torch.stack([self.cos * X - self.sin * Y, self.sin * X + self.cos * Y], dim=1)

    def __call__(self, Z: Tensor, h: float) -> Tensor:
        spans = torch.full((len(Z), 1), h, dtype=Z.dtype)
        return self.factors(advance(self.rows(Z), Coefficients.over(self.exponents, spans)))


def squared_condition(flow: Flow, Z: Tensor) -> float:
    """cond² of the leading rows, each of length 1: what the graph does to rounding."""
    lead = flow.rows(Z)[0, : flow.rank]
    return float(torch.linalg.cond(lead / torch.linalg.vector_norm(lead, dim=1, keepdim=True))) ** 2


def field(sigma: Tensor, value: float, Z: Tensor) -> Tensor:
    """S_λZ − ½ZZᵀZ with the dense S_λ."""
    q = len(sigma)
    S = torch.block_diag(*(0.5 * value * sign * torch.eye(q, dtype=sigma.dtype) for sign in (1, -1)))
    S[:q, q:] = S[q:, :q] = torch.diag(sigma)
    flat = Z.reshape(2 * q, -1)
    return (S @ flat - 0.5 * flat @ (flat.mT @ flat)).view(Z.shape)


def moved(sigma: Tensor, value: float, Z: Tensor, h: float) -> Tensor:
    """The same flow by DOP853."""

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        return field(sigma, value, torch.from_numpy(y).view(Z.shape)).flatten().numpy()

    solved = solve_ivp(slope, (0, h), Z.flatten().numpy(), method="DOP853", rtol=1e-13, atol=1e-15)
    return torch.from_numpy(solved.y[:, -1].copy()).view(Z.shape)


def whole(Z: Tensor) -> Tensor:
    """ZZᵀ."""
    flat = Z.flatten(-3, -2)
    return flat @ flat.mT


def random_start(rank: int, size: float, seed: int = 0, rows: int = 6) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(size * rng.standard_normal((1, 2, rows, rank)))


@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0, 8.0])
@pytest.mark.parametrize("value", [0.0, 0.9, -0.9])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_any_start_moves_as_the_equation_says(rank: int, value: float, h: float) -> None:
    Z = random_start(rank, 0.4)
    flow = Flow(SIGMA, [value], rank)
    got, right = whole(flow(Z, h)[0]), whole(moved(SIGMA, value, Z[0], h))
    allowed = 1e-11 + EPS * squared_condition(flow, Z)  # DOP853 is told 1e-13
    assert float((got - right).norm()) <= allowed * float(right.norm())
    assert allowed < 1e-9


@pytest.mark.parametrize("value", [0.0, 0.6, -0.6])
@pytest.mark.parametrize("rank", [2, 5])
@pytest.mark.parametrize("zeros", [0, 2])
def test_balanced_starts_follow_the_closed_form_at_any_time(rank: int, value: float, zeros: int) -> None:
    """Against sub-steps and pivots with a QR factorisation, for zero singular values and r above the rank too."""
    sigma = torch.cat([SIGMA[: len(SIGMA) - zeros], SIGMA.new_zeros(zeros)])
    A, B = balanced_start(np.random.default_rng(3), len(sigma), len(sigma), rank, value)
    Z = torch.from_numpy(np.stack([B, A.T]))[None]
    flow = Flow(sigma, [value], rank)
    omega = math.hypot(1.5, value / 2)
    for h in (0.01, 1.0, 30.0, 1e4 / omega):
        solution = balanced.solve(
            FrobeniusLandscape(sigma, len(sigma)), Z[:, 0], Z[:, 1], torch.tensor([h], dtype=torch.float64)
        )
        right = solution.B[0, 0] @ solution.C[0, 0].mT
        B1, C1 = flow(Z, h)[0]
        allowed = float(solution.rounding[0, 0]) + 4 * EPS * squared_condition(flow, Z) * float(right.norm())
        assert float((B1 @ C1.mT - right).norm()) <= allowed, h
        assert allowed < 1e-9


def test_two_steps_are_one_and_members_do_not_mix() -> None:
    values = [0.0, 0.8, -0.5]
    Z = torch.cat([random_start(3, 0.3, seed) for seed in (1, 2, 3)])
    flow = Flow(SIGMA, values, 3)
    once, twice = flow(Z, 3.0), flow(flow(Z, 1.0), 2.0)
    for i, value in enumerate(values):
        alone = Flow(SIGMA, [value], 3)(Z[i : i + 1], 3.0)
        size = float(whole(once[i]).norm())
        allowed = 4 * EPS * squared_condition(Flow(SIGMA, [value], 3), Z[i : i + 1])
        assert float((whole(once[i]) - whole(twice[i])).norm()) <= allowed * size
        assert float((alone[0] - once[i]).norm()) <= allowed * size
        assert allowed < 1e-9


@pytest.mark.parametrize("size", [1e-3, 0.3, 2.0])
def test_the_loss_never_rises(size: float) -> None:
    """(BCᵀ)' = RCCᵀ + BBᵀR with R = Σ − BCᵀ, whatever BᵀB − CᵀC is: R only shrinks, for any λ and h."""
    for seed in range(8):
        Z, h = random_start(3, size, seed), 10 ** (seed / 2 - 1.5)
        B, C = Flow(SIGMA, [0.4], 3)(Z, h)[0]
        before, after = (float((torch.diag(SIGMA) - X @ Y.mT).norm()) for X, Y in ((Z[0, 0], Z[0, 1]), (B, C)))
        assert after <= before * (1 + 1e-12)
        assert after < before * (1 - 1e-9 * min(h, 1.0))


def test_the_gauge_is_symmetric_of_second_order_and_reversible() -> None:
    Z, flow = random_start(3, 0.6, 5), Flow(SIGMA, [0.5], 3)
    errors = []
    for h in (0.02, 0.01, 0.005):
        new = flow(Z, h)
        cross = (Z.mT @ new).sum(1)[0]
        assert float((cross - cross.mT).abs().max()) <= 1e-13 * float(cross.norm())
        assert float(torch.linalg.eigvalsh(cross)[0]) > 0
        errors.append(float((new[0] - moved(SIGMA, 0.5, Z[0], h)).norm()))
        # The formulas are analytic in h: a short step back is one step of the same function.
        assert float((flow(new, -h) - Z).norm()) <= 1e-12 * float(Z.norm())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(2.8 < slope < 3.2 for slope in slopes), slopes


def test_no_time_at_all_and_all_the_time_in_the_world() -> None:
    Z, flow = random_start(3, 1e-3), Flow(SIGMA, [0.3], 3)
    assert float((flow(Z, 0.0) - Z).norm()) <= 1e-12 * float(Z.norm())
    for h in (1e4, 1e10, 1e200):
        B, C = flow(Z, h)[0]
        assert float((B @ C.mT - torch.diag(SIGMA * (torch.arange(6) < 3))).norm()) <= 1e-12
        again = flow(torch.stack([B, C])[None], h)[0]
        assert float((again - torch.stack([B, C])).norm()) <= 1e-12, "a fixed point keeps its own factors"


def test_a_missing_leading_row_is_not_finite_and_harms_no_other() -> None:
    Z = torch.cat([random_start(2, 0.3, 1), random_start(2, 0.3, 2)])
    Z[0, :, 0] = 0.0
    flow = Flow(SIGMA, [0.0, 0.0], 2)
    new = flow(Z, 1.0)
    assert not new[0].isfinite().all()
    assert float((new[1] - Flow(SIGMA, [0.0], 2)(Z[1:], 1.0)[0]).norm()) <= 1e-13
