"""Limits, rates and stability limits of the Frobenius flow, against long runs and brute-force Hessians."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim import Adapter, Frobenius, descend, simulate
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.theory import frobenius, rates
from flowsim.theory.limits import end_state_rates
from tests.oracles import reference as ref

SIGMA = np.array([1.6, 1.0, 0.7, 0.45])


def difference(n: int, m: int, values: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, n, m])
    return (ref.haar(rng, n, len(values)) * values) @ ref.haar(rng, m, len(values)).T


def objective_of(delta: np.ndarray) -> Frobenius:
    return Frobenius(np.zeros_like(delta), delta)


def batch_of(delta: np.ndarray, A: np.ndarray, B: np.ndarray) -> Canonical:
    return canonical(objective_of(delta), Adapter(A, B))


def long_run(delta: np.ndarray, A: np.ndarray, B: np.ndarray, stop: float) -> tuple[float, np.ndarray]:
    ds = simulate(objective_of(delta), Adapter(A, B), [stop], error="product")
    return float(ds.excess_loss[-1]), ds.B.values[-1] @ ds.A.values[-1]


def hessian(delta: np.ndarray, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Eigenvalues of the full Hessian of ½‖Δ − BA‖² in all entries of A and B, by autograd."""
    target, split = torch.from_numpy(delta), A.size

    def loss(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * (target - z[split:].view(B.shape) @ z[:split].view(A.shape)).square().sum()

    H = torch.autograd.functional.hessian(loss, torch.from_numpy(ref.pack(A, B)))
    return np.linalg.eigvalsh(H.numpy())


def lost_energy(values: np.ndarray, r: int, kept: list[int]) -> float:
    lead = set(range(min(r, len(values))))
    return 0.5 * (sum(values[i] ** 2 for i in lead - set(kept)) - sum(values[i] ** 2 for i in set(kept) - lead))


# Limits


@pytest.mark.parametrize("value", [0.0, 0.5, -0.5])
@pytest.mark.parametrize(("n", "m", "r"), [(4, 4, 2), (6, 4, 3), (4, 6, 1), (4, 5, 4)])
def test_a_generic_start_ends_at_the_best_rank_r_matrix(n: int, m: int, r: int, value: float) -> None:
    delta = difference(n, m, SIGMA)
    A, B = ref.balanced_start(np.random.default_rng(1), n, m, r, value)
    batch = batch_of(delta, A, B)
    assert frobenius.kept_modes(batch) == [list(range(r))]
    assert frobenius.excess_limit(batch).tolist() == [0.0]
    excess, product = long_run(delta, A, B, 150.0)
    U, S, Vt = np.linalg.svd(delta)
    assert excess < 1e-12
    np.testing.assert_allclose(product, (U[:, :r] * S[:r]) @ Vt[:r], rtol=0, atol=1e-6)


def test_a_missing_mode_is_predicted() -> None:
    """A0 orthogonal to v1 and B0 = 0: σ2 and σ3 are learnt; rank-one A0 at r = 2: one mode only."""
    delta = np.diag(SIGMA)
    A = 0.7 * np.eye(4)[[1, 2]]
    batch = batch_of(delta, A, np.zeros((4, 2)))
    assert frobenius.kept_modes(batch) == [[1, 2]]
    wanted = lost_energy(SIGMA, 2, [1, 2])
    assert float(frobenius.excess_limit(batch)) == pytest.approx(wanted, rel=1e-14)
    assert long_run(delta, A, np.zeros((4, 2)), 80.0)[0] == pytest.approx(wanted, rel=1e-10)
    assert rates.decay(batch).rate.isnan().all() and rates.sharpness_limit(batch).isnan().all()
    # λ = 0 and both factors of rank one: B = u·(1, 1), Aᵀ = v·(1, 1).
    rng = np.random.default_rng(2)
    u, v = ref.haar(rng, 4, 1), ref.haar(rng, 4, 1)
    ones = np.ones((1, 2)) * 0.4
    batch = batch_of(delta, (v @ ones).T, u @ ones)
    kept = frobenius.kept_modes(batch)
    assert kept == [[0]] or float(u[0, 0] * v[0, 0]) < 0
    limit = float(frobenius.excess_limit(batch))
    assert limit == pytest.approx(lost_energy(SIGMA, 2, kept[0]), rel=1e-14)
    assert long_run(delta, (v @ ones).T, u @ ones, 25.0)[0] == pytest.approx(limit, rel=1e-8)


def test_an_anti_aligned_mode_is_lost() -> None:
    delta = np.diag(SIGMA)
    B = np.eye(4)[:, :2] * [0.5, 0.3]
    A = B.T * np.array([[-1.0], [1.0]])
    batch = batch_of(delta, A, B)
    assert frobenius.kept_modes(batch)[0][0] == 1
    excess = float(frobenius.excess_limit(batch))
    assert excess == pytest.approx(lost_energy(SIGMA, 2, frobenius.kept_modes(batch)[0]), rel=1e-14)
    assert long_run(delta, A, B, 100.0)[0] == pytest.approx(excess, rel=1e-10)


@pytest.mark.parametrize("r", [3, 4])
def test_the_sign_of_a_determinant_obstructs(r: int) -> None:
    """Square full-rank Δ, r ≥ n, λ = 0: det(BA) cannot change sign, so half of all starts end at residual σ_n."""
    values, fates = SIGMA[:3], []
    delta = difference(3, 3, values)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        A, B = ref.balanced_start(rng, 3, 3, r, 0.0)
        batch = batch_of(delta, A, B)
        limit = float(frobenius.excess_limit(batch))
        obstructed = np.linalg.det(B @ A) * np.linalg.det(delta) < 0
        assert limit == pytest.approx(0.5 * values[-1] ** 2 if obstructed else 0.0, rel=1e-12)
        excess, _ = long_run(delta, A, B, 30.0)
        assert excess == pytest.approx(limit, abs=2e-3)
        fates.append(obstructed)
    assert 2 <= sum(fates) <= 10


def test_ties_have_a_limit_of_the_loss() -> None:
    """σ_r = σ_{r+1}: the minimiser is not unique, the excess goes to 0, at the rate of the next distinct value."""
    values = np.array([1.6, 0.9, 0.9, 0.9, 0.3])
    delta = difference(5, 5, values)
    for value in (0.0, -0.6):
        A, B = ref.balanced_start(np.random.default_rng(3), 5, 5, 2, value)
        batch = batch_of(delta, A, B)
        assert frobenius.excess_limit(batch).tolist() == [0.0]
        rate = float(rates.decay(batch).rate)
        omega = np.hypot(values, value / 2)
        assert rate == pytest.approx(2 * (omega[1] - omega[4]), rel=1e-12)
        assert observed_rate(delta, A, B, rate) == pytest.approx(rate, rel=0.03)
    # All following values tied: nothing but the minimum is left.
    flat = batch_of(np.diag([1.0, 1.0, 1.0]), *ref.balanced_start(np.random.default_rng(3), 3, 3, 1, 0.0))
    assert float(frobenius.excess_limit(flat)) == 0.0


def test_unbalanced_starts_have_no_prediction() -> None:
    rng = np.random.default_rng(0)
    batch = batch_of(difference(4, 4, SIGMA), rng.standard_normal((2, 4)), rng.standard_normal((4, 2)))
    assert frobenius.kept_modes(batch) == [None]
    for value in (frobenius.excess_limit, rates.sharpness_limit, rates.sequential_limit):
        assert value(batch).isnan().all()
    found = rates.decay(batch)
    assert torch.stack([found.rate, found.power, found.constant]).isnan().all()


# Rates


def late_excess(delta: np.ndarray, A: np.ndarray, B: np.ndarray, time: float) -> float:
    return float(simulate(objective_of(delta), Adapter(A, B), [time], error="product").excess_loss[0])


def observed_rate(delta: np.ndarray, A: np.ndarray, B: np.ndarray, rate: float) -> float:
    """Slope of the logarithm of the excess where it has fallen by 1e9 to 1e15, as far as `rate` predicts that."""
    times = [math.log(1e9) / rate, math.log(1e15) / rate]
    excess = simulate(objective_of(delta), Adapter(A, B), times, error="product").excess_loss.values
    noise = 1e-27  # of the squared rounding of the product
    assert excess[1] > noise, ("falls faster than predicted", excess)
    return float(np.log(excess[0] / excess[1]) / (times[1] - times[0]))


# (n, m, r, λ, rank of Δ, which factor is zero)
RATES = [
    (4, 4, 2, 0.0, 4, ""), (4, 4, 2, 0.6, 4, ""), (4, 4, 1, -0.6, 4, ""),  # r < ρ
    (6, 5, 2, 0.5, 2, ""), (6, 5, 2, -0.5, 2, ""), (6, 5, 2, 0.0, 2, ""),  # r = ρ < p
    (6, 5, 2, -0.5, 2, "B"), (6, 5, 2, 0.5, 2, "A"),
    (5, 3, 3, 0.5, 3, ""), (5, 3, 3, -0.5, 3, ""), (3, 5, 3, 0.5, 3, ""), (3, 5, 3, -0.5, 3, ""),  # r = ρ = p
    (3, 3, 3, 0.5, 3, ""), (3, 3, 3, -0.5, 3, ""), (5, 3, 3, -0.5, 3, "B"), (3, 5, 3, -0.5, 3, "B"),
    (7, 6, 3, 0.5, 2, ""), (7, 6, 3, 1.8, 2, ""), (7, 6, 3, -0.5, 2, "B"), (6, 7, 3, -1.8, 2, ""),  # r > ρ
    (3, 6, 3, -0.5, 2, ""), (6, 3, 3, 0.5, 2, ""), (3, 3, 3, 0.5, 2, ""), (6, 2, 4, 0.5, 2, ""),
]  # fmt: skip
#: r > ρ where the smaller side leaves no null direction of a factor: the least Hessian eigenvalue is another one.
FULL_SIDES = [(2, 3, 3, -0.5, 2, ""), (3, 2, 3, 0.5, 2, ""), (3, 6, 3, 1.8, 2, ""), (6, 3, 3, -1.8, 2, "")]


def rate_case(n: int, m: int, r: int, value: float, rank: int, zero: str) -> tuple[np.ndarray, ref.Factors]:
    delta = difference(n, m, SIGMA[:rank])
    rng = np.random.default_rng([n, m, r, rank, int(10 * abs(value))])
    if zero == "B":
        return delta, (math.sqrt(-value) * ref.haar(rng, m, r).T, np.zeros((n, r)))
    if zero == "A":
        return delta, (np.zeros((r, m)), math.sqrt(value) * ref.haar(rng, n, r))
    A, B = ref.balanced_start(rng, n, m, r, value)
    if n == m == r == rank:  # no obstruction of sign wanted here
        A = A if np.linalg.det(B @ A) * np.linalg.det(delta) > 0 or value else A[:, ::-1].copy()
    return delta, (A, B)


@pytest.mark.parametrize(("n", "m", "r", "value", "rank", "zero"), RATES)
def test_the_excess_falls_at_the_predicted_rate(n: int, m: int, r: int, value: float, rank: int, zero: str) -> None:
    delta, (A, B) = rate_case(n, m, r, value, rank, zero)
    rate = float(rates.decay(batch_of(delta, A, B)).rate)
    # Corrections to the slope are of the relative size of the excess' next term: percents at most here.
    assert observed_rate(delta, A, B, rate) == pytest.approx(rate, rel=0.02)
    constant = float(rates.decay(batch_of(delta, A, B)).constant)
    time = math.log(1e12) / rate
    assert late_excess(delta, A, B, time) == pytest.approx(constant * math.exp(-rate * time), rel=0.05, abs=0)


@pytest.mark.parametrize(("n", "m", "r", "value", "rank", "zero"), FULL_SIDES)
def test_the_rate_knows_where_no_null_direction_is_left(
    n: int, m: int, r: int, value: float, rank: int, zero: str
) -> None:
    delta, (A, B) = rate_case(n, m, r, value, rank, zero)
    found = rates.decay(batch_of(delta, A, B))
    rate, time = float(found.rate), math.log(1e12) / float(found.rate)
    assert observed_rate(delta, A, B, rate) == pytest.approx(rate, rel=0.02)
    if r > min(n, m) and max(n, m) == r:
        assert math.isnan(float(found.constant))  # a null pivot pulls on a learnt mode: no constant is claimed
        return
    predicted = float(found.constant) * math.exp(-rate * time)
    assert late_excess(delta, A, B, time) == pytest.approx(predicted, rel=0.05, abs=0)


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_the_rate_is_that_of_the_smallest_excited_mode(value: float) -> None:
    """An aligned start never excites mode r + 1: the slowest deviation is that of its own modes, 2·2ω_r."""
    delta = difference(4, 4, SIGMA)
    U, _, Vt = np.linalg.svd(delta)
    A, B = (0.3 * Vt[:2], 0.3 * U[:, :2]) if value == 0 else (math.sqrt(-value) * Vt[:2], np.zeros((4, 2)))
    found = rates.decay(batch_of(delta, A, B))
    rate, constant = float(found.rate), float(found.constant)
    assert rate == pytest.approx(4 * math.hypot(SIGMA[1], value / 2), rel=1e-12)
    time = math.log(1e10) / rate
    assert late_excess(delta, A, B, time) == pytest.approx(constant * math.exp(-rate * time), rel=1e-3, abs=0)


def test_the_rate_of_aligned_modes_follows_their_own_imbalances() -> None:
    """The second mode is much more imbalanced than the first: its ω is the larger one, the first is the slowest."""
    delta = difference(4, 4, SIGMA)
    U, _, Vt = np.linalg.svd(delta)
    A, B = np.diag([0.3, 2.5]) @ Vt[:2], U[:, :2] @ np.diag([0.3, 0.1])
    batch = batch_of(delta, A, B)
    assert frobenius.excess_limit(batch).tolist() == [0.0]
    assert float(rates.decay(batch).rate) == pytest.approx(4 * SIGMA[0], rel=1e-12)


@pytest.mark.parametrize(("n", "m", "r", "value", "rank", "zero"), [row for row in RATES if row[2] <= row[4]])
@pytest.mark.parametrize("update", ["a_first", "b_first"])
def test_sequential_descent_loses_stability_at_its_limit(
    n: int, m: int, r: int, value: float, rank: int, zero: str, update: str
) -> None:
    """The closed form against the largest multiplier of a round, just below and just above."""
    from flowsim.theory.stability import round_multiplier

    delta, (A, B) = rate_case(n, m, r, value, rank, zero)
    batch = batch_of(delta, A, B)
    end = simulate(objective_of(delta), Adapter(A, B), [1e4 / float(rates.decay(batch).rate)], error="product")
    settled = batch_of(delta, end.A.values[-1], end.B.values[-1])
    limit = float(rates.sequential_limit(batch))
    low, high = (
        float(round_multiplier(batch, settled.B, settled.C, update, limit * by)) for by in (1 - 1e-5, 1 + 1e-5)
    )
    assert low < 1 < high


def test_overlap_is_zero_exactly_where_a_direction_is_missing() -> None:
    delta = difference(5, 4, SIGMA[:4])
    U, _, Vt = np.linalg.svd(delta)
    rng = np.random.default_rng(0)
    full = batch_of(delta, ref.haar(rng, 4, 2).T, np.zeros((5, 2)))
    assert 0.01 < float(frobenius.overlap(full)) <= 1
    for A, B in (
        (Vt[1:3], np.zeros((5, 2))),  # mode 1 is absent
        (0.5 * Vt[:2], U[:, :2] * [-0.5, 0.5]),  # mode 1 is anti-aligned
        (np.array([[1.0], [2.0]]) * Vt[:1], np.array([[1.0, 3.0]]) * U[:, :1]),  # both columns carry mode 1 only
    ):
        assert float(frobenius.overlap(batch_of(delta, A, B))) < 1e-15
    # Without a closed form: rows that are there, however small, count.
    A = rng.standard_normal((2, 4))
    A -= (A @ Vt[0])[:, None] * Vt[0] * (1 - 1e-7)
    assert 1e-9 < float(frobenius.overlap(batch_of(delta, A, np.zeros((5, 2))))) < 1e-6


def test_above_the_rank_of_the_difference_a_balanced_start_decays_algebraically() -> None:
    """λ = 0, r > ρ: no rate, but 2f·t² → (min(r, n, m) − ρ)/4."""
    delta = difference(4, 4, SIGMA[:1])
    for r, missing in ((2, 1), (3, 2)):
        A, B = ref.balanced_start(np.random.default_rng(0), 4, 4, r, 0.0)
        assert rates.decay(batch_of(delta, A, B)).rate.isnan().all()
        excess, _ = long_run(delta, A, B, 3000.0)
        assert 2 * excess * 3000.0**2 == pytest.approx(missing / 4, rel=0.02)
        found = rates.decay(batch_of(delta, A, B))
        assert (float(found.power), float(found.constant)) == (2.0, missing / 8)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_rates_are_reported_in_the_user_s_time(scale: float) -> None:
    """s and κ speed the clock; the stability limit is their inverse."""
    from flowsim.theory.limits import theory_of

    delta, c = difference(4, 4, SIGMA), 0.8
    A, B = ref.balanced_start(np.random.default_rng(1), 4, 4, 2, 0.0)
    plain = theory_of(canonical(Frobenius(0 * delta, delta), Adapter(A, B)), (4, 4), 1.0)
    root = math.sqrt(scale)
    other = theory_of(canonical(Frobenius(0 * delta, delta, c), Adapter(A / root, B / root, scale)), (4, 4), 1.0)
    clock = 2 * c * scale
    assert float(other["convergence_rate"]) == pytest.approx(clock * float(plain["convergence_rate"]), rel=1e-10)
    assert float(other["stability_limit"]) == pytest.approx(float(plain["stability_limit"]) / clock, rel=1e-10)
    assert float(other["loss_floor"]) == pytest.approx(2 * c * float(plain["loss_floor"]), rel=1e-12)


# At a minimum


MINIMA = [(4, 4, 2, 4), (5, 3, 2, 3), (3, 5, 3, 3), (5, 3, 3, 3), (3, 3, 3, 3), (5, 5, 2, 2)]


def minimum(n: int, m: int, r: int, rank: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unbalanced factors of the truncated difference, in a random gauge that is not orthogonal."""
    delta = difference(n, m, SIGMA[:rank])
    U, S, Vt = np.linalg.svd(delta)
    mix = np.eye(r) + 0.3 * np.random.default_rng(seed).standard_normal((r, r))
    return delta, np.linalg.solve(mix, S[:r, None] * Vt[:r]), U[:, :r] @ mix


@pytest.mark.parametrize(("n", "m", "r", "rank"), MINIMA)
def test_sharpness_and_local_rate_are_eigenvalues_of_the_hessian(n: int, m: int, r: int, rank: int) -> None:
    delta, A, B = minimum(n, m, r, rank)
    values = hessian(delta, A, B)
    rng = np.random.default_rng(1)
    generic = batch_of(delta, rng.standard_normal((r, m)), rng.standard_normal((n, r)))
    here = batch_of(delta, A, B)
    missing = generic.B.shape[1] - here.B.shape[1]
    state = [torch.nn.functional.pad(X, (0, 0, 0, missing)) for X in (here.B, here.C)]
    rate, sharpness = (float(x) for x in end_state_rates(generic, *state))
    assert sharpness == pytest.approx(values[-1], rel=1e-10)
    assert sharpness == pytest.approx(np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2, rel=1e-12)
    np.testing.assert_allclose(values[: r * r], 0, atol=1e-9)
    # A start that contains every direction: the least eigenvalue that is not zero.
    assert rate == pytest.approx(2 * values[values > 1e-6][0], rel=1e-8)
    # From the minimum itself nothing beyond the learnt modes is excited: their own least α + β.
    alpha, beta = np.linalg.eigvalsh(A @ A.T), np.linalg.eigvalsh(B.T @ B)
    own, _ = end_state_rates(here, here.B, here.C)
    assert float(own) == pytest.approx(2 * (alpha[0] + beta[0]), rel=1e-8)


@pytest.mark.parametrize(("n", "m", "r", "rank"), [*MINIMA, (5, 4, 3, 2), (4, 6, 3, 2)])
@pytest.mark.parametrize("zero", ["", "B"])
def test_unbalanced_runs_end_at_the_local_rate_of_their_end(n: int, m: int, r: int, rank: int, zero: str) -> None:
    """Gaussian starts: the rate computed from the end state is the slope of the last part of the run."""
    rng = np.random.default_rng([n, m, r, rank])
    delta = difference(n, m, SIGMA[:rank])
    A, B = 0.5 * rng.standard_normal((r, m)), 0.5 * rng.standard_normal((n, r)) * (zero != "B")
    batch = batch_of(delta, A, B)
    times = np.linspace(0.0, 250.0, 1001)
    ds = simulate(objective_of(delta), Adapter(A, B), times, solver="dopri8", rtol=1e-11, atol=1e-14)
    excess = ds.excess_loss.values
    first, last = (int(np.argmax(excess < level)) for level in (1e-10, 1e-15))
    assert last > first > 0
    slope = np.log(excess[first] / excess[last]) / (times[last] - times[first])
    end = canonical(objective_of(delta), Adapter(ds.A.values[last], ds.B.values[last]))
    rate, _ = end_state_rates(batch, end.B[:, : batch.B.shape[1]], end.C[:, : batch.C.shape[1]])
    assert slope == pytest.approx(float(rate), rel=0.03)


@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_descent_is_stable_below_the_limit_and_leaves_the_minimum_above(value: float) -> None:
    delta = difference(4, 4, SIGMA)
    A, B = ref.balanced_start(np.random.default_rng(4), 4, 4, 2, value)
    sharpness = float(rates.sharpness_limit(batch_of(delta, A, B)))
    assert sharpness == pytest.approx(math.hypot(2 * SIGMA[0], value), rel=1e-12)
    ds = simulate(objective_of(delta), Adapter(A, B), [0.0, 80.0])
    end, kick = (ds.A.values[-1], ds.B.values[-1]), 1e-6 * np.random.default_rng(0).standard_normal((4, 2))
    np.testing.assert_allclose(hessian(delta, *end)[-1], sharpness, rtol=1e-6)
    near = Adapter(end[0], end[1] + kick)
    for factor, stable in ((0.98, True), (1.02, False)):
        excess = descend(objective_of(delta), near, 400, factor * 2 / sharpness, every=100).excess_loss.values
        assert (excess[-1] < excess[0]) if stable else (excess[2] > 100 * excess[0])


def test_energy_and_floor_follow_from_the_spectrum() -> None:
    delta = difference(6, 4, SIGMA)
    for r in range(1, 7):
        rng = np.random.default_rng(r)
        batch = batch_of(delta, rng.standard_normal((r, 4)), rng.standard_normal((6, r)))
        tail = np.sum(SIGMA[r:] ** 2)
        assert float(frobenius.energy(batch)) == pytest.approx(1 - tail / np.sum(SIGMA**2), rel=1e-12)
        assert float(frobenius.loss_floor(batch)) == pytest.approx(tail / 2, rel=1e-12, abs=1e-30)
