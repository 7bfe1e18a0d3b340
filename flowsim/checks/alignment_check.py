"""The check `alignment`: the leading singular subspaces of BA tend to those of the difference."""

from __future__ import annotations

import math

import numpy as np

from flowsim.checks.base import Finding, Verdict, not_applicable, unresolved, worst
from flowsim.checks.view import FLOW, View

COARSE = 0.5  # a bound on 1 − alignment above this does not tell one subspace from another


def alignment(view: View) -> list[Finding]:
    """Where σ_r > σ_{r+1} the subspaces of BA are as close to the best ones as the excess loss demands.

    With c·gap the excess, r·(1 − alignment) ≤ gap/(σ_r² − σ_{r+1}²) for every matrix of rank r (Ky Fan 1949): singular
    vectors need not converge, their span must.
    """
    if view.objective != "frobenius":
        return [not_applicable("scenario", "the objective is not frobenius")]
    return [worst([_aligned(view, rank, seed) for seed in range(len(view.seeds))]) for rank in range(len(view.ranks))]


def _aligned(view: View, rank: int, seed: int) -> Finding:
    subject = view.subject(FLOW, rank, seed)
    gap = float(view.theory("spectral_gap", rank)[seed])
    found = view.trajectory("alignment", FLOW, rank)[seed]  # (time, side)
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
    r = view.ranks[rank]
    excess = view.trajectory("excess_loss", FLOW, rank)[seed] + view.loss_error(FLOW, rank)[seed]
    bound = np.maximum(excess, 0.0) / view.coefficient / (gap * r) + 64 * view.epsilon * view.rows
    missing = 1 - found.min(-1)
    # The bound holds at every time; where BA has a lower rank its subspaces are not defined.
    known = np.isfinite(missing) & np.isfinite(bound)
    if not known[-1]:
        return unresolved(subject, "the subspaces of BA, or the error of the loss, are not known at the last time")
    broken = known & (missing > bound)
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
