"""The two canonical landscapes: pulls against autograd, exact sub-flows against integration, a stable excess."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from flowsim.dynamics.landscape import FrobeniusLandscape, Landscape, TraceLandscape
from tests.oracles.reference import EPS


def frobenius(values: list[float], extra: int = 0) -> FrobeniusLandscape:
    return FrobeniusLandscape(torch.tensor(values + [0.0] * extra, dtype=torch.float64), len(values))


def trace(w: float, size: int = 4) -> TraceLandscape:
    return TraceLandscape(torch.tensor(w, dtype=torch.float64), size)


LANDSCAPES = [frobenius([2.0, 1.0, 0.4]), frobenius([2.0, 1.0], extra=2), trace(1.3), trace(-0.7), trace(0.0)]


def state(landscape: Landscape, rank: int = 2, seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor]:
    rows = len(landscape.sigma) if isinstance(landscape, FrobeniusLandscape) else landscape.size
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(2, batch, rows, rank, dtype=torch.float64, generator=generator)
    return X[0], X[1]


def loss(landscape: Landscape, B: Tensor, C: Tensor) -> Tensor:
    """The canonical loss as it is defined."""
    if isinstance(landscape, FrobeniusLandscape):
        return 0.5 * (torch.diag(landscape.sigma) - B @ C.mT).square().sum((-2, -1))
    return 0.5 * (landscape.w + (B @ C.mT).diagonal(dim1=-2, dim2=-1).sum(-1)).square()


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_the_pull_is_minus_the_gradient(landscape: Landscape) -> None:
    B, C = (X.requires_grad_() for X in state(landscape))
    dB, dC = torch.autograd.grad(loss(landscape, B, C).sum(), (B, C))
    torch.testing.assert_close(landscape.pull(B, C), -dB, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(landscape.pull(C, B), -dC, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_the_derivative_of_the_pull_is_that_of_autograd(landscape: Landscape) -> None:
    B, C = state(landscape)
    dB, dC = state(landscape, seed=1)
    _, wanted = torch.autograd.functional.jvp(landscape.pull, (B, C), (dB, dC))
    torch.testing.assert_close(landscape.pull_derivative(B, C, dB, dC), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("deficient", ["full", "rank one", "zero"])
@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_relax_is_the_flow_of_one_factor(landscape: Landscape, deficient: str) -> None:
    """Against DOP853 at rtol 1e-12, with a fixed factor of full rank, of rank one, and zero."""
    B, C = state(landscape, rank=2, batch=1)
    C = {"full": C, "rank one": C[..., :1].expand_as(C).contiguous(), "zero": 0 * C}[deficient]
    for window in (1e-9, 0.3, 4.0):

        def field(_: float, y: np.ndarray) -> np.ndarray:
            return landscape.pull(torch.from_numpy(y).view_as(B), C).numpy().ravel()

        ends = [
            solve_ivp(field, (0, window), B.numpy().ravel(), method="DOP853", rtol=rtol, atol=1e-14).y[:, -1]
            for rtol in (1e-12, 1e-11)
        ]
        size = np.linalg.norm(ends[0]) + B.norm().item()
        allowed = np.abs(ends[1] - ends[0]).max() + (1e-12 + 64 * EPS) * size
        assert np.abs(landscape.relax(B, C, window).numpy().ravel() - ends[0]).max() <= allowed


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_relax_is_a_semigroup_stationary_at_its_end_and_lowers_the_loss(landscape: Landscape) -> None:
    B, C = state(landscape)
    twice = landscape.relax(landscape.relax(B, C, 0.4), C, 0.7)
    torch.testing.assert_close(landscape.relax(B, C, 1.1), twice, rtol=1e-12, atol=1e-12)
    before = loss(landscape, B, C)
    for window in (1e-3, 1.0, 30.0, 1e6):
        after = loss(landscape, landscape.relax(B, C, window), C)
        assert (after <= before * (1 + 10 * EPS)).all()
    end = landscape.relax(B, C, 1e12)
    torch.testing.assert_close(landscape.relax(end, C, 5.0), end, rtol=1e-12, atol=1e-12)
    assert torch.equal(landscape.relax(B, C, 0.0), B)


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_excess_and_floor_make_the_loss(landscape: Landscape) -> None:
    for rank in (1, 2, 3, 6):
        B, C = state(landscape, rank)
        total = landscape.floor(rank) + landscape.excess(B, C)
        torch.testing.assert_close(total, loss(landscape, B, C), rtol=1e-12, atol=1e-12)


def test_excess_has_digits_far_below_the_floor() -> None:
    """Near the minimum the excess is right to εσ1/√gap where loss minus floor would be rounding alone."""
    landscape = frobenius([3.0, 2.0, 1.0, 0.5], extra=1)
    generator = torch.Generator().manual_seed(5)
    for size in (1e-3, 1e-5, 1e-7):
        B = torch.zeros(5, 2, dtype=torch.float64)
        B[:2] = torch.diag(landscape.sigma[:2].sqrt())
        C = B + size * torch.randn(5, 2, dtype=torch.float64, generator=generator)
        B = B + size * torch.randn(5, 2, dtype=torch.float64, generator=generator)
        with mpmath.workdps(60):
            b, c = mpmath.matrix(B.tolist()), mpmath.matrix(C.tolist())
            rest = mpmath.diag(landscape.sigma.tolist()) - b * c.T
            whole = mpmath.fsum(rest[i, j] ** 2 for i in range(5) for j in range(5))
            exact = float((whole - mpmath.mpf("1.25")) / 2)
        got = float(landscape.excess(B, C))
        assert abs(got / exact - 1) <= 8 * EPS * 3.0 / np.sqrt(2 * exact), size
        assert exact < 20 * size**2


def test_the_floor_is_summed_from_the_smallest() -> None:
    values = [1.0, 1e-8, 1e-8]
    assert float(frobenius(values).floor(1)) == 1e-8 * 1e-8
    assert float(frobenius(values).floor(3)) == float(frobenius(values).floor(9)) == 0.0
    assert float(trace(2.0).floor(1)) == 0.0


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_the_gradient_bound_holds(landscape: Landscape) -> None:
    """‖∇f̂‖² ≤ g·2f̂ for the gradient in W."""
    B, C = state(landscape, batch=20)
    if isinstance(landscape, FrobeniusLandscape):
        squared = (torch.diag(landscape.sigma) - B @ C.mT).square().sum((-2, -1))
    else:
        squared = landscape.size * landscape.trace(B, C).square()
    assert (squared <= landscape.gradient_bound * 2 * loss(landscape, B, C) * (1 + 100 * EPS)).all()


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("size", [1e-3, 1e-8, 1e-12])
def test_the_excess_at_a_tie_keeps_its_digits(rank: int, size: float) -> None:
    """Near a minimum in a rotated basis of the tied plane, where the split of the axes would cancel at 1e-16."""
    landscape = frobenius([3.0, 2.0, 2.0, 2.0, 0.5])
    rng = np.random.default_rng(rank)
    turn = np.eye(5)
    turn[1:4, 1:4] = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    root = turn[:, :rank] * np.sqrt([3.0, 2.0, 2.0, 2.0][:rank])
    B, C = root + size * rng.standard_normal((5, rank)), root + size * rng.standard_normal((5, rank))
    with mpmath.workdps(60):
        residual = (
            mpmath.diag([3, 2, 2, 2, mpmath.mpf("0.5")]) - mpmath.matrix(B.tolist()) * mpmath.matrix(C.tolist()).T
        )
        exact = float((mpmath.fsum(x**2 for x in residual) - mpmath.fsum([4] * (4 - rank)) - mpmath.mpf("0.25")) / 2)
    got = float(landscape.excess(torch.from_numpy(B), torch.from_numpy(C)))
    # Relative accuracy ε·σ/√gap of the stable split.
    assert got == pytest.approx(exact, rel=64 * EPS * 3 / np.sqrt(2 * exact), abs=0)


def test_rounding_does_not_break_a_tie() -> None:
    """Equal singular values come out of an SVD a few ulp apart; they are made equal, and nothing else is."""
    from flowsim.problem.objectives import Frobenius

    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((k, 5)))[0] for k in (7, 6))
    values = np.array([3.0, 2.0, 2.0, 2.0, 0.5])
    found = Frobenius(np.zeros((7, 6)), (U * values) @ V.T).singular_system.values
    assert found[1] == found[2] == found[3] and float(found[5]) == 0.0
    np.testing.assert_allclose(found[:5], values, rtol=1e-14)
    near = np.array([3.0, 2.0, 2.0 - 1e-12, 1.0, 0.5])
    found = Frobenius(np.zeros((7, 6)), (U * near) @ V.T).singular_system.values
    assert found[1] > found[2]
