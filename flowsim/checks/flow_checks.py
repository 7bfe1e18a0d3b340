"""Checks of the flow itself: `conservation` and `monotone_loss`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, unresolved
from flowsim.checks.seeds import lost
from flowsim.checks.view import FLOW, Source, View, largest_over_time
from flowsim.sweep.companions import FALL


def conservation(view: View) -> list[Finding]:
    """Q is constant, and ‖BᵀB + AAᵀ‖² = ‖Q0‖² + 4‖BA‖².

    An error δ of the factors moves Q by at most 2‖Z‖δ, and the identity by (‖Q‖ + ‖Q0‖) times that. A closed
    form conserves Q by construction, so its integrated companion is judged in its place.
    """
    findings = []
    for rank in range(len(view.ranks)):
        for label, near, far in (("", "loose_10", "loose_100"), ("integrated", "integrated_10", "integrated_100")):
            if seeds := view.companion_seeds(label or near, rank):
                sizes = _Sizes.of(view, label or FLOW, rank)
                findings += [one for seed in seeds for one in _conserved(view, label, near, far, sizes, rank, seed)]
        findings += lost(view, rank)
    return findings


@dataclass(frozen=True)
class _Sizes:
    """The largest over time of what is conserved and of what it is made of, (seed,); ‖Q0‖² of the identity."""

    drift: np.ndarray
    defect: np.ndarray
    factors: np.ndarray
    gram: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, view: View, source: Source, rank: int) -> _Sizes:
        gram = view.numbers(source, "gram_sum_norm", rank) ** 2
        product = view.numbers(source, "product_norm", rank) / view.scale(rank)
        start = gram[:, 0] - 4 * product[:, 0] ** 2  # ‖Q0‖², by the algebraic identity at time 0
        return cls(
            view.largest(source, "imbalance_drift", rank),
            largest_over_time(np.abs(gram - start[:, None] - 4 * product**2)),
            view.largest(source, "factor_norm", rank),
            largest_over_time(gram),
            start,
        )


def _conserved(view: View, label: str, near: str, far: str, sizes: _Sizes, rank: int, seed: int) -> list[Finding]:
    source: Source = label or FLOW
    subject = view.subject(source, rank, seed)
    if why := view.incomplete(rank, seed, *([label] if label else []), near, far):
        return [unresolved(subject, why)]
    size, start = float(sizes.factors[seed]), float(sizes.start[seed])
    spread = [float(view.largest(one, "factor_distance", rank)[seed]) for one in (near, far)]
    steps = float(view.final("steps", FLOW, rank)[seed]) if not label else len(view.times)
    # The estimate of the product is that of Q, 2‖Z‖δ: it knows what few steps are allowed.
    least = float(view.largest(source, "estimated_error", rank)[seed]) * float(view.size(rank)[seed]) / view.scale(rank)
    # Gram sums of as many terms as rows, and a few operations a step.
    rounding = 8 * view.epsilon * (view.rows + view.ranks[rank] + steps) * size**2
    tolerance = max(2 * size * max(spread[0], spread[1] / FALL), least) + rounding
    bound = 2 * math.sqrt(max(start, 0.0)) * tolerance + tolerance**2 + 16 * view.epsilon * float(sizes.gram[seed])
    found = [
        judged(subject, float(sizes.drift[seed]), 0.0, tolerance, "largest drift of Q over time"),
        judged(subject, float(sizes.defect[seed]), 0.0, bound, "largest defect of the boundedness identity over time"),
    ]
    # Factors that do not approach each other as rtol falls give no bound.
    if spread[1] < FALL * spread[0] and 2 * size * spread[0] > rounding:
        why = f"the factors' error does not fall with rtol ({spread[1] / spread[0]:.3g}-fold from 100 to 10 times rtol)"
        found = [one if one.verdict is Verdict.PASS else unresolved(subject, why) for one in found]
    return found


def monotone_loss(view: View) -> list[Finding]:
    """The loss never rises along a flow (simultaneous, or sequential with exact windows)."""
    findings = []
    for row in view.schedules:
        if row["kind"] != "flow":
            continue
        for rank in range(len(view.ranks)):
            seeds = view.solved(rank)
            findings += [_steepest_rise(view, row["place"], rank, seeds)] if seeds else []
            findings += lost(view, rank, row["place"])
    return findings


def _steepest_rise(view: View, schedule: int, rank: int, seeds: list[int]) -> Finding:
    """Of these seeds the one whose loss rises farthest above what is allowed, or comes closest to it."""
    excess = view.trajectory("excess_loss", schedule, rank)[seeds]
    error = view.loss_error(schedule, rank)[seeds]
    rise = np.diff(excess, axis=-1)
    # Rounding of the excess itself: a few operations on numbers of its own size.
    allowed = error[:, 1:] + error[:, :-1] + 16 * view.epsilon * np.abs(excess[:, :-1])
    allowed = allowed + view.theory("excess_rounding", rank)[seeds, None]
    unknown = np.isnan(rise) | np.isnan(allowed)
    over = np.where(unknown, -np.inf, rise - allowed)
    seed, place = np.unravel_index(int(over.argmax()), over.shape)
    subject = view.subject(schedule, rank, seeds[int(seed)])
    worst_rise, room = float(rise[seed, place]), float(allowed[seed, place])
    verdict, why = Verdict.PASS, "largest change of the loss between times"
    if over[seed, place] > 0:
        verdict = Verdict.FAIL
    elif unknown.any():
        verdict, why = Verdict.UNRESOLVED, "the loss, or the solver's error, is not known at every time"
    return Finding(subject, worst_rise, 0.0, room, verdict, why)
