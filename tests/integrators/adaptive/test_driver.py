"""The driver: accuracy by tolerance, output, batches, named ends, and no host read inside a block."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive import driver
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.adaptive.stepper import Field
from flowsim.integrators.adaptive.tsit5 import Tsit5
from flowsim.integrators.base import Integrated, Status

EPS = torch.finfo(torch.float64).eps
LANDSCAPE = FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5, 0.2], dtype=torch.float64), 4)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flow(Z: Tensor) -> Tensor:
    return velocity(LANDSCAPE, Z)


def start(batch: int = 2, rank: int = 2, seed: int = 0, size: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(batch, 2, 4, rank, dtype=torch.float64, generator=generator)


def solve(
    f: Field, y: Tensor, at: Tensor, rtol: float = 1e-8, atol: float = 1e-12, max_steps: int = 100_000, **more: object
) -> Integrated:
    return integrate(Tsit5(f, y, rtol=rtol, atol=atol), y, at, max_steps=max_steps, **more)  # type: ignore[arg-type]


def logistic(y: Tensor) -> Tensor:
    """The rank-1 aligned flow of one mode: solution 1/(1 + (1/s0 − 1)e^{−2t})."""
    return 2 * y * (1 - y)


def logistic_at(y0: Tensor, t: float) -> Tensor:
    return 1 / (1 + (1 / y0 - 1) * math.exp(-2 * t))


def test_the_error_falls_with_rtol_also_between_steps() -> None:
    y0 = torch.tensor([[0.01], [0.3]], dtype=torch.float64)
    grid = np.linspace(0.0, 4.0, 23)
    exact = torch.stack([logistic_at(y0, t) for t in grid])
    growth = 0.25 / (0.01 * 0.99)  # of an error made at the start: the largest s(1 − s)/(s0(1 − s0))
    errors, costs = [], []
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        got = solve(logistic, y0, times(*grid), rtol, rtol * 1e-3)
        assert got.status == [Status.COMPLETED] * 2
        errors.append(float((got.states - exact).abs().max()))
        costs.append(got.evaluations[0])
        assert errors[-1] <= rtol * max(got.steps) * growth
    assert all(4 * fine < coarse for coarse, fine in itertools.pairwise(errors)), errors
    assert costs == sorted(costs)


def test_output_changes_no_step_and_times_may_be_any() -> None:
    Z = start()
    grids = [times(2.0), times(0.7, 2.0), torch.linspace(0.0, 2.0, 201, dtype=torch.float64), times(0.0, 1e-12, 2.0)]
    runs = [solve(flow, Z, grid) for grid in grids]
    assert len({tuple(run.steps) for run in runs}) == 1
    for run, grid in zip(runs, grids, strict=True):
        assert run.states.shape == (len(grid), *Z.shape)
        torch.testing.assert_close(run.states[-1], runs[0].states[-1], rtol=0, atol=64 * EPS)
    torch.testing.assert_close(runs[1].states[0], runs[2].states[70], rtol=0, atol=64 * EPS)
    assert torch.equal(runs[2].states[0], Z) and torch.equal(runs[3].states[0], Z)
    assert torch.equal(solve(flow, Z, times(0.0)).states[0], Z)  # a zero-length interval


def test_every_block_length_gives_the_same_bits() -> None:
    Z, grid = start(3), torch.linspace(0.0, 5.0, 17, dtype=torch.float64)
    runs = [solve(flow, Z, grid, block=block) for block in (1, 7, 32, 1000)]
    for run in runs[1:]:
        assert torch.equal(run.states, runs[0].states) and run.steps == runs[0].steps
        assert run.evaluations == runs[0].evaluations


def test_functions_of_the_state_are_kept_without_the_states() -> None:
    Z, grid = start(), times(0.0, 0.7, 2.0)
    full = solve(flow, Z, grid)
    weights = times(1.0, 3.0)

    def sizes(states: Tensor, place: Tensor) -> dict[str, Tensor]:
        return {"size": weights[place] * states.flatten(2).norm(dim=-1)}

    lean = solve(flow, Z, grid, states=False, record=sizes)
    assert lean.states.shape == (1, *Z.shape)
    assert torch.equal(lean.states[0], full.states[-1])
    torch.testing.assert_close(
        lean.functions["size"], weights * full.states.flatten(2).norm(dim=-1), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_trajectory_is_the_same_alone_and_in_any_batch(order: list[int]) -> None:
    """Same steps, and the same numbers to the rounding of the library's batched products."""
    members = [start(1, size=1e-3), start(1, size=0.5, seed=1), start(1, size=3.0, seed=2)]
    together = solve(flow, torch.cat([members[i] for i in order]), times(0.5, 6.0))
    for place, i in enumerate(order):
        alone = solve(flow, members[i], times(0.5, 6.0))
        assert together.steps[place] == alone.steps[0]
        assert together.evaluations[place] == alone.evaluations[0]
        torch.testing.assert_close(together.states[:, place], alone.states[:, 0], rtol=1e-12, atol=1e-12)


def test_one_hard_member_costs_the_easy_ones_nothing() -> None:
    rates = torch.tensor([[1.0], [200.0]], dtype=torch.float64)

    def decay(y: Tensor) -> Tensor:
        """y' = −rate·y, the rate carried in the state's second entry."""
        return torch.stack([-y[:, 1] * y[:, 0], torch.zeros_like(y[:, 0])], dim=1)

    both = torch.cat([torch.ones(2, 1, dtype=torch.float64), rates], dim=1)
    got = solve(decay, both, times(1.0, 5.0))
    assert got.steps[0] < got.steps[1] / 3
    assert got.steps[0] == solve(decay, both[:1], times(1.0, 5.0)).steps[0]


def test_a_rotated_problem_takes_the_same_steps() -> None:
    """The norm is invariant: gauge rotations of the factors change no step."""
    Z = start(rank=3)
    turn = torch.linalg.qr(start(1, rank=4, seed=5)[0, 0][:3, :3]).Q
    plain, turned = solve(flow, Z, times(3.0)), solve(flow, Z @ turn, times(3.0))
    assert plain.steps == turned.steps
    torch.testing.assert_close(plain.states @ turn, turned.states, rtol=0, atol=1e-12)


def test_zero_columns_stay_zero_and_change_only_the_tolerance_of_atol() -> None:
    """Ranks can be padded: a zero column of B with a zero row of A never moves, and the products are the same."""
    Z = start(rank=2)
    padded = torch.nn.functional.pad(Z, (0, 2))
    plain, wide = (solve(flow, X, times(3.0), atol=0.0) for X in (Z, padded))
    assert not wide.states[..., 2:].any()
    assert plain.steps == wide.steps
    torch.testing.assert_close(plain.states, wide.states[..., :2], rtol=1e-13, atol=1e-13)


def explosive(y: Tensor) -> Tensor:
    """y' = y²: infinite at t = 1/y0."""
    return y * y


def test_a_member_that_blows_up_ends_alone_and_keeps_what_it_has() -> None:
    y0 = torch.tensor([[0.1], [1.0], [0.2]], dtype=torch.float64)
    grid = times(0.5, 0.9, 2.0, 4.0)
    got = solve(explosive, y0, grid)
    assert got.status[0] is Status.COMPLETED and got.status[2] is Status.COMPLETED
    assert got.status[1] in (Status.STEP_UNDERFLOW, Status.DIVERGED)
    assert torch.isfinite(got.states[:2, 1]).all() and got.states[2:, 1].isnan().all()
    exact = 1 / (1 / y0[:, 0] - grid[:, None])
    for member in (0, 2):
        torch.testing.assert_close(got.states[:, member, 0], exact[:, member], rtol=1e-6, atol=0)
    torch.testing.assert_close(got.states[:2, 1, 0], exact[:2, 1], rtol=1e-6, atol=0)


def test_a_field_that_becomes_nan_ends_its_member_as_diverged() -> None:
    def cliff(y: Tensor) -> Tensor:
        """y' = 1, and nothing beyond y = 1."""
        return torch.where(y < 1, torch.ones_like(y), torch.full_like(y, torch.nan))

    got = solve(cliff, torch.tensor([[0.5], [-9.0]], dtype=torch.float64), times(0.25, 2.0))
    assert got.status == [Status.DIVERGED, Status.COMPLETED]
    torch.testing.assert_close(got.states[:, 1, 0], times(-8.75, -7.0))
    torch.testing.assert_close(got.states[0, 0, 0], times(0.75)[0])
    assert got.states[1, 0].isnan().all()


def test_a_start_that_is_not_finite_ends_at_once() -> None:
    Z = start()
    Z[1, 0, 0, 0] = torch.nan
    got = solve(flow, Z, times(0.0, 1.0))
    assert got.status == [Status.COMPLETED, Status.DIVERGED] and got.steps[1] == 0
    assert torch.isfinite(got.states[:, 0]).all()


def test_the_step_limit_keeps_the_partial_output() -> None:
    got = solve(flow, start(), times(0.01, 50.0), max_steps=5)
    assert got.status == [Status.MAX_STEPS] * 2
    assert torch.isfinite(got.states[0]).all() and got.states[1].isnan().all()
    assert max(got.evaluations) < 60


def test_a_zero_start_stays_zero_and_dtypes_are_kept() -> None:
    zero = torch.zeros(1, 2, 4, 2, dtype=torch.float64)
    got = solve(flow, zero, times(1.0, 1e6))
    assert got.status == [Status.COMPLETED] and not got.states.any()
    single = solve(lambda y: -y, torch.ones(1, 3, dtype=torch.float32), times(1.0), rtol=1e-5, atol=1e-8)
    assert single.states.dtype == torch.float32
    torch.testing.assert_close(single.states[0, 0], torch.full((3,), math.exp(-1.0)), rtol=1e-4, atol=0)


def test_the_first_step_shrinks_with_the_tolerance() -> None:
    """Otherwise runs at different rtol could take the same steps, and their equality would say nothing."""
    Z = start()
    first = [Tsit5(flow, Z, rtol=rtol, atol=0.0).first_step(Z, (flow(Z),), times(10.0)[0]) for rtol in (1e-4, 1e-9)]
    assert (first[1] < 0.2 * first[0]).all()


def test_memory_bounds_the_length_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    Z = start()
    monkeypatch.setattr(driver, "PATH_ENTRIES", 3 * Z.numel())
    monkeypatch.setattr(driver, "OUTPUT_ENTRIES", 1)  # one wanted time a batch
    bounded = driver.Solve(Tsit5(flow, Z, rtol=1e-8, atol=1e-12), Z, times(1.0), 10, states=True, record=None, block=32)
    assert bounded.length == 3
    grid = torch.linspace(0.0, 5.0, 17, dtype=torch.float64)
    small = solve(flow, Z, grid)
    monkeypatch.undo()
    torch.testing.assert_close(small.states, solve(flow, Z, grid).states, rtol=1e-13, atol=1e-13)


def test_a_step_that_errs_too_much_is_taken_again() -> None:
    """A rate that sets in at t = 2: steps have grown until there, and the first ones beyond it must be refused."""

    def late(y: Tensor) -> Tensor:
        """y' = 1 for the clock y_1, and y_2' = −200·s(y_1)·y_2, s a switch of width 1/20."""
        return torch.stack([torch.ones_like(y[:, 0]), -200 * torch.sigmoid(20 * (y[:, 0] - 2)) * y[:, 1]], dim=1)

    got = solve(late, torch.tensor([[0.0, 1.0]], dtype=torch.float64), times(2.0, 2.05), rtol=1e-6, atol=1e-9)
    integral = [math.log1p(math.exp(20 * (t - 2))) / 20 for t in (2.0, 2.05)]
    for place, value in enumerate(integral):
        assert float(got.states[place, 0, 1]) == pytest.approx(math.exp(-200 * value), abs=1e-5)
    refused = (got.evaluations[0] - 1 - 2 * 7) // 6 - got.steps[0]
    assert refused >= 1
