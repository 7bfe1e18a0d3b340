"""Checks of how fast: `convergence_rate` of the flow and `stability` of descent.

A rate is the slope of ln(excess loss). It is measured on three windows of equal length at the end of what lies above
the solver's noise. Where the excess is C·e^{−Rt}(1 + c·e^{−δt}) the slopes approach R geometrically, so their last
change and its ratio bound what is left of the approach; slopes that do not settle leave the check unresolved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowsim.checks.base import Finding, Verdict, not_applicable, worst
from flowsim.checks.view import FLOW, View

ABOVE_NOISE = 100.0  # the excess must be this far above the solver's noise
POINTS = 9  # fewest recorded times for three windows
SHARE = 0.2  # a slope whose own uncertainty is a larger share of it has not settled


@dataclass(frozen=True)
class Slope:
    """A measured rate with its uncertainty; NaN where nothing can be measured."""

    rate: float
    error: float


def convergence_rate(view: View) -> list[Finding]:
    """The excess loss of the flow falls at the rate that theory gives; one finding per rank, its worst seed."""
    return [worst([_rate(view, rank, seed) for seed in range(len(view.seeds))]) for rank in range(len(view.ranks))]


def stability(view: View) -> list[Finding]:
    """Descent is stable below, and leaves the minimum above, the predicted learning rate."""
    rows = [row for row in view.schedules if row["kind"] == "descent"]
    if not rows:
        return [not_applicable("scenario", "there is no descent schedule")]
    return [
        worst([_stable(view, row["place"], rank, seed) for seed in range(len(view.seeds))])
        for row in rows
        for rank in range(len(view.ranks))
    ]


def _rate(view: View, rank: int, seed: int) -> Finding:
    subject = view.subject(FLOW, rank, seed)
    expected = float(view.theory("convergence_rate", rank)[seed])
    source = "closed form"
    if not math.isfinite(expected):
        expected, source = float(view.final("local_rate", FLOW, rank)[seed]), "Hessian at the end of the run"
    outcome = str(view.final("outcome", FLOW, rank)[seed])
    if not (math.isfinite(expected) and expected > 0):
        why = "the run is not at a minimum" if outcome != "reached" else "the decay is not exponential"
        return not_applicable(subject, f"no rate is predicted: {why}")
    found = _measured(view.times, view.trajectory("excess_loss", FLOW, rank)[seed], _noise(view, FLOW, rank, seed))
    settled = math.isfinite(found.rate) and found.error <= SHARE * expected
    if outcome == "not_yet" and not (settled and abs(found.rate - expected) <= found.error):
        why = f"the run is not in its last phase: {view.final('reason', FLOW, rank)[seed]}"
        return Finding(subject, found.rate, expected, found.error, Verdict.NOT_REACHED, why)
    if not math.isfinite(found.rate):
        return Finding(subject, math.nan, expected, math.nan, Verdict.UNRESOLVED, "too few times above the noise")
    if found.error > SHARE * expected:
        why = f"the slope has not settled: {found.rate:.4g} ± {found.error:.2g}"
        return Finding(subject, found.rate, expected, found.error, Verdict.UNRESOLVED, why)
    verdict = Verdict.PASS if abs(found.rate - expected) <= found.error else Verdict.FAIL
    return Finding(subject, found.rate, expected, found.error, verdict, f"rate predicted from: {source}")


def _noise(view: View, schedule: int, rank: int, seed: int) -> float:
    """Below this the excess loss is solver noise: it inherits the square of the error of BA."""
    error = view.trajectory("estimated_error", schedule, rank)[seed]
    delta = float(np.nanmax(error, initial=0.0)) * float(view.size(rank)[seed])
    bound = 2 * view.coefficient * (view.rows if view.objective == "trace_squared" else 1)
    return bound * delta**2


def _measured(times: np.ndarray, excess: np.ndarray, noise: float) -> Slope:
    """Slope of ln(excess) at the end of what is above the noise.

    An excess that rises has met its own rounding (at a tie σ_r = σ_{r+1} already near ε): its least value is noise.
    """
    if bool((np.diff(excess) > 0).any()):
        noise = max(noise, float(np.nanmin(np.where(excess > 0, excess, math.inf))))
    good = np.flatnonzero(~(excess > ABOVE_NOISE * noise) | ~(excess > 0) | ~np.isfinite(excess))
    last = int(good[0]) if len(good) else len(excess)
    if last < POINTS:
        return Slope(math.nan, math.nan)
    start = last // 2
    length = (last - 1 - start) // 3
    if length < 1:
        return Slope(math.nan, math.nan)
    ends = [last - 1 - k * length for k in (3, 2, 1, 0)]
    x, y = times[ends], np.log(excess[ends])
    slopes = -np.diff(y) / np.diff(x)
    first, second = slopes[1] - slopes[0], slopes[2] - slopes[1]
    ratio = abs(second / first) if first != 0 else 0.0
    # Rounding and solver noise of the logarithm, over the length of the last window.
    floor = 2 * (noise / excess[ends[-1]] + 64 * np.finfo(float).eps) / (x[-1] - x[-2])
    left = abs(second) * max(1.0, 2 * ratio / (1 - ratio)) if ratio < 1 else math.inf
    if abs(second) <= floor:
        left = floor
    return Slope(float(slopes[-1]), float(2 * left + floor))


def _stable(view: View, schedule: int, rank: int, seed: int) -> Finding:
    subject = view.subject(schedule, rank, seed)
    predicted = float(view.final("multiplier", schedule, rank)[seed])
    outcome = str(view.final("outcome", schedule, rank)[seed])
    if not math.isfinite(predicted):
        k = int(view.schedules[schedule]["inner_steps"])
        why = "multipliers are known for k = 1" if k != 1 else "the flow did not reach a minimum"
        return not_applicable(subject, f"no multiplier is predicted: {why}")
    if predicted > 1:
        return _above(view, subject, schedule, rank, seed, predicted, outcome)
    if outcome in ("diverged", "left_minimum"):
        return not_applicable(subject, f"stable at the minimum, but from this start the descent {outcome}")
    rounds = view.rounds[schedule].astype(float)
    excess = view.trajectory("excess_loss", schedule, rank)[seed]
    found = _measured(rounds, excess, _noise(view, schedule, rank, seed))
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
    excess = float(view.trajectory("excess_loss", schedule, rank)[seed, -1])
    nu = float(view.final("local_rate", schedule, rank)[seed]) / 2
    size = float(view.trajectory("factor_norm", schedule, rank)[seed, -1])
    if not nu > 0:
        return 0.0
    deviation = math.sqrt(2 * max(excess, 0.0) / nu)
    eta = float(view.schedules[schedule]["learning_rate"])
    return 4 * eta * view.coefficient * view.scale(rank) ** 2 * size * deviation


def _above(view: View, subject: str, schedule: int, rank: int, seed: int, predicted: float, outcome: str) -> Finding:
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
