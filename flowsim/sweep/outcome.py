"""One word for how a trajectory ended, and the sentence that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from flowsim.integrators.base import SENTENCES, Status

PLATEAU = 1e-2  # a gradient norm below this part of its largest may be a plateau
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
        For simultaneous descent; NaN otherwise.
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
    departure : float
        Further flow time until a mode that is still missing at the end is learnt; infinite if nothing of it is there,
        NaN if none is missing or the state still moves. What a small gradient means without a closed form.
    waiting : int
        That mode, 1 is the strongest; 0 if none.
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
    waiting: int = 0

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
    plateau: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[tuple[Outcome, str, float]]:
    """`decide` for every member of a batch, from its excess loss (T, S).

    `plateau` is what the last states wait for: the mode and the further flow time, (S,) each.
    """
    theory = horizon.theory
    excess = numbers["excess_loss"].detach().cpu().double().numpy()

    def of(name: str, seed: int, default: float = math.nan) -> float:
        return float(theory[name][seed]) if name in theory else default

    endings = [
        Ending(
            excess[:, seed],
            horizon.times,
            of("loss_limit", seed) - of("loss_floor", seed),
            of("convergence_rate", seed),
            horizon.reach,
            of("loss_reachable", seed) - of("loss_floor", seed),
            learning_rate,
            of("stability_limit", seed),
            math.nan if multiplier is None else float(multiplier[seed]),
            math.nan if arrival is None else float(arrival[seed]),
            math.nan if horizon.start is None else float(horizon.start[seed]),
            str(theory["missing_modes"][seed]) if "missing_modes" in theory else "",
            of("escape_time", seed),
            of("overlap", seed),
            of("loss_floor", seed),
            math.nan if plateau is None else float(plateau[1][seed]),
            0 if plateau is None else int(plateau[0][seed]),
        )
        for seed in range(len(status))
    ]
    return [decide(end, one) for end, one in zip(endings, status, strict=True)]


def hardly_moving(numbers: dict[str, Tensor], theory: dict[str, np.ndarray]) -> list[int]:
    """Members whose last state may be a plateau or a rest, and whose limit no closed form knows."""
    gradient = numbers["gradient_norm"]
    still = gradient[-1] <= PLATEAU * gradient.nan_to_num(nan=0.0).amax(0)
    return [seed for seed in torch.nonzero(still).flatten().tolist() if math.isnan(theory["loss_limit"][seed])]


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
    goal = end.reach * first
    if last <= goal:
        reason = f"excess loss {last:.3g} is within {end.reach:g} of its start {first:.3g}"
        return Outcome.REACHED, reason + (_lost(end) if math.isfinite(end.escape) else ""), math.nan
    if end.unstable and last == float(np.nanmax(end.excess)) and last > GROWN * first:
        return Outcome.DIVERGED, f"excess loss {last:.3g} and growing{_beyond(end)}", math.nan
    if end.unstable:
        return Outcome.LEFT_MINIMUM, f"excess loss stays at {last:.3g}{_beyond(end)}", math.nan
    known = math.isfinite(end.limit_excess)
    bound = end.limit_excess if known else end.least_excess
    if bound > goal:
        where = f"a loss of {bound + end.floor:.6g} (excess {bound:.6g})"
        if last - bound <= goal:
            return Outcome.STATIONARY_ELSEWHERE, f"this start cannot fall below {where}{_lost(end)}", math.nan
        return Outcome.NOT_YET, f"still falling towards {where}, above the floor{_lost(end)}", math.nan
    if not known and math.isinf(end.departure):
        why = f"at rest at loss {last + end.floor:.6g}: nothing of mode {end.waiting} is there to grow"
        return Outcome.STATIONARY_ELSEWHERE, why, math.nan
    further = _further_time(end, last, goal)
    tail = f"; about {further:.4g} more flow time" if math.isfinite(further) else ""
    if not known and math.isfinite(end.departure):
        tail = f"; a plateau: mode {end.waiting} is learnt after {end.departure:.4g} more flow time"
        further = end.departure
    return Outcome.NOT_YET, f"excess loss {last:.3g}, {goal:.3g} wanted{tail}", further


def _further_time(end: Ending, last: float, goal: float) -> float:
    """From the closed form, or ln(excess/goal)/rate with the exact rate or that of the last tenth of the horizon."""
    if math.isfinite(end.arrival):
        return end.arrival - float(end.times[-1])
    rate = end.rate
    if not rate > 0:
        back = min(int(np.searchsorted(end.times, 0.9 * end.times[-1])), len(end.times) - 2)
        span = end.times[-1] - end.times[back]
        if not (span > 0 and end.excess[back] > last):
            return math.nan
        rate = math.log(float(end.excess[back]) / last) / float(span)
    return math.log(last / goal) / rate if goal > 0 else math.nan


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
