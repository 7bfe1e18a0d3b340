"""Checks of where the flow ends: `eckart_young` and `zero_loss`."""

from __future__ import annotations

import math
from functools import partial

from flowsim.checks.base import Finding, Verdict, not_applicable
from flowsim.checks.seeds import worst_seed
from flowsim.checks.view import FLOW, View


def eckart_young(view: View) -> list[Finding]:
    """Frobenius: the loss tends to c·Σ_{i>r} σ_i(Δ)²."""
    if view.objective != "frobenius":
        return [not_applicable("scenario", "the objective is not frobenius")]
    return _limits(view)


def zero_loss(view: View) -> list[Finding]:
    """Trace-squared: the loss tends to 0."""
    if view.objective != "trace_squared":
        return [not_applicable("scenario", "the objective is not trace_squared")]
    return _limits(view)


def _limits(view: View) -> list[Finding]:
    """One finding per rank, its worst seed."""
    return [one for rank in range(len(view.ranks)) for one in worst_seed(view, rank, partial(_limit, view, rank))]


def _limit(view: View, rank: int, seed: int) -> Finding:
    subject = view.subject(FLOW, rank, seed)
    start, last = (float(at(FLOW, "loss", rank)[seed]) for at in (view.first, view.last))
    error = float(view.last_loss_error(FLOW, rank)[seed])
    floor = float(view.theory("loss_floor", rank)[seed])
    reachable = float(view.theory("loss_reachable", rank)[seed])
    outcome, reason = str(view.final("outcome", FLOW, rank)[seed]), str(view.final("reason", FLOW, rank)[seed])
    # The floor and the loss are sums of up to rows·columns squares: rounding on their scale.
    rounding = 8 * view.epsilon * view.rows * max(start, floor)
    wanted = float(view.tree.attrs["reach"]) * float(view.first(FLOW, "excess_loss", rank)[seed])

    def finding(verdict: Verdict, why: str, tolerance: float) -> Finding:
        return Finding(subject, last, floor, tolerance, verdict, why)

    if last < floor - error - rounding:
        return finding(Verdict.FAIL, "the loss lies below the lowest possible value", error + rounding)
    if why := view.incomplete(rank, seed):
        return finding(Verdict.UNRESOLVED, why, math.nan)
    if outcome != "reached" and reachable - floor > wanted + rounding:
        why = f"from this start the loss cannot fall below {reachable:.8g}"
        return finding(Verdict.NOT_APPLICABLE, why, math.nan)
    if why := view.escaped(rank, seed):
        return finding(Verdict.NOT_APPLICABLE, why, math.nan)
    for label in ("integrated", "exact"):
        if view.has_companion(label, rank)[seed]:
            difference = abs(float(view.last(label, "loss", rank)[seed]) - last)
            allowed = error + float(view.last_loss_error(label, rank)[seed]) + rounding
            if difference > allowed:
                if why := view.unproven(rank, seed):
                    return finding(Verdict.UNRESOLVED, why, allowed)
                why = f"the integrated loss and the exact one differ by {difference:.3g}, {allowed:.3g} allowed"
                return finding(Verdict.FAIL, why, allowed)
            error = math.nan if math.isnan(allowed) else error
    if outcome in ("reached", "not_yet") and math.isnan(error):
        return finding(Verdict.UNRESOLVED, "the solver's error is not known: a solve did not complete", math.nan)
    if outcome == "reached":
        # Reached says the excess is small; the loss itself must then be at the floor.
        tolerance = wanted + error + rounding
        verdict = Verdict.PASS if abs(last - floor) <= tolerance else Verdict.FAIL
        return finding(verdict, reason, tolerance)
    if outcome == "not_yet":
        return finding(Verdict.NOT_REACHED, reason, wanted)
    return finding(Verdict.FAIL, f"{outcome}: {reason}", wanted)
