"""Stabilised pairs: order, intervals, rounding, order reduction, spectral radius, and the choice of a pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.adaptive.radius import frobenius_radius, largest_eigenvalue
from flowsim.integrators.adaptive.stabilised import MARGIN, TSIT5_INTERVAL, Pair, Stabilised, StabilisedPair, pairs
from flowsim.integrators.adaptive.tsit5 import Tsit5
from flowsim.integrators.base import Integrated, Status
from tests.stabilised.formula import ERROR, ESTIMATE, INTERNAL, LEAD, STAGES, ZD, Formula
from tests.stabilised.search import improve
from tests.stabilised.table import formulas, stored

EPS = float(np.finfo(np.float64).eps)
FORMULAS = formulas()
EVERY = pytest.mark.parametrize("pair", pairs(), ids=lambda pair: f"{pair.stages} stages")
SOME = pytest.mark.parametrize("pair", pairs()[:: max(1, len(pairs()) // 2)], ids=lambda pair: f"{pair.stages} stages")


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def made(pair: Pair, field, rtol: float = 1e-6) -> StabilisedPair:
    return StabilisedPair(field, tensor(0.0), pair, rtol=rtol, atol=0.0)


def one_step(pair: Pair, field, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    new, ratio, _ = made(pair, field).step(y, (field(y),), h)
    return new, ratio


def amplification(pair: Pair, z: Tensor) -> Tensor:
    """R(z) as the steps themselves have it."""
    return one_step(pair, lambda y: z[:, None] * y, torch.ones(len(z), 1, dtype=torch.float64), torch.ones_like(z))[0][
        :, 0
    ]


@EVERY
def test_conditions_of_order_hold_to_rounding(pair: Pair) -> None:
    x = stored()[pair.stages]
    # A sum of s² products of coefficients up to 6, each rounded.
    assert np.abs(FORMULAS[pair.stages].conditions(x)).max() <= 100 * pair.stages**2 * EPS


@EVERY
def test_damped_on_the_whole_interval(pair: Pair) -> None:
    z = torch.linspace(-pair.interval, 0.0, 4001, dtype=torch.float64)
    R = amplification(pair, z).abs()
    assert float(R.max()) <= 1.0
    # The linear program saw 600 points; between two of them a ripple cos sθ may rise by its curvature.
    assert float(R[z <= -1].max()) <= pair.damping * (1 + 0.5 * (pair.stages * np.pi / 599 / 2) ** 2) + 1e-9
    beyond = amplification(pair, torch.linspace(-1.1, -1.001, 50, dtype=torch.float64) * pair.interval)
    assert float(beyond.abs().max()) > 1.0


def test_the_polynomial_and_the_optimum_are_found_again() -> None:
    formula, x = Formula(8), stored()[8]
    assert pairs()[0].interval == pytest.approx(formula.interval, rel=1e-6)
    again = improve(formula, x + 1e-3 * np.random.default_rng(0).normal(size=formula.size))
    assert again is not None
    assert again[1] == pytest.approx(float(np.sum(formula.goals(x) ** 2)), rel=2e-3)
    R = amplification(pairs()[0], tensor(-0.5, -3.0, -10.0))
    assert R.numpy() == pytest.approx(np.polyval(formula.powers[::-1], [-0.5, -3.0, -10.0]), abs=1e-9)


@EVERY
def test_goals_of_the_table(pair: Pair) -> None:
    formula = FORMULAS[pair.stages]
    A, b, e = formula.split(stored()[pair.stages])
    s, c = pair.stages, A.sum(1)
    for z in -pair.interval * np.linspace(0.01, 1, 100):
        solved = np.linalg.solve(np.eye(s) - z * A, np.stack([np.ones(s), c**2 / 2 - A @ c], axis=1))
        assert abs(z * b @ solved[:, 1]) < 3 * ZD
        assert abs(z * (e[:s] @ solved[:, 0] + e[s] * (1 + z * b @ solved[:, 0]))) < 3 * ESTIMATE
        assert np.abs(solved[:, 0]).max() < 2 * STAGES
        assert np.abs(z * np.linalg.solve(np.eye(s) - z * A.T, b)).max() < 2 * INTERNAL


# Aligned with nothing: the flow of a small problem, as the dense matrices have it.
SIGMA = np.array([2.0, 1.0, 0.5])
LANDSCAPE = FrobeniusLandscape(torch.from_numpy(SIGMA), 3)
START = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 2, 3, 2)) * 0.7)


def flow(Z: Tensor) -> Tensor:
    return velocity(LANDSCAPE, Z)


def dense(start: Tensor, time: float) -> np.ndarray:
    """scipy on B' = (Δ − BCᵀ)C, C' = (Δ − BCᵀ)ᵀB."""

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        B, C = y.reshape(2, 3, 2)
        R = np.diag(SIGMA) - B @ C.T
        return np.concatenate([(R @ C).ravel(), (R.T @ B).ravel()])

    return solve_ivp(slope, (0, time), start.numpy().ravel(), method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


@SOME
def test_order_on_the_flow(pair: Pair) -> None:
    time, errors = 0.4, []
    exact = torch.from_numpy(dense(START, time)).view_as(START)
    for count in (8, 16, 32, 64):
        y, stepper = START, made(pair, flow)
        carry = (flow(y),)
        for _ in range(count):
            y, _, carry = stepper.step(y, carry, tensor(time / count))
        errors.append(float((y - exact).norm()))
    slopes = [np.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert 4.7 < slopes[-1] < 5.4, (slopes, errors)


@SOME
def test_order_of_the_estimate(pair: Pair) -> None:
    ratios = [float(one_step(pair, flow, START, tensor(h))[1]) for h in (0.01, 0.005, 0.0025)]
    slopes = [np.log2(a / b) for a, b in itertools.pairwise(ratios)]
    assert slopes[-1] == pytest.approx(5, abs=0.2), (slopes, ratios)


@EVERY
def test_estimate_and_error_are_as_large_as_the_table_says(pair: Pair) -> None:
    h = 0.02
    y, ratio = one_step(pair, lambda y: -y, torch.ones(1, 1, dtype=torch.float64), tensor(h))
    assert float(ratio) * 1e-6 == pytest.approx(LEAD * h**5, rel=0.2)
    assert abs(float(y) - np.exp(-h)) < 3 * ERROR * h**6


@EVERY
def test_rounding_of_a_step_is_not_amplified(pair: Pair) -> None:
    """In a basis in which every stage rounds into every mode, against the same step in extended precision."""
    n = 60
    rates = -pair.interval * np.linspace(0, 1, n)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    J = (Q * rates) @ Q.T
    y = Q @ np.ones(n)
    matrix = torch.from_numpy(J)
    new, _ = one_step(pair, lambda y: y @ matrix, torch.from_numpy(y)[None], tensor(1.0))
    long, stages = np.longdouble, []
    current = y.astype(long)
    for row in pair.rows:
        stages.append(J.astype(long) @ current)
        current = y.astype(long) + sum(long(a) * k for a, k in zip(row, stages, strict=True))
    error = np.abs(new[0].numpy() - current.astype(float)).max()
    # A slope is a sum of n products, rounded like √n of them; a step makes at most 2·INTERNAL of it.
    assert error < 10 * INTERNAL * n**0.5 * EPS, error


@SOME
def test_slow_modes_drive_fast_ones(pair: Pair) -> None:
    """Prothero and Robinson's problem as a flow: u' = −u, v' = −λ(v − u²), on its slow manifold."""
    rate = 0.9 * pair.interval / 0.1
    gain = rate / (rate - 2)

    def field(y: Tensor) -> Tensor:
        u, v = y.unbind(-1)
        return torch.stack([-u, -rate * (v - u * u)], dim=-1)

    y, stepper = tensor(1.0, gain)[None], made(pair, field)
    carry = (field(y),)
    for _ in range(20):
        y, _, carry = stepper.step(y, carry, tensor(0.1))
        u = float(y[0, 0])
        # φ'' = 4u², and the stiff mode keeps at most 1/(1 − R) of what each step adds.
        assert abs(float(y[0, 1]) - gain * u * u) < 3 * ZD * 0.1**2 * 4 / (1 - pair.damping) * 0.1


@EVERY
def test_evaluations_are_counted_and_no_step_is_no_change(pair: Pair) -> None:
    calls = []

    def field(y: Tensor) -> Tensor:
        calls.append(1)
        return -y

    y = torch.rand(3, 4, dtype=torch.float64)
    stepper = made(pair, field)
    new, ratio, carry = stepper.step(y, (-y,), torch.zeros(3, dtype=torch.float64))
    assert len(calls) == stepper.cost == pair.stages
    assert torch.equal(new, y) and float(ratio.max()) == 0 and torch.equal(carry[0], -y)


def stiff(rtol: float) -> tuple[Tensor, Tensor, Tensor, dict[str, object]]:
    """y' = −Ky with rates 1e-2 … 1e2, and its exact solution."""
    rates = np.logspace(-2, 2, 30)
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))[0]
    K = (Q * rates) @ Q.T
    times = tensor(0.5, 5.0, 50.0)
    start = Q @ np.ones(30)
    exact = np.stack([expm(-K * t) @ start for t in times.tolist()])
    matrix = torch.from_numpy(K)
    return torch.from_numpy(start)[None], times, torch.from_numpy(exact), {"field": lambda y: -y @ matrix}


def test_a_stiff_problem_costs_less() -> None:
    start, times, exact, made_of = stiff(1e-6)
    field = made_of["field"]
    size = {"rtol": 1e-6, "atol": 1e-9}
    long = Stabilised(field, start, spectral_radius=lambda y: torch.full_like(y[:, 0], 100.0), **size)
    a = integrate(long, start, times, max_steps=10_000, block=4)
    b = integrate(Tsit5(field, start, **size), start, times, max_steps=10_000)
    assert a.status == b.status == [Status.COMPLETED]
    assert float((a.states[:, 0] - exact).norm(dim=1).max()) < 1e-4 * float(exact[0].norm())
    assert a.evaluations[0] < b.evaluations[0] / 3


def test_logistic_growth() -> None:
    """Problem A4 of DETEST (Hull et al. 1972): y' = y(1 − y/20)/4, y(0) = 1."""
    times = tensor(1.0, 5.0, 20.0)
    exact = 20 / (1 + 19 * torch.exp(-times / 4))
    for rtol in (1e-5, 1e-8):
        stepper = Stabilised(
            lambda y: 0.25 * y * (1 - y / 20), tensor(1.0), rtol=rtol, atol=0.0,
            spectral_radius=lambda y: torch.full((len(y),), 0.25, dtype=torch.float64),
        )  # fmt: skip
        found = integrate(stepper, tensor(1.0)[:, None], times, max_steps=1000)
        assert float((found.states[:, 0, 0] / exact - 1).abs().max()) < 20 * rtol


def hessian(sigma: np.ndarray, Z: Tensor) -> np.ndarray:
    """Eigenvalues of the Hessian of ½‖Σ − BCᵀ‖², by automatic differentiation of the dense loss."""

    def loss(Z: Tensor) -> Tensor:
        return 0.5 * (torch.diag(torch.from_numpy(sigma)) - Z[0] @ Z[1].mT).square().sum()

    H = torch.autograd.functional.hessian(loss, Z).reshape(Z.numel(), -1)
    return torch.linalg.eigvalsh(H).numpy()


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_spectral_radius_is_bounded(scale: float, rank: int) -> None:
    sigma = np.array([1.0, 0.7, 0.7, 0.1, 0.0, 0.0])
    radius = frobenius_radius(FrobeniusLandscape(torch.from_numpy(sigma), 5))
    Z = scale * torch.from_numpy(np.random.default_rng(rank).normal(size=(4, 2, 6, rank)))
    bound = radius(Z)
    assert bound.shape == (4,) and bound.dtype == torch.float64
    for one, limit in zip(Z, bound.tolist(), strict=True):
        true = np.abs(hessian(sigma, one)).max()
        assert true * (1 - 1e-12) <= limit <= 3 * true


def test_spectral_radius_at_a_minimum_is_nearly_exact() -> None:
    sigma = np.array([1.0, 0.4, 0.05, 0.01])
    factor = torch.diag(torch.from_numpy(np.sqrt(sigma)))[:, :2]
    Z = torch.stack([factor, factor])
    true = np.abs(hessian(sigma, Z)).max()
    assert true == pytest.approx(2.0)
    assert float(frobenius_radius(FrobeniusLandscape(torch.from_numpy(sigma), 4))(Z[None])[0]) < 1.04 * true


def test_largest_eigenvalue_in_any_range() -> None:
    G = torch.diag_embed(tensor(3.0, 2.0, 1.0)) * tensor(1e-150, 1.0, 1e150)[:, None, None]
    found = largest_eigenvalue(G) / tensor(3e-150, 3.0, 3e150)
    assert bool(((found >= 1 - 4 * EPS) & (found < 1.01)).all())
    assert float(largest_eigenvalue(torch.zeros(1, 2, 2, dtype=torch.float64))) == 0
    equal = largest_eigenvalue(torch.eye(64, dtype=torch.float64)[None])
    assert 1 <= float(equal) <= 64 ** (1 / 32) * (1 + 1e-12)


def choice(demand: float, stepper: Stabilised) -> int:
    stepper.use(stepper.choose(demand, stepper.setting))
    return stepper.cost


def test_the_pair_of_a_block_is_the_cheapest_for_its_demand() -> None:
    unit = lambda y: torch.ones_like(y[:, 0])  # noqa: E731
    stepper = Stabilised(lambda y: -y, tensor(1.0), rtol=1e-6, atol=0.0, spectral_radius=unit)
    y, carry = stepper.begin(torch.ones(2, 1, dtype=torch.float64))
    costs = [6, *(pair.stages for pair in pairs())]
    reaches = [TSIT5_INTERVAL * MARGIN, *(pair.interval * MARGIN for pair in pairs())]
    for demand in (0.0, 0.1, 2.0, 6.0, 12.0, 25.0, 1e3, 1e9):
        stepper.use(stepper.choose(0.0, stepper.setting))
        cost = choice(demand, stepper)
        best = min(c / min(demand, reach) if demand else c for c, reach in zip(costs, reaches, strict=True))
        assert cost / min(demand, reaches[costs.index(cost)]) == best if demand else cost == 6
        assert stepper.longest(y, carry).tolist() == [reaches[costs.index(cost)]] * 2
    # At the end of Tsitouras' interval its own estimate holds the demand back.
    stepper.use(stepper.choose(0.0, stepper.setting))
    assert choice(1.001 * reaches[0], stepper) == costs[1]
    assert stepper.demand(y, carry, tensor(2.0, 3.0)).tolist() == [2.0, 3.0]


def test_a_member_does_not_depend_on_the_others() -> None:
    Z = torch.from_numpy(np.random.default_rng(5).normal(size=(5, 2, 3, 2)))
    stepper = Stabilised(flow, Z, rtol=1e-6, atol=1e-9, spectral_radius=frobenius_radius(LANDSCAPE))
    stepper.use(stepper.choose(20.0, stepper.setting))
    h = torch.linspace(0.01, 0.2, 5, dtype=torch.float64)
    together = stepper.step(*stepper.begin(Z), h)
    for i in range(5):
        alone = stepper.step(*stepper.begin(Z[i : i + 1]), h[i : i + 1])
        assert torch.allclose(together[0][i], alone[0][0], rtol=1e-13, atol=1e-14)
        assert float(together[1][i]) == pytest.approx(float(alone[1]), rel=1e-6)


def test_nothing_is_read_by_the_host() -> None:
    with FakeTensorMode():
        Z = torch.empty(3, 2, 4, 2, dtype=torch.float64)
        landscape = FrobeniusLandscape(torch.empty(4, dtype=torch.float64), 4)
        stepper = Stabilised(
            lambda Z: velocity(landscape, Z), Z, rtol=1e-6, atol=1e-9, spectral_radius=frobenius_radius(landscape)
        )
        for demand in (1.0, 10.0):
            stepper.use(stepper.choose(demand, stepper.setting))
            y, carry = stepper.begin(Z)
            h = stepper.longest(y, carry)
            y, ratio, carry = stepper.step(y, carry, h)
            assert stepper.demand(y, carry, h).shape == ratio.shape == (3,)


def test_a_trajectory_takes_the_same_formulas_alone_and_in_any_batch() -> None:
    """Formulas are chosen for each member by its own demand: what is stiff beside it changes none of its steps."""
    sigma = torch.tensor([1.0, 0.9, 0.1, 0.05], dtype=torch.float64)
    landscape = FrobeniusLandscape(sigma, 4)
    Z = torch.randn(4, 2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    Z = Z * torch.tensor([0.05, 0.5, 2.0, 6.0], dtype=torch.float64).view(-1, 1, 1, 1)
    times = torch.tensor([3.0, 60.0, 150.0], dtype=torch.float64)

    def run(members: list[int]) -> Integrated:
        start = Z[members]
        stepper = Stabilised(
            lambda y: velocity(landscape, y), start, rtol=1e-6, atol=1e-9, spectral_radius=frobenius_radius(landscape)
        )
        return integrate(stepper, start, times, max_steps=10_000)

    alone = [run([member]) for member in range(4)]
    assert len({one.evaluations[0] / one.steps[0] for one in alone}) > 1  # other formulas for other members
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 0]):
        together = run(order)
        for place, member in enumerate(order):
            assert together.steps[place] == alone[member].steps[0]
            assert together.evaluations[place] == alone[member].evaluations[0]
            torch.testing.assert_close(together.states[:, place], alone[member].states[:, 0], rtol=1e-10, atol=1e-11)
