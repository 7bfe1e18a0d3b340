"""Rounds of gradient descent in canonical coordinates: exact step-by-step formulas where theory has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim.dynamics.descent import ORDERS, descent_step
from flowsim.dynamics.landscape import FrobeniusLandscape, TraceLandscape
from flowsim.dynamics.rounds import iterate


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LANDSCAPES = [
    FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64), 3),
    TraceLandscape(torch.tensor(0.8, dtype=torch.float64), 3),
]


@pytest.mark.parametrize("landscape", LANDSCAPES)
@pytest.mark.parametrize("update", ORDERS)
def test_inner_steps_are_single_steps_in_a_row(landscape, update: str) -> None:
    B, C = draw(2, 3, 2), draw(2, 3, 2, seed=1)
    eta = 0.03
    wanted_b, wanted_c = B, C
    if update == "simultaneous":
        for _ in range(3):
            wanted_b, wanted_c = (
                wanted_b + eta * landscape.pull(wanted_b, wanted_c),
                wanted_c + eta * landscape.pull(wanted_c, wanted_b),
            )
    else:
        for which in "CCCBBB" if update == "a_first" else "BBBCCC":
            if which == "B":
                wanted_b = wanted_b + eta * landscape.pull(wanted_b, wanted_c)
            else:
                wanted_c = wanted_c + eta * landscape.pull(wanted_c, wanted_b)
    got = descent_step(landscape, update, eta, 3)(B, C)
    torch.testing.assert_close(got[0], wanted_b, rtol=0, atol=1e-15)
    torch.testing.assert_close(got[1], wanted_c, rtol=0, atol=1e-15)


def test_the_trace_obeys_its_exact_recursion() -> None:
    """τ⁺ = τ[1 − η(a+b) + η²τ(τ−w)] simultaneous; τ(1−ηb)(1−ηa⁺) with A first; a = ‖A‖², b = ‖B‖²."""
    landscape, eta = LANDSCAPES[1], 0.07
    B, C = draw(5, 3, 2), draw(5, 3, 2, seed=1)
    tau, w = landscape.trace(B, C), landscape.w
    a, b = C.square().sum((-2, -1)), B.square().sum((-2, -1))
    got = {u: descent_step(landscape, u, eta)(B, C) for u in ORDERS}
    after = {u: landscape.trace(*pair) for u, pair in got.items()}
    new_a = got["a_first"][1].square().sum((-2, -1))
    new_b = got["b_first"][0].square().sum((-2, -1))
    wanted = {
        "simultaneous": tau * (1 - eta * (a + b) + eta**2 * tau * (tau - w)),
        "a_first": tau * (1 - eta * b) * (1 - eta * new_a),
        "b_first": tau * (1 - eta * a) * (1 - eta * new_b),
    }
    for update in ORDERS:
        torch.testing.assert_close(after[update], wanted[update], rtol=1e-13, atol=1e-13)
    # U⁺V⁺ = UV(1 − η²τ²)², simultaneous.
    U, V = ((B + s * C).square().sum((-2, -1)) for s in (1, -1))
    plus = [(got["simultaneous"][0] + s * got["simultaneous"][1]).square().sum((-2, -1)) for s in (1, -1)]
    torch.testing.assert_close(plus[0] * plus[1], U * V * (1 - eta**2 * tau**2) ** 2, rtol=1e-12, atol=1e-12)


def two_step_limit(alpha: float, beta: float) -> float:
    """First η at which a round with multipliers (1 − ηβ)(1 − ηα) or its coupled block leaves the unit disc."""
    if (alpha + beta) ** 2 < 8 * alpha * beta:
        return (alpha + beta) / (alpha * beta)
    return 4 / (alpha + beta + math.sqrt((alpha + beta) ** 2 - 8 * alpha * beta))


@pytest.mark.parametrize("update", ORDERS)
def test_descent_is_stable_up_to_the_predicted_rate_and_not_beyond(update: str) -> None:
    """Trace-squared at τ = 0: simultaneous 2/(a + b), sequential ℓ(a, b)."""
    landscape = TraceLandscape(torch.tensor(0.5, dtype=torch.float64), 3)
    B, C = draw(1, 3, 1), draw(1, 3, 1, seed=1)
    C = C - (landscape.trace(B, C) / B.square().sum())[..., None, None] * B  # now τ = 0
    a, b = float(C.square().sum()), float(B.square().sum())
    limit = 2 / (a + b) if update == "simultaneous" else two_step_limit(a, b)
    for factor, stable in ((0.98, True), (1.02, False)):
        step = descent_step(landscape, update, factor * limit)
        start = B + 1e-7 * draw(1, 3, 1, seed=2)
        states = iterate(step, start, C, range(0, 401, 2))
        traces = landscape.trace(*states)[:, 0].abs()
        assert (traces[-1] < traces[0]) if stable else (traces[-1] > 10 * traces[0])


@pytest.mark.parametrize("update", ORDERS)
def test_a_padded_column_stays_zero(update: str) -> None:
    landscape = LANDSCAPES[0]
    B, C = draw(1, 3, 3), draw(1, 3, 3, seed=1)
    B[..., 2], C[..., 2] = 0, 0
    whole = iterate(descent_step(landscape, update, 0.05, 2), B, C, range(30))
    part = iterate(descent_step(landscape, update, 0.05, 2), B[..., :2], C[..., :2], range(30))
    for padded, bare in zip(whole, part, strict=True):
        assert not padded[..., 2].any()
        np.testing.assert_allclose(padded[..., :2], bare, rtol=0, atol=1e-14)


def test_a_member_is_the_same_alone_and_in_a_batch() -> None:
    landscape = LANDSCAPES[0]
    B, C = draw(4, 3, 2), draw(4, 3, 2, seed=1)
    step = descent_step(landscape, "a_first", 0.05)
    together = iterate(step, B, C, [0, 50])
    for i in range(4):
        alone = iterate(step, B[i : i + 1], C[i : i + 1], [0, 50])
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[:, i], one[:, 0], rtol=0, atol=1e-14)
