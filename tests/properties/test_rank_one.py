"""The closed form of rank 1, which every start has, factors included: many digits at any time, DOP853, exact zeros."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowsim.dynamics.invariants import imbalance
from flowsim.integrators.base import Solution, Status
from flowsim.integrators.exact import balanced
from tests.oracles.reference import EPS, Array
from tests.properties import digits
from tests.properties.dense import Beginning, judge, rounding, size_of
from tests.properties.strategies import RankOneProblem, finds, into_canonical, many, rank_one, tensor, within

BOTH = (False, True)  # at rank 1 the factors are right whether asked for or not


def solve(problem: RankOneProblem, times: list[float], factors: bool) -> Solution:
    solution = balanced.solve(problem.landscape, *problem.batch(), tensor(times), factors=factors)
    assert solution.status == [Status.COMPLETED]
    return solution


def norm(*parts: Array | torch.Tensor) -> float:
    return float(np.sqrt(sum(float((X**2).sum()) for X in parts)))


@many
@given(rank_one(), st.floats(-12, 3) | st.floats(-12, 12))
def test_every_time_has_its_digits(problem: RankOneProblem, decade: float) -> None:
    """Product and factors against many digits, from 1e-12 to 1e12 times the fastest time constant."""
    (B0, C0), t = problem.start, 10.0**decade / problem.fastest
    noise, size = EPS * (len(B0) + 1), norm(*problem.start)

    def factors(kick: digits.Kick) -> Array:
        """Kicks of the size of the whole start, because rows of B and C are combined."""
        B, C = (X + size * (kick(np.ones_like(X)) - 1) * (X != 0) for X in (B0, C0))
        return np.stack(digits.rank_one(kick(problem.sigma), B, C, kick(t)))

    exact, moved = digits.spread(factors, noise)
    exact_size = norm(exact) or 1.0
    for wanted in BOTH:
        solution = solve(problem, [t], wanted)
        B, C = solution.B[0, 0].numpy(), solution.C[0, 0].numpy()
        stated = float(solution.rounding[0, 0])
        within(norm(np.stack([B, C]) - exact), stated / exact_size + moved, "factors")
        within(norm(B @ C.T - exact[0] @ exact[1].T), stated + 2 * exact_size * moved, "product")


@many
@given(rank_one(), st.floats(-3, np.log10(8.0)) | st.floats(1.0, 2.5))
def test_moderate_times_are_those_of_dop853(problem: RankOneProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    batch = into_canonical(loss, A0, B0)
    times = [share * 10.0**decade / problem.fastest / batch.clock for share in (0.3, 1.0)]
    right = judge(loss, A0, B0, times)
    for wanted in BOTH:
        solution = balanced.solve(batch.landscape, batch.B, batch.C, batch.clock * tensor(times), factors=wanted)
        A, B = (batch.scale**0.5 * X[:, 0].numpy() for X in batch.factors(solution.B, solution.C))
        factors, product = right.errors(A, B)
        stated = solution.rounding[:, 0].numpy()
        within(product, right.product + stated, "product")
        within(factors, right.factors + stated / right.size, "factors")


@many
@given(rank_one(), st.floats(-3, np.log10(8.0)), st.floats(0.05, 0.95))
def test_two_legs_are_one(problem: RankOneProblem, decade: float, share: float) -> None:
    loss, A0, B0 = problem.dense()
    clock = 2 * problem.scale * problem.coefficient
    times = [part * 10.0**decade / problem.fastest / clock for part in (share, 1.0)]

    def leg(A: Array, B: Array, times: list[float]) -> tuple[Array, Array, Array]:
        batch = into_canonical(loss, A, B)
        solution = balanced.solve(batch.landscape, batch.B, batch.C, clock * tensor(times))
        A, B = (X[:, 0].numpy() for X in batch.factors(solution.B, solution.C))
        return A, B, solution.rounding[:, 0].numpy()

    A, B, stated = leg(A0, B0, times)
    rest, size = [times[1] - times[0]], problem.scale**0.5 * size_of(A, B)
    again_a, again_b, added = leg(A[0], B[0], rest)
    off = rounding(loss, A[0], B[0], rest, size[1:], stated[0] / size[0] / size[0])[0]
    apart = problem.scale**0.5 * norm(again_a[0] - A[1], again_b[0] - B[1])
    within(apart, off + (stated[1] + added[0]) / size[1], "factors")


@many
@given(rank_one())
def test_laws_hold_at_all_times(problem: RankOneProblem) -> None:
    """The loss never rises, the imbalance stays, rows that are zero stay zero, and nothing comes of nothing."""
    shares = [0.0, 1e-12, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0, 1e3, 1e6, 1e12]
    (B0, C0), known = problem.start, EPS * (len(problem.sigma) + 1) * norm(*problem.start) ** 2
    solution = solve(problem, [share / problem.fastest for share in shares], False)
    B, C, stated = solution.B[:, 0], solution.C[:, 0], solution.rounding[:, 0].numpy()
    assert torch.isfinite(B).all() and torch.isfinite(C).all()
    within((imbalance(B, C)[:, 0, 0] - problem.value).abs(), 2 * stated + known, "imbalance")
    loss = 0.5 * (torch.diag(tensor(problem.sigma)) - B @ C.mT).square().sum((-2, -1)).numpy()
    allowed = np.sqrt(2 * loss) * stated + 0.5 * stated**2 + 8 * EPS * loss
    within(np.diff(loss), allowed[1:] + allowed[:-1], "rise of the loss")
    absent = ((B0 == 0) & (C0 == 0))[:, 0]
    assert not B[:, absent].any() and not C[:, absent].any()


@many
@given(rank_one(), st.floats(-9, -3))
def test_the_first_change_is_the_derivative(problem: RankOneProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    begin, batch = Beginning.of(loss, A0, B0), into_canonical(loss, A0, B0)
    t = 10.0**decade / begin.rate
    solution = balanced.solve(batch.landscape, batch.B, batch.C, tensor([0.0, batch.clock * t]))
    A, B = (batch.scale**0.5 * X[:, 0].numpy() for X in batch.factors(solution.B, solution.C))
    noise = EPS * (problem.n + problem.m + 1) * begin.size
    begin.check(B[1] @ A[1] - B[0] @ A[0], t, float(solution.rounding.sum()) + noise)


def test_a_doubled_clock_and_the_other_sign_of_lambda_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, modes = balanced.solve, balanced.rotated_modes
    for name, wrong in (
        ("solve", lambda where, B, C, times, **options: solve(where, B, C, 2 * times, **options)),
        ("rotated_modes", lambda sigma, value: modes(sigma, -value)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(balanced, name, wrong)
            for test in (test_every_time_has_its_digits, test_moderate_times_are_those_of_dop853):
                with pytest.raises(AssertionError):
                    finds(test, rank_one(), st.floats(-1, 0.5))
