"""Checks of the flow itself: `conservation` and `monotone_loss`."""

from __future__ import annotations

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, unresolved
from flowsim.checks.view import FLOW, View, largest
from flowsim.sweep.companions import FALL


def conservation(view: View) -> list[Finding]:
    """Q is constant, and ‖BᵀB + AAᵀ‖² = ‖Q0‖² + 4‖BA‖².

    An error δ of the factors moves Q by at most 2‖Z‖δ, and the identity by (‖Q‖ + ‖Q0‖) times that. A closed
    form conserves Q by construction, so its integrated companion is judged in its place.
    """
    findings = []
    for rank in range(len(view.ranks)):
        for label, near, far in (("", "loose_10", "loose_100"), ("integrated", "integrated_10", "integrated_100")):
            for seed in view.companion_seeds(label or near, rank):
                subject = view.subject(label or FLOW, rank, seed)
                if why := view.incomplete(rank, seed, *([label] if label else []), near, far):
                    findings.append(unresolved(subject, why))
                    continue
                numbers = {n: _numbers(view, label, n, rank)[seed] for n in _NAMES}
                spread = [largest(view.companion(one, "factor_distance", rank)[seed]) for one in (near, far)]
                steps = float(view.final("steps", FLOW, rank)[seed]) if not label else len(view.times)
                # The estimate of the product is that of Q, 2‖Z‖δ: it knows what few steps are allowed.
                estimate = largest(_numbers(view, label, "estimated_error", rank)[seed])
                least = estimate * float(view.size(rank)[seed]) / view.scale(rank)
                findings += _conserved(view, subject, numbers, spread, steps, rank, least)
    return findings


def _numbers(view: View, label: str, name: str, rank: int) -> np.ndarray:
    return view.companion(label, name, rank) if label else view.trajectory(name, FLOW, rank)


_NAMES = ("imbalance_drift", "gram_sum_norm", "product_norm", "factor_norm")


def _conserved(
    view: View, subject: str, numbers: dict[str, np.ndarray], spread: list[float], steps: float, rank: int, least: float
) -> list[Finding]:
    drift = numbers["imbalance_drift"]
    size = largest(numbers["factor_norm"])
    # Gram sums of as many terms as rows, and a few operations a step.
    rounding = 8 * view.epsilon * (view.rows + view.ranks[rank] + steps) * size**2
    tolerance = max(2 * size * max(spread[0], spread[1] / FALL), least) + rounding
    gram, product = numbers["gram_sum_norm"] ** 2, numbers["product_norm"] / view.scale(rank)
    start = gram[0] - 4 * product[0] ** 2  # ‖Q0‖², by the algebraic identity at time 0
    identity = np.abs(gram - start - 4 * product**2)
    bound = 2 * np.sqrt(max(start, 0.0)) * tolerance + tolerance**2 + 16 * view.epsilon * largest(gram)
    found = [
        judged(subject, largest(drift), 0.0, tolerance, "largest drift of Q over time"),
        judged(subject, largest(identity), 0.0, bound, "largest defect of the boundedness identity over time"),
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
            excess = view.trajectory("excess_loss", row["place"], rank)
            error = view.loss_error(row["place"], rank)
            rise = np.diff(excess, axis=-1)
            # Rounding of the excess itself: a few operations on numbers of its own size.
            allowed = error[:, 1:] + error[:, :-1] + 16 * view.epsilon * np.abs(excess[:, :-1])
            allowed = allowed + view.theory("excess_rounding", rank)[:, None]
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
