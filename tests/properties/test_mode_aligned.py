"""The mode-aligned closed form on problems drawn at random: any amplitudes, modes absent, dying or of σ = 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowsim.dynamics.invariants import imbalance
from flowsim.integrators.base import Solution
from flowsim.integrators.exact import mode_aligned
from tests.oracles.reference import EPS, Array
from tests.properties import digits
from tests.properties.dense import Beginning, judge, length, rounding, size_of
from tests.properties.strategies import AlignedProblem, aligned, finds, into_canonical, many, tensor, within

NOISE = 16 * EPS  # sixteen rounded operations for each mode; modes do not meet


def solve(problem: AlignedProblem, times: list[float]) -> Solution:
    return mode_aligned.solve(problem.landscape, *problem.batch(), tensor(times))


@many
@given(aligned(), st.floats(-12, 3) | st.floats(-12, 12))
def test_every_time_has_its_digits(problem: AlignedProblem, decade: float) -> None:
    """Each mode, in units of its own size, from 1e-12 to 1e12 times the fastest time constant."""
    t, (b0, a0) = 10.0**decade / problem.fastest, problem.amplitudes
    solution = solve(problem, [t])
    for j in range(len(b0)):
        b, a, sigma = b0[j : j + 1], a0[j : j + 1], problem.sigma[j : j + 1]

        def amplitudes(kick: digits.Kick, b=b, a=a, sigma=sigma) -> Array:
            """Kicks of the size of the mode; what is equal, opposite or zero is so exactly."""
            size, together = np.hypot(b, a), np.abs(b) == np.abs(a)
            moved = [kick(x) if together else x + size * (kick(np.ones(1)) - 1) * (x != 0) for x in (b, a)]
            if together:
                moved[1] = np.copysign(moved[0], a)
            return np.concatenate(digits.aligned(kick(sigma), *moved, kick(t)))

        exact, moved = digits.spread(amplitudes, NOISE)
        row = problem.start[0][j] if b[0] else problem.start[1][j]
        unit = row / (np.linalg.norm(row) or 1.0) * np.sign(b[0] or a[0])
        error = np.stack([solution.B[0, 0, j].numpy(), solution.C[0, 0, j].numpy()]) - np.outer(exact, unit)
        within(np.linalg.norm(error), moved + NOISE * np.linalg.norm(exact), "mode")


def leg(loss, A: Array, B: Array, times: list[float]) -> tuple[Array, Array, Array]:
    """√s·A, √s·B and the rounding stated, (T, ...), at the user's times."""
    batch = into_canonical(loss, A, B)
    solution = mode_aligned.solve(batch.landscape, batch.B, batch.C, batch.clock * tensor(times))
    A, B = (batch.scale**0.5 * X[:, 0].numpy() for X in batch.factors(solution.B, solution.C))
    return A, B, solution.rounding[:, 0].numpy()


@many
@given(aligned(separate=True), st.floats(-3, np.log10(8.0)))
def test_moderate_times_are_those_of_dop853(problem: AlignedProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    times = [share * 10.0**decade / problem.fastest / (2 * loss.s * loss.c) for share in (0.3, 1.0)]
    right = judge(loss, A0, B0, times)
    A, B, stated = leg(loss, A0, B0, times)
    factors, product = right.errors(A, B)
    within(product, right.product + stated, "product")
    within(factors, right.factors + stated / right.size, "factors")


@many
@given(aligned(separate=True), st.floats(-3, np.log10(8.0)), st.floats(0.05, 0.95))
def test_two_legs_are_one(problem: AlignedProblem, decade: float, share: float) -> None:
    loss, A0, B0 = problem.dense()
    times = [part * 10.0**decade / problem.fastest / (2 * loss.s * loss.c) for part in (share, 1.0)]
    A, B, stated = leg(loss, A0, B0, times)
    rest, size, middle = [times[1] - times[0]], size_of(A, B), (A[0] / loss.s**0.5, B[0] / loss.s**0.5)
    again_a, again_b, added = leg(loss, *middle, rest)
    off = rounding(loss, *middle, rest, size[1:], stated[0] / size[0] / size[0])[0]
    apart = float(length(again_a[0] - A[1], again_b[0] - B[1]))
    within(apart, off + (stated[1] + added[0]) / size[1], "factors")


@many
@given(aligned())
def test_laws_hold_at_all_times(problem: AlignedProblem) -> None:
    """The loss never rises, each mode keeps its imbalance, and what is equal, opposite or zero stays so exactly."""
    shares = [0.0, 1e-300, 1e-12, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e12, 1e280]
    solution = solve(problem, [min(share / problem.fastest, 1e300) for share in shares])
    B, C, stated = solution.B[:, 0], solution.C[:, 0], solution.rounding[:, 0].numpy()
    assert torch.isfinite(B).all() and torch.isfinite(C).all()
    Q = imbalance(B, C)
    size = (B.square() + C.square()).sum((-2, -1)).numpy()
    within(torch.linalg.matrix_norm(Q - Q[0]), 2 * NOISE * (size + size[0]), "imbalance")
    loss = 0.5 * (torch.diag(tensor(problem.sigma)) - B @ C.mT).square().sum((-2, -1)).numpy()
    allowed = np.sqrt(2 * loss) * stated + 0.5 * stated**2 + 8 * EPS * problem.r * loss
    within(np.diff(loss), allowed[1:] + allowed[:-1], "rise of the loss")
    for j, (b, a) in enumerate(zip(*problem.amplitudes, strict=True)):
        if abs(b) == abs(a):
            assert torch.equal(B[:, j], C[:, j] if b == a else -C[:, j])
        assert (b or a) or not B[:, j].any()


@many
@given(aligned(separate=True), st.floats(-9, -3))
def test_the_first_change_is_the_derivative(problem: AlignedProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    begin = Beginning.of(loss, A0, B0)
    t = 10.0**decade / begin.rate
    A, B, stated = leg(loss, A0, B0, [0.0, t])
    noise = EPS * (problem.n + problem.m + problem.r) * begin.size
    begin.check(B[1] @ A[1] - B[0] @ A[0], t, float(stated.sum()) + noise)


def test_a_doubled_clock_and_the_other_sign_of_lambda_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, modes = mode_aligned.solve, mode_aligned.rotated_modes
    for name, wrong in (
        ("solve", lambda where, B, C, times: solve(where, B, C, 2 * times)),
        ("rotated_modes", lambda sigma, value: modes(sigma, -value)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(mode_aligned, name, wrong)
            for test, problems in (
                (test_every_time_has_its_digits, aligned()),
                (test_moderate_times_are_those_of_dop853, aligned(separate=True)),
            ):
                with pytest.raises(AssertionError):
                    finds(test, problems, st.floats(-1, 0.5))
