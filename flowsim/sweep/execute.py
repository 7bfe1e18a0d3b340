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
from flowsim.integrators.solve import ADAPTIVE_STEPPER, refuse_inexact, solve_flow
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
    run = solve_flow(batch, union, method=solver.method, rtol=solver.rtol, atol=solver.atol, factors=wants_factors)
    nominal = torch.as_tensor(clock.places[0], device=device)
    flow = _pick(run, nominal)
    largest = products.product_norm(flow.B, flow.C).nan_to_num(nan=0.0).amax(0)
    size = torch.where(largest > 0, largest, torch.full_like(largest, math.nan))
    result = RankResult(rank)
    times = torch.as_tensor(clock.times, device=device)
    result.companions = companions_of(batch, flow, times, size, rtol=solver.rtol, atol=solver.atol)
    advance("flow")
    result.theory = {
        name: _numpy(value) for name, value in theory_of(batch, problem.shape, float(clock.times[-1])).items()
    }
    variation = _variation(batch, union, scenario) if len(clock.items) > 1 else None
    reference = gaps.FlowReference(run.B, run.C, variation, size, batch.clock)
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
        name: np.array(rows, dtype=object if isinstance(rows[0][0], str) else np.float64)
        for name, rows in final.items()
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

    def finer(self, item: ScheduleItem) -> list[ScheduleItem]:
        """The family's next two smaller steps, the larger first."""
        assert item.duration is not None
        smaller = [
            other for other in self.clock.items
            if other.duration is not None and other.family == item.family and other.duration < item.duration
        ]  # fmt: skip
        return sorted(smaller, key=lambda other: -(other.duration or 0.0))[:2]


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


def _variation(batch: Canonical, union: Tensor, scenario: Scenario) -> Tensor | None:
    """The flow with its first variations at all recorded times, (U, S, 5, 2, q, r); None if it cannot be solved."""
    start = torch.stack([batch.B, batch.C], dim=1)
    state = torch.cat([start[:, None], torch.zeros_like(start)[:, None].expand(-1, 4, -1, -1, -1)], dim=1)
    solved = engine.integrate(
        lambda y: variation_velocity(batch.landscape, y), state, batch.clock * union.to(torch.float64),
        method=ADAPTIVE_STEPPER, rtol=scenario.solver.rtol, atol=scenario.solver.atol,
    )  # fmt: skip
    if any(status is not Status.COMPLETED for status in solved.status):
        return None
    return solved.states


def _trajectory(batch: Canonical, kept: _States, modes: int) -> dict[str, Tensor]:
    numbers = measure(batch, kept.B, kept.C, kept.excess)
    numbers["singular_value"] = spectrum(batch, kept.B, kept.C, modes)
    numbers["alignment"] = alignment(batch, kept.B, kept.C)
    return numbers


def _gaps(
    item: ScheduleItem, kept: _States, flow: gaps.FlowReference, runner: _Runner, clock: Clock
) -> dict[str, Tensor]:
    """Measured, predicted and extrapolated gaps of one schedule, (T, S) each; NaN where they are not defined."""
    blank = torch.full_like(kept.error, math.nan)
    out = dict.fromkeys(GAP_NAMES, blank)
    if item.duration is None:
        return out | {"flow_gap": torch.zeros_like(kept.error)}
    own = (kept.B, kept.C)
    out["flow_gap"] = products.distance(*own, flow.B, flow.C) / flow.size
    weights = gaps.weights_of(item)
    out["predicted_gap"] = gaps.predicted(flow, weights, item.duration)
    if weights is not None:
        family = [item, *runner.finer(item)]
        against_flow = [(runner.of(one), (flow.B, flow.C)) for one in family]
        names = ("richardson_residual", "richardson_drift")
        out |= _extrapolated(names, family, against_flow, weights, flow, clock, blank)
    order = gaps.order_weights(item)
    if item.kind == "descent" and item.update != "simultaneous" and order is not None:
        family = [item, *runner.finer(item)]
        partners = [runner.of(one.with_update("simultaneous")) for one in family]
        out["update_order_gap"] = products.distance(*own, partners[0].B, partners[0].C) / flow.size
        out["predicted_order_gap"] = gaps.predicted(flow, order, item.duration)
        against_partner = [(runner.of(one), (p.B, p.C)) for one, p in zip(family, partners, strict=True)]
        names = ("richardson_order_residual", "richardson_order_drift")
        out |= _extrapolated(names, family, against_partner, order, flow, clock, blank)
    return out


GAP_NAMES = (
    "flow_gap", "update_order_gap", "predicted_gap", "predicted_order_gap", "richardson_residual",
    "richardson_drift", "richardson_order_residual", "richardson_order_drift",
)  # fmt: skip


def _extrapolated(
    names: tuple[str, str], family: list[ScheduleItem], states: list[tuple[_States, gaps.Pair]],
    weights: tuple[float, ...], flow: gaps.FlowReference, clock: Clock, blank: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """Residual and drift of the first two (three) steps of a family, at the times they have in common."""
    out: dict[str, Tensor] = {}
    if flow.variation is None or len(family) < 2:
        return out
    places = [clock.places[clock.items.index(one)] for one in family[:3]]
    for name, count in zip(names, (2, 3), strict=True):
        common = np.flatnonzero(np.logical_and.reduce([places[0] == other for other in places[:count]]))
        if len(family) < count or not len(common):
            continue
        at = torch.as_tensor(common, device=blank.device)
        measured = [
            gaps.Gap((own.B, own.C), other, one.duration or math.nan).at(at)
            for one, (own, other) in zip(family[:count], states[:count], strict=True)
        ]
        local = flow.at(at)
        value = (
            gaps.richardson_residual(local, weights, measured[0], measured[1])
            if count == 2
            else gaps.richardson_drift(local, *measured)
        )
        out[name] = blank.index_copy(0, at, value)
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
