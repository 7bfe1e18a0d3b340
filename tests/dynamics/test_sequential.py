"""Windows of exact sub-flows: orders 1, 1 and 2 by slope, monotone loss at any window, limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics.landscape import FrobeniusLandscape, Landscape, TraceLandscape
from flowsim.dynamics.rounds import iterate
from flowsim.dynamics.sequential import ORDERS, window_step
from flowsim.integrators.engine import integrate


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FROBENIUS = FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5, 0.0], dtype=torch.float64), 3)
LANDSCAPES = [FROBENIUS, TraceLandscape(torch.tensor(1.2, dtype=torch.float64), 4)]


def exact(landscape: Landscape, B: torch.Tensor, C: torch.Tensor, time: float) -> torch.Tensor:
    def field(Z: torch.Tensor) -> torch.Tensor:
        return torch.stack([landscape.pull(Z[:, 0], Z[:, 1]), landscape.pull(Z[:, 1], Z[:, 0])], 1)

    clock = torch.tensor([time], dtype=torch.float64)
    return integrate(field, torch.stack([B, C], 1), clock, method="dopri8", rtol=1e-13, atol=1e-15).states[0]


@pytest.mark.parametrize("landscape", LANDSCAPES)
@pytest.mark.parametrize(("update", "order"), [("a_first", 1), ("b_first", 1), ("symmetric", 2)])
def test_order_by_slope(landscape: Landscape, update: str, order: int) -> None:
    B, C = draw(1, 4, 2), draw(1, 4, 2, seed=1)
    right = exact(landscape, B, C, 1.0)
    errors = []
    for count in (50, 100, 200, 400):
        states = iterate(window_step(landscape, update, 1.0 / count), B, C, [count])
        errors.append(float(torch.linalg.vector_norm(torch.stack([states[0][0], states[1][0]], 1) - right)))
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(slopes[-1] - order) < 0.05, slopes
    assert abs(slopes[-1] - order) < abs(slopes[0] - order) + 0.01  # and it settles


@pytest.mark.parametrize("landscape", LANDSCAPES)
@pytest.mark.parametrize("update", ORDERS)
@pytest.mark.parametrize("window", [1e-3, 0.3, 5.0, 500.0, 1e8])
def test_the_loss_never_rises_at_any_window(landscape: Landscape, update: str, window: float) -> None:
    B, C = 2 * draw(6, 4, 3), 2 * draw(6, 4, 3, seed=1)
    B[4], C[5] = 0, 0
    states = iterate(window_step(landscape, update, window), B, C, range(40))
    loss = landscape.floor(3) + landscape.excess(*states)
    assert torch.isfinite(states[0]).all() and torch.isfinite(states[1]).all()
    # Rounding of one evaluation: some tens of ε of the numbers that are added, ‖Σ‖² and ‖B‖²‖C‖².
    size = 10 + states[0].square().sum((-2, -1)) * states[1].square().sum((-2, -1))
    assert (loss[1:] <= loss[:-1] + 1e-14 * size[1:]).all()
    alive = [0, 1, 2, 3]
    assert (loss[-1, alive] < loss[0, alive]).all()


@pytest.mark.parametrize("update", ORDERS)
def test_a_minimum_is_left_alone(update: str) -> None:
    root = FROBENIUS.sigma[:2].sqrt()
    B = torch.zeros(1, 4, 2, dtype=torch.float64)
    B[0, :2] = torch.diag(root)
    states = iterate(window_step(FROBENIUS, update, 3.0), B, B.clone(), [0, 1, 10])
    torch.testing.assert_close(states[0], B.expand(3, -1, -1, -1), rtol=0, atol=1e-14)


def test_long_windows_are_alternating_least_squares() -> None:
    """h → ∞ with one factor fixed: the least-squares solution, here of full rank."""
    B, C = draw(1, 4, 2), draw(1, 4, 2, seed=1)
    Sigma = torch.diag(FROBENIUS.sigma)
    B1, C1 = window_step(FROBENIUS, "a_first", 1e9)(B, C)
    solved_c = torch.linalg.lstsq(B[0], Sigma).solution.mT
    torch.testing.assert_close(C1[0], solved_c, rtol=0, atol=1e-11)
    solved_b = torch.linalg.lstsq(solved_c, Sigma.mT).solution.mT
    torch.testing.assert_close(B1[0], solved_b, rtol=0, atol=1e-11)
