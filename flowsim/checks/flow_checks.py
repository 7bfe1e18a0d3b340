"""Checks of the flow itself: `conservation` and `monotone_loss`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsim.checks.base import Finding, unresolved
from flowsim.checks.rules import Conserved, conserved, room_for_rise, steepest_rise
from flowsim.checks.seeds import lost
from flowsim.checks.view import FLOW, Source, View, largest_over_time


def conservation(view: View) -> list[Finding]:
    """Q is constant, and ‖BᵀB + AAᵀ‖² = ‖Q0‖² + 4‖BA‖².

    Judged by `rules.conserved`. A closed form conserves Q by construction, so its integrated companion is judged in
    its place.
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
    spread = [float(view.largest(one, "factor_distance", rank)[seed]) for one in (near, far)]
    steps = float(view.final("steps", FLOW, rank)[seed]) if not label else len(view.times)
    least = float(view.largest(source, "estimated_error", rank)[seed]) * float(view.size(rank)[seed]) / view.scale(rank)
    found = Conserved(
        drift=float(sizes.drift[seed]), defect=float(sizes.defect[seed]), factors=float(sizes.factors[seed]),
        gram=float(sizes.gram[seed]), start=float(sizes.start[seed]), near=spread[0], far=spread[1], least=least,
        operations=view.rows + view.ranks[rank] + steps, epsilon=view.epsilon,
    )  # fmt: skip
    return conserved(subject, found)


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
    allowed = room_for_rise(excess, error, view.epsilon) + view.theory("excess_rounding", rank)[seeds, None]
    return steepest_rise(excess, allowed, [view.subject(schedule, rank, seed) for seed in seeds])
