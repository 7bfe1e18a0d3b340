"""One rank of a scenario, solved: all schedules, companions, theory and the baseline, as NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.descent import descent_step
from flowsim.dynamics.flow import variation_velocity
from flowsim.dynamics.rounds import iterate
from flowsim.dynamics.sequential import window_step
from flowsim.integrators import engine
from flowsim.integrators.base import Solution, Status, rounding_bound
from flowsim.integrators.solve import ADAPTIVE_STEPPER, is_complete, refuse_inexact, solve_flow
from flowsim.problem.assemble import Problem
from flowsim.problem.objectives import Adapter, Frobenius, Objective, TraceSquared
from flowsim.scenario.model import Scenario
from flowsim.sweep import gaps
from flowsim.sweep.companions import Companion, companions_of
from flowsim.sweep.outcome import Ending, Outcome, decide
from flowsim.sweep.schedules import Clock, ScheduleItem
from flowsim.theory.limits import end_state_rates, theory_of
from flowsim.trajectory.measure import alignment, measure, spectrum

Advance = Callable[[str], None]


@dataclass
class RankResult:
    """Everything one rank leaves.

    Attributes
    ----------
    trajectory : dict of ndarray, (schedule, seed, time[, extra])
    final : dict of ndarray, (schedule, seed)
    theory : dict of ndarray, (seed,)
    baseline : dict of ndarray, (seed, time)
    companions : list of Companion
    factors : dict of ndarray, (schedule, seed, time, …) or empty
    """

    rank: int
    trajectory: dict[str, np.ndarray] = field(default_factory=dict)
    final: dict[str, np.ndarray] = field(default_factory=dict)
    theory: dict[str, np.ndarray] = field(default_factory=dict)
    baseline: dict[str, np.ndarray] = field(default_factory=dict)
    companions: list[Companion] = field(default_factory=list)
    factors: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class _States:
    """Recorded states of one schedule, with how each trajectory ended and what it cost."""

    B: Tensor
    C: Tensor
    status: list[Status]
    method: list[str]
    stepper: list[str]
    steps: list[int]
    evaluations: list[int]
    error: Tensor
    excess: Tensor | None = None


def problem_of(problem: Problem, rank: int, device: torch.device) -> Canonical:
    """The canonical batch of one rank (all seeds) on the device, in the scenario's dtype."""
    scenario = problem.document.scenario
    dtype = torch.float64 if scenario.compute.dtype == "float64" else torch.float32

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array).to(device=device, dtype=dtype)

    start = problem.start(rank)
    pretrained = tensor(start.pretrained)
    objective: Objective
    if problem.kind == "frobenius":
        assert problem.target is not None
        objective = Frobenius(pretrained, tensor(problem.target), problem.coefficient)
    else:
        objective = TraceSquared(pretrained, problem.coefficient)
    return canonical(objective, Adapter(tensor(start.A), tensor(start.B), start.scale))


def check_solver(problem: Problem, device: torch.device) -> None:
    """Refuse `solver: exact` before anything runs, naming the ranks for which no closed form holds."""
    scenario = problem.document.scenario
    if scenario.solver.method == "exact":
        for rank in problem.ranks:
            refuse_inexact(problem_of(problem, rank, device), f"rank {rank}")


def solve_rank(
    problem: Problem, rank: int, clock: Clock, modes: int, device: torch.device, advance: Advance
) -> RankResult:
    """Solve every schedule of one rank.

    Parameters
    ----------
    clock : Clock
        The schedules and their recorded times.
    modes : int
        Number of singular values stored.
    advance : callable
        Called with a label after each schedule.
    """
    scenario = problem.document.scenario
    batch = problem_of(problem, rank, device)
    solver = scenario.solver
    union = torch.as_tensor(clock.union, device=device)
    wants_factors = scenario.save.factors != "none"
    run = solve_flow(
        batch, union, method=solver.method, rtol=solver.rtol, atol=solver.atol, factors=wants_factors
    )
    nominal = torch.as_tensor(clock.places[0], device=device)
    flow = _pick(run, nominal)
    largest = products.product_norm(flow.B, flow.C).nan_to_num(nan=0.0).amax(0)
    size = torch.where(largest > 0, largest, torch.full_like(largest, math.nan))
    result = RankResult(rank)
    times = torch.as_tensor(clock.times, device=device)
    result.companions = companions_of(batch, flow, times, size, rtol=solver.rtol, atol=solver.atol)
    advance("flow")
    result.theory = {name: _numpy(value) for name, value in theory_of(batch, problem.shape, float(clock.times[-1])).items()}
    responses = _responses(batch, union, scenario) if len(clock.items) > 1 else None
    reference = gaps.FlowReference(run.B, run.C, responses, size, batch.clock)
    collect: dict[str, list[np.ndarray]] = {}
    final: dict[str, list[list[object]]] = {}
    states = _Runner(batch, clock, device)
    for index, item in enumerate(clock.items):
        kept = _flow_states(flow, result.companions, size) if item.duration is None else states.of(item)
        here = reference.at(torch.as_tensor(clock.places[index], device=device))
        numbers = _trajectory(batch, kept, modes)
        numbers |= _gaps(item, kept, here, states, clock)
        numbers["estimated_error"] = kept.error / (1 if item.duration is None else size)
        for name, value in numbers.items():
            collect.setdefault(name, []).append(_numpy(value.movedim(0, 1)))
        _finish(item, kept, numbers, batch, scenario, clock.flow_time[index], result.theory, final)
        if wants_factors:
            _keep_factors(result, batch, kept, scenario.save.factors)
        advance(item.label)
    result.trajectory = {name: np.stack(values) for name, values in collect.items()}
    result.final = {
        name: np.array(rows, dtype=object if isinstance(rows[0][0], str) else np.float64) for name, rows in final.items()
    }
    result.factors = {name: np.stack([value]) if value.ndim < 5 else value for name, value in result.factors.items()}
    result.baseline = {name: _numpy(value.movedim(0, 1)) for name, value in _baseline(batch, times).items()}
    return result


class _Runner:
    """States of descents and windows, each computed once and shared by the comparisons that need it."""

    def __init__(self, batch: Canonical, clock: Clock, device: torch.device) -> None:
        self.batch, self.clock, self.device = batch, clock, device
        self.known: dict[tuple[str, str, float, int], _States] = {}

    def of(self, item: ScheduleItem) -> _States:
        assert item.duration is not None
        key = (item.kind, item.update, item.duration, item.inner_steps)
        if key not in self.known:
            self.known[key] = self._run(item)
        return self.known[key]

    def _run(self, item: ScheduleItem) -> _States:
        batch = self.batch
        place = next(
            i for i, other in enumerate(self.clock.items)
            if other.duration == item.duration and other.kind == item.kind
        )  # fmt: skip
        rounds = self.clock.rounds[place]
        if item.kind == "descent":
            step = descent_step(batch.landscape, item.update, batch.clock * item.learning_rate, item.inner_steps)
            each, evaluations = item.inner_steps, 2 * item.inner_steps
        else:
            step = window_step(batch.landscape, item.update, batch.clock * item.window)
            each, evaluations = 1, 3 if item.update == "symmetric" else 2
        B, C = iterate(step, batch.B, batch.C, rounds)
        count, total = batch.B.shape[0], int(rounds[-1])
        operations = torch.as_tensor(4.0 * (1 + rounds * each), dtype=B.dtype, device=self.device)[:, None]
        method = "descent" if item.kind == "descent" else "window"
        return _States(
            B, C, [Status.COMPLETED] * count, [method] * count, [item.update] * count, [total] * count,
            [total * evaluations] * count, rounding_bound(B, C, operations),
        )  # fmt: skip

    def finer(self, item: ScheduleItem) -> ScheduleItem | None:
        """The family's next smaller step."""
        assert item.duration is not None
        smaller = [
            other for other in self.clock.items
            if other.duration is not None and other.family == item.family and other.duration < item.duration
        ]  # fmt: skip
        return max(smaller, key=lambda other: other.duration or 0.0, default=None)


def _pick(run: Solution, places: Tensor) -> Solution:
    excess = None if run.excess is None else run.excess[places]
    return Solution(
        run.B[places], run.C[places], run.status, run.method, run.stepper, run.steps, run.evaluations,
        run.rounding[places], excess,
    )  # fmt: skip


def _flow_states(flow: Solution, companions: list[Companion], size: Tensor) -> _States:
    """The flow as a schedule; a numerical run's error estimate is its distance from itself at ten times rtol."""
    error = flow.rounding / size
    for one in companions:
        if one.label == "loose_10":
            error = error.clone()
            error[:, one.members] += one.numbers["distance"]
    return _States(
        flow.B, flow.C, flow.status, flow.method, flow.stepper, flow.steps, flow.evaluations, error, flow.excess
    )


def _responses(batch: Canonical, union: Tensor, scenario: Scenario) -> Tensor | None:
    """First variations of the flow at all recorded times, (U, S, 4, 2, q, r); None if they cannot be solved."""
    start = torch.stack([batch.B, batch.C], dim=1)
    state = torch.cat([start[:, None], torch.zeros_like(start)[:, None].expand(-1, 4, -1, -1, -1)], dim=1)
    solved = engine.integrate(
        lambda y: variation_velocity(batch.landscape, y), state, batch.clock * union.to(torch.float64),
        method=ADAPTIVE_STEPPER, rtol=scenario.solver.rtol, atol=scenario.solver.atol,
    )  # fmt: skip
    if any(status is not Status.COMPLETED for status in solved.status):
        return None
    return solved.states[:, :, 1:]


def _trajectory(batch: Canonical, kept: _States, modes: int) -> dict[str, Tensor]:
    numbers = measure(batch, kept.B, kept.C, kept.excess)
    numbers["singular_value"] = spectrum(batch, kept.B, kept.C, modes)
    numbers["alignment"] = alignment(batch, kept.B, kept.C)
    return numbers


def _gaps(
    item: ScheduleItem, kept: _States, flow: gaps.FlowReference, runner: _Runner, clock: Clock
) -> dict[str, Tensor]:
    blank = torch.full_like(kept.error, math.nan)
    out = {
        "flow_gap": torch.zeros_like(kept.error), "update_order_gap": blank, "predicted_gap": blank,
        "predicted_order_gap": blank, "richardson_residual": blank, "richardson_order_residual": blank,
    }  # fmt: skip
    if item.duration is None:
        return out
    h, own = item.duration, (kept.B, kept.C)
    weights = gaps.weights_of(item)
    out["flow_gap"] = products.distance(*own, flow.B, flow.C) / flow.size
    out["predicted_gap"] = gaps.predicted(flow, weights, h)
    partner = None
    if item.kind == "descent" and item.update != "simultaneous":
        partner = runner.of(item.with_update("simultaneous"))
        out["update_order_gap"] = products.distance(*own, partner.B, partner.C) / flow.size
        out["predicted_order_gap"] = gaps.predicted(flow, gaps.order_weights(item), h)
    finer = runner.finer(item)
    if finer is None or flow.responses is None or weights is None:
        return out
    assert finer.duration is not None
    here, there = clock.items.index(item), clock.items.index(finer)
    common = np.flatnonzero(clock.places[here] == clock.places[there])
    at = torch.as_tensor(common, device=kept.B.device)
    small, local = runner.of(finer), flow.at(at)
    coarse = [(kept.B[at], kept.C[at]), (local.B, local.C)]
    fine = [(small.B[at], small.C[at]), (local.B, local.C)]
    out["richardson_residual"] = blank.index_copy(
        0, at, gaps.richardson(local, weights, coarse, fine, h, finer.duration)
    )
    order = gaps.order_weights(item)
    if partner is not None and order is not None:
        small_partner = runner.of(finer.with_update("simultaneous"))
        coarse[1] = (partner.B[at], partner.C[at])
        fine[1] = (small_partner.B[at], small_partner.C[at])
        residual = gaps.richardson(local, order, coarse, fine, h, finer.duration)
        out["richardson_order_residual"] = blank.index_copy(0, at, residual)
    return out


def _finish(
    item: ScheduleItem, kept: _States, numbers: dict[str, Tensor], batch: Canonical, scenario: Scenario,
    flow_time: np.ndarray, theory: dict[str, np.ndarray], final: dict[str, list[list[object]]],
) -> None:  # fmt: skip
    excess, gradient = _numpy(numbers["excess_loss"]), _numpy(numbers["gradient_norm"])
    rate, sharpness = (_numpy(x) for x in end_state_rates(batch, kept.B[-1], kept.C[-1]))
    rows: dict[str, list[object]] = {name: [] for name in ("outcome", "reason", "further_time")}
    for seed in range(excess.shape[1]):
        end = Ending(
            excess[:, seed], gradient[:, seed], flow_time,
            float(theory["loss_limit"][seed] - theory["loss_floor"][seed]), float(theory["convergence_rate"][seed]),
            scenario.reach, item.learning_rate, float(theory["stability_limit"][seed]),
        )  # fmt: skip
        outcome, reason, further = decide(end, kept.status[seed])
        rows["outcome"].append(str(outcome))
        rows["reason"].append(reason)
        rows["further_time"].append(further)
    reached = np.array([word == Outcome.REACHED for word in rows["outcome"]])
    rows["local_rate"] = list(np.where(reached, rate, math.nan))
    rows["sharpness"] = list(np.where(reached, sharpness, math.nan))
    rows["method"], rows["stepper"] = list(kept.method), list(kept.stepper)
    rows["steps"] = [float(x) for x in kept.steps]
    rows["evaluations"] = [float(x) for x in kept.evaluations]
    for name, values in rows.items():
        final.setdefault(name, []).append(values)


def _keep_factors(result: RankResult, batch: Canonical, kept: _States, which: str) -> None:
    """Stack A and B, (schedule, seed, time, …); `ends` keeps the first and the last time."""
    times = slice(None) if which == "all" else [0, -1]
    for name, value in zip(("A", "B"), batch.factors(kept.B[times], kept.C[times]), strict=True):
        row = _numpy(value.movedim(0, 1))[None]
        result.factors[name] = row if name not in result.factors else np.concatenate([result.factors[name], row])


def _baseline(batch: Canonical, times: Tensor) -> dict[str, Tensor]:
    """Full fine-tuning from W(0), exact: the residual (Frobenius) or the trace decays like e^{−κgt}, (T, S).

    g is 1 for Frobenius and n for trace-squared, whose gradient κτI has trace nκτ.
    """
    landscape = batch.landscape
    start = landscape.floor(batch.rank) + landscape.excess(batch.B, batch.C)
    decay = torch.exp(-batch.curvature * landscape.gradient_bound * times.to(start.dtype))[:, None]
    moves = torch.where(start > 0, torch.ones_like(start), torch.full_like(start, math.nan))
    return {"loss": batch.curvature * start * decay.square(), "relative_error": decay * moves}


def _numpy(value: Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().cpu().to(torch.float64).numpy()
    return array


def completed(run: Solution) -> bool:
    """Whether every trajectory of a solve reached its last time."""
    return is_complete(run)
