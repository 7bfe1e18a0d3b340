"""The choice of a method: a closed form where one holds, an error-controlled integrator elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.flow import velocity
from flowsim.dynamics.invariants import balance
from flowsim.dynamics.landscape import FrobeniusLandscape, TraceLandscape
from flowsim.errors import HypothesisError, InputError
from flowsim.integrators import engine
from flowsim.integrators.base import Solution, rounding_bound, scatter
from flowsim.integrators.exact import balanced, mode_aligned, trace_squared

ADAPTIVE_STEPPER = "dopri5"
METHODS = ("auto", "exact", "adaptive", *engine.METHODS)

NOT_BALANCED = (
    "BᵀB − AAᵀ is not a multiple of the identity, and the factors are not aligned with the singular modes "
    "(no closed form is known)"
)
EXACT_HINT = "Use solver auto, rank 1, or an init that has a closed form (orthogonal, or spectral of the difference)."


def closed_form_holds(problem: Canonical) -> list[bool]:
    """Say for each member of the batch whether a closed form of the flow exists.

    Trace-squared: always. Frobenius: rank 1 always, otherwise where BᵀB − AAᵀ = λI to rounding, or where each
    singular mode of Δ has its own direction of the factor space (mode-aligned), with any imbalance.
    """
    return [family is not None for family in closed_forms(problem)]


def closed_forms(problem: Canonical) -> list[str | None]:
    """Name of the closed form that holds for each member: riccati, balanced, mode_aligned, or None."""
    batch = problem.B.shape[0]
    if isinstance(problem.landscape, TraceLandscape):
        return ["riccati"] * batch
    _, aligned = mode_aligned.directions(problem.B, problem.C)
    _, even = balance(problem.B, problem.C)
    even = even | (problem.rank == 1)
    # Aligned first: no sub-steps, and its states are the flow's own.
    return [
        "mode_aligned" if one else "balanced" if other else None
        for one, other in zip(aligned.tolist(), even.tolist(), strict=True)
    ]


def solve_flow(
    problem: Canonical, times: Tensor, *, method: str = "auto", rtol: float = 1e-9, atol: float = 1e-12,
    factors: bool = False, max_steps: int = engine.MAX_STEPS,
) -> Solution:  # fmt: skip
    """Solve the simultaneous flow at flow times (T,), increasing, from the batch's state at time 0.

    Parameters
    ----------
    method : str
        `auto`, `exact`, `adaptive` or a torchdiffeq method.
    factors : bool
        Whether A and B themselves are wanted, or products only (see `exact.balanced`).

    Raises
    ------
    HypothesisError
        `exact` where no closed form exists.
    InputError
        Unknown method.
    """
    if method not in METHODS:
        raise InputError(f"solver: unknown method {method!r}", f"Choose one of {', '.join(METHODS)}.")
    batch = problem.B.shape[0]
    forms = closed_forms(problem) if method in ("auto", "exact") else [None] * batch
    if method == "exact" and None in forms:
        raise HypothesisError(f"solver exact: rank {problem.rank}: {NOT_BALANCED}", EXACT_HINT)
    parts = []
    for form in dict.fromkeys(forms):
        members = [i for i in range(batch) if forms[i] == form]
        part = problem.member(torch.tensor(members, device=problem.B.device))
        if form is None:
            parts.append((members, _integrated(part, times, method, rtol, atol, max_steps)))
        else:
            parts.append((members, _exact(part, times, factors)))
    return scatter(parts, batch)


def _exact(problem: Canonical, times: Tensor, factors: bool) -> Solution:
    """Solve a batch all of whose members have the same closed form."""
    clock = problem.clock * times.to(problem.B.dtype)
    if isinstance(problem.landscape, TraceLandscape):
        return trace_squared.solve(problem.landscape, problem.B, problem.C, clock)
    assert isinstance(problem.landscape, FrobeniusLandscape)
    if closed_forms(problem)[0] == "mode_aligned":
        return mode_aligned.solve(problem.landscape, problem.B, problem.C, clock)
    return balanced.solve(problem.landscape, problem.B, problem.C, clock, factors=factors)


def _integrated(problem: Canonical, times: Tensor, method: str, rtol: float, atol: float, max_steps: int) -> Solution:
    stepper = method if method in engine.METHODS else ADAPTIVE_STEPPER
    result = engine.integrate(
        lambda Z: velocity(problem.landscape, Z),
        torch.stack([problem.B, problem.C], dim=1),
        problem.clock * times.to(torch.float64),
        method=stepper, rtol=rtol, atol=atol, max_steps=max_steps,
    )  # fmt: skip
    B, C = result.states.unbind(2)
    batch = problem.B.shape[0]
    name = method if method in engine.METHODS else "adaptive"
    steps = torch.tensor(result.steps, dtype=B.dtype, device=B.device)
    return Solution(
        B, C, result.status, [name] * batch, [stepper] * batch, result.steps, result.evaluations,
        rounding_bound(B, C, 4 * (1 + steps)),
    )  # fmt: skip
