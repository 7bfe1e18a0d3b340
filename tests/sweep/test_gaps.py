"""Gaps between schedules and the flow: measured, predicted and extrapolated, from dense products."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.flow import variation_velocity
from flowsim.integrators.engine import integrate
from flowsim.integrators.solve import solve_flow
from flowsim.integrators.stepped import descend, sequential_flow
from flowsim.problem.objectives import Adapter, Frobenius, TraceSquared
from flowsim.sweep import gaps
from flowsim.sweep.companions import AGAINST, LABELS, companions_of
from flowsim.sweep.schedules import ScheduleItem
from tests.oracles import reference as ref

TIMES = torch.tensor([0.0, 0.4, 0.8], dtype=torch.float64)
PLANS = [
    ("descent", "simultaneous", 1), ("descent", "simultaneous", 3), ("descent", "a_first", 1),
    ("descent", "a_first", 3), ("descent", "b_first", 2), ("flow", "a_first", 1), ("flow", "b_first", 1),
]  # fmt: skip


def problem(kind: str = "frobenius") -> Canonical:
    rng = np.random.default_rng(3)
    W0, target = rng.standard_normal((2, 4, 4))
    starts = {"one": (0.6 * rng.standard_normal((2, 4)), 0.6 * rng.standard_normal((4, 2)))}
    starts["two"] = (0.6 * rng.standard_normal((2, 4)), np.zeros((4, 2)))
    adapter = Adapter(*ref.stack(starts), 1.3)
    return canonical(Frobenius(W0, target, 0.6) if kind == "frobenius" else TraceSquared(W0, 0.3), adapter)


def reference(batch: Canonical) -> gaps.FlowReference:
    start = torch.stack([batch.B, batch.C], dim=1)
    state = torch.cat([start[:, None], torch.zeros_like(start)[:, None].expand(-1, 4, -1, -1, -1)], dim=1)
    solved = integrate(
        lambda y: variation_velocity(batch.landscape, y), state, batch.clock * TIMES,
        method="dopri8", rtol=1e-12, atol=1e-14,
    )  # fmt: skip
    B, C = solved.states[:, :, 0].unbind(2)
    size = torch.linalg.matrix_norm(B @ C.mT).amax(0)
    return gaps.FlowReference(B, C, solved.states, size, batch.clock)


def item_of(kind: str, update: str, inner: int, h: float) -> ScheduleItem:
    if kind == "flow":
        return ScheduleItem("w", kind, update, window=h)
    return ScheduleItem("d", kind, update, learning_rate=h / inner, inner_steps=inner)


def run(batch: Canonical, item: ScheduleItem, update: str | None = None) -> gaps.Pair:
    rounds = np.rint(TIMES.numpy() / item.step).astype(int)
    if item.kind == "flow":
        solved = sequential_flow(batch, update or item.update, item.window, rounds)
    else:
        solved = descend(batch, update or item.update, item.learning_rate, item.inner_steps, rounds)
    return solved.B, solved.C


def gap(batch: Canonical, item: ScheduleItem, other: gaps.Pair) -> gaps.Gap:
    return gaps.Gap(run(batch, item), other, item.step)


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
@pytest.mark.parametrize(("schedule", "update", "inner"), PLANS)
def test_the_residual_falls_four_times_per_halving(kind: str, schedule: str, update: str, inner: int) -> None:
    batch = problem(kind)
    flow = reference(batch)
    items = [item_of(schedule, update, inner, h) for h in (0.02, 0.01, 0.005, 0.0025)]
    weights = gaps.weights_of(items[0])
    steps = [gap(batch, item, (flow.B, flow.C)) for item in items]
    residuals = torch.stack([gaps.richardson_residual(flow, weights, a, b) for a, b in itertools.pairwise(steps)])
    coefficient = gaps.predicted(flow, weights, 1.0)
    assert (residuals[:, 0] < 100 * np.finfo(float).eps / items[-1].step).all()  # time 0: rounding, divided by h
    ratio = residuals[:-1, 1:] / residuals[1:, 1:]
    assert (ratio > 3.4).all(), ratio
    assert (ratio[-1, :, 0] < 4.6).all(), ratio  # from B = 0 the term of order h² may vanish as well
    assert (residuals[-1, 1:] < 0.01 * coefficient[1:]).all()
    # The gap itself is the prediction up to O(h), and the drift bounds what is left of the extrapolant.
    own = steps[-1].own
    measured = torch.linalg.matrix_norm(own[0] @ own[1].mT - flow.B @ flow.C.mT)[1:] / flow.size
    torch.testing.assert_close(measured, gaps.predicted(flow, weights, items[-1].step)[1:], rtol=0.1, atol=0)
    drift = gaps.richardson_drift(flow, *steps[1:])
    torch.testing.assert_close(drift[1:], residuals[1, 1:] - residuals[2, 1:], rtol=0.3, atol=0)


@pytest.mark.parametrize("update", ["a_first", "b_first"])
def test_the_order_of_updates_has_its_own_coefficient(update: str) -> None:
    batch = problem()
    flow = reference(batch)
    items = [item_of("descent", update, 2, h) for h in (0.02, 0.01, 0.005)]
    weights = gaps.order_weights(items[0])
    assert weights is not None
    steps = [gap(batch, item, run(batch, item, "simultaneous")) for item in items]
    first, second = (gaps.richardson_residual(flow, weights, a, b)[1:] for a, b in itertools.pairwise(steps))
    assert ((first / second > 3.4) & (first / second < 4.6)).all()
    wrong = gaps.order_weights(item_of("descent", {"a_first": "b_first", "b_first": "a_first"}[update], 2, 0.02))
    assert (gaps.richardson_residual(flow, wrong, *steps[1:])[1:] > 20 * second).all()


def test_fixed_windows_of_more_and_more_steps_do_not_approach_the_flow() -> None:
    """The negative control: with k·η held fixed while η falls, the gap stalls at h·e1 of exact sub-flows."""
    batch = problem()
    flow = reference(batch)
    h = 0.1
    ends = [run(batch, item_of("descent", "a_first", k, h)) for k in (1, 8, 64)]
    sizes = [torch.linalg.matrix_norm(B @ C.mT - flow.B @ flow.C.mT)[-1] / flow.size for B, C in ends]
    stall = gaps.predicted(flow, gaps.weights_of(item_of("flow", "a_first", 1, h)), h)[-1]
    assert (sizes[2] > 0.5 * stall).all() and (stall > 1e-3).all()
    window = run(batch, item_of("flow", "a_first", 1, h))
    left = [torch.linalg.matrix_norm(B @ C.mT - window[0] @ window[1].mT)[-1] for B, C in ends]
    assert (left[1] < left[0] / 5).all() and (left[2] < left[1] / 5).all()  # it is another system that is reached


def test_a_symmetric_window_has_no_first_order_coefficient() -> None:
    batch = problem()
    flow = reference(batch)
    item = item_of("flow", "symmetric", 1, 0.1)
    assert gaps.weights_of(item) is None and gaps.order_weights(item) is None
    assert gaps.predicted(flow, None, 0.1).isnan().all()
    without = gaps.FlowReference(flow.B, flow.C, None, flow.size, flow.clock)
    assert gaps.predicted(without, (0.0, 0.0, 1.0, 0.0), 0.1).isnan().all()


def test_the_coefficient_is_a_derivative_of_the_product_and_blind_to_gauge() -> None:
    """e_B·Cᵀ + B·e_Cᵀ, dense; the reference's states may be in another gauge than the responses."""
    batch = problem()
    flow = reference(batch)
    weights = (-0.5, -0.5, -0.5, 0.5)
    terms = sum(weight * B @ C.mT for weight, B, C in flow.coefficient(weights))
    size = torch.linalg.matrix_norm(terms) / flow.size
    torch.testing.assert_close(gaps.predicted(flow, weights, 0.3), 0.3 * size, rtol=1e-10, atol=1e-14)
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    turned = gaps.FlowReference(flow.B @ turn, flow.C @ turn, flow.variation, flow.size, flow.clock)
    items = [item_of("descent", "a_first", 1, h) for h in (0.02, 0.01)]
    plain = [gap(batch, item, (flow.B, flow.C)) for item in items]
    other = [gap(batch, item, (turned.B, turned.C)) for item in items]
    here, there = gaps.richardson_residual(flow, weights, *plain), gaps.richardson_residual(turned, weights, *other)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-10)


def test_any_ratio_of_steps_extrapolates() -> None:
    """d(h) = e + c·h exactly: (q·d(h/q) − d(h))/(q − 1) = e for every q."""
    e, c, zero = torch.tensor([[2.0]]).double(), torch.tensor([[3.0]]).double(), torch.zeros(1, 1).double()
    one = torch.ones(1, 1, dtype=torch.float64)
    for q in (2.0, 3.0, 10.0):
        coarse, fine = (gaps.Gap(((e + c * h) * h, one), (zero, one), h) for h in (0.1, 0.1 / q))
        total = sum(weight * B @ C.mT for weight, B, C in gaps.extrapolant(coarse, fine))
        torch.testing.assert_close(total, e, rtol=1e-12, atol=0)


def test_references_and_gaps_are_taken_at_some_of_their_times() -> None:
    batch = problem()
    flow = reference(batch)
    at = torch.tensor([2, 0])
    some = flow.at(at)
    assert torch.equal(some.B, flow.B[at]) and torch.equal(some.variation, flow.variation[at])
    item = item_of("descent", "a_first", 1, 0.02)
    whole, part = gap(batch, item, (flow.B, flow.C)), gap(batch, item, (flow.B, flow.C)).at(at)
    assert torch.equal(part.own[0], whole.own[0][at]) and part.h == whole.h


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
def test_companions_bound_the_error_of_what_they_accompany(kind: str) -> None:
    """The distance at ten times rtol is larger than the error against the reference at rtol 1e-12."""
    batch = problem(kind)
    truth = reference(batch)
    assert set(AGAINST) == set(LABELS)
    solution = solve_flow(batch, TIMES, method="dopri5", rtol=1e-8, atol=1e-12)
    made = {one.label: one for one in companions_of(batch, solution, TIMES, truth.size, rtol=1e-8, atol=1e-12)}
    assert {"loose_10", "loose_100", "tight"} <= set(made)
    error = torch.linalg.matrix_norm(solution.B @ solution.C.mT - truth.B @ truth.C.mT) / truth.size
    d1, d2 = (made[label].numbers["distance"] for label in ("loose_10", "loose_100"))
    assert (error[1:] <= d1[1:]).all() and (d2[1:] >= 3 * d1[1:]).all()
    assert made["tight"].members == [0] and made["tight"].method == ["dopri8"]
    assert ("exact" in made) == (kind == "trace")
    if kind == "trace":
        assert (made["exact"].numbers["distance"][1:] <= d1[1:]).all()


def test_an_exact_run_gets_an_integrated_companion_with_its_own_estimate() -> None:
    batch = problem("trace")
    truth = reference(batch)
    solution = solve_flow(batch, TIMES, method="auto")
    made = {one.label: one for one in companions_of(batch, solution, TIMES, truth.size, rtol=1e-8, atol=1e-12)}
    assert set(made) == {"integrated", "integrated_10", "integrated_100", "orthonormal"}
    integrated = made["integrated"]
    assert integrated.members == [0] and integrated.method == ["dopri5"]
    distance, estimate = integrated.numbers["distance"], integrated.numbers["estimated_error"]
    assert (distance <= estimate + solution.rounding[:, :1] / truth.size[:1]).all()
    # So few steps show no order: the bound is what rtol allows each of them.
    assert integrated.numbers["distance"].max() < 1e-7 and (estimate < 1e-5).all()
