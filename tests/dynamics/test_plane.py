"""The plane of a trace-squared start: four numbers are the exact state of descent, of windows and of the flow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics.descent import ORDERS, descent_step
from flowsim.dynamics.landscape import TraceLandscape, TracePlane
from flowsim.dynamics.rounds import iterate
from flowsim.dynamics.sequential import ORDERS as WINDOW_ORDERS
from flowsim.dynamics.sequential import window_step
from tests.oracles.reference import EPS

ROUNDS = [0, 1, 2, 7, 40]


def case(name: str, w: float = 0.8) -> tuple[TraceLandscape, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    B, C = (torch.from_numpy(0.4 * rng.standard_normal((2, 6, 3))) for _ in "BC")
    starts = {
        "both": (B, C),
        "B=0": (0 * B, C),
        "A=0": (B, 0 * C),
        "B=C": (C, C),
        "B=-C": (-C, C),
        "parallel": (2 * C, C),
    }
    return TraceLandscape(torch.tensor(w, dtype=torch.float64), 6), *starts[name]


STARTS = ["both", "B=0", "A=0", "B=C", "B=-C", "parallel"]


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize(("kind", "update"), [("descent", u) for u in ORDERS] + [("window", u) for u in WINDOW_ORDERS])
def test_rounds_in_the_plane_are_rounds(name: str, kind: str, update: str) -> None:
    landscape, B0, C0 = case(name)
    plane = TracePlane.of(landscape, B0, C0)
    make = (lambda f: descent_step(f, update, 0.07)) if kind == "descent" else (lambda f: window_step(f, update, 0.07))
    B, C = iterate(make(landscape), B0, C0, ROUNDS)
    b, c = iterate(make(plane), *plane.start(), ROUNDS)
    torch.testing.assert_close(plane.trace(b, c), landscape.trace(B, C), rtol=1e-13, atol=64 * EPS)
    for found, wanted in ((b, B), (c, C)):
        rebuilt = found[..., :1, :] * C0 + found[..., 1:, :] * B0
        torch.testing.assert_close(rebuilt, wanted, rtol=0, atol=64 * EPS * (1 + float(wanted.abs().max())))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_symmetry_of_a_saddle_is_exact(sign: float) -> None:
    """B = ±C for ever, to the last bit: rounding does not leave the saddle's manifold in these coordinates."""
    landscape, _, C0 = case("both")
    plane = TracePlane.of(landscape, sign * C0, C0)
    b, c = iterate(descent_step(plane, "simultaneous", 0.07), *plane.start(), [200])
    B, C = (x[..., :1, :] * C0 + x[..., 1:, :] * (sign * C0) for x in (b, c))
    assert torch.equal(B, sign * C)


@pytest.mark.parametrize("name", ["both", "B=0"])
def test_the_products_of_a_simultaneous_step_are_exact(name: str) -> None:
    """u⁺ = (1 − ητ)u and v⁺ = (1 + ητ)v, hence U⁺V⁺ = UV(1 − η²τ²)²."""
    landscape, B0, C0 = case(name)
    eta = 0.11
    B, C = descent_step(landscape, "simultaneous", eta)(B0, C0)
    tau = landscape.trace(B0, C0)
    sizes = [(B0 + C0), (B0 - C0), (B + C), (B - C)]
    U, V, U1, V1 = (x.square().sum((-2, -1)) for x in sizes)
    torch.testing.assert_close(U1, (1 - eta * tau) ** 2 * U, rtol=1e-13, atol=0)
    torch.testing.assert_close(V1, (1 + eta * tau) ** 2 * V, rtol=1e-13, atol=0)
    torch.testing.assert_close(U1 * V1, U * V * (1 - (eta * tau) ** 2) ** 2, rtol=1e-13, atol=0)


def test_the_cost_does_not_depend_on_the_size() -> None:
    landscape, B0, C0 = case("both")
    plane = TracePlane.of(landscape, B0, C0)
    b, c = plane.start()
    assert b.shape == c.shape == (2, 2, 1) and plane.gram.shape == (2, 2, 2)
