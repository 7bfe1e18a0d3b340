"""Schedules that advance in rounds: the sequential flow by windows, and gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.descent import descent_step
from flowsim.dynamics.rounds import Step, iterate
from flowsim.dynamics.sequential import window_step
from flowsim.integrators.base import Solution, Status, rounding_bound

Rounds = Sequence[int] | np.ndarray


def sequential_flow(problem: Canonical, update: str, window: float, rounds: Rounds) -> Solution:
    """States after the given rounds of the sequential flow; `window` in the user's time."""
    step = window_step(problem.landscape, update, problem.clock * window)
    return _advance(problem, step, rounds, "window", update, 3 if update == "symmetric" else 2, 1)


def descend(problem: Canonical, update: str, learning_rate: float, inner_steps: int, rounds: Rounds) -> Solution:
    """States after the given rounds of gradient descent; `learning_rate` for the user's factors."""
    step = descent_step(problem.landscape, update, problem.clock * learning_rate, inner_steps)
    return _advance(problem, step, rounds, "descent", update, 2 * inner_steps, inner_steps)


def _advance(
    problem: Canonical, step: Step, rounds: Rounds, method: str, update: str, evaluations: int, steps: int
) -> Solution:
    count, total = problem.B.shape[0], int(rounds[-1])
    status = Status.COMPLETED
    try:
        B, C = iterate(step, problem.B, problem.C, rounds)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # documented, but missing from torch's types
        # An eigendecomposition met numbers beyond the range of the dtype.
        status = Status.FAILED
        B = problem.B.new_full((len(rounds), *problem.B.shape), torch.nan)
        C = B.clone()
    done = torch.as_tensor(np.asarray(rounds) * steps, dtype=B.dtype, device=B.device)[:, None]
    return Solution(
        B,
        C,
        [status] * count,
        [method] * count,
        [update] * count,
        [total] * count,
        [total * evaluations] * count,
        rounding_bound(B, C, 4.0 * (1 + done)),
    )
