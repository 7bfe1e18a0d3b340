"""The closed form of λ-balanced Frobenius flows: many digits, any λ, any shape and rank, long times, exact zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.exact.balanced import CAP, imbalance_value, rotated_modes, solve
from flowsim.problem.objectives import Adapter, Frobenius
from tests.oracles import reference as ref
from tests.oracles.reference import EPS

# (n, m, r, λ, rank of Δ): both signs of λ, square and rectangular, r beyond the rank of Δ and beyond min(n, m).
CASES = [
    (3, 3, 1, 0.0, 3), (3, 3, 2, 0.0, 3), (3, 3, 3, 0.7, 3), (3, 3, 2, -0.7, 2), (4, 2, 2, 0.0, 2),
    (4, 2, 3, 0.5, 2), (2, 4, 3, -0.5, 2), (2, 4, 2, 0.5, 1), (3, 3, 3, 0.0, 1), (2, 3, 5, 0.0, 2), (3, 2, 2, -0.4, 1),
]  # fmt: skip


def case(n: int, m: int, r: int, value: float, rank: int, seed: int = 0) -> tuple[np.ndarray, ref.Factors, Canonical]:
    rng = np.random.default_rng([seed, n, m, r])
    U, V = ref.haar(rng, n, rank), ref.haar(rng, m, rank)
    delta = (U * (0.4 + rng.random(rank) * 1.2)) @ V.T
    A, B = ref.balanced_start(rng, n, m, r, value)
    return delta, (A, B), canonical(Frobenius(np.zeros((n, m)), delta), Adapter(A, B))


def states(batch: Canonical, times: list[float], factors: bool) -> tuple[np.ndarray, np.ndarray]:
    landscape = batch.landscape
    assert isinstance(landscape, FrobeniusLandscape)
    solution = solve(landscape, batch.B, batch.C, torch.tensor(times, dtype=torch.float64), factors=factors)
    A, B = batch.factors(solution.B, solution.C)
    return A[:, 0].numpy(), B[:, 0].numpy()


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize(("n", "m", "r", "value", "rank"), CASES)
def test_the_product_has_all_digits(n: int, m: int, r: int, value: float, rank: int, factors: bool) -> None:
    """Against the Hamiltonian form of the Riccati equation in sixty digits."""
    delta, (A0, B0), batch = case(n, m, r, value, rank)
    times = [0.0, 0.2, 1.0, 6.0]
    A, B = states(batch, times, factors)
    omega = math.hypot(np.linalg.norm(delta, 2), value / 2)
    size = np.linalg.norm(A0) ** 2 + np.linalg.norm(B0) ** 2 + np.linalg.norm(delta)
    for i, t in enumerate(times):
        exact = ref.balanced_product(delta, A0, B0, value, t)
        # A start is balanced to rounding only, and what is left of it grows like a mode, e^{ωt} at most, while
        # the flow forgets it at the end; each sub-step of ω·h ≤ CAP costs e^{CAP}ε.
        substeps = 1 + math.ceil(omega * t / CAP)
        allowed = 2 * EPS * size * substeps * math.exp(min(omega * t / substeps, CAP)) * 8
        assert np.abs(B[i] @ A[i] - exact).max() <= allowed, t
        assert allowed < 1e-10


@pytest.mark.parametrize(("n", "m", "r", "value", "rank"), CASES)
def test_the_factors_are_those_of_the_flow(n: int, m: int, r: int, value: float, rank: int) -> None:
    """Against DOP853: A and B themselves need the rotation that the product does not see."""
    delta, (A0, B0), batch = case(n, m, r, value, rank)
    times = [0.1, 1.0, 4.0]
    A, B = states(batch, times, True)
    loss = ref.Loss(np.zeros((n, m)), delta)
    right, looser = (ref.flow(loss, A0, B0, times, rtol) for rtol in (1e-12, 1e-11))
    size = np.hypot(np.linalg.norm(A0), np.linalg.norm(B0)) + 1
    # The sixth-order rotation at ω·δ ≤ 1/32 has an error of about (1/32)^6/1000 = 1e-12 per unit of ωt.
    rotation = (1 / 32) ** 6 / 1000 * np.hypot(np.linalg.norm(delta, 2), size**2) * times[-1] if r > 1 else 0.0
    allowed = max(np.abs(x - y).max() for x, y in zip(right, looser, strict=True)) + (2e-12 + rotation) * size
    assert np.abs(A - right[0]).max() <= allowed
    assert np.abs(B - right[1]).max() <= allowed


def test_both_gauges_have_one_product_and_rank_one_has_one_gauge() -> None:
    for n, m, r, value, rank in CASES:
        _, _, batch = case(n, m, r, value, rank)
        times = torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64)
        bare, whole = (solve(batch.landscape, batch.B, batch.C, times, factors=f) for f in (False, True))
        size = float(bare.rounding.max() + whole.rounding.max())
        assert float(products.distance(bare.B, bare.C, whole.B, whole.C).max()) <= size
        torch.testing.assert_close(imbalance(whole.B, whole.C)[-1], imbalance(batch.B, batch.C), rtol=0, atol=1e-12)
        if r == 1:
            torch.testing.assert_close(bare.B, whole.B, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "m", "r", "value", "rank"), CASES)
def test_two_short_solves_are_one_long_one(n: int, m: int, r: int, value: float, rank: int) -> None:
    _, _, batch = case(n, m, r, value, rank)
    for factors in (False, True):
        times, rest = (torch.tensor(t, dtype=torch.float64) for t in ([0.6, 1.7], [1.1]))
        whole = solve(batch.landscape, batch.B, batch.C, times, factors=factors)
        again = solve(batch.landscape, whole.B[0], whole.C[0], rest, factors=factors)
        assert float(products.distance(again.B, again.C, whole.B[1:], whole.C[1:])) <= 1e-12
        if factors:
            torch.testing.assert_close(again.B[0], whole.B[1], rtol=0, atol=1e-11)
            torch.testing.assert_close(again.C[0], whole.C[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("value", [0.0, 0.6, -0.6])
def test_ten_thousand_time_constants(value: float) -> None:
    """t·ω = 1e4: the limit to rounding, the excess an exact non-negative number, no overflow on the way."""
    sigma = torch.tensor([1.0, 0.6, 0.3, 0.1], dtype=torch.float64)
    A0, B0 = ref.balanced_start(np.random.default_rng(1), 4, 4, 2, value)
    landscape = FrobeniusLandscape(sigma, 4)
    b, c = torch.from_numpy(B0)[None], torch.from_numpy(A0.T.copy())[None]
    end = 1e4 / math.hypot(1.0, value / 2)
    solution = solve(landscape, b, c, torch.tensor([1.0, end / 100, end], dtype=torch.float64))
    assert torch.isfinite(solution.B).all()
    limit = torch.zeros(4, 4, dtype=torch.float64)
    limit[:2, :2] = torch.diag(sigma[:2])
    allowed = float(solution.rounding[-1, 0])
    torch.testing.assert_close((solution.B @ solution.C.mT)[-1, 0], limit, rtol=0, atol=allowed)
    assert abs(float(landscape.excess(solution.B, solution.C)[-1, 0])) < 1e-13
    Q = imbalance(solution.B, solution.C)[-1, 0]
    torch.testing.assert_close(Q, value * torch.eye(2, dtype=torch.float64), rtol=0, atol=allowed)


def test_an_anti_aligned_start_keeps_its_exact_zeros() -> None:
    """b = −a in a mode with λ = 0: that mode dies, by e^{−2σt}, and never comes back from rounding."""
    sigma = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    landscape = FrobeniusLandscape(sigma, 3)
    B, C = torch.zeros(1, 3, 2, dtype=torch.float64), torch.zeros(1, 3, 2, dtype=torch.float64)
    B[0, 0, 0], C[0, 0, 0] = 0.7, -0.7
    B[0, 1, 1], C[0, 1, 1] = 0.4, 0.4
    for factors in (False, True):
        solution = solve(landscape, B, C, torch.tensor([1.0, 30.0, 400.0], dtype=torch.float64), factors=factors)
        values = (solution.B @ solution.C.mT)[:, 0]
        assert torch.equal(solution.B[:, 0, 0], -solution.C[:, 0, 0])
        s0, t = 0.49, 1.0
        lost = -2.0 / ((1 + 2.0 / s0) * math.exp(2 * 2.0 * t) - 1)
        assert float(values[0, 0, 0]) == pytest.approx(lost, rel=1e-13)
        assert abs(float(values[1, 0, 0])) < 1e-50
        kept = 1.0 / (1 + (1.0 / 0.16 - 1) * math.exp(-2 * t))
        assert float(values[0, 1, 1]) == pytest.approx(kept, rel=1e-13)
        assert float(values[2, 1, 1]) == pytest.approx(1.0, rel=1e-12)
        assert not values[:, 2].any() and not values[:, :, 2].any()


def test_aligned_modes_are_scalar_equations() -> None:
    """Each mode with its own a, b of one λ: BA_ii of the overflow-free scalar formula."""
    sigma, value, t = np.array([1.5, 0.9, 0.2]), 0.8, 1.3
    a = np.array([0.3, -0.5, 0.1])
    b = np.sqrt(a**2 + value) * np.array([1, 1, -1])
    omega = np.hypot(sigma, value / 2)
    cos, sin = np.sqrt((1 + value / (2 * omega)) / 2), np.sqrt((1 - value / (2 * omega)) / 2)
    plus, minus = cos * b + sin * a, -sin * b + cos * a
    z, o = np.exp(-2 * omega * t), -np.expm1(-2 * omega * t)
    below = z + o * (plus**2 + z * minus**2) / (2 * omega)
    exact = (cos * plus - sin * minus * z) * (sin * plus + cos * minus * z) / below
    landscape = FrobeniusLandscape(torch.from_numpy(sigma), 3)
    B, C = torch.diag(torch.from_numpy(b))[None], torch.diag(torch.from_numpy(a))[None]
    solution = solve(landscape, B, C, torch.tensor([t], dtype=torch.float64), factors=True)
    np.testing.assert_allclose((solution.B @ solution.C.mT)[0, 0], np.diag(exact), rtol=0, atol=1e-13)


def test_a_batch_is_its_members_and_mixes_lambdas() -> None:
    landscape = FrobeniusLandscape(torch.tensor([1.4, 0.8, 0.3], dtype=torch.float64), 3)
    found = [ref.balanced_start(np.random.default_rng(i), 3, 3, 2, v) for i, v in enumerate([0.0, 0.9, -0.9, 0.0])]
    B = torch.stack([torch.from_numpy(b) for _, b in found])
    C = torch.stack([torch.from_numpy(a.T.copy()) for a, _ in found])
    times = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)
    for factors in (False, True):
        whole = solve(landscape, B, C, times, factors=factors)
        for i in range(4):
            alone = solve(landscape, B[i : i + 1], C[i : i + 1], times, factors=factors)
            # Sub-steps are shared by a batch, so a member differs by rounding, e^CAP ε for each of them.
            allowed = float(whole.rounding.max() + alone.rounding.max())
            distance = products.distance(whole.B[:, i : i + 1], whole.C[:, i : i + 1], alone.B, alone.C)
            assert float(distance.max()) <= allowed
            if factors:
                torch.testing.assert_close(whole.B[:, i], alone.B[:, 0], rtol=0, atol=1e-11)


def test_a_rotated_problem_has_a_rotated_solution() -> None:
    rng = np.random.default_rng(5)
    for n, m, r, value in [(4, 4, 2, 0.0), (5, 3, 2, 0.6), (3, 6, 2, -0.6)]:
        W0, target = rng.standard_normal((n, m)), rng.standard_normal((n, m))
        A, B = ref.balanced_start(rng, n, m, r, value)
        P, R, gauge = ref.haar(rng, n, n), ref.haar(rng, m, m), ref.haar(rng, r, r)
        times = [0.3, 1.5]
        one = canonical(Frobenius(W0, target), Adapter(A, B))
        two = canonical(Frobenius(P @ W0 @ R.T, P @ target @ R.T), Adapter(gauge.T @ A @ R.T, P @ B @ gauge))
        a, b = states(one, times, True)
        turned_a, turned_b = states(two, times, True)
        np.testing.assert_allclose(turned_b, P @ b @ gauge, rtol=0, atol=1e-11)
        np.testing.assert_allclose(turned_a, gauge.T @ a @ R.T, rtol=0, atol=1e-11)


def test_modes_rotate_without_cancellation() -> None:
    sigma = torch.tensor([2.0, 1e-9, 0.0], dtype=torch.float64)
    omega, cos, sin = rotated_modes(sigma, torch.tensor([0.0, 3.0, -3.0], dtype=torch.float64))
    half = math.sqrt(0.5)
    assert cos[0, :2].tolist() == sin[0, :2].tolist() == [half, half]  # exactly, so that zeros stay zeros
    assert (cos[:, 2].tolist(), sin[:, 2].tolist()) == ([1.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    np.testing.assert_allclose(omega[1], [2.5, 1.5, 1.5], rtol=1e-15)
    # σ ≪ |λ|: tan θ = σ/(ω + λ/2) to full relative accuracy.
    assert float(sin[1, 1] / cos[1, 1]) == pytest.approx(1e-9 / 3.0, rel=1e-14)
    assert float(cos[2, 1] / sin[2, 1]) == pytest.approx(1e-9 / 3.0, rel=1e-14)
    np.testing.assert_allclose(cos**2 + sin**2, np.ones((3, 3)), rtol=1e-15)


def test_lambda_that_is_rounding_is_zero() -> None:
    A, B = ref.balanced_start(np.random.default_rng(0), 5, 5, 3, 0.0)
    b, c = torch.from_numpy(B)[None], torch.from_numpy(A.T.copy())[None]
    assert float(imbalance_value(b, c)) == 0.0
    assert float(imbalance_value(b * 1.01, c)) != 0.0


@pytest.mark.parametrize("r", [2, 3, 8])
def test_what_rounding_alone_puts_there_stays_away(r: int) -> None:
    """A rotated start without mode 1 and with dependent columns, to ωt = 400: rounding would grow like e^400."""
    rng = np.random.default_rng(r)
    U, V = ref.haar(rng, 4, 4), ref.haar(rng, 3, 3)
    delta = U[:, :3] @ np.diag([2.0, 1.0, 0.5]) @ V.T
    gauge = ref.haar(rng, r, 1)
    A, B = 0.4 * gauge @ V[:, 1:2].T, 0.4 * U[:, 1:2] @ gauge.T  # mode 2 alone, in one direction of many
    batch = canonical(Frobenius(np.zeros((4, 3)), delta), Adapter(A, B))
    times = torch.linspace(0.0, 200.0, 101, dtype=torch.float64)
    solution = solve(batch.landscape, batch.B, batch.C, times)
    product = solution.B[-1, 0] @ solution.C[-1, 0].mT
    wanted = torch.zeros_like(product)
    wanted[1, 1] = 1.0
    torch.testing.assert_close(product, wanted, rtol=0, atol=1e-12)


def test_nothing_to_move_to_is_no_motion() -> None:
    landscape = FrobeniusLandscape(torch.zeros(3, dtype=torch.float64), 3)
    zero = torch.zeros(1, 3, 2, dtype=torch.float64)
    assert not solve(landscape, zero, zero, torch.tensor([0.0, 1e6], dtype=torch.float64)).B.any()


def test_a_zero_difference_decays_algebraically() -> None:
    """Δ = 0 and λ = 0: s = s0/(1 + 2s0t), with no exponential anywhere."""
    landscape = FrobeniusLandscape(torch.zeros(2, dtype=torch.float64), 2)
    B = torch.diag(torch.tensor([0.8, 0.3], dtype=torch.float64))[None]
    times = torch.tensor([0.0, 1.0, 50.0], dtype=torch.float64)
    s0 = np.array([0.64, 0.09])
    for factors in (False, True):
        solution = solve(landscape, B, B.clone(), times, factors=factors)
        got = (solution.B @ solution.C.mT)[:, 0].diagonal(dim1=-2, dim2=-1)
        np.testing.assert_allclose(got, s0 / (1 + 2 * s0 * times.numpy()[:, None]), rtol=1e-12)
