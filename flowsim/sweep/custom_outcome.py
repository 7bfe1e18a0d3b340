"""How a trajectory of any objective ended: what can be known without closed forms, and often without a floor.

In this order. A solve that did not complete keeps its name. A last loss that is not finite is `diverged`, and so is one
that is the largest of all and has risen above the first by `GROWN` times the first or the fall before. With a floor:
`reached`, where the excess is at most reach times its start. `stationary_elsewhere`, where the loss, falling on as
fast as it does at the end (df/dt = −‖∂f‖²), would in as long a time again fall by less than reach times its fall so
far. Else `not_yet`. Without a floor a minimum cannot be told from a saddle; the reason says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowsim.integrators.base import SENTENCES, Status
from flowsim.sweep.outcome import GROWN, Outcome

ROUNDING = 16  # units of rounding that a loss of the size of its start may be off by


@dataclass(frozen=True)
class CustomEnding:
    """What decides.

    Attributes
    ----------
    loss, gradient_norm : ndarray, (T,)
        Over time; NaN where not finite.
    times : ndarray, (T,)
        Flow times.
    floor : float
        A lower bound of the loss, NaN if none is known.
    reach : float
    epsilon : float
        Machine epsilon of the computation.
    """

    loss: np.ndarray
    gradient_norm: np.ndarray
    times: np.ndarray
    floor: float
    reach: float
    epsilon: float


def decide(end: CustomEnding, status: Status) -> tuple[Outcome, str]:
    """Outcome and reason."""
    if status is not Status.COMPLETED:
        return Outcome(status.value), SENTENCES[status]
    first, last = float(end.loss[0]), float(end.loss[-1])
    if not math.isfinite(last):
        alive = int(np.isfinite(end.loss).sum())
        return Outcome.DIVERGED, f"loss not finite after t = {end.times[max(alive - 1, 0)]:.6g}"
    lowest, rounding = float(np.nanmin(end.loss)), ROUNDING * end.epsilon * abs(first)
    if last == float(np.nanmax(end.loss)) and last - first > GROWN * max(abs(first), first - lowest):
        return Outcome.DIVERGED, f"loss {last:.3g} and growing, from {first:.3g}"
    known, below = math.isfinite(end.floor), ""
    if known and lowest < end.floor - ROUNDING * end.epsilon * max(abs(first), abs(end.floor)):
        known, below = False, f"; the floor {end.floor:.6g} that was given is no bound, the loss falls to {lowest:.6g}"
    if known and last - end.floor <= max(end.reach * (first - end.floor), rounding):
        return Outcome.REACHED, (
            f"excess loss {last - end.floor:.3g} is within {end.reach:g} of its start {first - end.floor:.3g}"
        )
    speed = float(end.gradient_norm[-1]) ** 2
    ahead, goal = speed * float(end.times[-1]), max(end.reach * (first - last), rounding)
    if speed == 0 or (end.times[-1] > 0 and ahead <= goal):
        where = f"above the floor {end.floor:.6g}" if known else "a minimum, a saddle or a long plateau"
        why = f"at rest at loss {last:.6g}, {where}: in as long a time again it would fall by {ahead:.3g}"
        return Outcome.STATIONARY_ELSEWHERE, why + below
    if last > first + rounding:
        return Outcome.NOT_YET, f"loss {last:.6g} is above its start {first:.6g}" + below
    goal_of = f", {end.floor + end.reach * (first - end.floor):.6g} wanted" if known else ""
    return Outcome.NOT_YET, f"loss {last:.6g}{goal_of}; it falls by {speed:.3g} a unit of time" + below
