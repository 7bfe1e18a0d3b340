"""The pair of Tsitouras: its orders by slope, its last stage, and its error in units of the tolerance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.adaptive.tsit5 import Tsit5

LANDSCAPE = FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5, 0.2], dtype=torch.float64), 4)


def flow(Z: Tensor) -> Tensor:
    return velocity(LANDSCAPE, Z)


def start(size: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return size * torch.randn(1, 2, 4, 2, dtype=torch.float64, generator=generator)


def test_the_orders_of_the_pair() -> None:
    """Halving a small step divides its error by 2⁶ or more, and the estimate, that of order 4, by 2⁵."""
    Z = start()
    # The tolerance that makes the ratio the norm of the estimate itself.
    stepper = Tsit5(flow, Z, rtol=0.0, atol=Z[0].numel() ** -0.5)
    errors = []
    for h in (0.04, 0.02):
        span = torch.tensor([h], dtype=torch.float64)
        y, ratio, (slope,) = stepper.step(Z, (flow(Z),), span)
        exact = integrate(Tsit5(flow, Z, rtol=1e-13, atol=1e-16), Z, span, max_steps=10_000).states[0]
        errors.append((float((y - exact).norm()), float(ratio)))
        torch.testing.assert_close(slope, flow(y), rtol=0, atol=1e-14)  # the last stage is the next step's first
    fifth, fourth = (math.log2(a / b) for a, b in zip(*errors, strict=True))
    assert fifth >= 5.7
    assert fourth == pytest.approx(5, abs=0.3)


def test_no_step_is_the_state_itself() -> None:
    Z = start()
    stepper = Tsit5(flow, Z, rtol=1e-9, atol=1e-12)
    y, ratio, _ = stepper.step(Z, (flow(Z),), torch.zeros(1, dtype=torch.float64))
    assert torch.equal(y, Z) and float(ratio) == 0.0


def test_the_ratio_is_the_error_over_the_tolerance_of_the_larger_state() -> None:
    Z, h = start(), torch.tensor([0.3], dtype=torch.float64)
    absolute = Tsit5(flow, Z, rtol=0.0, atol=1.0)
    mixed = Tsit5(flow, Z, rtol=0.01, atol=0.001)
    slope = (flow(Z),)
    y, error, _ = absolute.step(Z, slope, h)
    root = Z[0].numel() ** 0.5
    allowed = 0.001 * root + 0.01 * max(float(Z.norm()), float(y.norm()))
    assert float(mixed.step(Z, slope, h)[1]) == pytest.approx(float(error) * root / allowed, rel=1e-12)
