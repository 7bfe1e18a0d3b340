"""One tile of a scenario, solved: all schedules, companions, theory and the baseline, as NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.flow import variation_velocity
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.adaptive.tsit5 import Tsit5
from flowsim.integrators.base import Solution, Status
from flowsim.integrators.solve import MAX_STEPS
from flowsim.scenario.model import Scenario
from flowsim.sweep import gaps
from flowsim.sweep.companions import Companion, companions_of, error_from, few_steps_bound
from flowsim.sweep.compare import compare
from flowsim.sweep.horizon import arrival_times, reach_times
from flowsim.sweep.outcome import Horizon, Outcome, decide_all, of_unknown_limit
from flowsim.sweep.runner import Runner
from flowsim.sweep.schedules import Clock, ScheduleItem, stability_name
from flowsim.sweep.slabs import Slabs, blank
from flowsim.sweep.starts import Starts
from flowsim.theory.limits import end_state_rates, missing_modes, theory_of, waiting_for
from flowsim.theory.stability import round_multiplier
from flowsim.trajectory.measure import alignment, measure, spectrum

Advance = Callable[[str], None]


def solve_rank(starts: Starts, rank: int, clock: Clock, modes: int, advance: Advance) -> Slabs:
    """Solve every schedule of one rank.

    Parameters
    ----------
    clock : Clock
        The schedules and their recorded times.
    modes : int
        Number of singular values stored.
    advance : callable
        Called with a label after each schedule.

    Returns
    -------
    dict of ndarray
        `trajectory/…` (schedule, seed, time[, extra]), `final/…` (schedule, seed), `theory/…` (seed,), `baseline/…`
        (seed, time), `companions/<label>/…` (seed, time), `factors/…` (schedule, seed, time, …) where kept.
    """
    scenario, device = starts.problem.document.scenario, starts.device
    batch, solver, save = starts.batch(rank), scenario.solver, scenario.save.factors
    union = torch.as_tensor(clock.union, device=device)
    run = starts.flow(rank, union)
    flow = _pick(run, torch.as_tensor(clock.places[0], device=device))
    largest = products.product_norm(flow.B, flow.C).nan_to_num(nan=0.0).amax(0)
    size = torch.where(largest > 0, largest, torch.full_like(largest, math.nan))
    times = torch.as_tensor(clock.times, device=device)
    companions = companions_of(batch, flow, times, size, rtol=solver.rtol, atol=solver.atol)
    exact = theory_of(batch, starts.problem.shape, float(clock.times[-1]))
    theory = {name: _numpy(value) for name, value in exact.items()}
    theory["missing_modes"] = np.array(missing_modes(batch), dtype=object)
    baseline = {name: _numpy(value.movedim(0, 1)) for name, value in _baseline(batch, times).items()}
    variation = _variation(batch, union, scenario) if len(clock.items) > 1 else None
    reference = gaps.FlowReference(run.B, run.C, variation, size, batch.clock)
    trajectory: dict[str, list[np.ndarray]] = {}
    final: dict[str, list[list[object]]] = {}
    factors: dict[str, list[np.ndarray]] = {}
    runner = Runner(batch, clock)
    settled = torch.zeros_like(size, dtype=torch.bool)
    for index, item in enumerate(clock.items):
        kept = flow if item.duration is None else runner.of(item)
        here = reference.at(torch.as_tensor(clock.places[index], device=device))
        numbers = _trajectory(batch, kept, modes) | compare(item, kept, here, runner)
        numbers["estimated_error"] = (
            _estimated_error(flow, companions, size, solver.rtol) if item.duration is None else kept.rounding / size
        )
        unbounded = numbers["estimated_error"].isinf()
        numbers["estimated_error"] = numbers["estimated_error"].masked_fill(unbounded, math.nan)
        _append(trajectory, {name: _numpy(value.movedim(0, 1)) for name, value in numbers.items()})
        end = Horizon(clock.flow_time[index], theory, scenario.reach)
        arrival = _arrival(batch, flow, numbers, exact, end) if item.duration is None else None
        last = _final(batch, item, kept, numbers, end, _multiplier(batch, item, flow, settled), arrival)
        if item.duration is None:
            settled = torch.tensor([word == Outcome.REACHED for word in last["outcome"]], device=device)
        _append(final, last)
        if save != "none":
            _append(factors, _factors(batch, kept, save))
        advance(item.label)
    groups: dict[str, dict[str, np.ndarray]] = {
        "trajectory": {name: np.stack(rows) for name, rows in trajectory.items()},
        "final": {name: np.array(rows, dtype=_kind(rows)) for name, rows in final.items()},
        "theory": theory,
        "baseline": baseline,
        "factors": {name: np.stack(rows) for name, rows in factors.items()},
    }
    groups |= {f"companions/{one.label}": _companion(one, len(size), len(times)) for one in companions}
    return {f"{group}/{name}": values for group, rows in groups.items() for name, values in rows.items()}


def _companion(one: Companion, seeds: int, times: int) -> dict[str, np.ndarray]:
    """A companion over all seeds: NaN, and no method, where it was not made."""
    found = {name: blank((seeds, times), float) for name in one.numbers}
    for name, values in one.numbers.items():
        found[name][one.members] = _numpy(values.movedim(0, 1))
    found["method"] = blank((seeds,), str)
    found["method"][one.members] = one.method
    return found


def _append(store: dict[str, list[Any]], row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        store.setdefault(name, []).append(value)


def _kind(rows: list[list[object]]) -> type:
    return object if isinstance(rows[0][0], str) else int if isinstance(rows[0][0], int) else float


def _pick(run: Solution, places: Tensor) -> Solution:
    excess = None if run.excess is None else run.excess[places]
    return Solution(
        run.B[places], run.C[places], run.status, run.method, run.stepper, run.steps, run.evaluations,
        run.rounding[places], excess, run.choice,
    )  # fmt: skip


def _estimated_error(flow: Solution, companions: list[Companion], size: Tensor, rtol: float) -> Tensor:
    """Rounding, and for a numerical run what its looser companions say, or of a few steps its tolerance, (T, S)."""
    error = flow.rounding / size
    by_label = {one.label: one for one in companions}
    if "loose_10" in by_label:
        near, far = (by_label[name].numbers["distance"] for name in ("loose_10", "loose_100"))
        error = error.clone()
        members = by_label["loose_10"].members
        error[:, members] += error_from(near, far) + few_steps_bound(flow, rtol, size)[:, members]
    return error


def _variation(batch: Canonical, union: Tensor, scenario: Scenario) -> Tensor | None:
    """The flow with its first variations at all recorded times, (U, S, 5, 2, q, r); None if it cannot be solved."""
    start = torch.stack([batch.B, batch.C], dim=1)
    state = torch.cat([start[:, None], torch.zeros_like(start)[:, None].expand(-1, 4, -1, -1, -1)], dim=1)
    stepper = Tsit5(
        lambda y: variation_velocity(batch.landscape, y), state, rtol=scenario.solver.rtol, atol=scenario.solver.atol
    )
    solved = integrate(stepper, state, batch.clock * union.to(torch.float64), max_steps=MAX_STEPS)
    if any(status is not Status.COMPLETED for status in solved.status):
        return None
    return solved.states


def _trajectory(batch: Canonical, kept: Solution, modes: int) -> dict[str, Tensor]:
    numbers = measure(batch, kept.B, kept.C, kept.excess)
    numbers["singular_value"] = spectrum(batch, kept.B, kept.C, modes)
    numbers["alignment"] = alignment(batch, kept.B, kept.C)
    return numbers


def _arrival(
    batch: Canonical, flow: Solution, numbers: dict[str, Tensor], theory: dict[str, Tensor], end: Horizon
) -> np.ndarray:
    """Flow times at which exactly solved members will have reached their floor, (S,)."""
    goal = end.reach * numbers["excess_loss"][0] / batch.curvature
    limit = (theory["loss_limit"] - theory["loss_floor"]) / batch.curvature
    return _numpy(arrival_times(batch, flow, goal, limit, float(end.times[-1])))


def _multiplier(batch: Canonical, item: ScheduleItem, end: Solution, settled: Tensor) -> Tensor:
    """Multiplier of one round of descent at the end of a solution, (S,); NaN where that is no minimum, or k > 1."""
    blank = torch.full_like(settled, math.nan, dtype=end.B.dtype)
    if item.kind != "descent" or item.inner_steps != 1 or not bool(settled.any()):
        return blank
    mask = settled[:, None, None]
    B, C = (torch.where(mask, X[-1], torch.zeros_like(X[-1])) for X in (end.B, end.C))
    return torch.where(settled, round_multiplier(batch, B, C, item.update, batch.clock * item.learning_rate), blank)


def _final(
    batch: Canonical,
    item: ScheduleItem,
    kept: Solution,
    numbers: dict[str, Tensor],
    end: Horizon,
    multiplier: Tensor,
    arrival: np.ndarray | None,
) -> dict[str, list[object]]:
    """How each trajectory of one schedule ended, and what it cost: one entry per seed."""
    rate, sharpness = end_state_rates(batch, kept.B[-1], kept.C[-1])
    decided = decide_all(
        numbers, kept.status, end, item.learning_rate, _numpy(multiplier), arrival,
        limit=stability_name(item.update, item.inner_steps),
        waiting=waiting_for(batch, kept.B[-1], kept.C[-1], of_unknown_limit(end.theory)), local_rate=_numpy(rate),
    )  # fmt: skip
    reached = torch.tensor([word is Outcome.REACHED for word, _, _ in decided], device=batch.B.device)
    blank = torch.full_like(numbers["loss"][-1], math.nan)
    return {
        "outcome": [str(outcome) for outcome, _, _ in decided],
        "reason": [reason for _, reason, _ in decided],
        "further_time": [further for _, _, further in decided],
        "reach_time": list(_reach_time(numbers, end)),
        "local_rate": list(_numpy(torch.where(reached, rate, blank))),
        "sharpness": list(_numpy(torch.where(reached, sharpness, blank))),
        "multiplier": list(_numpy(multiplier)),
        "end_multiplier": list(_numpy(_multiplier(batch, item, kept, reached))),
        "method": list(kept.method),
        "stepper": list(kept.stepper),
        "choice": list(kept.choice),
        "steps": list(kept.steps),
        "evaluations": list(kept.evaluations),
    }


def _reach_time(numbers: dict[str, Tensor], end: Horizon) -> np.ndarray:
    excess = _numpy(numbers["excess_loss"].movedim(0, 1))
    goal = np.maximum(end.reach * excess[:, 0], end.theory["excess_rounding"])
    return reach_times(excess, end.times, goal)


def _factors(batch: Canonical, kept: Solution, which: str) -> dict[str, np.ndarray]:
    """A and B, (seed, time, …); `ends` keeps the first and the last time."""
    times = slice(None) if which == "all" else [0, -1]
    A, B = batch.factors(kept.B[times], kept.C[times])
    return {"A": _numpy(A.movedim(0, 1)), "B": _numpy(B.movedim(0, 1))}


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
