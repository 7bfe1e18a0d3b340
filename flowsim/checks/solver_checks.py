"""Checks of the solver against itself and against closed forms: `closed_form` and `accuracy`.

An error estimate comes from d1, the distance between a run at 10·rtol and the run itself, and d2, that between the
runs at 100 and 10 times rtol: max(d1, d2/3). It is trusted only if d2 is at least 3·d1: the error then falls with
rtol and that of the run is below the estimate. Distances at the level of rounding need no such evidence.
"""

from __future__ import annotations

import math

import numpy as np

from flowsim.checks.base import Finding, not_applicable, unresolved
from flowsim.checks.rules import bounded
from flowsim.checks.seeds import lost
from flowsim.checks.view import FLOW, View, largest
from flowsim.integrators.selection import NOT_BALANCED


def closed_form(view: View) -> list[Finding]:
    """The integrated trajectory equals the exact solution."""
    findings = []
    for rank in range(len(view.ranks)):
        made = [label for label in ("integrated", "exact") if view.companion_seeds(label, rank)]
        if not made and _none_exists(view, rank):
            findings.append(not_applicable(view.subject(FLOW, rank), f"no closed form: {NOT_BALANCED}"))
        findings += [one for label in made for one in _bounded_all(view, label, rank)]
        findings += lost(view, rank)
    return findings


def _none_exists(view: View, rank: int) -> bool:
    """Whether no seed has a closed form, where no companion was made: it may have been lost with its seed."""
    seeds = view.solved(rank)
    if len(seeds) == len(view.seeds):
        return True
    chosen = view.scenario["solver"]["method"] == "auto"  # where there is a closed form, auto takes it
    return bool(seeds) and chosen and not (view.final("method", FLOW, rank)[seeds] == "exact").any()


def accuracy(view: View) -> list[Finding]:
    """Companions at 10 and 100 times rtol show the error falling, and the estimate bounds the error."""
    findings = []
    for rank in range(len(view.ranks)):
        findings += [one for label in ("integrated", "tight", "exact") for one in _bounded_all(view, label, rank)]
        findings += lost(view, rank)
    return findings


def _bounded_all(view: View, label: str, rank: int) -> list[Finding]:
    """A companion's finding for every seed that has one."""
    seeds = view.companion_seeds(label, rank)
    distances = _largest_without_leak(view, label, rank) if seeds else np.empty(0)
    return [_bounded(view, label, rank, seed, float(distances[seed])) for seed in seeds]


def _largest_without_leak(view: View, label: str, rank: int) -> np.ndarray:
    """Largest distance (S,) over time, less what rounding alone has made of a mode that is zero to rounding.

    Rounding ε grows to order 1 at the escape time t_esc, hence like ε^(1 − t/t_esc); which solver keeps how much of
    it is arbitrary, and later times cannot be compared at all.
    """
    found, distance = view.largest(label, "distance", rank).copy(), view.companion(label, "distance", rank)
    escapes, times = view.theory("escape_time", rank), view.times
    for seed in np.flatnonzero(np.isfinite(escapes)):
        escape = float(escapes[seed])
        grown = view.rows * view.epsilon ** np.clip(1 - times / escape, 0.0, 1.0)
        left = np.where(times < escape, np.maximum(distance[seed] - grown, 0.0), math.nan)
        found[seed] = largest(left)
    return found


def _bounded(view: View, label: str, rank: int, seed: int, distance: float) -> Finding:
    """Judge a companion's distance from the run by the numerical solve's own error estimate."""
    # The looser companions of whichever of the two was solved numerically.
    family = ("integrated_10", "integrated_100") if label == "integrated" else ("loose_10", "loose_100")
    subject = view.subject(FLOW if label != "integrated" else label, rank, seed)
    others = (*family, "tight_10") if label == "tight" else family  # which tells the error of the tight one
    if why := view.incomplete(rank, seed, label, *others):
        return unresolved(subject, why)
    if not view.size(rank)[seed] > 0:
        return not_applicable(subject, "nothing moves: the update stays zero")
    run_error, own_error = (float(view.largest(one, "estimated_error", rank)[seed]) for one in (FLOW, label))
    tolerance = run_error + own_error
    fall, why = view.fall(rank, seed, *family)
    return bounded(subject, distance, tolerance, fall, why)
