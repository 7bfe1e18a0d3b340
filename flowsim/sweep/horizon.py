"""How long a run that has not yet reached its limit would still need, from the closed form where there is one."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.base import Solution
from flowsim.integrators.solve import solve_flow
from flowsim.theory.trace_squared import time_to

DOUBLINGS = 200  # looked for up to 2^200 times the horizon: a closed form knows any time
REFINEMENTS = 2  # each narrows a bracket 32-fold in the logarithm of time
POINTS = 32


def arrival_times(batch: Canonical, flow: Solution, goal: Tensor, limit: Tensor, stop: float) -> Tensor:
    """Flow time at which the canonical excess loss of each member falls to `goal` (S,), (S,).

    Known for members solved by a closed form that have not arrived at `stop` but will (`limit` ≤ goal, S); NaN for
    the others. Plateaus and power laws are followed exactly, no rate is assumed.
    """
    out = torch.full_like(goal, math.nan)
    exact = torch.tensor([method == "exact" for method in flow.method], device=goal.device)
    last = _excess(batch, flow)[-1]
    if isinstance(batch.landscape, TraceLandscape):
        return torch.where(
            exact & (last > goal) & (limit <= goal) & (goal > 0), time_to(batch, goal) / batch.clock, out
        )
    for member in torch.nonzero(exact & (last > goal) & (limit <= goal) & (goal > 0)).flatten().tolist():
        out[member] = _arrival(batch.member(slice(member, member + 1)), float(goal[member]), stop)
    return out


def reach_times(excess: np.ndarray, times: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Flow time at which an excess loss first fell to its goal, (S,); NaN where it did not.

    Parameters
    ----------
    excess : ndarray, (S, T)
        At the recorded times; between two of them its logarithm is taken as linear, exact for a single mode.
    times : ndarray, (T,)
    goal : ndarray, (S,)
    """
    there = excess <= goal[:, None]
    found = np.full(len(excess), math.nan)
    for member in np.flatnonzero(there.any(axis=1)):
        late = int(there[member].argmax())
        found[member] = times[late]
        if late and excess[member, late] > 0 and math.isfinite(excess[member, late - 1]):
            high, low = excess[member, late - 1], excess[member, late]
            share = math.log(high / goal[member]) / math.log(high / low)
            found[member] = times[late - 1] + share * (times[late] - times[late - 1])
    return found


def _arrival(one: Canonical, goal: float, stop: float) -> float:
    early = stop
    for _ in range(DOUBLINGS):
        late = 2 * early
        if _arrived(one, [late], goal)[0]:
            break
        early = late
    else:
        return math.nan
    for _ in range(REFINEMENTS):
        grid = torch.logspace(math.log2(early), math.log2(late), POINTS + 1, base=2.0, dtype=torch.float64).tolist()
        first = [*_arrived(one, grid[1:-1], goal), True].index(True)
        early, late = grid[first], grid[first + 1]
    return late


def _arrived(one: Canonical, times: list[float], goal: float) -> list[bool]:
    solved = solve_flow(one, torch.tensor(times, dtype=torch.float64, device=one.B.device), method="exact")
    return [bool(value <= goal) for value in _excess(one, solved)[:, 0]]


def _excess(batch: Canonical, solution: Solution) -> Tensor:
    return batch.landscape.excess(solution.B, solution.C) if solution.excess is None else solution.excess
