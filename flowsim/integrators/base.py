"""What every solver returns: states, a named status for each trajectory, counts, and a rounding bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor


class Status(StrEnum):
    """How a solve ended; success is one of the names, never the absence of an exception."""

    COMPLETED = "completed"
    STEP_UNDERFLOW = "step_underflow"
    MAX_STEPS = "max_steps"
    DIVERGED = "diverged"
    FAILED = "failed"


SENTENCES = {
    Status.COMPLETED: "solved to the last time",
    Status.STEP_UNDERFLOW: "the step size fell below the spacing of the clock; loosen rtol or shorten the horizon",
    Status.MAX_STEPS: "the step limit was reached; loosen rtol, shorten the horizon or choose another method",
    Status.DIVERGED: "the state became infinite or NaN",
    Status.FAILED: "the solver stopped with an error",
}


@dataclass
class Integrated:
    """What an integrator leaves of a batch of trajectories.

    Attributes
    ----------
    states : Tensor, (T, S, ...)
        NaN at times that were not reached. Where only functions were kept: (1, S, ...), the state each ended in.
    status : list of Status, (S,)
    steps, evaluations : list of int, (S,)
        Accepted steps and right-hand sides of each.
    functions : dict of Tensor, (T, S)
        Functions of the states that were asked for.
    """

    states: Tensor
    status: list[Status]
    steps: list[int]
    evaluations: list[int]
    functions: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Solution:
    """States of a batch of trajectories in canonical coordinates.

    Attributes
    ----------
    B, C : Tensor, (T, S, q, r)
        NaN after the time at which a trajectory ended early. Where only functions were kept: (1, S, q, r), the states
        at the end.
    status, method, stepper : list, (S,)
        How each trajectory ended, the method in the user's words, the formula that stepped it.
    steps, evaluations : list of int, (S,)
        Accepted steps and right-hand sides (closed forms: sub-steps, and 0).
    rounding : Tensor, (T, S)
        Bound on the rounding error of BCᵀ in the Frobenius norm, canonical units.
    excess : Tensor (T, S) or None
        The canonical excess loss where the solver knows it better than the states do.
    choice : list of str, (S,)
        Why this method.
    functions : dict of Tensor, (T, S)
        Functions of the states where these were not kept (`dynamics.functions`).
    """

    B: Tensor
    C: Tensor
    status: list[Status]
    method: list[str]
    stepper: list[str]
    steps: list[int]
    evaluations: list[int]
    rounding: Tensor
    excess: Tensor | None = None
    choice: list[str] = field(default_factory=list)
    functions: dict[str, Tensor] = field(default_factory=dict)


def rounding_bound(B: Tensor, C: Tensor, operations: float | Tensor) -> Tensor:
    """operations·ε·‖B‖‖C‖, (...): what that many rounded operations can do to BCᵀ."""
    size = torch.linalg.matrix_norm(B) * torch.linalg.matrix_norm(C)
    return operations * torch.finfo(B.dtype).eps * size


def rotated_bound(B: Tensor, C: Tensor, operations: float | Tensor) -> Tensor:
    """operations·ε·(‖B‖² + ‖C‖²), (...): the same where rows of B and C are combined, so that each gets errors of both.

    A factor that is zero in exact arithmetic then is not zero, and ‖B‖‖C‖ would say nothing.
    """
    sizes = torch.linalg.matrix_norm(B).square() + torch.linalg.matrix_norm(C).square()
    return operations * torch.finfo(B.dtype).eps * sizes


def scatter(parts: Sequence[tuple[list[int], Solution]], batch: int) -> Solution:
    """Put solutions of parts of a batch back in the batch's order; a later part replaces an earlier one."""
    if len(parts) == 1 and parts[0][0] == list(range(batch)):
        return parts[0][1]
    first = parts[0][1]
    times, _, q, r = first.B.shape
    B, C = first.B.new_empty(times, batch, q, r), first.B.new_empty(times, batch, q, r)
    rounding = first.B.new_empty(times, batch)
    known = any(part.excess is not None for _, part in parts)
    excess = first.B.new_full((times, batch), torch.nan) if known else None
    functions = {name: value.new_full((len(value), batch), torch.nan) for name, value in first.functions.items()}
    status, method, stepper, choice = [Status.FAILED] * batch, [""] * batch, [""] * batch, [""] * batch
    steps, evaluations = [0] * batch, [0] * batch
    for members, part in parts:
        B[:, members], C[:, members], rounding[:, members] = part.B, part.C, part.rounding
        if excess is not None and part.excess is not None:
            excess[:, members] = part.excess
        for name, value in part.functions.items():
            functions[name][:, members] = value
        for place, member in enumerate(members):
            status[member], method[member] = part.status[place], part.method[place]
            stepper[member], choice[member] = part.stepper[place], part.choice[place]
            steps[member], evaluations[member] = part.steps[place], part.evaluations[place]
    return Solution(B, C, status, method, stepper, steps, evaluations, rounding, excess, choice, functions)
