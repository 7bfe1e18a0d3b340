"""The extrapolated splitting: orders, conservation, odd starts against DOP853 on dense matrices, and who is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.products import distance, product_norm
from flowsim.integrators.adaptive import driver
from flowsim.integrators.adaptive.nearly_balanced import UNEVEN, applicable, turned
from flowsim.integrators.adaptive.splitting import Constants, Splitting
from flowsim.integrators.adaptive.standing import standing
from flowsim.integrators.base import Status
from tests.integrators.adaptive.test_small import Reads
from tests.oracles import reference as ref

EPS = float(np.finfo(np.float64).eps)
SIGMA = torch.tensor([1.4, 1.0, 0.65, 0.4, 0.25, 0.1], dtype=torch.float64)


def small(rank: int, *, size: float = 0.05, rows: int = 6, seed: int = 0, batch: int = 1) -> Tensor:
    """Gaussian factors (batch, 2, rows, rank)."""
    rng = np.random.default_rng([seed, rank, rows])
    return torch.from_numpy(size * rng.standard_normal((batch, 2, rows, rank)))


def nearly_orthogonal(rank: int, uneven: float, *, rows: int = 6, mirrored: bool = False) -> Tensor:
    """B = 0 and orthogonal columns of C whose squared lengths differ by `uneven`; mirrored: the other way round."""
    C = ref.haar(np.random.default_rng(rank), rows, rank) * np.sqrt(1 + uneven * np.linspace(-0.5, 0.5, rank))
    Z = np.stack([np.zeros_like(C), C])[::-1] if mirrored else np.stack([np.zeros_like(C), C])
    return torch.from_numpy(Z.copy())[None]


def dense(sigma: Tensor, Z: Tensor, times: list[float], rtol: float = 1e-12) -> Tensor:
    """The flow by DOP853 on dense matrices, (T, 2, q, r)."""
    loss = ref.Loss(np.zeros((len(sigma), len(sigma))), torch.diag(sigma).numpy())
    A, B = ref.flow(loss, Z[1].mT.numpy().copy(), Z[0].numpy().copy(), times, rtol)
    return torch.from_numpy(np.stack([B, A.transpose(0, 2, 1)], axis=1))


def solve(stepper: Splitting, Z: Tensor, times: list[float]) -> driver.Integrated:
    return driver.integrate(stepper, Z, torch.tensor(times, dtype=torch.float64), max_steps=20_000)


def wrong(states: Tensor, right: Tensor) -> float:
    """Largest relative error of BCᵀ over the times."""
    error = distance(states[:, 0], states[:, 1], right[:, 0], right[:, 1])
    return float((error / product_norm(right[:, 0], right[:, 1])).max())


def fixed_steps(stepper: Splitting, Z: Tensor, h: float, count: int) -> Tensor:
    y, carry = stepper.begin(Z)
    for _ in range(count):
        y, _, carry = stepper.step(y, carry, torch.full((len(Z),), h, dtype=torch.float64))
    return stepper.output(y, carry)


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("kind", ["small", "orthogonal"])
def test_the_order_in_the_product_and_in_the_factors(order: int, kind: str) -> None:
    Z = small(3, size=0.2) if kind == "small" else nearly_orthogonal(3, 0.2)
    right = dense(SIGMA, Z[0], [4.0], 1e-13)[0]
    stepper = Splitting(SIGMA, order=order, rtol=1e-6)
    products, factors = [], []
    for count in (8, 16, 32):
        state = fixed_steps(stepper, Z, 4.0 / count, count)[0]
        products.append(float(distance(state[0], state[1], right[0], right[1])))
        factors.append(float((state - right).norm()))
    for errors in (products, factors):
        slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert order - 0.2 < slopes[-1] < order + 0.5, (errors, slopes)
        assert errors[-1] > 1e-12, "rounding hides the order"


def test_the_composition_is_symmetric_in_time() -> None:
    """A step and the step back; the formulas are analytic in h, so that one of −h is one of the same functions."""
    stepper = Splitting(SIGMA, order=6, rtol=1e-6)
    y, carry = stepper.begin(small(3, size=0.2))
    c = Constants(*carry)
    lead = (c.cos * y[:, 0] + c.sin * y[:, 1])[0, :3]
    condition = float(torch.linalg.cond(lead / torch.linalg.vector_norm(lead, dim=1, keepdim=True)))
    h = torch.tensor([0.3], dtype=torch.float64)
    there = stepper.compositions(y, c, h).clone()
    for place, state in enumerate(there):
        back = stepper.compositions(state, c, -h)[place]
        assert float((back - y).norm()) <= 64 * EPS * condition**2 * float(y.norm()) < 1e-9
        assert float((state - y).norm()) > 0.05 * float(y.norm())


def test_the_projection_keeps_the_product_and_restores_what_is_conserved() -> None:
    stepper = Splitting(SIGMA, order=4, rtol=1e-6)
    y, carry = stepper.begin(small(3, size=0.4))
    c = Constants(*carry)
    states = stepper.compositions(y, c, torch.tensor([1.0], dtype=torch.float64)).clone()
    Q0 = imbalance(y[:, 0], y[:, 1])
    misses = [float((imbalance(states[:, :, 0], states[:, :, 1]) - Q0).norm())]
    for _ in range(3):
        nearer = stepper.projected(states, c)
        moved = distance(nearer[:, 0, 0], nearer[:, 0, 1], states[:, 0, 0], states[:, 0, 1])
        assert float(moved.max()) <= 64 * EPS * float(y.square().sum())
        states = nearer
        misses.append(float((imbalance(states[:, :, 0], states[:, :, 1]) - Q0).norm()))
    assert misses[0] > 1e-4
    assert misses[1] < 0.1 * misses[0], "one step of Newton's method"
    assert misses[2] < misses[1] ** 1.5
    assert misses[3] <= 64 * EPS * float(states.square().sum())


CASES = {
    "small": (SIGMA, small(3)),
    "rank one": (SIGMA, small(1)),
    "as many columns as rows": (SIGMA, small(6, size=0.1)),
    "zero singular values": (torch.tensor([1.4, 0.8, 0.3, 0.0, 0.0, 0.0], dtype=torch.float64), small(2)),
    "r above the rank": (torch.tensor([1.4, 0.8, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), small(4, size=0.1)),
    "ties": (torch.tensor([1.4, 0.7, 0.7, 0.7, 0.2, 0.2], dtype=torch.float64), small(3)),
    "lambda negative": (SIGMA, nearly_orthogonal(3, 0.02)),
    "lambda positive": (SIGMA, nearly_orthogonal(3, 0.02, mirrored=True)),
    "lambda negative, r above the rank": (
        torch.tensor([1.4, 0.8, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), nearly_orthogonal(4, 0.02),
    ),
    "lambda beyond sigma": (0.2 * SIGMA, nearly_orthogonal(3, 0.02)),
    "E = 0": (SIGMA, nearly_orthogonal(3, 0.0)),
}  # fmt: skip


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_odd_starts_follow_the_dense_equation(name: str, factors: bool) -> None:
    sigma, Z = CASES[name]
    times = [0.0, 0.5, 3.0, 12.0, 40.0]
    right = dense(sigma, Z[0], times)
    tolerance = 1e-7
    result = solve(Splitting(sigma, order=6, rtol=tolerance, atol=1e-12, factors=factors), Z, times)
    assert result.status == [Status.COMPLETED]
    states = result.states[:, 0]
    # The local errors of at most a few dozen steps within the tolerance; times where BCᵀ is zero are left out.
    assert wrong(states[1:], right[1:]) <= 10 * tolerance
    if factors:
        errors = (states - right).flatten(1).norm(dim=1) / right.flatten(1).norm(dim=1)
        assert float(errors.max()) <= 30 * tolerance


def test_a_wide_target_has_rows_of_one_side_only() -> None:
    """n = 6, m = 4: two rows of C do not exist; they stay exactly zero."""
    sigma = torch.tensor([1.4, 0.9, 0.5, 0.2, 0.0, 0.0], dtype=torch.float64)
    Z = small(2)
    Z[:, 1, 4:] = 0.0
    times = [0.0, 2.0, 30.0]
    result = solve(Splitting(sigma, order=4, rtol=1e-8), Z, times)
    loss = ref.Loss(np.zeros((6, 4)), torch.diag(sigma)[:, :4].numpy())
    A, B = ref.flow(loss, Z[0, 1, :4].mT.numpy().copy(), Z[0, 0].numpy().copy(), times)
    for i in range(len(times)):
        b, c = result.states[i, 0]
        assert not c[4:].any()
        assert np.linalg.norm((b @ c[:4].mT).numpy() - B[i] @ A[i]) <= 1e-6 * np.linalg.norm(B[i] @ A[i])


def test_alone_and_in_a_batch_the_steps_and_the_numbers_are_the_same() -> None:
    starts = [
        small(3),
        small(3, size=0.1, seed=1),
        nearly_orthogonal(3, 0.01),
        nearly_orthogonal(3, 0.02, mirrored=True),
    ]
    times = [0.0, 1.0, 20.0]
    together = solve(Splitting(SIGMA, order=4, rtol=1e-7), torch.cat(starts), times)
    for i, Z in enumerate(starts):
        alone = solve(Splitting(SIGMA, order=4, rtol=1e-7), Z, times)
        assert alone.steps == [together.steps[i]]
        assert torch.allclose(alone.states[:, 0], together.states[:, i], rtol=0, atol=1e-10)


def test_the_error_follows_the_tolerance() -> None:
    Z, times = small(4, size=0.02), [0.0, 2.0, 6.0, 20.0, 60.0]
    right = dense(SIGMA, Z[0], times)
    for order in (4, 6):
        counts = []
        for rtol in (1e-4, 1e-6, 1e-8):
            result = solve(Splitting(SIGMA, order=order, rtol=rtol), Z, times)
            assert wrong(result.states[1:, 0], right[1:]) <= rtol * 2
            counts.append(result.steps[0])
        assert counts[0] < counts[1] < counts[2]


def test_the_estimate_is_the_distance_of_two_extrapolations() -> None:
    """Of their products, formed in full; of the factors, over all entries."""
    Z, rtol = small(3, size=0.2), 1e-3
    h = torch.tensor([0.4], dtype=torch.float64)
    for factors in (False, True):
        stepper = Splitting(SIGMA, order=4, rtol=rtol, factors=factors)
        y, carry = stepper.begin(Z)
        new, ratio, _ = stepper.step(y, carry, h)
        coarse = stepper.projected(stepper.compositions(y, Constants(*carry), h), Constants(*carry))[0]
        P, Q = new[0, 0] @ new[0, 1].mT, coarse[0, 0] @ coarse[0, 1].mT
        right = (new - coarse).norm() / (rtol * new.norm()) if factors else (P - Q).norm() / (rtol * P.norm())
        # What is left out is of second order in the difference.
        assert abs(float(ratio) / float(right) - 1) <= 10 * float((new - coarse).norm() / new.norm())
        assert float((new - coarse).norm()) < 1e-3


def test_loose_and_tight_take_different_first_steps() -> None:
    Z, stop = small(3), torch.tensor(100.0, dtype=torch.float64)
    steps = []
    for rtol in (1e-4, 1e-5, 1e-6):
        stepper = Splitting(SIGMA, order=4, rtol=rtol)
        steps.append(float(stepper.first_step(*stepper.begin(Z), stop)))
    assert steps[0] > steps[1] > steps[2] > 0


def test_no_time_returns_the_state_and_too_much_is_rejected_without_nan() -> None:
    Z = torch.cat([small(3), nearly_orthogonal(3, 0.02)])
    stepper = Splitting(SIGMA, order=4, rtol=1e-6)
    y, carry = stepper.begin(Z)
    same, ratio, _ = stepper.step(y, carry, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(same, y)
    assert not ratio.any()
    longest = stepper.longest(y, carry)
    assert longest is not None
    for h in (longest, 100 * longest):
        new, ratio, _ = stepper.step(y, carry, h)
        assert new.isfinite().all()
        assert ratio.isfinite().all()
        assert (ratio > 1).all()


def test_no_accepted_step_lets_the_loss_rise() -> None:
    Z = small(4, size=0.02)
    stepper = Splitting(SIGMA, order=4, rtol=1e-4)
    times = [0.0, *np.geomspace(0.5, 2000.0, 60)]
    B, C = solve(stepper, Z, times).states[:, 0].unbind(1)
    losses = (torch.diag(SIGMA) - B @ C.mT).square().sum((-2, -1))
    assert float(torch.diff(losses).max()) <= 1e-4 * float(losses[0])
    # A step that lets it rise is rejected whatever the members of the extrapolation agree on.
    y, carry = stepper.begin(Z)
    c = Constants(*carry)
    cheated = tuple(c._replace(excess=c.excess - 10.0))
    h = torch.tensor([1e-3], dtype=torch.float64)
    assert float(stepper.step(y, carry, h)[1]) <= 1 < float(stepper.step(y, cheated, h)[1])


@pytest.mark.parametrize("factors", [False, True])
def test_a_flow_that_has_arrived_rests(factors: bool) -> None:
    """However long: within the tolerance of the minimum, and where A and B are wanted, of where they were."""
    Z, rtol = small(3, size=0.02), 1e-6
    stepper = Splitting(SIGMA, order=4, rtol=rtol, factors=factors)
    short = solve(stepper, Z, [0.0, 200.0, 1e4])
    long = solve(stepper, Z, [0.0, 200.0, 1e4, 1e4 + 1.0, 1e6])
    assert long.steps[0] <= short.steps[0] * 1.5
    B, C = long.states[-1, 0]
    assert float((B @ C.mT - torch.diag(SIGMA * (torch.arange(6) < 3))).norm()) <= rtol * 2
    if factors:
        assert float((long.states[-1, 0] - long.states[-3, 0]).norm()) <= 1e-4
    # Not before: where the state still moves by more than the tolerance the longest step is that of ‖E‖·h.
    y, carry = stepper.begin(Z)
    longest = stepper.longest(y, carry)
    assert longest is not None
    assert float(longest) < 1e3
    y, carry = stepper.begin(long.states[-1])
    h = torch.tensor([1e9], dtype=torch.float64)
    if not factors:
        assert torch.equal(stepper.step(y, carry, h)[0], y)
        assert solve(stepper, long.states[-1], [0.0, 1e9]).status == [Status.COMPLETED]


def test_the_bounds_of_a_state_at_rest_hold() -> None:
    """2·excess ≥ (1 − σ_{r+1}/σ_r)·‖P − Δ_r‖² for products of rank r, near and far, and the excess is the loss's."""
    rng = np.random.default_rng(0)
    least = math.inf
    for _ in range(500):
        rank, size = int(rng.integers(1, 6)), 10 ** rng.uniform(-4, 1)
        Z = torch.from_numpy(size * rng.standard_normal((1, 2, 6, rank)))
        Z[0, :, range(rank), range(rank)] += SIGMA[:rank].sqrt()
        if rng.random() < 0.3:  # mode r turned towards mode r + 1
            Z[0, :, rank, rank - 1] = 10 ** rng.uniform(-4, 0) * Z[0, :, rank - 1, rank - 1]
        here = standing(SIGMA, Z, torch.ones(1, dtype=Z.dtype), rtol=1e-6, atol=0.0, factors=False)
        P = Z[0, 0] @ Z[0, 1].mT
        loss = 0.5 * float((torch.diag(SIGMA) - P).square().sum() - SIGMA[rank:].square().sum())
        assert abs(float(here.excess) - loss) <= 64 * EPS * (1 + abs(loss))
        far = float((P - torch.diag(SIGMA * (torch.arange(6) < rank))).square().sum())
        ratio = 2 * float(here.excess) / ((1 - float(SIGMA[rank] / SIGMA[rank - 1])) * far)
        least = min(least, ratio)
    assert 1 - 1e-6 <= least < 2, "the bound holds, and is not an empty one"


def test_ties_never_rest() -> None:
    """Without a gap a small excess says nothing of BCᵀ: it may still turn within the tie."""
    sigma = torch.tensor([1.4, 0.7, 0.7, 0.2], dtype=torch.float64)
    Z = torch.zeros(1, 2, 4, 2, dtype=torch.float64)
    Z[0, :, [0, 2], [0, 1]] = sigma[[0, 2]].sqrt()
    Z[0, :, 1, 1] = 0.1
    stepper = Splitting(sigma, order=4, rtol=1e-3)
    _, carry = stepper.begin(Z)
    assert not Constants(*carry).rest.any()


def test_the_turn_makes_the_imbalance_diagonal() -> None:
    Z = small(4, batch=3)
    y, turn = turned(Z)
    Q = imbalance(y[:, 0], y[:, 1])
    off = Q - torch.diag_embed(Q.diagonal(dim1=-2, dim2=-1))
    assert float(off.abs().max()) <= 16 * EPS * float(Z.square().sum((1, 2, 3)).max())
    assert torch.allclose(y @ turn.mT[:, None], Z, rtol=0, atol=1e-15)


def test_who_is_refused_and_why() -> None:
    fit = small(3, size=0.005)
    absent, opposite = fit.clone(), fit.clone()
    absent[0, :, 1] = 0.0
    B = fit[0, 0]
    opposite[0] = torch.stack([B, B])  # balanced: λ = 0 exactly
    opposite[0, 1, 1] = -B[1]
    dependent = fit.clone()
    dependent[0, :, 1] = dependent[0, :, 0] * (1 + 1e-12)
    endless = fit.clone()
    endless[0, 0, 0, 0] = torch.nan
    uneven = nearly_orthogonal(3, 0.3)
    starts = torch.cat([fit, absent, opposite, dependent, endless, uneven])
    reasons = applicable(SIGMA, starts, rtol=1e-6)
    assert reasons[0] == ""
    for reason, word in zip(reasons[1:], ("absent", "absent", "dependent", "finite", "imbalance"), strict=True):
        assert word in reason, reasons
    assert "columns" in applicable(SIGMA, small(7, size=0.01), rtol=1e-6)[0]
    assert "no singular value" in applicable(0 * SIGMA, fit, rtol=1e-6)[0]
    # Squared lengths that differ by u have ‖Λ − λI‖ = u/2.
    at_the_limit = 2 * 3 * UNEVEN * float(SIGMA[0])
    assert applicable(SIGMA, nearly_orthogonal(3, 0.99 * at_the_limit), rtol=1e-6) == [""]
    assert "imbalance" in applicable(SIGMA, nearly_orthogonal(3, 1.01 * at_the_limit), rtol=1e-6)[0]


def test_the_limit_of_the_condition_holds_the_tolerance() -> None:
    """Rows as dependent as is just allowed do not spoil the result."""
    Z, times = small(3, size=0.005), [0.0, 5.0, 30.0]
    for share in np.geomspace(1e-2, 1e-7, 30):
        Z[0, :, 1] = Z[0, :, 0] + share * small(3, size=0.005, seed=7)[0, :, 1]
        if applicable(SIGMA, Z, rtol=1e-6) != [""]:
            break
        worst = Z.clone()
    else:
        raise AssertionError("never refused")
    result = solve(Splitting(SIGMA, order=4, rtol=1e-6), worst, times)
    assert result.status == [Status.COMPLETED]
    assert wrong(result.states[1:, 0], dense(SIGMA, worst[0], times)[1:]) <= 1e-5


def test_a_start_that_breaks_down_ends_alone_and_by_name() -> None:
    absent = small(3)
    absent[0, :, 1] = 0.0
    result = solve(Splitting(SIGMA, order=4, rtol=1e-6), torch.cat([absent, small(3, seed=1)]), [0.0, 5.0])
    assert result.status[0] in (Status.STEP_UNDERFLOW, Status.DIVERGED)
    assert result.status[1] is Status.COMPLETED
    assert result.states[:, 1].isfinite().all()


def test_what_a_device_runs_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newton's iterations in place of LAPACK's eigenvectors; no eigenvectors at all, and all of it on meta."""
    stepper = Splitting(SIGMA, order=6, rtol=1e-6)
    y, carry = stepper.begin(small(3, size=0.2, batch=2))
    h = torch.full((2,), 0.7, dtype=torch.float64)
    right, ratio, _ = stepper.step(y, carry, h)
    monkeypatch.setattr("flowsim.integrators.adaptive.small._chosen", lambda *_: True)
    with Reads() as reads:
        new, estimate, _ = stepper.step(y, carry, h)
    assert not reads.count
    assert torch.allclose(new, right, rtol=0, atol=1e-9)
    assert torch.allclose(estimate, ratio, rtol=1e-3)
    monkeypatch.undo()
    there = Splitting(SIGMA.to("meta"), order=6, rtol=1e-6)
    new, estimate, _ = there.step(y.to("meta"), tuple(x.to("meta") for x in carry), h.to("meta"))
    assert (new.shape, new.dtype, new.device.type) == (y.shape, y.dtype, "meta")
    assert estimate.dtype == torch.float64


def test_a_step_never_waits_for_the_host() -> None:
    stepper = Splitting(SIGMA, order=6, rtol=1e-6)
    y, carry = stepper.begin(small(3, batch=2))
    h = torch.full((2,), 0.2, dtype=torch.float64)
    with Reads() as reads:
        stepper.step(y, carry, h)
        stepper.longest(y, carry)
        stepper.inside(y, carry, h)
    assert not [name for name in reads.count if "svd" not in name and "eigh" not in name], reads.count
    with FakeTensorMode() as mode:
        sigma = mode.from_tensor(SIGMA)
        fake = Splitting(sigma, order=6, rtol=1e-6)
        new, ratio, _ = fake.step(mode.from_tensor(y), tuple(mode.from_tensor(x) for x in carry), mode.from_tensor(h))
    assert new.shape == y.shape
    assert ratio.shape == h.shape


@pytest.mark.parametrize(("order", "factors"), [(4, False), (6, False), (4, True)])
def test_output_inside_a_step_costs_less_and_holds_the_tolerance(order: int, factors: bool) -> None:
    """Inside the steps of a run, against a run a thousand times tighter: within four tolerances and what steps add."""
    Z, rtol = small(3, size=0.02), 1e-5
    times = np.linspace(0.0, 40.0, 161).tolist()
    stepper = Splitting(SIGMA, order=order, rtol=rtol, factors=factors)
    assert stepper.cost_inside == {4: 1, 6: 3}[order] < stepper.cost
    rough = solve(stepper, Z, times)
    fine = solve(Splitting(SIGMA, order=6, rtol=1e-9, factors=factors), Z, times)
    ends = solve(Splitting(SIGMA, order=order, rtol=rtol, factors=factors), Z, [40.0])
    assert rough.steps == ends.steps and rough.steps[0] < 80  # two wanted times or more in a step
    error = distance(*rough.states.unbind(2), *fine.states.unbind(2)) / product_norm(*fine.states.unbind(2))
    assert float(error.max()) <= 10 * rtol  # errors of early steps grow with the modes
    drift = imbalance(*rough.states.unbind(2)) - imbalance(*rough.states[:1].unbind(2))
    assert float(torch.linalg.matrix_norm(drift).max()) <= rtol  # the projection is one step of Newton's method
