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
from flowsim.integrators.exact import balanced, trace_squared

ADAPTIVE_STEPPER = "dopri5"
METHODS = ("auto", "exact", "adaptive", *engine.METHODS)

NOT_BALANCED = "BᵀB − AAᵀ is not a multiple of the identity (no closed form is known for unbalanced factors)"
EXACT_HINT = "Use solver auto, rank 1, or an init with BᵀB − AAᵀ = λI (orthogonal; spectral with b = ±scale)."


def closed_form_holds(problem: Canonical) -> list[bool]:
    """Say for each member of the batch whether a closed form of the flow exists.

    Trace-squared: always. Frobenius: rank 1 always, otherwise where BᵀB − AAᵀ = λI to rounding.
    """
    if isinstance(problem.landscape, TraceLandscape) or problem.rank == 1:
        return [True] * problem.B.shape[0]
    _, holds = balance(problem.B, problem.C)
    return [bool(one) for one in holds.tolist()]


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
    exact = closed_form_holds(problem) if method in ("auto", "exact") else [False] * batch
    if method == "exact" and not all(exact):
        raise HypothesisError(f"solver exact: rank {problem.rank}: {NOT_BALANCED}", EXACT_HINT)
    parts = []
    for wanted in (True, False):
        members = [i for i in range(batch) if exact[i] is wanted]
        if members:
            part = problem.member(torch.tensor(members, device=problem.B.device))
            solved = _exact(part, times, factors) if wanted else _integrated(part, times, method, rtol, atol, max_steps)
            parts.append((members, solved))
    return scatter(parts, batch)


def _exact(problem: Canonical, times: Tensor, factors: bool) -> Solution:
    clock = problem.clock * times.to(problem.B.dtype)
    if isinstance(problem.landscape, TraceLandscape):
        return trace_squared.solve(problem.landscape, problem.B, problem.C, clock)
    assert isinstance(problem.landscape, FrobeniusLandscape)
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
