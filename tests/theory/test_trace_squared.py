"""Trace-squared theory: relative error at any time, limits, saddles, rates, against runs and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim import Adapter, TraceSquared, simulate
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.theory import trace_squared
from flowsim.theory.limits import end_state_rates
from tests.oracles import reference as ref
from tests.oracles.reference import EPS


def case(n: int = 5, r: int = 2, seed: int = 0, *, c: float = 0.7, s: float = 1.3) -> tuple[ref.Loss, ref.Factors]:
    rng = np.random.default_rng([seed, n, r])
    loss = ref.Loss(rng.standard_normal((n, n)), None, c, s)
    return loss, (0.5 * rng.standard_normal((r, n)), 0.5 * rng.standard_normal((n, r)))


def batch_of(loss: ref.Loss, A: np.ndarray, B: np.ndarray) -> Canonical:
    return canonical(TraceSquared(loss.W0, loss.c), Adapter(A, B, loss.s))


def direct_error(loss: ref.Loss, start: ref.Factors, end: ref.Factors) -> float:
    """‖ΔW − ΔW_full(∞)‖/‖ΔW_full(∞)‖ with full n × n matrices; full fine-tuning moves by −(τ0/n)·I."""
    n = len(loss.W0)
    W, W_start = loss.weight(*end), loss.weight(*start)
    full = -np.trace(W_start) / n * np.eye(n)
    return float(np.linalg.norm(W - W_start - full) / np.linalg.norm(full))


def starts(A: np.ndarray, B: np.ndarray) -> dict[str, ref.Factors]:
    return {"both": (A, B), "B=0": (A, 0 * B), "A=0": (0 * A, B), "V=0": (A, A.T.copy()), "U=0": (A, -A.T)}


@pytest.mark.parametrize("start", ["both", "B=0", "A=0", "V=0", "U=0"])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_at_any_time_is_that_of_full_matrices(seed: int, start: str) -> None:
    loss, pair = case(seed=seed)
    A0, B0 = starts(*pair)[start]
    batch = batch_of(loss, A0, B0)
    times = [0.0, 0.2, 1.0, 4.0]
    A, B = ref.flow(loss, A0, B0, times)
    for i, t in enumerate(times):
        got, rounding = (float(x) for x in trace_squared.relative_error(batch, batch.clock * t))
        direct = direct_error(loss, (A0, B0), (A[i], B[i]))
        # The formula's own statement about its square, and the reference's error of 1e-11 in W.
        assert abs(got**2 - direct**2) <= rounding + 1e-10 * (1 + direct**2), t
        assert rounding < 1e-8


@pytest.mark.parametrize("start", ["both", "B=0", "A=0"])
def test_the_error_at_infinity_is_the_end_of_a_long_run(start: str) -> None:
    loss, pair = case()
    A0, B0 = starts(*pair)[start]
    batch = batch_of(loss, A0, B0)
    stop = 60 / (batch.clock * float(trace_squared.speed(batch)))
    ds = simulate(TraceSquared(loss.W0, loss.c), Adapter(A0, B0, loss.s), [stop])
    direct = direct_error(loss, (A0, B0), (ds.A.values[-1], ds.B.values[-1]))
    assert float(trace_squared.relative_error(batch, math.inf)[0]) == pytest.approx(direct, rel=1e-11)


@pytest.mark.parametrize("n", [4, 9])
def test_one_zero_factor_gives_the_effective_rank_law(n: int) -> None:
    """e = √(n/r_eff − 1), r_eff = ‖A0‖⁴/‖A0A0ᵀ‖²: no W0, no scale, no c in it; orthonormal rows: r_eff = r."""
    rng = np.random.default_rng(n)
    for r in range(1, n + 1):
        for A0 in (rng.standard_normal((r, n)), 0.3 * ref.haar(rng, n, r).T):
            for s, c in ((1.0, 0.5), (3.0, 0.2)):
                loss = ref.Loss(rng.standard_normal((n, n)), None, c, s)
                for A, B in ((A0, np.zeros((n, r))), (np.zeros((r, n)), A0.T.copy())):
                    batch = batch_of(loss, A, B)
                    effective = float(trace_squared.effective_rank(batch))
                    gram = A0 @ A0.T
                    assert effective == pytest.approx(np.trace(gram) ** 2 / np.sum(gram**2), rel=1e-12)
                    error, rounding = (float(x) for x in trace_squared.relative_error(batch, math.inf))
                    assert abs(error**2 - (n / effective - 1)) <= rounding < 1e-10
    flat = batch_of(loss, 0.3 * ref.haar(rng, n, 2).T, np.zeros((n, 2)))
    assert float(trace_squared.effective_rank(flat)) == pytest.approx(2.0, rel=1e-12)


def test_gaussian_starts_follow_the_ensemble_law() -> None:
    """E[e²] = (n−1)(n+2)/(rn+2), with its exact variance; r = 1 has none: e² = n − 1 for every draw."""
    n, seeds = 24, 400
    W0 = np.eye(n)
    for r in (1, 3, 12):
        rng = np.random.default_rng(r)
        A = rng.standard_normal((seeds, r, n))
        batch = canonical(TraceSquared(W0), Adapter(A, np.zeros((seeds, n, r))))
        squares = trace_squared.relative_error(batch, math.inf)[0].numpy() ** 2
        mean = (n - 1) * (n + 2) / (r * n + 2)
        variance = 4 * n**2 * (n - 1) * (n + 2) * (r - 1) * (r + 2)
        variance /= (r * n + 2) ** 2 * (r * n + 4) * (r * n + 6)
        if r == 1:
            np.testing.assert_allclose(squares, n - 1, rtol=1e-12)
        else:
            assert abs(squares.mean() - mean) <= 4 * math.sqrt(variance / seeds)
            assert squares.var() == pytest.approx(variance, rel=0.5)


def test_effective_rank_needs_exactly_one_zero_factor() -> None:
    loss, (A, B) = case()
    many = Adapter(np.stack([A, 0 * A, A, 0 * A]), np.stack([B, B, 0 * B, 0 * B]), loss.s)
    values = trace_squared.effective_rank(canonical(TraceSquared(loss.W0, loss.c), many))
    assert values.isnan().tolist() == [True, False, False, True]
    assert (values[1:3] <= 2 + 1e-12).all() and (values[1:3] >= 1).all()


@pytest.mark.parametrize("time", [0.0, 0.3, math.inf])
def test_the_orthonormal_twin_has_the_error_that_its_numbers_say(time: float) -> None:
    loss, (A, B) = case(6, 3)
    A[2] = A[0]  # the twin has rank 3 all the same
    many = Adapter(np.stack([A, 0 * A, A, 0 * A]), np.stack([0 * B, B, B, 0 * B]), loss.s)
    batch = canonical(TraceSquared(loss.W0, loss.c), many)
    twin, members = trace_squared.orthonormal_twin(batch)
    assert members == [0, 1]
    got, (wanted, rounding) = trace_squared.orthonormal_error(batch, time), trace_squared.relative_error(twin, time)
    assert got.isnan().tolist() == [False, False, True, True]
    assert ((got[:2].square() - wanted[:2].square()).abs() <= 2 * rounding[:2]).all()
    wide = batch_of(loss, np.ones((7, 6)), np.zeros((6, 7)))
    assert trace_squared.orthonormal_error(wide, time).isnan().all()


def test_saddles_keep_their_loss_and_all_others_lose_it() -> None:
    loss, pair = case()
    for w in (2.0, -2.0):
        W0 = loss.W0 - (np.trace(loss.W0) - w) / 5 * np.eye(5)
        here = ref.Loss(W0, None, loss.c, loss.s)
        for name, (A0, B0) in starts(*pair).items():
            batch = batch_of(here, A0, B0)
            stuck = (name == "V=0" and w > 0) or (name == "U=0" and w < 0)
            assert bool(trace_squared.on_saddle(batch)) == stuck
            limit = float(trace_squared.excess_limit(batch))
            assert limit == pytest.approx(2.0 if stuck else 0.0, abs=1e-14)
            ds = simulate(TraceSquared(W0, loss.c), Adapter(A0, B0, loss.s), [200.0])
            assert float(ds.excess_loss[-1]) == pytest.approx(2 * loss.c * limit, abs=1e-13)
            assert bool(trace_squared.speed(batch).isnan()) == stuck
            at_end = float(trace_squared.relative_error(batch, math.inf)[0])
            direct = direct_error(here, (A0, B0), (ds.A.values[-1], ds.B.values[-1]))
            assert at_end == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize("t", [10.0, 1e3, 1e6])
def test_the_error_on_a_saddle_is_finite_at_every_time(t: float) -> None:
    """U or V = 0: sinh s and cosh s overflow although both factors die; the error is that of ΔW = −B0A0."""
    loss, (A, _) = case()
    for sign in (1.0, -1.0):
        W0 = loss.W0 - (np.trace(loss.W0) - sign) / 5 * np.eye(5)
        batch = batch_of(ref.Loss(W0, None, loss.c, loss.s), A, sign * A.T)
        got, rounding = (float(x) for x in trace_squared.relative_error(batch, t))
        limit = float(trace_squared.relative_error(batch, math.inf)[0])
        assert math.isfinite(got) and math.isfinite(rounding)
        assert rounding < 1e-10
        assert got == pytest.approx(limit, rel=1e-6)  # e^{−Dt} of the way is left, D = 2|w|: nothing, at these times


def test_nothing_is_claimed_where_nothing_moves() -> None:
    loss, (A, B) = case()
    W0 = loss.W0 - np.diag(np.diag(loss.W0))
    batch = batch_of(ref.Loss(W0, None), A, 0 * B)
    assert trace_squared.relative_error(batch, math.inf)[0].isnan().all()
    assert float(trace_squared.excess_limit(batch)) == 0.0
    zero = batch_of(ref.Loss(np.zeros((5, 5)), None), A, A.T.copy())
    assert trace_squared.speed(zero).isnan().all()  # D = 0: algebraic
    # B = C dies like t^(-1/2): ΔW → −B0A0 although nothing is exponential.
    direct = direct_error(ref.Loss(np.zeros((5, 5)), None), (A, A.T.copy()), (0 * A, 0 * A.T))
    assert float(trace_squared.relative_error(zero, math.inf)[0]) == pytest.approx(direct, rel=1e-12)
    finite = [float(trace_squared.relative_error(zero, t)[0]) for t in (0.0, 1.0, 5.0)]
    A1, B1 = ref.flow(ref.Loss(np.zeros((5, 5)), None), A, A.T.copy(), [0.0, 1.0, 5.0])
    for got, a, b in zip(finite, A1, B1, strict=True):
        direct = direct_error(ref.Loss(np.zeros((5, 5)), None), (A, A.T.copy()), (a, b))
        assert got == pytest.approx(direct, rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_speed_is_the_rate_and_the_sharpness_of_the_limit(seed: int) -> None:
    """D = √(4w² + UV): the excess falls like e^{−2Dt}, and D is the largest Hessian eigenvalue at the end."""
    loss, (A0, B0) = case(n=4, seed=seed, c=0.5, s=1.0)
    batch = batch_of(loss, A0, B0)
    D = float(trace_squared.speed(batch))
    ds = simulate(TraceSquared(loss.W0), Adapter(A0, B0), [20 / D, 40 / D, 60 / D])
    excess = ds.excess_loss.values
    assert np.log(excess[0] / excess[1]) / (20 / D) == pytest.approx(2 * D, rel=1e-6)
    A, B = ds.A.values[-1], ds.B.values[-1]
    W0 = torch.from_numpy(loss.W0)

    def value(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.trace(W0 + z[A.size :].view(B.shape) @ z[: A.size].view(A.shape)) ** 2

    values = np.linalg.eigvalsh(torch.autograd.functional.hessian(value, torch.from_numpy(ref.pack(A, B))).numpy())
    assert values[-1] == pytest.approx(D, rel=1e-10)
    end = batch_of(loss, A, B)
    rate, sharpness = (float(x) for x in end_state_rates(end, end.B, end.C))
    assert (rate, sharpness) == (pytest.approx(2 * D, rel=1e-10), pytest.approx(D, rel=1e-10))


def test_a_batch_and_infinity_do_not_mix_speeds() -> None:
    """Members of very different speed, a saddle and a resting one together: each as alone."""
    loss, (A, B) = case()
    w = float(np.trace(loss.W0))
    As = np.stack([A, 1e-4 * A, 30 * A, A, 0 * A])
    Bs = np.stack([B, 1e-4 * B, 30 * B, math.copysign(1, w) * A.T, 0 * B])
    together = canonical(TraceSquared(loss.W0, loss.c), Adapter(As, Bs, loss.s))
    for time in (math.inf, 0.3):
        values, _ = trace_squared.relative_error(together, time)
        for i in range(5):
            alone, _ = trace_squared.relative_error(batch_of(loss, As[i], Bs[i]), time)
            torch.testing.assert_close(values[i : i + 1], alone, rtol=1e-9, atol=64 * EPS, equal_nan=True)


def trace_family(loss: ref.Loss, pair: ref.Factors) -> list[Canonical]:
    """Every kind of start with frozen traces of either sign, tiny, and zero."""
    made = []
    for w in (2.0, -2.0, 1e-6, 0.0):
        W0 = loss.W0 - (np.trace(loss.W0) - w) / 5 * np.eye(5)
        np.fill_diagonal(W0, W0.diagonal() if w else 0.0)
        made += [batch_of(ref.Loss(W0, None, loss.c, loss.s), A, B) for A, B in starts(*pair).values()]
    return made


def test_the_time_to_a_loss_is_the_time_at_which_the_flow_has_it() -> None:
    """The inverse of the closed form; ∞ where the saddle keeps the loss above, 0 where it is there already."""
    from flowsim.integrators.exact.trace_squared import solve

    loss, pair = case()
    for batch in trace_family(loss, pair):
        start = batch.landscape.excess(batch.B, batch.C)
        if float(start) == 0:
            continue
        for share in (0.9, 1e-2, 1e-12):
            time = trace_squared.time_to(batch, share * start)
            if float(trace_squared.excess_limit(batch)) > share * float(start):
                assert time.isinf()
                continue
            there = solve(batch.landscape, batch.B, batch.C, time).excess
            # τ is known to its own rounding; a relative change ε of the time moves it by ε·D·t.
            D = float(trace_squared.speed(batch).nan_to_num())
            assert float(there) == pytest.approx(share * float(start), rel=64 * EPS * (1 + D * float(time)))
        assert float(trace_squared.time_to(batch, 2 * start)) == 0.0


def test_the_last_phase_has_its_constant() -> None:
    """excess → C·e^{−2Dt}, or C·t⁻² where D = 0."""
    from flowsim.integrators.exact.trace_squared import solve

    loss, pair = case()
    for batch in trace_family(loss, pair):
        constant, power = float(trace_squared.excess_constant(batch)), float(trace_squared.power(batch))
        if math.isnan(constant):
            assert bool(trace_squared.on_saddle(batch)) or float(batch.landscape.excess(batch.B, batch.C)) == 0
            continue
        D = float(trace_squared.speed(batch))
        time = 20 / D if math.isnan(power) else 1e9
        late = float(solve(batch.landscape, batch.B, batch.C, torch.tensor([time], dtype=torch.float64)).excess)
        shape = math.exp(-2 * D * time) if math.isnan(power) else time**-power
        assert late == pytest.approx(constant * shape, rel=1e-6)


def test_next_to_a_saddle_no_digit_is_lost() -> None:
    """V = 1e-26·U instead of 0: sinh and cosh of the angle reach 1e13, yet the error keeps its digits (mpmath)."""
    import mpmath

    loss, (A, _) = case()
    W0 = loss.W0 - (np.trace(loss.W0) - 2.0) / 5 * np.eye(5)
    B = A.T.copy()
    B[0, 0] *= 1 + 4000 * EPS
    batch = batch_of(ref.Loss(W0, None, 0.5, 1.0), A, B)
    assert 0 < float((batch.B - batch.C).norm()) < 1e-12
    with mpmath.workdps(60):
        Bm, Cm = mpmath.matrix(B.tolist()), mpmath.matrix(A.T.tolist())
        W = mpmath.matrix(W0.tolist())
        w = mpmath.fsum(W[i, i] for i in range(5))
        u, v = Bm + Cm, Bm - Cm
        U, V = (mpmath.fsum(x**2 for x in X) for X in (u, v))
        D = mpmath.sqrt(4 * w**2 + U * V)
        high, low = (2 * w + D) / V, (2 * w - D) / V
        tau0 = w + (U - V) / 4
        for t in (1.0, 5.0, 12.0, 20.0):
            ratio = (1 - high) / (1 - low) * mpmath.exp(-D * t)
            x = (high - low * ratio) / (1 - ratio)
            change = ((1 / x - 1) * u * u.T - (x - 1) * v * v.T) / 4
            error = change + tau0 / 5 * mpmath.eye(5)
            exact = float(mpmath.sqrt(mpmath.fsum(y**2 for y in error)) / abs(tau0 / 5 * mpmath.sqrt(5)))
            got, rounding = (float(y) for y in trace_squared.relative_error(batch, t))
            assert rounding < 1e-11
            assert abs(got**2 - exact**2) <= rounding


def test_sequential_descent_loses_stability_at_its_limit() -> None:
    """ℓ(a, b) against the multiplier of a round, from balanced to lopsided."""
    for a, b in ((1.0, 1.0), (1.0, 0.5), (1.0, 0.3), (2.0, 0.1), (0.01, 3.0), (1.0, 0.0)):
        limit = float(trace_squared.step_limit(*torch.tensor([[a], [b]], dtype=torch.float64)))
        assert abs((1 - limit * (1 - 1e-9) * a) * (1 - limit * (1 - 1e-9) * b)) < 1
        assert abs((1 - limit * (1 + 1e-9) * a) * (1 - limit * (1 + 1e-9) * b)) > 1
        grid = np.linspace(0, limit, 1001)[1:-1]
        assert (np.abs((1 - grid * a) * (1 - grid * b)) < 1).all()  # and no earlier limit
    loss, (A, B) = case()
    batch = batch_of(ref.Loss(loss.W0, None, 0.5, 1.0), A, B)
    end = simulate(TraceSquared(loss.W0), Adapter(A, B), [100.0])
    a, b = (float((end[name].values[-1] ** 2).sum()) for name in "AB")
    exact = float(trace_squared.step_limit(*torch.tensor([[a], [b]], dtype=torch.float64)))
    assert float(trace_squared.sequential_limit(batch)) == pytest.approx(exact, rel=1e-10)
