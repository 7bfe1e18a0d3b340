"""One word for how a trajectory ended, and the sentence that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from torch import Tensor

from flowsim.integrators.base import SENTENCES, Status
from flowsim.theory.limits import Waiting

ACCELERATES = 1.05  # a fall that is faster by this factor than a little earlier is not exponential yet
GROWN = 100.0  # a descent whose last loss is its largest, and this many times its first, is not bounded


class Outcome(StrEnum):
    """How a trajectory ended."""

    REACHED = "reached"
    NOT_YET = "not_yet"
    STATIONARY_ELSEWHERE = "stationary_elsewhere"
    LEFT_MINIMUM = "left_minimum"
    DIVERGED = "diverged"
    STEP_UNDERFLOW = "step_underflow"
    MAX_STEPS = "max_steps"
    FAILED = "failed"
    NOT_RUN = "not_run"

    @property
    def meaning(self) -> str:
        """What the word says of a trajectory."""
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.REACHED: "the excess loss is within reach of its floor",
    Outcome.NOT_YET: "the loss is still falling at the last time",
    Outcome.STATIONARY_ELSEWHERE: "it rests, at a saddle or at another limit, above the floor or with no floor known",
    Outcome.LEFT_MINIMUM: "descent beyond its stability limit that left the minimum and stays bounded",
    Outcome.DIVERGED: "the numbers grew beyond all bounds; the finite ones are kept",
    Outcome.STEP_UNDERFLOW: "the solver's step became smaller than the clock can tell",
    Outcome.MAX_STEPS: "the solver used up its steps before the last time",
    Outcome.FAILED: "it could not be computed",
    Outcome.NOT_RUN: "it was not computed",
}


@dataclass(frozen=True)
class Ending:
    """What decides the outcome of one trajectory.

    Attributes
    ----------
    excess : ndarray, (T,)
        Excess loss over time.
    times : ndarray, (T,)
        Flow times.
    limit_excess : float
        Exact limit of the excess loss of the flow, NaN if not known.
    rate : float
        Exact rate of the excess loss, NaN if not known.
    reach : float
        Reached means excess ≤ reach × excess at time 0.
    least_excess : float
        A lower bound of the limit: what modes that are absent at the start leave behind.
    learning_rate, stability_limit : float
        Of a descent, and the limit of its order of updates where that is known; NaN otherwise.
    multiplier : float
        Predicted growth per round of a deviation from the flow's minimum; NaN if not known. Above 1 the minimum is
        unstable at this learning rate.
    arrival : float
        Flow time at which the goal will be reached, from the closed form; NaN if not known.
    start : float
        Excess loss at time 0; NaN if that is the first entry of `excess`.
    missing : str
        The leading modes that the limit lacks.
    escape : float
        Time at which rounding leaves that limit; NaN if there is nothing to leave, infinite if never.
    overlap : float
        Of the start with the leading directions of its limit; NaN if not known.
    floor : float
        What the excess is counted from.
    departure, arrival_of_last : float
        Further flow time until the next, and the last, of the modes that are still missing at the end is learnt;
        infinite if nothing of them is there, NaN if none is missing or the state is not near a saddle. What a small
        gradient means without a closed form.
    waiting : int
        The next of these modes, 1 is the strongest; 0 if none.
    saddle : float
        Excess loss of the missing modes.
    rounding : float
        An excess loss below this is zero.
    """

    excess: np.ndarray
    times: np.ndarray
    limit_excess: float
    rate: float
    reach: float
    least_excess: float = 0.0
    learning_rate: float = math.nan
    stability_limit: float = math.nan
    multiplier: float = math.nan
    arrival: float = math.nan
    start: float = math.nan
    missing: str = ""
    escape: float = math.nan
    overlap: float = math.nan
    floor: float = 0.0
    departure: float = math.nan
    arrival_of_last: float = math.nan
    waiting: int = 0
    saddle: float = math.nan
    rounding: float = 0.0

    @property
    def unstable(self) -> bool:
        """Whether descent cannot stay at the flow's minimum."""
        if math.isfinite(self.multiplier):
            return self.multiplier > 1
        return self.learning_rate > self.stability_limit


@dataclass(frozen=True)
class Horizon:
    """What all trajectories of a schedule share: recorded flow times (T,), theory variables (S,), `reach`.

    `start` is the excess loss at time 0 (S,), where that is not the first recorded time.
    """

    times: np.ndarray
    theory: dict[str, np.ndarray]
    reach: float
    start: np.ndarray | None = None


def decide_all(
    numbers: dict[str, Tensor],
    status: list[Status],
    horizon: Horizon,
    learning_rate: float = math.nan,
    multiplier: np.ndarray | None = None,
    arrival: np.ndarray | None = None,
    limit: str = "stability_limit",
    waiting: Waiting | None = None,
    local_rate: np.ndarray | None = None,
) -> list[tuple[Outcome, str, float]]:
    """`decide` for every member of a batch, from its excess loss (T, S).

    `limit` names the theory variable that holds the stability limit of a descent; `waiting` is what the last states
    wait for, `local_rate` that of the Hessian there (S,), used where theory has none.
    """
    theory = horizon.theory
    excess = numbers["excess_loss"].detach().cpu().double().numpy()

    def of(name: str, seed: int, default: float = math.nan) -> float:
        return float(theory[name][seed]) if name in theory else default

    def at(values: np.ndarray | Tensor | None, seed: int) -> float:
        return math.nan if values is None else float(values[seed])

    def ending(seed: int) -> Ending:
        floor = of("loss_floor", seed)
        end = Ending(
            excess=excess[:, seed],
            times=horizon.times,
            limit_excess=of("loss_limit", seed) - floor,
            rate=_first_finite(of("convergence_rate", seed), at(local_rate, seed)),
            reach=horizon.reach,
            least_excess=of("loss_reachable", seed) - floor,
            learning_rate=learning_rate,
            stability_limit=of(limit, seed),
            multiplier=at(multiplier, seed),
            arrival=at(arrival, seed),
            start=at(horizon.start, seed),
            missing=str(theory["missing_modes"][seed]) if "missing_modes" in theory else "",
            escape=of("escape_time", seed),
            overlap=of("overlap", seed),
            floor=floor,
            rounding=of("excess_rounding", seed, 0.0),
        )
        if waiting is None:
            return end
        return replace(
            end,
            departure=at(waiting.leaving, seed),
            arrival_of_last=at(waiting.last, seed),
            waiting=int(waiting.mode[seed]),
            saddle=at(waiting.excess, seed),
        )

    return [decide(ending(seed), one) for seed, one in enumerate(status)]


def of_unknown_limit(theory: dict[str, np.ndarray]) -> list[int]:
    """Members whose limit no closed form knows."""
    return [int(seed) for seed in np.flatnonzero(np.isnan(theory["loss_limit"]))]


def decide(end: Ending, status: Status) -> tuple[Outcome, str, float]:
    """Outcome, reason, and the further flow time needed (NaN unless `not_yet`)."""
    if status is not Status.COMPLETED:
        return Outcome(status.value), SENTENCES[status], math.nan
    last = float(end.excess[-1])
    first = end.start if math.isfinite(end.start) else float(end.excess[0])
    if not math.isfinite(last):
        alive = int(np.isfinite(end.excess).sum())
        shown = f"loss not finite after t = {end.times[max(alive - 1, 0)]:.6g}"
        return Outcome.DIVERGED, shown + _beyond(end), math.nan
    goal = max(end.reach * first, end.rounding)
    if last <= goal:
        reason = f"excess loss {last:.3g} is within {end.reach:g} of its start {first:.3g}"
        if last > end.reach * first:
            reason = f"excess loss {last:.3g} is rounding: it starts at {first:.3g}"
        return Outcome.REACHED, reason + (_lost(end) if math.isfinite(end.escape) else ""), math.nan
    if last == float(np.nanmax(end.excess)) and last > GROWN * first:
        return Outcome.DIVERGED, f"excess loss {last:.3g} and growing{_beyond(end)}", math.nan
    if end.unstable:
        return Outcome.LEFT_MINIMUM, f"excess loss stays at {last:.3g}{_beyond(end)}", math.nan
    known = math.isfinite(end.limit_excess)
    bound = end.limit_excess if known else end.least_excess
    if bound > goal:
        where = f"a loss of {bound + end.floor:.6g} (excess {bound:.6g})"
        if bound - last > goal:
            return Outcome.NOT_YET, f"rounding has left the limit of this start, {where}{_lost(end)}", math.nan
        if last - bound <= goal:
            return Outcome.STATIONARY_ELSEWHERE, f"this start cannot fall below {where}{_lost(end)}", math.nan
        return Outcome.NOT_YET, f"still falling towards {where}, above the floor{_lost(end)}", math.nan
    if not known and math.isinf(end.departure) and abs(last - end.saddle) <= goal:
        why = f"at rest at loss {last + end.floor:.6g}: nothing of mode {end.waiting} is there to grow"
        return Outcome.STATIONARY_ELSEWHERE, why, math.nan
    further = _further_time(end, last, goal)
    tail = f"; about {further:.4g} more flow time" if math.isfinite(further) else ""
    if not known and math.isfinite(end.departure):
        further = end.arrival_of_last
        tail = f"; a plateau: mode {end.waiting} is learnt after {end.departure:.4g} more flow time"
        tail += f", the last one after {further:.4g}" if further > end.departure else ""
    elif not known and math.isinf(end.departure):
        return (
            Outcome.NOT_YET,
            f"excess loss {last:.3g}, {goal:.3g} wanted; close to a saddle it cannot leave",
            math.nan,
        )
    return Outcome.NOT_YET, f"excess loss {last:.3g}, {goal:.3g} wanted{tail}", further


def _further_time(end: Ending, last: float, goal: float) -> float:
    """From the closed form, or ln(excess/goal)/rate with the exact rate or that of the last tenth of the horizon."""
    if math.isfinite(end.arrival):
        return end.arrival - float(end.times[-1])
    rate = end.rate
    if not rate > 0:
        late, early = _fall(end, 1.0), _fall(end, 0.9)
        if not late > 0 or (early > 0 and late > ACCELERATES * early):
            return math.nan  # not falling, or still faster from time to time: no rate to go by
        rate = late
    return math.log(last / goal) / rate if goal > 0 else math.nan


def _fall(end: Ending, part: float) -> float:
    """Rate at which the excess fell over a tenth of the horizon that ends at this part of it; NaN if not known."""
    stop = int(np.searchsorted(end.times, part * end.times[-1] * (1 + 1e-12), side="right")) - 1
    start = min(int(np.searchsorted(end.times, (part - 0.1) * end.times[-1])), stop - 1)
    if start < 0 or not (end.excess[start] > 0 and end.excess[stop] > 0 and end.times[stop] > end.times[start]):
        return math.nan
    return math.log(float(end.excess[start] / end.excess[stop])) / float(end.times[stop] - end.times[start])


def _first_finite(*values: float) -> float:
    return next((value for value in values if math.isfinite(value)), math.nan)


def _lost(end: Ending) -> str:
    """What the limit of this start lacks, how much of it the start had, and when rounding would leave it."""
    text = f"; missing: mode{'s' if ',' in end.missing else ''} {end.missing}" if end.missing else ""
    if math.isfinite(end.overlap):
        text += f"; the start's overlap with the leading directions is {end.overlap:.2g}"
    if math.isfinite(end.escape):
        text += f"; only rounding leaves that limit, from about t = {end.escape:.4g} in this dtype"
    return text


def _beyond(end: Ending) -> str:
    if math.isfinite(end.multiplier) and end.unstable:
        return f"; the minimum is unstable at this learning rate: deviations grow {end.multiplier:.6g}-fold a round"
    if end.unstable:
        return f"; learning rate {end.learning_rate:g} is above the stability limit {end.stability_limit:.6g}"
    return ""
