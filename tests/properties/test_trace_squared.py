"""The trace-squared closed form on problems drawn at random: any start, frozen trace and time a double can hold."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.base import Solution
from flowsim.integrators.exact import trace_squared
from tests.oracles.reference import EPS, Array
from tests.properties import digits
from tests.properties.dense import Beginning, judge
from tests.properties.strategies import TraceProblem, finds, into_canonical, many, tensor, traces, within

ALL_TIMES = 1e300
decades = st.floats(-12, 12) | st.floats(-300, 300)


def noise(problem: TraceProblem) -> float:
    """Sixteen rounded operations, and one for each term of the sums over n·r entries."""
    return EPS * (16 + problem.n * problem.r)


def solve(problem: TraceProblem, B: Array, C: Array, times: list[float]) -> Solution:
    landscape = TraceLandscape(tensor(problem.w), problem.n)
    return trace_squared.solve(landscape, tensor(B)[None], tensor(C)[None], tensor(times))


def exactly(problem: TraceProblem, B: Array, C: Array, t: float, off: float = 0.0) -> tuple[Array, Array, float, float]:
    """B and C at time t in many digits, τ, and the bound on the error of B and C.

    U, V, w and t are known to rounding; u0 and v0 besides are `off` by so much each, unless they are exact zeros.
    """
    with mpmath.workdps(1200):
        u, v = digits.exact(B) + digits.exact(C), digits.exact(B) - digits.exact(C)
        nu, nv = (mpmath.sqrt(np.sum(x**2)) for x in (u, v))

        def sizes(kick: digits.Kick, u_off: float = 0.0, v_off: float = 0.0) -> Array:
            U, V = kick(nu + u_off * (nu > 0)), kick(nv + v_off * (nv > 0))
            shrink, grow, _ = digits.trace_squared(kick(problem.w), U**2, V**2, kick(t))
            return np.array([shrink * U, grow * V], dtype=float)

        shrink, grow, trace = digits.trace_squared(problem.w, nu**2, nv**2, t)
        base, error = digits.spread(sizes, noise(problem))
        error += noise(problem) * float(base.sum()) + off * float(shrink + grow)
        for du, dv in [(off, off), (off, -off), (-off, off), (-off, -off)] if off else []:
            error += np.linalg.norm(sizes(lambda x: x, du, dv) - base)
        exact_b, exact_c = ((shrink * u + sign * grow * v) / 2 for sign in (1, -1))
        return np.array(exact_b, dtype=float), np.array(exact_c, dtype=float), float(trace), error


@many
@given(traces(), st.lists(decades, min_size=1, max_size=3))
def test_every_time_has_its_digits(problem: TraceProblem, decades: list[float]) -> None:
    """Against many digits; the trace keeps its own while it decays over all the range of a double."""
    B0, C0 = problem.start
    times = sorted(min(10.0**k / problem.rate, ALL_TIMES) for k in decades)
    solution = solve(problem, B0, C0, times)
    parts = abs(problem.w) + float(np.abs(B0 * C0).sum())
    for i, t in enumerate(times):
        B, C, trace, error = exactly(problem, B0, C0, t)
        within(np.linalg.norm(solution.B[i, 0].numpy() - B), error, "B")
        within(np.linalg.norm(solution.C[i, 0].numpy() - C), error, "C")
        start = abs(problem.w + float(np.sum(B0 * C0)))
        exponent = 1 + problem.rate * t
        allowed = noise(problem) * (exponent * abs(trace) + parts * abs(trace) / (start or parts or 1.0))
        # Below the root of the smallest double τ² is not a number any more.
        within(abs(float(2 * solution.excess[i, 0]) ** 0.5 - abs(trace)), allowed + 1e-150, "trace")


@many
@given(traces(moderate=True), st.floats(-3, np.log10(8.0)))
def test_moderate_times_are_those_of_dop853(problem: TraceProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    batch = into_canonical(loss, A0, B0)
    times = [share * 10.0**decade / problem.rate / batch.clock for share in (0.3, 1.0)]
    assert isinstance(batch.landscape, TraceLandscape)
    solution = trace_squared.solve(batch.landscape, batch.B, batch.C, batch.clock * tensor(times))
    right = judge(loss, A0, B0, times)
    factors, product = right.errors(solution.C[:, 0].mT.numpy(), solution.B[:, 0].numpy())
    rounding = solution.rounding[:, 0].numpy()
    within(product, right.product + rounding, "product")
    within(factors, right.factors + rounding / right.size, "factors")


@many
@given(traces(), st.floats(-3, 3), st.floats(-3, 3))
def test_two_legs_are_one(problem: TraceProblem, first: float, second: float) -> None:
    legs = [10.0**k / problem.rate for k in (first, second)]
    whole = solve(problem, *problem.start, [legs[0], sum(legs)])
    B1, C1 = whole.B[0, 0].numpy(), whole.C[0, 0].numpy()
    again = solve(problem, B1, C1, legs[1:])
    *_, before = exactly(problem, *problem.start, legs[0])
    *_, after = exactly(problem, *problem.start, sum(legs))
    # The state between the legs is off by its own error, and by the rounding of B and C as sums of u and v.
    off = 2 * before + 2 * EPS * (np.linalg.norm(B1) + np.linalg.norm(C1))
    *_, second_leg = exactly(problem, B1, C1, legs[1], off)
    for one, other in ((again.B, whole.B), (again.C, whole.C)):
        within(torch.linalg.matrix_norm(one[0, 0] - other[1, 0]), after + second_leg, "state after both legs")


@many
@given(traces())
def test_laws_hold_at_all_times(problem: TraceProblem) -> None:
    """Everything is finite, the loss never rises, the imbalance stays, and exact zeros stay exact."""
    B0, C0 = problem.start
    shares = [1e-300, 1e-12, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e12]
    times = [0.0, *sorted(min(share / problem.rate, 1e299) for share in shares), ALL_TIMES]
    solution = solve(problem, B0, C0, times)
    B, C, excess = solution.B[:, 0], solution.C[:, 0], solution.excess[:, 0]
    assert torch.isfinite(B).all() and torch.isfinite(C).all() and torch.isfinite(excess).all()
    assert (excess[1:] <= excess[:-1] * (1 + 4 * noise(problem))).all()
    Q = imbalance(B, C)
    size = (B.square() + C.square()).sum((-2, -1))
    within(torch.linalg.matrix_norm(Q - Q[0]), 2 * noise(problem) * (size + size[0]), "imbalance")
    if not (B0 - C0).any():
        assert torch.equal(B, C)
    if not (B0 + C0).any():
        assert torch.equal(B, -C)
    if not B0.any() and not C0.any():
        assert not B.any() and not C.any()


@many
@given(traces(moderate=True), st.floats(-9, -3))
def test_the_first_change_is_the_derivative(problem: TraceProblem, decade: float) -> None:
    loss, A0, B0 = problem.dense()
    begin = Beginning.of(loss, A0, B0)
    t = 10.0**decade / begin.rate
    batch = into_canonical(loss, A0, B0)
    solution = trace_squared.solve(batch.landscape, batch.B, batch.C, tensor([0.0, batch.clock * t]))
    product = (solution.B @ solution.C.mT)[:, 0].numpy()
    begin.check(product[1] - product[0], t, float(solution.rounding.sum()) + noise(problem) * begin.size)


def test_a_doubled_clock_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = trace_squared.riccati
    monkeypatch.setattr(trace_squared, "riccati", lambda w, nu, nv, trace, t: right(w, nu, nv, trace, 2 * t))
    with pytest.raises(AssertionError):
        finds(test_every_time_has_its_digits, traces(), st.lists(decades, min_size=1, max_size=3))
    with pytest.raises(AssertionError):
        finds(test_moderate_times_are_those_of_dop853, traces(moderate=True), st.floats(-3, 1))
    with pytest.raises(AssertionError):
        finds(test_the_first_change_is_the_derivative, traces(moderate=True), st.floats(-9, -3))
