"""Flow and descent of any objective: torchdiffeq's steps, each member of a batch on its own, and plain rounds.

Members do not share steps: the hardest would decide for all, and the numbers of one would depend on its company.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics.custom import CustomFlow, round_of
from flowsim.dynamics.rounds import iterate
from flowsim.errors import HypothesisError, InputError
from flowsim.integrators import engine
from flowsim.integrators.base import Solution, Status, rounding_bound
from flowsim.integrators.selection import METHODS as ALL_METHODS

DEFAULT = "dopri8"
ORACLE = "dopri5"  # judges the default
METHODS = ("auto", *engine.METHODS)
MAX_STEPS = 20_000  # minutes; at a kink of f steps become tiny, and no number of them would do


def method_of(name: str) -> str:
    """The torchdiffeq method of a solver's name.

    Raises
    ------
    InputError
        Unknown; `HypothesisError` for a solver that stands on the structure of the two objectives of the theory.
    """
    if name == "auto":
        return DEFAULT
    if name in engine.METHODS:
        return name
    if name in ALL_METHODS:
        raise HypothesisError(
            f"solver {name}: is for the Frobenius and the trace-squared objective, this one is custom",
            f"Choose one of {', '.join(METHODS)}.",
        )
    raise InputError(f"solver: unknown method {name!r}", f"Choose one of {', '.join(METHODS)}.")


def solve(
    flow: CustomFlow, times: Tensor, *, method: str, rtol: float, atol: float, max_steps: int = MAX_STEPS
) -> Solution:
    """Solve the flow at flow times (T,), increasing.

    Parameters
    ----------
    method : str
        A torchdiffeq method.
    """
    clock, start = flow.scale * times.to(torch.float64), flow.stack(flow.B, flow.C)
    found = [
        engine.integrate(flow.velocity, one, clock, method=method, rtol=rtol, atol=atol, max_steps=max_steps)
        for one in torch.split(start, 1)
    ]
    B, C = flow.split(torch.cat([one.states for one in found], dim=1))
    steps, batch = [one.steps[0] for one in found], len(found)
    done = torch.tensor(steps, dtype=B.dtype, device=B.device)
    return Solution(
        B, C, [one.status[0] for one in found], [method] * batch, [method] * batch, steps,
        [one.evaluations[0] for one in found], rounding_of(flow, B, C, done),
        choice=["no structure of a custom objective is known"] * batch,
    )  # fmt: skip


def descend(flow: CustomFlow, update: str, learning_rate: float, inner_steps: int, rounds: np.ndarray) -> Solution:
    """States after the given rounds of gradient descent; finite ones are kept however large."""
    batch, total = len(flow.B), int(rounds[-1])
    B, C = iterate(round_of(flow, update, flow.scale * learning_rate, inner_steps), flow.B, flow.C, rounds)
    done = torch.as_tensor(rounds * inner_steps, dtype=B.dtype, device=B.device)[:, None]
    gradients = inner_steps if update == "simultaneous" else 2 * inner_steps
    return Solution(
        B, C, [Status.COMPLETED] * batch, ["descent"] * batch, [update] * batch, [total] * batch,
        [total * gradients] * batch, rounding_of(flow, B, C, done), choice=["the schedule's own rounds"] * batch,
    )  # fmt: skip


def rounding_of(flow: CustomFlow, B: Tensor, C: Tensor, steps: Tensor) -> Tensor:
    """Bound on the rounding of BCᵀ, (T, S): of the steps, and of W, at a rounded value of which ∇f is taken."""
    product = torch.linalg.matrix_norm(B) * torch.linalg.matrix_norm(C)
    weight = torch.linalg.matrix_norm(flow.objective.pretrained) + product
    return rounding_bound(B, C, 4.0 * (1 + steps)) + 4.0 * (1 + steps) * torch.finfo(B.dtype).eps * weight
