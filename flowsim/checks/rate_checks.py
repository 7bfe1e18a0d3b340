"""Checks of how fast: `convergence_rate` of the flow and `stability` of descent.

A rate is the slope of ln(excess loss). It is measured on three windows of equal length at the end of what lies above
the solver's noise. Where the excess is C·e^{−Rt}(1 + c·e^{−δt}) the slopes approach R geometrically, so their last
change and its ratio bound what is left of the approach; slopes that do not settle leave the check unresolved.
Where theory says C·t⁻² the excess is C/(t + t0)² with an unknown start t0: 1/√excess then grows linearly, by 1/√C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, not_applicable
from flowsim.checks.seeds import worst_seed
from flowsim.checks.view import FLOW, View

ABOVE_NOISE = 100.0  # the excess must be this far above the solver's noise
POINTS = 9  # fewest recorded times for three windows
LAST_SHARE = 1 / 8  # a power is measured from this part of the last time on
SHARE = 0.2  # a slope whose own uncertainty is a larger share of it has not settled


@dataclass(frozen=True)
class Slope:
    """A measured rate with its uncertainty; NaN where nothing can be measured."""

    rate: float
    error: float
    at: float = math.nan  # the last time used, and the excess there
    excess: float = math.nan


def convergence_rate(view: View) -> list[Finding]:
    """The excess loss of the flow falls at the rate that theory gives; one finding per rank, its worst seed."""
    return [
        one
        for rank in range(len(view.ranks))
        for one in worst_seed(view, rank, partial(_rate, view, rank, _Decay.of(view, FLOW, rank)))
    ]


def stability(view: View) -> list[Finding]:
    """Descent is stable below, and leaves the minimum above, the predicted learning rate."""
    rows = [row for row in view.schedules if row["kind"] == "descent"]
    if not rows:
        return [not_applicable("scenario", "there is no descent schedule")]
    return [
        one
        for place in (row["place"] for row in rows)
        for rank in range(len(view.ranks))
        for one in worst_seed(view, rank, partial(_stable, view, place, rank, _Decay.of(view, place, rank)), place)
    ]


@dataclass(frozen=True)
class _Decay:
    """The excess loss of one schedule and rank, and the solver noise below which it says nothing, (seed, time)."""

    excess: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, view: View, schedule: int, rank: int) -> _Decay:
        """The excess inherits the square of the error of BA."""
        error = view.trajectory("estimated_error", schedule, rank)
        bound = 2 * view.coefficient * (view.rows if view.objective == "trace_squared" else 1)
        noise = bound * (np.nan_to_num(error) * view.size(rank)[:, None]) ** 2
        return cls(view.trajectory("excess_loss", schedule, rank), noise)


def _rate(view: View, rank: int, decay: _Decay, seed: int) -> Finding:
    subject = view.subject(FLOW, rank, seed)
    if why := view.escaped(rank, seed):
        return not_applicable(subject, why)
    expected = float(view.theory("convergence_rate", rank)[seed])
    source = "closed form"
    power = float(view.theory("convergence_power", rank)[seed])
    if math.isfinite(power):
        return _power(view, rank, decay, seed, power)
    if not math.isfinite(expected):
        expected, source = float(view.final("local_rate", FLOW, rank)[seed]), "Hessian at the end of the run"
    outcome = str(view.final("outcome", FLOW, rank)[seed])
    if not (math.isfinite(expected) and expected > 0):
        if outcome == "not_yet":
            why = f"no minimum to linearise at yet: {view.final('reason', FLOW, rank)[seed]}"
            return Finding(subject, math.nan, math.nan, math.nan, Verdict.NOT_REACHED, why)
        why = "the run is not at a minimum" if outcome != "reached" else "nothing moves, or no rate is known there"
        return not_applicable(subject, f"no rate is predicted: {why}")
    found = _measured(view.times, decay.excess[seed], decay.noise[seed])
    settled = math.isfinite(found.rate) and found.error <= SHARE * expected
    if outcome == "not_yet" and not (settled and abs(found.rate - expected) <= found.error):
        why = f"the run is not in its last phase: {view.final('reason', FLOW, rank)[seed]}"
        return Finding(subject, found.rate, expected, found.error, Verdict.NOT_REACHED, why)
    if not view.size(rank)[seed] > 0 or not (decay.excess[seed] > 0).any():
        return not_applicable(subject, "no rate is predicted: nothing moves")
    if not math.isfinite(found.rate):
        return Finding(subject, math.nan, expected, math.nan, Verdict.UNRESOLVED, "too few times above the noise")
    if found.error > SHARE * expected:
        spread = f" ± {found.error:.2g}" if math.isfinite(found.error) else ""
        why = f"the slope has not settled: {found.rate:.4g}{spread}, too far apart in three windows of time"
        return Finding(subject, found.rate, expected, found.error, Verdict.UNRESOLVED, why)
    if abs(found.rate - expected) <= found.error:
        return Finding(subject, found.rate, expected, found.error, Verdict.PASS, f"rate predicted from: {source}")
    verdict, why = _hidden(view, rank, decay, seed, found, expected)
    if verdict is Verdict.FAIL and source != "closed form" and decay.excess[seed, 0] > 0:
        # The end is off the minimum by about the root of what is left of the excess, and so is the Hessian there.
        left = float(decay.excess[seed, -1] / decay.excess[seed, 0])
        if abs(found.rate - expected) <= found.error + 2 * math.sqrt(left) * expected:
            verdict, why = Verdict.UNRESOLVED, f"the Hessian is that of a state with {left:.2g} of its excess left"
    return Finding(subject, found.rate, expected, found.error, verdict, why or f"rate predicted from: {source}")


def _hidden(view: View, rank: int, decay: _Decay, seed: int, found: Slope, expected: float) -> tuple[Verdict, str]:
    """Whether a faster decay still hides the last phase, whose constant C is known; a failure where it cannot.

    The last phase begins where the measured decay would meet C·e^{−Rt}: beyond the horizon, or below what the solver
    resolves.
    """
    constant = float(view.theory("excess_constant", rank)[seed])
    if not math.isfinite(constant) and found.rate > expected:
        return Verdict.UNRESOLVED, "the excess falls faster: the slowest mode does not show, or is not excited"
    below = math.log(found.excess / constant) + expected * found.at if constant > 0 else math.nan
    if not (below > 0 and found.rate > expected):
        return Verdict.FAIL, ""
    begins = found.at + below / (found.rate - expected)
    level = constant * math.exp(-expected * begins)
    noise = float(decay.noise[seed].max())
    why = f"a faster decay comes first; the last phase begins at about t = {begins:.4g}, at an excess of {level:.2g}"
    if level > ABOVE_NOISE * noise and begins > 0.5 * view.times[-1]:
        return Verdict.NOT_REACHED, why
    if level <= ABOVE_NOISE * noise:
        return Verdict.UNRESOLVED, f"{why}, below what the solver resolves"
    return Verdict.FAIL, why


def _power(view: View, rank: int, decay: _Decay, seed: int, power: float) -> Finding:
    """An algebraic decay is judged by its power law, excess^(−1/p) = (t + t0)·C^(−1/p), however late or early."""
    subject = view.subject(FLOW, rank, seed)
    expected = float(view.theory("excess_constant", rank)[seed]) ** (-1 / power)
    found = _grown(view.times, decay.excess[seed], power, decay.noise[seed])
    settled = math.isfinite(found.rate) and found.error <= SHARE * expected
    outcome = str(view.final("outcome", FLOW, rank)[seed])
    if outcome == "not_yet" and not (settled and abs(found.rate - expected) <= found.error):
        why = f"the run is not in its last phase: {view.final('reason', FLOW, rank)[seed]}"
        return Finding(subject, found.rate, expected, found.error, Verdict.NOT_REACHED, why)
    if not settled:
        why = f"excess^(-1/{power:g}) does not grow linearly yet: {found.rate:.4g} ± {found.error:.2g}"
        return Finding(subject, found.rate, expected, found.error, Verdict.UNRESOLVED, why)
    why = f"algebraic: the excess falls like t^-{power:g}; growth of excess^(-1/{power:g})"
    if found.rate > expected + found.error:
        # A null direction that starts at s joins the power law only at t = 1/s: fewer directions, a faster growth.
        why = f"{why}; faster than predicted: not every null direction has begun to fade"
        return Finding(subject, found.rate, expected, found.error, Verdict.UNRESOLVED, why)
    return judged(subject, found.rate, expected, found.error, why)


def _measured(x: np.ndarray, excess: np.ndarray, noise: np.ndarray) -> Slope:
    """Slope of −ln(excess) against x on three windows of equal length in the last half of what is above the noise.

    An excess that rises has met its own rounding: its least value is noise.
    """
    level = float(noise.max())
    if bool((np.diff(excess) > 0).any()):
        level = max(level, float(np.nanmin(np.where(excess > 0, excess, math.inf))))
    last = _above(excess, level)
    if last < POINTS:
        return Slope(math.nan, math.nan)
    ends = _nearest(x[:last], np.linspace(x[last // 2], x[last - 1], 4))
    found = _last_slope(x[ends], -np.log(excess[ends]), _of_logarithm(excess, noise, ends[-2:]))
    return replace(found, at=float(x[ends[-1]]), excess=float(excess[ends[-1]]))


def _of_logarithm(excess: np.ndarray, noise: np.ndarray, places: list[int]) -> float:
    """Error of ln(excess) at these places: √noise is that of the deviation, whose square the excess is."""
    part = np.sqrt(noise[places] / excess[places])
    return float((2 * part + part**2).max()) + 64 * float(np.finfo(float).eps)


def _grown(times: np.ndarray, excess: np.ndarray, power: float, noise: np.ndarray) -> Slope:
    """Slope of excess^(−1/p) against time, on three windows of equal length in ln t: what is left falls like t⁻²."""
    last = _above(excess, float(noise.max()))
    if last < POINTS:
        return Slope(math.nan, math.nan)
    stop = times[last - 1]
    ends = _nearest(times[:last], np.geomspace(LAST_SHARE * stop, stop, 4))
    y = excess[ends] ** (-1 / power)
    return _last_slope(times[ends], y, float(y[-1]) * _of_logarithm(excess, noise, ends[-2:]) / power)


def _above(excess: np.ndarray, noise: float) -> int:
    """How many times from the first on have an excess well above the noise."""
    bad = np.flatnonzero(~(excess > ABOVE_NOISE * noise) | ~(excess > 0) | ~np.isfinite(excess))
    return int(bad[0]) if len(bad) else len(excess)


def _nearest(x: np.ndarray, wanted: np.ndarray) -> list[int]:
    return [int(np.abs(x - one).argmin()) for one in wanted]


def _last_slope(x: np.ndarray, y: np.ndarray, noise: float) -> Slope:
    """The slope of the last of three windows, with what is left of its approach to a limit if that is geometric."""
    if not (np.diff(x) > 0).all():
        return Slope(math.nan, math.nan)
    slopes = np.diff(y) / np.diff(x)
    change, settling = slopes[1] - slopes[0], slopes[2] - slopes[1]
    ratio = abs(settling / change) if change != 0 else 0.0
    floor = 2 * noise / (x[-1] - x[-2])
    left = abs(settling) * max(1.0, 2 * ratio / (1 - ratio)) if ratio < 1 else math.inf
    if abs(settling) <= floor:
        left = floor
    return Slope(float(slopes[-1]), float(2 * left + floor))


def _stable(view: View, schedule: int, rank: int, decay: _Decay, seed: int) -> Finding:
    subject = view.subject(schedule, rank, seed)
    predicted = float(view.final("multiplier", schedule, rank)[seed])
    outcome = str(view.final("outcome", schedule, rank)[seed])
    if not math.isfinite(predicted):
        k = int(view.schedules[schedule]["inner_steps"])
        why = "multipliers are known for k = 1" if k != 1 else "the flow did not reach a minimum"
        return not_applicable(subject, f"no multiplier is predicted: {why}")
    if predicted > 1:
        return _unstable(view, subject, schedule, rank, seed, predicted, outcome)
    if outcome in ("diverged", "left_minimum"):
        return not_applicable(subject, f"stable at the minimum, but from this start the descent {outcome}")
    found = _measured(view.rounds[schedule].astype(float), decay.excess[seed], decay.noise[seed])
    # Descent does not conserve Q and ends at a minimum of its own, O(η) away from the flow's.
    own = float(view.final("end_multiplier", schedule, rank)[seed])
    if not math.isfinite(found.rate) or not math.isfinite(own) or found.error > SHARE * abs(found.rate):
        if outcome == "reached":
            return Finding(subject, predicted, 1.0, 0.0, Verdict.PASS, "stable: predicted below 1, and it was reached")
        return Finding(subject, math.nan, predicted, math.nan, Verdict.UNRESOLVED, "the fall has not settled")
    # The excess is quadratic in the deviation: its fall per round is the square of the multiplier.
    observed = math.exp(-found.rate / 2)
    tolerance = observed * math.expm1(found.error / 2) + _end_error(view, schedule, rank, seed)
    verdict = Verdict.PASS if observed <= own + tolerance else Verdict.FAIL
    why = f"against the multiplier at its own end; {predicted:.6g} was predicted at the flow's"
    return Finding(subject, observed, own, tolerance, verdict, why)


def _end_error(view: View, schedule: int, rank: int, seed: int) -> float:
    """Error of the multiplier at the end of a descent, which is still a deviation δ away from its minimum.

    Excess loss ≥ ½ν·δ² with ν half the local rate, and δ changes an eigenvalue of the Hessian by at most
    2κs²·‖Z‖·δ.
    """
    excess = float(view.last(schedule, "excess_loss", rank)[seed])
    nu = float(view.final("local_rate", schedule, rank)[seed]) / 2
    size = float(view.last(schedule, "factor_norm", rank)[seed])
    if not nu > 0:
        return 0.0
    deviation = math.sqrt(2 * max(excess, 0.0) / nu)
    eta = float(view.schedules[schedule]["learning_rate"])
    return 4 * eta * view.coefficient * view.scale(rank) ** 2 * size * deviation


def _unstable(view: View, subject: str, schedule: int, rank: int, seed: int, predicted: float, outcome: str) -> Finding:
    """Above the limit descent must leave; if it settles again, then at a flatter minimum."""
    rate = float(view.schedules[schedule]["learning_rate"])
    if outcome in ("left_minimum", "diverged"):
        return Finding(subject, predicted, 1.0, 0.0, Verdict.PASS, f"unstable: predicted above 1, and it {outcome}")
    if outcome == "reached":
        sharpness = float(view.final("sharpness", schedule, rank)[seed])
        flatter = rate * sharpness < 2 or str(view.schedules[schedule]["update"]) != "simultaneous"
        why = f"settled at a minimum of sharpness {sharpness:.4g}"
        return Finding(subject, rate * sharpness, 2.0, 0.0, Verdict.PASS if flatter else Verdict.FAIL, why)
    return Finding(subject, math.nan, predicted, math.nan, Verdict.UNRESOLVED, f"unstable, but {outcome} so far")
