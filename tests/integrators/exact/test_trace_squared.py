"""The closed form of the trace-squared flow: many digits, every sign, degenerate starts, any time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.base import Solution, Status
from flowsim.integrators.exact.trace_squared import riccati, solve
from tests.oracles import reference as ref
from tests.oracles.reference import EPS

HUGE = [0.0, 1e-8, 0.3, 7.0, 1e3, 1e6, 1e12]


def tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(X)) for X in arrays)


def run(w: float, A: np.ndarray, B: np.ndarray, times: list[float]) -> tuple[TraceLandscape, Solution]:
    """A (r, n) and B (n, r), or with a leading batch dimension."""
    A, B = (X if X.ndim == 3 else X[None] for X in (A, B))
    landscape = TraceLandscape(torch.tensor(w, dtype=torch.float64), B.shape[1])
    b, c = tensors(B, np.swapaxes(A, -1, -2))
    return landscape, solve(landscape, b, c, torch.tensor(times, dtype=torch.float64))


def draw(n: int = 4, r: int = 2, seed: int = 0) -> ref.Factors:
    rng = np.random.default_rng(seed)
    return 0.6 * rng.standard_normal((r, n)), 0.6 * rng.standard_normal((n, r))


def trace_at(w: float, A: np.ndarray, B: np.ndarray, t: float) -> float:
    return ref.trace_of(w, A, B, 1.0, t, digits=400)  # partial fractions cancel all digits of e^{−Dt}


@pytest.mark.parametrize("w", [2.0, 0.3, 1e-9, 0.0, -1e-9, -0.3, -2.0, 50.0, -50.0])
def test_the_trace_has_its_digits_at_any_size(w: float) -> None:
    """τ decays over a hundred orders of magnitude and is right to a few ε per unit of the exponent Dt."""
    for seed in range(3):
        A, B = draw(seed=seed)
        speed = np.hypot(2 * w, np.linalg.norm(B + A.T) * np.linalg.norm(B - A.T))
        times = [share / speed for share in (0.0, 1e-6, 0.1, 1.0, 5.0, 40.0, 300.0)]
        _, solution = run(w, A, B, times)
        got = torch.sqrt(2 * solution.excess[:, 0]).numpy()
        start = abs(w + np.sum(A * B.T))
        cancelled = (abs(w) + np.abs(A * B.T).sum()) / start  # in τ0 itself
        for t, value in zip(times, got, strict=True):
            exact = abs(trace_at(w, A, B, t))
            assert abs(value / exact - 1) <= 16 * EPS * (1 + speed * t + cancelled), (w, t)


@pytest.mark.parametrize("w", [1.5, 0.0, -1.5])
@pytest.mark.parametrize("start", ["both", "B=0", "A=0", "U=0", "V=0", "nothing", "nearly V=0", "nearly U=0"])
def test_no_time_overflows_and_short_times_are_the_flow(w: float, start: str) -> None:
    A, B = draw()
    A, B = {
        "both": (A, B), "B=0": (A, 0 * B), "A=0": (0 * A, B), "U=0": (A, -A.T), "V=0": (A, A.T.copy()),
        "nothing": (0 * A, 0 * B), "nearly V=0": (A, A.T * (1 + 1e-12)), "nearly U=0": (A, -A.T * (1 + 1e-12)),
    }[start]  # fmt: skip
    landscape, solution = run(w, A, B, HUGE)
    assert solution.status == [Status.COMPLETED]
    assert torch.isfinite(solution.B).all() and torch.isfinite(solution.C).all()
    assert torch.isfinite(solution.excess).all() and (solution.excess >= 0).all()
    assert (solution.excess[1:] <= solution.excess[:-1] * (1 + 64 * EPS) + 1e-300).all()
    # The trace of the states is the trace that is known better.
    trace = landscape.trace(solution.B, solution.C)
    size = abs(w) + (solution.B * solution.C).abs().sum((-2, -1))
    torch.testing.assert_close(trace.abs(), (2 * solution.excess).sqrt(), rtol=0, atol=float(64 * EPS * size.max()))
    W0 = np.zeros((4, 4))
    W0[0, 0] = w
    loss, times = ref.Loss(W0, None), [0.3, 2.0]
    _, short = run(w, A, B, times)
    right, looser = (ref.flow(loss, A, B, times, rtol) for rtol in (1e-12, 1e-11))
    allowed = max(np.abs(x - y).max() for x, y in zip(right, looser, strict=True)) + 1e-12 + 64 * EPS
    # From a nearly invariant plane the departure grows like e^{2|w|t}; DOP853 sees the same start.
    assert np.abs(short.B[:, 0].numpy() - right[1]).max() <= allowed
    assert np.abs(short.C[:, 0].numpy().transpose(0, 2, 1) - right[0]).max() <= allowed


def test_the_saddle_keeps_its_trace_and_its_neighbours_do_not() -> None:
    """V = 0 and w > 0, U = 0 and w < 0: τ → w, both factors → 0. One part in 1e12 beside it: τ → 0."""
    A, _ = draw()
    for sign in (1.0, -1.0):
        _, stuck = run(sign * 1.5, A, sign * A.T, [1e4])
        assert float(stuck.excess) == pytest.approx(0.5 * 1.5**2, rel=1e-14)
        assert float(stuck.B.abs().max() + stuck.C.abs().max()) < 1e-100
        _, free = run(sign * 1.5, A, sign * A.T * (1 + 1e-12), [1e4])
        assert float(free.excess) < 1e-100
        _, away = run(-sign * 1.5, A, sign * A.T, [1e4])  # the other sign of w: no saddle
        assert float(away.excess) < 1e-100


def test_zero_trace_does_not_move() -> None:
    A, B = draw()
    w = -float((B * A.T).sum())
    _, solution = run(w, A, B, HUGE)
    b, c = tensors(B, A.T)
    # τ0 is zero to rounding only; the flow carries that rounding to a minimum near by.
    torch.testing.assert_close(solution.B[:, 0], b.expand(len(HUGE), -1, -1), rtol=0, atol=64 * EPS)
    torch.testing.assert_close(solution.C[:, 0], c.expand(len(HUGE), -1, -1), rtol=0, atol=64 * EPS)
    _, zero = run(0.0, A, 0 * B, HUGE)
    torch.testing.assert_close(zero.C[:, 0], c.expand(len(HUGE), -1, -1), rtol=0, atol=4 * EPS)
    assert not zero.excess.any()


def test_algebraic_decay_where_both_rates_vanish() -> None:
    """w = 0 and V = 0: τ = τ0/(1 + Ut/2); both zero: nothing."""
    A, _ = draw()
    for sign in (1.0, -1.0):
        _, solution = run(0.0, A, sign * A.T, HUGE)
        U, tau0 = 4 * np.sum(A**2), np.sum(A**2)
        exact = tau0 / (1 + U * np.array(HUGE) / 2)
        np.testing.assert_allclose(torch.sqrt(2 * solution.excess[:, 0]), exact, rtol=64 * EPS)


@pytest.mark.parametrize("w", [1.2, 0.0, -0.4])
def test_two_short_solves_are_one_long_one(w: float) -> None:
    A, B = draw(5, 3)
    landscape, whole = run(w, A, B, [0.7, 1.9])
    again = solve(landscape, whole.B[0], whole.C[0], torch.tensor([1.2], dtype=torch.float64))
    torch.testing.assert_close(again.B[0], whole.B[1], rtol=0, atol=64 * EPS)
    torch.testing.assert_close(again.C[0], whole.C[1], rtol=0, atol=64 * EPS)


def test_a_batch_is_its_members_and_a_rotation_rotates() -> None:
    many = [draw(seed=s) for s in range(5)]
    A, B = np.stack([a for a, _ in many]), np.stack([b for _, b in many])
    B[3] = A[3].T  # one on the saddle among others
    _, together = run(1.3, A, B, HUGE)
    for i in range(5):
        _, alone = run(1.3, A[i], B[i], HUGE)
        torch.testing.assert_close(together.B[:, i], alone.B[:, 0], rtol=0, atol=8 * EPS)
        torch.testing.assert_close(together.excess[:, i], alone.excess[:, 0], rtol=1e-13, atol=1e-300)
    rng = np.random.default_rng(0)
    Q, gauge = ref.haar(rng, 4, 4), ref.haar(rng, 2, 2)
    _, turned = run(1.3, np.swapaxes(gauge, -1, -2) @ A @ Q.T, Q @ B @ gauge, HUGE)
    wanted = torch.from_numpy(Q) @ together.B @ torch.from_numpy(gauge)
    calm = [0, 1, 2, 4]  # on the saddle a rotation's rounding decides
    torch.testing.assert_close(turned.B[:, calm], wanted[:, calm], rtol=0, atol=200 * EPS)


def test_numerator_and_denominator_are_sums_of_non_negative_terms() -> None:
    t = torch.tensor([[0.0], [1.0], [1e12]], dtype=torch.float64)
    for w in (2.0, -2.0, 0.0, 1e-300):
        nu, nv = torch.tensor([[1.0, 0.0, 1e-200], [2.0, 1.0, 1e150]], dtype=torch.float64)
        weight, start = torch.tensor([w, 1.0], dtype=torch.float64)
        num, den, trace = riccati(weight, nu, nv, start, t)
        assert (num >= 0).all() and (den >= 0).all() and not num.isnan().any() and not trace.isnan().any()


def test_the_states_obey_the_equation() -> None:
    """A central difference of the closed form is the right-hand side."""
    A, B = draw(seed=4)
    t, h = 0.8, 1e-4
    landscape, solution = run(0.9, A, B, [t - h, t, t + h])
    slope = (solution.B[2] - solution.B[0]) / (2 * h)
    torch.testing.assert_close(slope, landscape.pull(solution.B[1], solution.C[1]), rtol=0, atol=1e-7)
