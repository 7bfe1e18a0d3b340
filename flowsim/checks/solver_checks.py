"""Checks of the solver against itself and against closed forms: `closed_form` and `accuracy`.

An error estimate comes from d1, the distance between a run at 10·rtol and the run itself, and d2, that between the
runs at 100 and 10 times rtol: max(d1, d2/3). It is trusted only if d2 is at least 3·d1: the error then falls with
rtol and that of the run is below the estimate. Distances at the level of rounding need no such evidence.
"""

from __future__ import annotations

import math

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, not_applicable, unresolved
from flowsim.checks.view import FLOW, View, largest
from flowsim.integrators.selection import NOT_BALANCED


def closed_form(view: View) -> list[Finding]:
    """The integrated trajectory equals the exact solution."""
    findings = []
    for rank in range(len(view.ranks)):
        made = [label for label in ("integrated", "exact") if view.companion_seeds(label, rank)]
        if not made:
            findings.append(not_applicable(view.subject(FLOW, rank), f"no closed form: {NOT_BALANCED}"))
        findings += [_bounded(view, label, rank, seed) for label in made for seed in view.companion_seeds(label, rank)]
    return findings


def accuracy(view: View) -> list[Finding]:
    """Companions at 10 and 100 times rtol show the error falling, and the estimate bounds the error."""
    return [
        _bounded(view, label, rank, seed)
        for rank in range(len(view.ranks))
        for label in ("integrated", "tight", "exact")
        for seed in view.companion_seeds(label, rank)
    ]


def _without_leak(view: View, distance: np.ndarray, rank: int, seed: int) -> np.ndarray:
    """Distances (T,) less what rounding alone has made of a mode that is zero to rounding.

    Rounding ε grows to order 1 at the escape time t_esc, hence like ε^(1 − t/t_esc); which solver keeps how much of
    it is arbitrary, and later times cannot be compared at all.
    """
    escape = float(view.theory("escape_time", rank)[seed])
    if not math.isfinite(escape):
        return distance
    times = view.times
    grown = view.rows * view.epsilon ** np.clip(1 - times / escape, 0.0, 1.0)
    return np.where(times < escape, np.maximum(distance - grown, 0.0), math.nan)


def _bounded(view: View, label: str, rank: int, seed: int) -> Finding:
    """Judge a companion's distance from the run by the numerical solve's own error estimate."""
    # The looser companions of whichever of the two was solved numerically.
    family = ("integrated_10", "integrated_100") if label == "integrated" else ("loose_10", "loose_100")
    subject = view.subject(FLOW if label != "integrated" else label, rank, seed)
    if why := view.incomplete(rank, seed, label, *family):
        return unresolved(subject, why)
    if not view.size(rank)[seed] > 0:
        return not_applicable(subject, "nothing moves: the update stays zero")
    distance = largest(_without_leak(view, view.companion(label, "distance", rank)[seed], rank, seed))
    run_error = largest(view.trajectory("estimated_error", FLOW, rank)[seed])
    own_error = largest(view.companion(label, "estimated_error", rank)[seed])
    tolerance = run_error + own_error
    fall, why = view.fall(rank, seed, *family)
    if why:
        return Finding(subject, distance, 0.0, tolerance, Verdict.UNRESOLVED, why)
    reason = (
        "solver error is at rounding" if math.isnan(fall) else f"error falls {fall:.3g}-fold from 100 to 10 times rtol"
    )
    return judged(subject, distance, 0.0, tolerance, reason)
