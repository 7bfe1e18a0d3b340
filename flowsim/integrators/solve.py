"""Solve a flow by the method that is chosen for each trajectory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.flow import velocity
from flowsim.dynamics.functions import functions_of
from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.landscape import FrobeniusLandscape, TraceLandscape
from flowsim.integrators import adaptive, engine
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.base import Integrated, Solution, Status, scatter
from flowsim.integrators.exact import balanced, mode_aligned, trace_squared
from flowsim.integrators.selection import Choice, choose

MAX_STEPS = engine.MAX_STEPS
LOST = "the splitting found no way on: the leading rows became dependent, or its steps too many"
HELD_ENTRIES = 32_000_000  # entries of states that are held at once where functions of them are kept


def solve_flow(
    problem: Canonical, times: Tensor, *, method: str = "auto", rtol: float = 1e-9, atol: float = 1e-12,
    factors: bool = False, max_steps: int = MAX_STEPS, states: bool = True,
) -> Solution:  # fmt: skip
    """Solve the simultaneous flow at flow times (T,), increasing, from the batch's state at time 0.

    Parameters
    ----------
    method : str
        `auto`, `exact`, `adaptive`, a stepper of the latter or a torchdiffeq method.
    factors : bool
        Whether A and B themselves are wanted, or products only (see `exact.balanced`, `adaptive.splitting`).
    states : bool
        Whether states are kept at all times, or functions of them (`dynamics.functions`) and the last state alone.

    Raises
    ------
    HypothesisError
        `exact` where no closed form exists.
    InputError
        Unknown method.
    """
    batch = problem.B.shape[0]
    choices = choose(problem, method, rtol=rtol, factors=factors)
    parts = []
    for ways in dict.fromkeys((one.method, one.stepper) for one in choices):
        members = [i for i in range(batch) if (choices[i].method, choices[i].stepper) == ways]
        all_alike = len(members) == batch  # no copy, and what is known of the whole batch stays known
        part = problem if all_alike else problem.member(torch.tensor(members, device=problem.B.device))
        chosen = choices[members[0]]
        if chosen.method == "exact":
            solution = _exact(part, times, chosen, factors, states)
        else:
            solution = _integrated(part, times, chosen, rtol, atol, max_steps, factors, states)
        parts.append((members, replace(solution, choice=[choices[i].reason for i in members])))
        lost = [i for i, end in zip(members, solution.status, strict=True) if end is not Status.COMPLETED]
        second = adaptive.SECOND.get(chosen.stepper) if chosen.method == "adaptive" else None
        if lost and second is not None:
            again = Choice("adaptive", second, LOST)
            part = problem.member(torch.tensor(lost, device=problem.B.device))
            solution = _integrated(part, times, again, rtol, atol, max_steps, factors, states)
            parts.append((lost, replace(solution, choice=[LOST] * len(lost))))
    return scatter(parts, batch)


def _exact(problem: Canonical, times: Tensor, chosen: Choice, factors: bool, states: bool) -> Solution:
    """Solve a batch all of whose members have the same closed form."""
    clock = problem.clock * times.to(problem.B.dtype)
    landscape = problem.landscape
    if isinstance(landscape, TraceLandscape):
        return trace_squared.solve(landscape, problem.B, problem.C, clock, states=states, halves=problem.halves)
    assert isinstance(landscape, FrobeniusLandscape)
    frobenius = landscape

    def closed(B: Tensor, C: Tensor) -> Solution:
        if chosen.stepper == "mode_aligned":
            whole = mode_aligned.solve(frobenius, B, C, clock)
        else:
            whole = balanced.solve(frobenius, B, C, clock, factors=factors)
        return replace(whole, choice=[chosen.reason] * B.shape[0])

    if states:
        return closed(problem.B, problem.C)
    batch, share = problem.B.shape[0], max(1, HELD_ENTRIES // (len(times) * problem.B[0].numel()))
    groups = [list(range(first, min(first + share, batch))) for first in range(0, batch, share)]
    return scatter([(group, _reduced(problem, group, closed)) for group in groups], batch)


def _reduced(problem: Canonical, group: list[int], closed: Callable[[Tensor, Tensor], Solution]) -> Solution:
    """The functions of some members' states, and their last states."""
    part = slice(group[0], group[-1] + 1)
    solution = closed(problem.B[part], problem.C[part])
    return functions_only(problem.member(part), solution)


def functions_only(problem: Canonical, solution: Solution) -> Solution:
    """Functions of all states, and the last state alone."""
    functions = functions_of(
        problem.landscape, solution.B, solution.C, imbalance(problem.B, problem.C), solution.excess
    )
    excess = None if solution.excess is None else solution.excess[-1:]
    return replace(
        solution,
        B=solution.B[-1:],
        C=solution.C[-1:],
        rounding=solution.rounding[-1:],
        excess=excess,
        functions=functions,
    )


def _integrated(
    problem: Canonical,
    times: Tensor,
    chosen: Choice,
    rtol: float,
    atol: float,
    max_steps: int,
    factors: bool,
    states: bool,
) -> Solution:
    """Solve a batch by one integrator, torchdiffeq's or flowsim's own."""
    start, clock = torch.stack([problem.B, problem.C], dim=1), problem.clock * times.to(torch.float64)

    def field(Z: Tensor) -> Tensor:
        return velocity(problem.landscape, Z)

    if chosen.stepper in engine.METHODS:
        whole = engine.integrate(field, start, clock, method=chosen.stepper, rtol=rtol, atol=atol, max_steps=max_steps)
        solution = _solution(problem, whole, chosen)
        return solution if states else functions_only(problem, solution)
    stepper = adaptive.stepper_of(chosen.stepper, problem, field, rtol=rtol, atol=atol, factors=factors)
    if states:
        result = integrate(stepper, start, clock, max_steps=max_steps)
        return _solution(problem, result, chosen)
    initial = imbalance(problem.B, problem.C)

    def record(Z: Tensor, place: Tensor) -> Mapping[str, Tensor]:
        B, C = Z.unbind(2)
        return functions_of(problem.landscape, B, C, initial[place])

    result = integrate(stepper, start, clock, max_steps=max_steps, states=False, record=record)
    return _solution(problem, result, chosen)


def _solution(problem: Canonical, result: Integrated, chosen: Choice) -> Solution:
    B, C = result.states.unbind(2)
    batch = B.shape[1]
    steps = torch.tensor(result.steps, dtype=B.dtype, device=B.device)
    return Solution(
        B, C, result.status, [chosen.method] * batch, [chosen.stepper] * batch, result.steps, result.evaluations,
        adaptive.rounding_of(chosen.stepper, problem, B, C, steps), functions=result.functions,
    )  # fmt: skip
