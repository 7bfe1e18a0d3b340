"""The λ-balanced closed form on problems drawn at random: any λ, shape, rank and time, ties, tiny and huge starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.base import Status
from flowsim.integrators.exact import balanced
from tests.oracles.reference import EPS, Array
from tests.properties import digits
from tests.properties.dense import Beginning, judge, length, rounding, size_of
from tests.properties.strategies import (
    AlignedProblem,
    BalancedProblem,
    aligned,
    finds,
    into_canonical,
    many,
    tensor,
    within,
)
from tests.properties.strategies import balanced as problems

#: ‖Z‖²t up to which the factors themselves are asked for: each unit costs 32 steps of the rotation.
FACTORS_UNTIL = 100.0


def solved(batch, times: list[float], factors: bool) -> tuple[Array, Array, Array]:
    """√s·A and √s·B (T, ...) at the user's times, and the rounding of the product as the package states it."""
    assert isinstance(batch.landscape, FrobeniusLandscape)
    clock = batch.clock * tensor(times)
    solution = balanced.solve(batch.landscape, batch.B, batch.C, clock, factors=factors)
    assert solution.status == [Status.COMPLETED]
    A, B = (batch.scale**0.5 * X[:, 0].numpy() for X in batch.factors(solution.B, solution.C))
    return A, B, solution.rounding[:, 0].numpy()


def lasting(problem: BalancedProblem, decade: float) -> float:
    """The time 10^decade/ω; a rank that is low to rounding only does not stay low for longer than a few 1/ω."""
    return (
        10.0 ** (min(decade, np.log10(8.0)) if problem.turned and problem.kept < problem.r else decade)
        / problem.fastest
    )


def user_times(problem: BalancedProblem, decade: float, shares: list[float]) -> list[float]:
    B, C = problem.start
    until = min(lasting(problem, decade), FACTORS_UNTIL / max(float(np.sum(B**2 + C**2)), 1e-300))
    return [share * until / (2 * problem.scale * problem.coefficient) for share in shares]


def turning(problem: BalancedProblem, size: Array, times: Array) -> Array:
    """Error of the rotation of the factors: sixth order at 1/32 per step, about a thousandth of (1/32)⁶ a unit."""
    canonical = 2 * problem.scale * problem.coefficient * np.asarray(times)
    largest = np.maximum.accumulate(np.append(sum(float(np.sum(X**2)) for X in problem.start), size**2))[1:]
    return (1 / 32) ** 6 / 1000 * (problem.fastest + largest) * canonical * size


@many
@given(problems(), st.floats(-3, np.log10(8.0)) | st.floats(1.0, 2.5))
def test_product_and_factors_are_those_of_dop853(problem: BalancedProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    times = user_times(problem, decade, [0.3, 1.0])
    right, batch = judge(loss, A0, B0, times), into_canonical(loss, A0, B0)
    for wanted in (False, True):
        A, B, stated = solved(batch, times, wanted)
        factors, product = right.errors(A, B)
        within(product, right.product + stated, "product")
        if wanted:
            allowed = right.factors + stated / right.size + turning(problem, right.size, times)
            within(factors, allowed, "factors")


@many
@given(problems(), st.floats(-3, np.log10(8.0)), st.floats(0.05, 0.95))
def test_two_legs_are_one(problem: BalancedProblem, decade: float, share: float) -> None:
    loss, A0, B0 = problem.dense()
    times = user_times(problem, decade, [share, 1.0])
    for wanted in (False, True):
        A, B, stated = solved(into_canonical(loss, A0, B0), times, wanted)
        size = size_of(A, B)
        middle, rest = (A[0] / problem.scale**0.5, B[0] / problem.scale**0.5), [times[1] - times[0]]
        again_a, again_b, added = solved(into_canonical(loss, *middle), rest, wanted)
        # Both legs are off by the rounding of the state between them, and by what each states for itself.
        off = rounding(loss, *middle, rest, size[1:], stated[0] / size[0] / size[0])[0]
        total = stated[1] + added[0]
        within(np.linalg.norm(again_b[0] @ again_a[0] - B[1] @ A[1]), 2 * size[1] * off + total, "product")
        if wanted:
            apart = float(length(again_a[0] - A[1], again_b[0] - B[1]))
            within(apart, off + total / size[1] + 2 * turning(problem, size, times)[1], "factors")


@many
@given(problems(), st.floats(-12, 2.5))
def test_every_time_has_its_digits(problem: BalancedProblem, decade: float) -> None:
    """Against many digits, from 1e-12 to 300 times the fastest time constant; exact zeros of the start stay."""
    (B, C), t = problem.start, lasting(problem, decade)
    noise = EPS * (len(B) + problem.r)
    size = float(np.sqrt(np.sum(B**2 + C**2)))

    def product(kick: digits.Kick) -> Array:
        """Kicks of the size of the whole start; λ is not known better, unless it is zero."""
        moved = [X + size * (kick(np.ones_like(X)) - 1) * (X != 0) for X in (B, C)]
        value = problem.value + size**2 * (kick(1.0) - 1) if problem.sign else 0.0
        sigma = problem.sigma + problem.fastest * (kick(np.ones(len(B))) - 1) * (problem.sigma > 0)
        return digits.balanced_product(sigma, value, *moved, kick(t))

    exact, moved = digits.spread(product, noise)
    solution = balanced.solve(problem.landscape, *problem.batch(), tensor([t]))
    error = np.linalg.norm((solution.B @ solution.C.mT)[0, 0].numpy() - exact)
    within(error, float(solution.rounding[0, 0]) + moved, "product")


def kept_modes(problem: BalancedProblem) -> tuple[list[int], Array, Array, bool]:
    """The growing modes among the pivots, rates of all rows present, their differences, and whether a tie was cut.

    Row by row from the fastest, each that is independent of those before. In doubt about that the problem is left out.
    """
    (B, C), q = problem.start, len(problem.sigma)
    half = 0.5 * np.arctan2(problem.sigma, problem.value / 2)
    cos, sin = np.cos(half)[:, None], np.sin(half)[:, None]
    omega = np.hypot(problem.sigma, problem.value / 2)
    rows, rates = np.vstack([cos * B + sin * C, cos * C - sin * B]), np.append(omega, -omega)
    # Rates less |λ|/2, which for |λ| ≫ σ tell two singular values apart that have one ω in float64.
    less = omega + abs(problem.value) / 2
    shifted = np.append(problem.sigma**2 / np.where(less > 0, less, 1.0), -less)
    whole = np.maximum(np.linalg.norm(np.hstack([B, C]), axis=1), 1e-300)
    share = np.linalg.norm(rows, axis=1) / np.tile(whole, 2)
    assume(((share < 1e-13) | (share > 1e-5)).all())
    present = share > 1e-5
    chosen: list[int] = []
    basis, left_out = np.zeros((0, problem.r)), []
    for j in sorted(np.flatnonzero(present), key=lambda j: -shifted[j]):
        rest = rows[j] - (rows[j] @ basis.T) @ basis
        rest = rest - (rest @ basis.T) @ basis
        new = np.linalg.norm(rest) / np.linalg.norm(rows[j])
        assume(new < 1e-13 or new > 1e-5)
        if new > 1e-5:
            chosen.append(int(j))
            basis = np.vstack([basis, rest / np.linalg.norm(rest)])
        else:
            left_out.append(int(j))
    cut = bool(np.isin(shifted[left_out], shifted[chosen]).any())
    gaps = np.diff(np.unique(shifted[present]))
    return [j for j in chosen if j < q and problem.sigma[j] > 0], rates[present], gaps, cut


@many
@given(problems(), st.floats(2.5, 12.0))
def test_the_end_is_that_of_the_kept_modes(problem: BalancedProblem, decade: float) -> None:
    """From 300 to 1e12 times the slowest time constant: nothing but the limit is left, or what falls like 1/t."""
    assume(not problem.turned or problem.kept == problem.r)
    kept, rates, gaps, cut = kept_modes(problem)
    t = 10.0**decade / (gaps.min() if len(gaps) else problem.fastest)
    solution = balanced.solve(problem.landscape, *problem.batch(), tensor([t]))
    assert solution.status == [Status.COMPLETED]
    # Rows of rate 0 have a Gram matrix of at most I/t.
    allowed = float(solution.rounding[0, 0]) + (np.sqrt(len(rates)) / t if (rates == 0).any() else 0.0)
    limit = np.zeros_like(problem.sigma)
    limit[kept] = problem.sigma[kept]
    if not cut:
        within(np.linalg.norm((solution.B @ solution.C.mT)[0, 0].numpy() - np.diag(limit)), allowed, "product")
    gap = 0.5 * (np.sum(problem.sigma[: problem.r] ** 2) - np.sum(limit**2))
    excess = float(problem.landscape.excess(solution.B, solution.C)[0, 0])
    slope = float(np.linalg.norm(problem.sigma))  # of the loss, at most
    within(abs(excess - gap), slope * allowed + allowed**2 + EPS * len(problem.sigma) * slope**2, "excess")


@many
@given(problems())
def test_laws_hold_at_all_times(problem: BalancedProblem) -> None:
    """The loss never rises and the imbalance stays λI; both to the rounding that the package states."""
    shares = [0.0, 1e-12, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0, 1e3, 1e6, 1e12]
    solution = balanced.solve(problem.landscape, *problem.batch(), tensor([x / problem.fastest for x in shares]))
    B, C, stated = solution.B[:, 0], solution.C[:, 0], solution.rounding[:, 0].numpy()
    assert solution.status == [Status.COMPLETED] and torch.isfinite(B).all() and torch.isfinite(C).all()
    value = problem.value * torch.eye(problem.r, dtype=torch.float64)
    size = sum(float(np.sum(X**2)) for X in problem.start)
    known = EPS * (len(problem.sigma) + problem.r) * size  # of λ itself
    within(torch.linalg.matrix_norm(imbalance(B, C) - value), 2 * stated + known, "imbalance")
    loss = 0.5 * (torch.diag(tensor(problem.sigma)) - B @ C.mT).square().sum((-2, -1)).numpy()
    allowed = np.sqrt(2 * loss) * stated + 0.5 * stated**2 + 8 * EPS * problem.r * loss
    within(np.diff(loss), allowed[1:] + allowed[:-1], "rise of the loss")


@many
@given(problems(), st.floats(-9, -3))
def test_the_first_change_is_the_derivative(problem: BalancedProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    begin, batch = Beginning.of(loss, A0, B0), into_canonical(loss, A0, B0)
    t = 10.0**decade / begin.rate
    for wanted in (False, True):
        A, B, stated = solved(batch, [0.0, t], wanted)
        noise = EPS * (problem.n + problem.m + problem.r) * begin.size
        begin.check(B[1] @ A[1] - B[0] @ A[0], t, float(stated.sum()) + noise)


@many
@given(aligned(kinds=("equal", "anti")), st.floats(-3, 1))
def test_exact_zeros_stay_exact(problem: AlignedProblem, decade: float) -> None:
    """λ = 0 and b = ±a: absent modes stay absent, and where σ > 0 what could grow out of nothing stays nothing."""
    start, t = problem.start, 10.0**decade / problem.fastest
    for wanted, times in ((False, [t, 1e6 * t]), (True, [t, 1e3 * t])):
        solution = balanced.solve(problem.landscape, *problem.batch(), tensor(times), factors=wanted)
        B, C = solution.B[:, 0], solution.C[:, 0]
        for j, (b, c) in enumerate(zip(*start, strict=True)):
            if not (b.any() or c.any()):
                assert not B[:, j].any() and not C[:, j].any()
            elif problem.sigma[j] > 0:
                assert torch.equal(B[:, j], C[:, j] if (b == c).all() else -C[:, j])


def test_a_doubled_clock_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = balanced.solve
    monkeypatch.setattr(
        balanced, "solve", lambda where, B, C, times, **options: right(where, B, C, 2 * times, **options)
    )
    for test, times in (
        (test_product_and_factors_are_those_of_dop853, st.floats(-1, 0.5)),
        (test_every_time_has_its_digits, st.floats(-1, 0.5)),
        (test_the_first_change_is_the_derivative, st.floats(-9, -3)),
    ):
        with pytest.raises(AssertionError):
            finds(test, problems(), times)


def test_the_other_sign_of_lambda_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = balanced.rotated_modes
    monkeypatch.setattr(balanced, "rotated_modes", lambda sigma, value: right(sigma, -value))
    with pytest.raises(AssertionError):
        finds(test_every_time_has_its_digits, problems(), st.floats(-1, 2))
    with pytest.raises(AssertionError):
        finds(test_laws_hold_at_all_times, problems())


def test_a_missing_rotation_of_the_factors_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "_rotation", lambda state, *_: torch.eye(state.shape[-1], dtype=state.dtype))
    with pytest.raises(AssertionError, match="factors"):
        finds(test_product_and_factors_are_those_of_dop853, problems(), st.floats(-1, 0.5))
