"""The engine: order, output times, named outcomes, counts, and a norm that no rotation changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.base import SENTENCES, Solution, Status, rounding_bound, scatter
from flowsim.integrators.engine import METHODS, integrate

ACCURATE = ("dopri5", "dopri8")
# Output is an interpolant read at its end: 8(y0 + y1) and 16y_mid are added and cancel.
ROUNDING = 64 * torch.finfo(torch.float64).eps
LANDSCAPE = FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5, 0.2], dtype=torch.float64), 4)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def field(Z: Tensor) -> Tensor:
    return velocity(LANDSCAPE, Z)


def start(batch: int = 2, rank: int = 2, seed: int = 0, size: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(batch, 2, 4, rank, dtype=torch.float64, generator=generator)


def solve(Z: Tensor, at: Tensor, method: str = "dopri5", rtol: float = 1e-8, atol: float = 1e-12, **more):
    return integrate(field, Z, at, method=method, rtol=rtol, atol=atol, **more)


def logistic(y: Tensor) -> Tensor:
    """The rank-1 aligned flow of one mode, s' = 2s(1 − s): solution 1/(1 + (1/s0 − 1)e^{−2t})."""
    return 2 * y * (1 - y)


def logistic_at(y0: Tensor, t: float) -> Tensor:
    return 1 / (1 + (1 / y0 - 1) * math.exp(-2 * t))


@pytest.mark.parametrize("method", METHODS)
def test_the_error_falls_with_rtol(method: str) -> None:
    """Also between steps: output is as accurate as the steps themselves."""
    y0 = torch.tensor([[0.01], [0.3]], dtype=torch.float64)
    grid = np.linspace(0.1, 4.0, 23)
    exact = torch.stack([logistic_at(y0, t) for t in grid])
    errors, costs = [], []
    tolerances = [1e-4, 1e-6, 1e-8] if method != "dopri8" else [1e-6, 1e-8, 1e-10]
    if method in ("fehlberg2", "adaptive_heun"):
        tolerances = [1e-4, 1e-5, 1e-6]
    growth = 0.25 / (0.01 * 0.99)  # of an error made at the start: the largest s(1 − s)/(s0(1 − s0))
    for rtol in tolerances:
        got = integrate(logistic, y0, times(*grid), method=method, rtol=rtol, atol=rtol * 1e-3)
        assert got.status == [Status.COMPLETED] * 2
        errors.append(float((got.states - exact).abs().max()))
        costs.append(got.evaluations[0])
        assert errors[-1] <= rtol * got.steps[0] * growth
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.parametrize("method", ACCURATE)
def test_output_changes_no_accepted_step(method: str) -> None:
    """Two grids and none: the same steps, and the same bits at the times they share."""
    Z = start()
    coarse = solve(Z, times(0.7, 2.0), method)
    fine = solve(Z, torch.linspace(0.0, 2.0, 101, dtype=torch.float64), method)
    last = solve(Z, times(2.0), method)
    assert coarse.steps == fine.steps == last.steps
    torch.testing.assert_close(coarse.states[0], fine.states[35], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(coarse.states[1], fine.states[-1], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(coarse.states[1], last.states[0], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("method", METHODS)
def test_first_single_and_zero_times(method: str) -> None:
    Z = start()
    zero = solve(Z, times(0.0), method, rtol=1e-4)
    assert torch.equal(zero.states[0], Z) and zero.status == [Status.COMPLETED] * 2 and zero.steps == [0, 0]
    both = solve(Z, times(0.0, 1e-9), method, rtol=1e-4)
    assert torch.equal(both.states[0], Z)
    torch.testing.assert_close(both.states[1], Z + 1e-9 * field(Z), rtol=0, atol=ROUNDING)
    late = solve(Z, times(0.5), method, rtol=1e-4)
    with_start = solve(Z, times(0.0, 0.5), method, rtol=1e-4)
    torch.testing.assert_close(late.states[0], with_start.states[1], rtol=0, atol=ROUNDING)
    assert late.states.shape == (1, *Z.shape)


def test_many_outputs_are_taken_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, grid = start(), torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    whole = solve(Z, grid)
    monkeypatch.setattr("flowsim.integrators.engine.OUTPUT_ENTRIES", 7 * Z.numel())
    torch.testing.assert_close(solve(Z, grid).states, whole.states, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ACCURATE)
def test_a_rotated_problem_takes_the_same_steps(method: str) -> None:
    """Rows in another orthonormal basis and columns in another gauge: same counts, rotated answer."""
    generator = torch.Generator().manual_seed(3)
    left, right, gauge = (
        torch.linalg.qr(torch.randn(k, k, dtype=torch.float64, generator=generator)).Q for k in (4, 4, 2)
    )
    delta = left @ torch.diag(LANDSCAPE.sigma) @ right.mT

    def turned(Z: Tensor) -> Tensor:
        B, C = Z.unbind(-3)
        rest = delta - B @ C.mT
        return torch.stack([rest @ C, rest.mT @ B], dim=-3)

    def turn(Z: Tensor) -> Tensor:
        return torch.stack([left @ Z[..., 0, :, :] @ gauge, right @ Z[..., 1, :, :] @ gauge], dim=-3)

    Z, at = start(), torch.linspace(0.0, 6.0, 7, dtype=torch.float64)
    here = solve(Z, at, method)
    there = integrate(turned, turn(Z), at, method=method, rtol=1e-8, atol=1e-12)
    assert here.steps == there.steps and here.evaluations == there.evaluations
    torch.testing.assert_close(turn(here.states), there.states, rtol=0, atol=1e-12)


def test_the_tolerance_is_held_by_the_hardest_member() -> None:
    """One fast trajectory among slow ones gets the error it gets alone, not an average."""
    y0 = torch.full((32, 1), 1.0 - 1e-9, dtype=torch.float64)
    y0[5] = 1e-3
    got = integrate(logistic, y0, times(3.0), method="dopri5", rtol=1e-7, atol=1e-10)
    alone = integrate(logistic, y0[5:6], times(3.0), method="dopri5", rtol=1e-7, atol=1e-10)
    assert got.steps[5] == alone.steps[0]
    torch.testing.assert_close(got.states[:, 5], alone.states[:, 0], rtol=0, atol=ROUNDING)
    padded = solve(torch.cat([start(), torch.zeros(3, 2, 4, 2, dtype=torch.float64)]), times(1.0))
    assert padded.steps[0] == solve(start(), times(1.0)).steps[0]
    assert not padded.states[:, 2:].any()  # zero stays exactly zero


@pytest.mark.parametrize("method", ACCURATE)
def test_max_steps_keeps_what_was_reached(method: str) -> None:
    Z, at = start(1), torch.linspace(0.0, 50.0, 51, dtype=torch.float64)
    whole = solve(Z, at, method)
    cut = solve(Z, at, method, max_steps=6)
    assert cut.status == [Status.MAX_STEPS] and cut.steps[0] <= 6
    reached = int(torch.isfinite(cut.states).all(-1).all(-1).all(-1).sum())
    assert 1 <= reached < 51
    assert torch.equal(cut.states[:reached], whole.states[:reached])
    assert torch.isnan(cut.states[reached:]).all()


def test_a_member_that_fails_leaves_the_others_whole() -> None:
    def explosive(y: Tensor) -> Tensor:
        return torch.where(y > 0, y.square(), -y)  # y0 = 2 blows up at t = ½

    y0 = torch.tensor([[-1.0], [2.0], [-3.0]], dtype=torch.float64)
    at = times(0.0, 0.25, 0.75, 1.0)
    got = integrate(explosive, y0, at, method="dopri5", rtol=1e-8, atol=1e-12, max_steps=2000)
    assert got.status[0] is got.status[2] is Status.COMPLETED
    assert got.status[1] in (Status.DIVERGED, Status.STEP_UNDERFLOW, Status.MAX_STEPS)
    for i in (0, 2):
        np.testing.assert_allclose(got.states[:, i, 0], float(y0[i]) * np.exp(-at.numpy()), rtol=1e-7)
    np.testing.assert_allclose(got.states[:2, 1, 0], [2.0, 4.0], rtol=1e-6)  # kept up to the blow-up
    assert torch.isnan(got.states[2:, 1]).all()


def test_nan_in_one_member_is_named_and_leaves_the_others_whole() -> None:
    Z = start(3)
    Z[1, 0, 0, 0] = torch.nan
    got = solve(Z, times(0.0, 1.0))
    assert got.status == [Status.COMPLETED, Status.DIVERGED, Status.COMPLETED]
    alone = solve(Z[[0]], times(0.0, 1.0))
    assert torch.equal(got.states[:, 0], alone.states[:, 0]) and got.steps[0] == alone.steps[0]
    assert torch.isnan(got.states[1, 1]).any()


def test_a_step_below_the_clock_s_spacing_is_named() -> None:
    def jump(y: Tensor) -> Tensor:
        return torch.where(y < 0.5, torch.ones_like(y), torch.full_like(y, -1e6))

    got = integrate(jump, times(0.0)[None], times(0.1, 1.0), method="dopri5", rtol=1e-15, atol=0.0, max_steps=3000)
    assert got.status[0] in (Status.STEP_UNDERFLOW, Status.MAX_STEPS)
    assert set(SENTENCES) == set(Status) and all(SENTENCES.values())


def test_evaluations_are_counted() -> None:
    calls = 0

    def counted(Z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return field(Z)

    for method, stages in (("dopri5", 6), ("bosh3", 3), ("adaptive_heun", 1), ("dopri8", 12)):
        calls = 0
        got = integrate(counted, start(), times(0.5, 1.0), method=method, rtol=1e-5, atol=1e-8)
        assert got.evaluations == [calls, calls]
        assert got.evaluations[0] >= stages * got.steps[0]


def test_single_precision_stays_single() -> None:
    Z = start().float()
    landscape = FrobeniusLandscape(LANDSCAPE.sigma.float(), 4)
    got = integrate(lambda z: velocity(landscape, z), Z, times(0.3, 3.0), method="dopri5", rtol=1e-5, atol=1e-8)
    assert got.states.dtype == torch.float32 and got.status == [Status.COMPLETED] * 2
    right = solve(Z.double(), times(0.3, 3.0), rtol=1e-10)
    size = float(right.states.abs().max())
    allowed = got.steps[0] * (1e-5 + 10 * torch.finfo(torch.float32).eps) * size * Z[0].numel() ** 0.5
    assert float((got.states.double() - right.states).abs().max()) <= allowed


def test_parts_of_a_batch_go_back_to_their_places() -> None:
    def part(members: list[int], excess: bool) -> tuple[list[int], Solution]:
        value = torch.tensor(members, dtype=torch.float64)
        B = value.view(1, -1, 1, 1).expand(2, -1, 3, 1).contiguous()
        count = len(members)
        return members, Solution(
            B, -B, [Status.COMPLETED] * count, [f"m{i}" for i in members], ["s"] * count, list(members),
            [10 * i for i in members], B[:, :, 0, 0], B[:, :, 0, 0] if excess else None,
            [f"because {i}" for i in members],
        )  # fmt: skip

    whole = scatter([part([0, 3], True), part([1, 2], False)], 4)
    np.testing.assert_array_equal(whole.B[1, :, 2, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(whole.C[0, :, 0, 0], [0, -1, -2, -3])
    assert whole.choice == [f"because {i}" for i in range(4)]
    assert whole.method == ["m0", "m1", "m2", "m3"] and whole.steps == [0, 1, 2, 3]
    assert whole.evaluations == [0, 10, 20, 30]
    np.testing.assert_array_equal(whole.excess[0].isnan(), [False, True, True, False])
    members, only = part([0, 1], False)
    assert scatter([(members, only)], 2) is only


def test_the_rounding_bound_is_of_the_product() -> None:
    B, C = torch.ones(2, 3, 1, dtype=torch.float64), 2 * torch.ones(2, 3, 1, dtype=torch.float64)
    np.testing.assert_allclose(rounding_bound(B, C, 10.0), 10 * np.finfo(float).eps * 6.0 * np.ones(2), rtol=1e-14)
