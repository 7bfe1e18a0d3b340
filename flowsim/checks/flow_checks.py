"""Checks of the flow itself: `conservation` and `monotone_loss`."""

from __future__ import annotations

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, unresolved
from flowsim.checks.view import FLOW, View, largest


def conservation(view: View) -> list[Finding]:
    """Q is constant, and ‖BᵀB + AAᵀ‖² = ‖Q0‖² + 4‖BA‖².

    An error δ of the factors moves Q by at most 2‖Z‖δ, and the identity by (‖Q‖ + ‖Q0‖) times that. A closed
    form conserves Q by construction, so its integrated companion is judged in its place.
    """
    findings = []
    for rank in range(len(view.ranks)):
        numeric = view.companion_seeds("loose_10", rank)
        for seed in numeric:
            if why := view.incomplete(rank, seed, "loose_10"):
                findings.append(unresolved(view.subject(FLOW, rank, seed), why))
                continue
            numbers = {n: view.trajectory(n, FLOW, rank)[seed] for n in _NAMES}
            spread = largest(view.companion("loose_10", "factor_distance", rank)[seed])
            steps = float(view.final("steps", FLOW, rank)[seed])
            findings += _conserved(view, view.subject(FLOW, rank, seed), numbers, spread, steps, view.scale(rank))
        for seed in view.companion_seeds("integrated", rank):
            if why := view.incomplete(rank, seed, "integrated", "integrated_10"):
                findings.append(unresolved(view.subject("integrated", rank, seed), why))
                continue
            numbers = {n: view.companion("integrated", n, rank)[seed] for n in _NAMES}
            spread = largest(view.companion("integrated_10", "factor_distance", rank)[seed])
            steps = float(np.count_nonzero(np.isfinite(numbers["factor_norm"])))
            findings += _conserved(
                view, view.subject("integrated", rank, seed), numbers, spread, steps, view.scale(rank)
            )
    return findings


_NAMES = ("imbalance_drift", "gram_sum_norm", "product_norm", "factor_norm")


def _conserved(
    view: View, subject: str, numbers: dict[str, np.ndarray], spread: float, steps: float, scale: float
) -> list[Finding]:
    drift = numbers["imbalance_drift"]
    size = largest(numbers["factor_norm"])
    rounding = 8 * view.epsilon * (1 + steps) * size**2
    tolerance = 2 * size * spread + rounding
    gram, product = numbers["gram_sum_norm"] ** 2, numbers["product_norm"] / scale
    start = gram[0] - 4 * product[0] ** 2  # ‖Q0‖², by the algebraic identity at time 0
    identity = np.abs(gram - start - 4 * product**2)
    bound = 2 * np.sqrt(max(start, 0.0)) * tolerance + tolerance**2 + 16 * view.epsilon * largest(gram)
    return [
        judged(subject, largest(drift), 0.0, tolerance, "largest drift of Q over time"),
        judged(subject, largest(identity), 0.0, bound, "largest defect of the boundedness identity over time"),
    ]


def monotone_loss(view: View) -> list[Finding]:
    """The loss never rises along a flow (simultaneous, or sequential with exact windows)."""
    findings = []
    for row in view.schedules:
        if row["kind"] != "flow":
            continue
        for rank in range(len(view.ranks)):
            excess = view.trajectory("excess_loss", row["place"], rank)
            error = view.loss_error(row["place"], rank)
            rise = np.diff(excess, axis=-1)
            # Rounding of the excess itself: a few operations on numbers of its own size.
            allowed = error[:, 1:] + error[:, :-1] + 16 * view.epsilon * np.abs(excess[:, :-1])
            unknown = np.isnan(rise) | np.isnan(allowed)
            over = np.where(unknown, -np.inf, rise - allowed)
            seed, place = np.unravel_index(int(over.argmax()), over.shape)
            subject = view.subject(row["place"], rank, int(seed))
            worst_rise, room = float(rise[seed, place]), float(allowed[seed, place])
            verdict, why = Verdict.PASS, "largest change of the loss between times"
            if over[seed, place] > 0:
                verdict = Verdict.FAIL
            elif unknown.any():
                verdict, why = Verdict.UNRESOLVED, "the loss, or the solver's error, is not known at every time"
            findings.append(Finding(subject, worst_rise, 0.0, room, verdict, why))
    return findings
