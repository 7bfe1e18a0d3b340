"""Schedules that advance in rounds: the sequential flow by windows, and gradient descent.

Trace-squared rounds are taken in the plane of the start (`TracePlane`), four numbers a trajectory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.descent import descent_step
from flowsim.dynamics.landscape import Landscape, TraceLandscape, TracePlane
from flowsim.dynamics.rounds import Step, iterate
from flowsim.dynamics.sequential import window_step
from flowsim.integrators.base import Solution, Status, rounding_bound

Rounds = Sequence[int] | np.ndarray


def sequential_flow(problem: Canonical, update: str, window: float, rounds: Rounds) -> Solution:
    """States after the given rounds of the sequential flow; `window` in the user's time."""
    length = problem.clock * window
    return _advance(
        problem,
        lambda f: window_step(f, update, length),
        rounds,
        "window",
        update,
        3 if update == "symmetric" else 2,
        1,
    )


def descend(problem: Canonical, update: str, learning_rate: float, inner_steps: int, rounds: Rounds) -> Solution:
    """States after the given rounds of gradient descent; `learning_rate` for the user's factors."""
    step = problem.clock * learning_rate
    return _advance(
        problem, lambda f: descent_step(f, update, step, inner_steps), rounds, "descent", update,
        2 * inner_steps, inner_steps,
    )  # fmt: skip


def _advance(
    problem: Canonical, step_of: Callable[[Landscape], Step], rounds: Rounds, method: str, update: str,
    evaluations: int, steps: int,
) -> Solution:  # fmt: skip
    count, total = problem.B.shape[0], int(rounds[-1])
    status = Status.COMPLETED
    try:
        B, C = _iterated(problem, step_of, rounds)
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
        choice=["the schedule's own rounds"] * count,
    )


def _iterated(problem: Canonical, step_of: Callable[[Landscape], Step], rounds: Rounds) -> tuple[Tensor, Tensor]:
    landscape, B0, C0 = problem.landscape, problem.B, problem.C
    if not isinstance(landscape, TraceLandscape):
        return iterate(step_of(landscape), B0, C0, rounds)
    plane = TracePlane.of(landscape, B0, C0)
    b, c = iterate(step_of(plane), *plane.start(), rounds)
    B, C = (x[..., :1, :] * C0 + x[..., 1:, :] * B0 for x in (b, c))
    return B, C
