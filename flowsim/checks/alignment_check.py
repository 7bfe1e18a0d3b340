"""The check `alignment`: the leading singular subspaces of BA tend to those of the difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from flowsim.checks.base import Finding, Verdict, not_applicable, unresolved
from flowsim.checks.seeds import worst_seed
from flowsim.checks.view import FLOW, View

COARSE = 0.5  # a bound on 1 − alignment above this does not tell one subspace from another


def alignment(view: View) -> list[Finding]:
    """Where σ_r > σ_{r+1} the subspaces of BA are as close to the best ones as the excess loss demands.

    With c·gap the excess, r·(1 − alignment) ≤ gap/(σ_r² − σ_{r+1}²) for every matrix of rank r (Ky Fan 1949): singular
    vectors need not converge, their span must.
    """
    if view.objective != "frobenius":
        return [not_applicable("scenario", "the objective is not frobenius")]
    return [
        one
        for rank in range(len(view.ranks))
        for one in worst_seed(view, rank, partial(_aligned, view, rank, _Distances.of(view, rank)))
    ]


@dataclass(frozen=True)
class _Distances:
    """1 − alignment of one rank, the worse side, and its bound, (seed, time); where both are known, where broken."""

    missing: np.ndarray
    bound: np.ndarray
    known: np.ndarray
    broken: np.ndarray

    @classmethod
    def of(cls, view: View, rank: int) -> _Distances:
        gap = view.theory("spectral_gap", rank)[:, None]
        excess = view.trajectory("excess_loss", FLOW, rank) + view.loss_error(FLOW, rank)
        bound = np.maximum(excess, 0.0) / view.coefficient / (gap * view.ranks[rank]) + 64 * view.epsilon * view.rows
        missing = 1 - view.trajectory("alignment", FLOW, rank).min(-1)
        # The bound holds at every time; where BA has a lower rank its subspaces are not defined.
        known = np.isfinite(missing) & np.isfinite(bound)
        return cls(missing, bound, known, known & (missing > bound))


def _aligned(view: View, rank: int, found: _Distances, seed: int) -> Finding:
    subject = view.subject(FLOW, rank, seed)
    gap = float(view.theory("spectral_gap", rank)[seed])
    outcome, reason = str(view.final("outcome", FLOW, rank)[seed]), str(view.final("reason", FLOW, rank)[seed])
    if not gap > 0:
        return not_applicable(
            subject, "there is no best subspace: the rank is at a tie, or above that of the difference"
        )
    if outcome == "stationary_elsewhere":
        return not_applicable(subject, f"this start ends elsewhere: {reason}")
    if why := view.escaped(rank, seed):
        return not_applicable(subject, why)
    if why := view.incomplete(rank, seed):
        return unresolved(subject, why)
    missing, bound, broken = found.missing[seed], found.bound[seed], found.broken[seed]
    if not found.known[seed, -1]:
        return unresolved(subject, "the subspaces of BA, or the error of the loss, are not known at the last time")
    if broken.any():
        place = int(np.argmax(np.where(broken, missing - bound, -math.inf)))
        why = f"at t = {view.times[place]:.6g} the subspaces are farther apart than the excess loss allows"
        return Finding(subject, float(missing[place]), 0.0, float(bound[place]), Verdict.FAIL, why)
    last = float(missing[-1]), 0.0, float(bound[-1])
    if outcome != "reached":
        return Finding(subject, *last, Verdict.NOT_REACHED, reason)
    if bound[-1] > COARSE:
        why = f"the excess loss allows any subspace here: sigma_r^2 - sigma_(r+1)^2 is only {gap:.3g}"
        return Finding(subject, *last, Verdict.UNRESOLVED, why)
    return Finding(subject, *last, Verdict.PASS, "1 - alignment, the worse side, within what the excess allows")
