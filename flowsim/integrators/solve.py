"""Solve a flow by the method that is chosen for each trajectory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape, TraceLandscape
from flowsim.integrators import adaptive, engine
from flowsim.integrators.adaptive.driver import integrate
from flowsim.integrators.base import Solution, rounding_bound, scatter
from flowsim.integrators.exact import balanced, mode_aligned, trace_squared
from flowsim.integrators.selection import Choice, choose

MAX_STEPS = engine.MAX_STEPS
HELD_ENTRIES = 32_000_000  # entries of states that are held at once where functions of them are kept

Record = Callable[[Tensor, Tensor, Tensor | None], Mapping[str, Tensor]]


def solve_flow(
    problem: Canonical, times: Tensor, *, method: str = "auto", rtol: float = 1e-9, atol: float = 1e-12,
    factors: bool = False, max_steps: int = MAX_STEPS,
) -> Solution:  # fmt: skip
    """Solve the simultaneous flow at flow times (T,), increasing, from the batch's state at time 0.

    Parameters
    ----------
    method : str
        `auto`, `exact`, `adaptive`, a stepper of the latter or a torchdiffeq method.
    factors : bool
        Whether A and B themselves are wanted, or products only (see `exact.balanced`, `adaptive.splitting`).

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
        part = problem.member(torch.tensor(members, device=problem.B.device))
        chosen = choices[members[0]]
        if chosen.method == "exact":
            solution = _exact(part, times, chosen.stepper, factors)
        else:
            solution = _integrated(part, times, chosen, rtol, atol, max_steps, factors)
        parts.append((members, replace(solution, choice=[choices[i].reason for i in members])))
    return scatter(parts, batch)


def _exact(problem: Canonical, times: Tensor, form: str, factors: bool) -> Solution:
    """Solve a batch all of whose members have the same closed form."""
    clock = problem.clock * times.to(problem.B.dtype)
    if isinstance(problem.landscape, TraceLandscape):
        return trace_squared.solve(problem.landscape, problem.B, problem.C, clock)
    assert isinstance(problem.landscape, FrobeniusLandscape)
    if form == "mode_aligned":
        return mode_aligned.solve(problem.landscape, problem.B, problem.C, clock)
    return balanced.solve(problem.landscape, problem.B, problem.C, clock, factors=factors)


def _integrated(
    problem: Canonical, times: Tensor, chosen: Choice, rtol: float, atol: float, max_steps: int, factors: bool
) -> Solution:
    """Solve a batch by one integrator, torchdiffeq's or flowsim's own."""
    start, clock = torch.stack([problem.B, problem.C], dim=1), problem.clock * times.to(torch.float64)

    def field(Z: Tensor) -> Tensor:
        return velocity(problem.landscape, Z)

    if chosen.stepper in engine.METHODS:
        result = engine.integrate(field, start, clock, method=chosen.stepper, rtol=rtol, atol=atol, max_steps=max_steps)
    else:
        stepper = adaptive.stepper_of(chosen.stepper, problem, field, rtol=rtol, atol=atol, factors=factors)
        result = integrate(stepper, start, clock, max_steps=max_steps)
    B, C = result.states.unbind(2)
    batch = B.shape[1]
    steps = torch.tensor(result.steps, dtype=B.dtype, device=B.device)
    return Solution(
        B, C, result.status, [chosen.method] * batch, [chosen.stepper] * batch, result.steps, result.evaluations,
        rounding_bound(B, C, 4 * (1 + steps)),
    )  # fmt: skip
