"""The rules by which flows of all objectives are judged, on bare numbers: how tolerances follow from companions.

A run at rtol has companions at 10 and 100 times rtol; `near` and `far` stand for what the two give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, unresolved
from flowsim.sweep.companions import FALL

COARSE = 0.03  # a distance of the size of the update is no small error, and need not fall like one


@dataclass(frozen=True)
class Conserved:
    """What `conserved` judges of one trajectory, the largest over time of each.

    Attributes
    ----------
    drift, defect : float
        ‖Q − Q0‖, and |‖H‖² − ‖Q0‖² − 4‖BA‖²| with H = BᵀB + AAᵀ.
    factors, gram : float
        ‖Z‖ = √(‖A‖² + ‖B‖²), and ‖H‖².
    start : float
        ‖Q0‖².
    near, far : float
        Distances of the factors of the looser companions.
    least : float
        Estimated error of BA.
    operations : float
        Rounded operations in Q: the terms of a Gram sum, and a few a step.
    epsilon : float
    """

    drift: float
    defect: float
    factors: float
    gram: float
    start: float
    near: float
    far: float
    least: float
    operations: float
    epsilon: float


def conserved(subject: str, of: Conserved) -> list[Finding]:
    """Q is constant, and ‖H‖² = ‖Q0‖² + 4‖BA‖².

    An error δ of the factors moves Q by at most 2‖Z‖δ, and the identity by (‖Q‖ + ‖Q0‖) times that.
    """
    rounding = 8 * of.epsilon * of.operations * of.factors**2
    # The estimate of the product is that of Q, 2‖Z‖δ: it knows what few steps are allowed.
    tolerance = max(2 * of.factors * max(of.near, of.far / FALL), of.least) + rounding
    bound = 2 * math.sqrt(max(of.start, 0.0)) * tolerance + tolerance**2 + 16 * of.epsilon * of.gram
    found = [
        judged(subject, of.drift, 0.0, tolerance, "largest drift of Q over time"),
        judged(subject, of.defect, 0.0, bound, "largest defect of the boundedness identity over time"),
    ]
    # Factors that do not approach each other as rtol falls give no bound.
    if of.far < FALL * of.near and 2 * of.factors * of.near > rounding:
        why = f"the factors' error does not fall with rtol ({of.far / of.near:.3g}-fold from 100 to 10 times rtol)"
        found = [one if one.verdict is Verdict.PASS else unresolved(subject, why) for one in found]
    return found


def steepest_rise(loss: np.ndarray, allowed: np.ndarray, subjects: list[str]) -> Finding:
    """Of some losses (S, T) the one that rises farthest above what is allowed (S, T − 1), or comes closest to it."""
    rise = np.diff(loss, axis=-1)
    unknown = np.isnan(rise) | np.isnan(allowed)
    over = np.where(unknown, -np.inf, rise - allowed)
    row, place = np.unravel_index(int(over.argmax()), over.shape)
    worst_rise, room = float(rise[row, place]), float(allowed[row, place])
    verdict, why = Verdict.PASS, "largest change of the loss between times"
    if over[row, place] > 0:
        verdict = Verdict.FAIL
    elif unknown.any():
        verdict, why = Verdict.UNRESOLVED, "the loss, or the solver's error, is not known at every time"
    return Finding(subjects[int(row)], worst_rise, 0.0, room, verdict, why)


def room_for_rise(loss: np.ndarray, error: np.ndarray, epsilon: float) -> np.ndarray:
    """What a loss (S, T) of that error may rise by between two times: both errors, and rounding of its own size."""
    room: np.ndarray = error[:, 1:] + error[:, :-1] + 16 * epsilon * np.abs(loss[:, :-1])
    return room


def fall_of(near: float, far: float, rounding: float) -> tuple[float, str]:
    """How a companion's change falls per tenfold rtol (NaN at the level of rounding), and why that is no evidence.

    The error has to fall with rtol for its estimate to hold; a difference of the size of the update shows nothing, one
    at the level of rounding needs nothing.
    """
    if near <= rounding:
        return math.nan, ""
    fall = far / near
    if near > COARSE:
        return fall, f"solves at rtol and ten times rtol differ by {near:.2g} of the update: no order shows"
    if fall < FALL:
        return fall, f"error falls {fall:.3g}-fold from 100 to 10 times rtol, at least {FALL:g}-fold wanted"
    return fall, ""


def bounded(subject: str, distance: float, estimate: float, fall: float, no_evidence: str) -> Finding:
    """Judge the distance of two solves by the sum of their error estimates, which need evidence to be trusted."""
    if no_evidence:
        return Finding(subject, distance, 0.0, estimate, Verdict.UNRESOLVED, no_evidence)
    reason = (
        "solver error is at rounding" if math.isnan(fall) else f"error falls {fall:.3g}-fold from 100 to 10 times rtol"
    )
    return judged(subject, distance, 0.0, estimate, reason)
