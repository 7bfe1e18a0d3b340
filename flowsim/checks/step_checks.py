"""Checks of steps going to zero: `descent_follows_flow` and `equivalence`.

The gap of a schedule with step h is h·e1 + O(h²) with a computable e1. Removing the O(h) error of the measured
coefficient by Richardson extrapolation leaves a residual that falls like h², four-fold per halving, if and only if
e1 is right; a wrong e1 leaves a residual that does not fall at all. Orders are whole numbers, so 1.5 decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flowsim.checks.base import Finding, Verdict, not_applicable, worst
from flowsim.checks.view import FLOW, View, largest

DECIDING_ORDER = 1.5
EXPECTED_FALL = 4.0
MARGIN = 3.0  # a residual counts if it is this far above the solver's error

Row = dict[str, Any]


def descent_follows_flow(view: View) -> list[Finding]:
    """Descent stays within O(η) of the flow, with the predicted leading coefficient."""
    families = _families(view, lambda row: row["kind"] == "descent")
    if not families:
        return [not_applicable("scenario", "there is no descent schedule")]
    return [one for family in families for one in _judge(view, family, "richardson_residual", "flow_gap", "predicted_gap")]


def equivalence(view: View) -> list[Finding]:
    """Sequential and simultaneous updates have one limit flow."""
    families = _families(view, lambda row: row["place"] != FLOW and row["update"] != "simultaneous")
    if not families:
        return [not_applicable("scenario", "there is no sequential schedule")]
    findings = []
    for family in families:
        if family[0]["kind"] == "descent":
            names = ("richardson_order_residual", "update_order_gap", "predicted_order_gap")
        elif family[0]["update"] == "symmetric":
            names = ("flow_gap", "flow_gap", "")  # order 2 by itself: its leading coefficient is zero
        else:
            names = ("richardson_residual", "flow_gap", "predicted_gap")
        findings += _judge(view, family, *names)
    return findings


def _families(view: View, wanted: Callable[[Row], bool]) -> list[list[Row]]:
    """Schedules that differ in step size only, each family from the largest step to the smallest."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in view.schedules:
        if wanted(row):
            groups.setdefault((str(row["kind"]), str(row["update"]), int(row["inner_steps"])), []).append(row)
    return [sorted(rows, key=lambda row: -row["duration"]) for rows in groups.values()]


def _judge(view: View, family: list[Row], residual: str, gap: str, predicted: str) -> Iterable[Finding]:
    """One finding per rank: the worst seed."""
    for rank in range(len(view.ranks)):
        yield worst(
            [_judge_one(view, family, residual, gap, predicted, rank, seed) for seed in range(len(view.seeds))]
        )


def _judge_one(
    view: View, family: list[Row], residual: str, gap: str, predicted: str, rank: int, seed: int
) -> Finding:
    first = family[0]
    steps = f"inner_steps={first['inner_steps']}" if first["kind"] == "descent" else "windows"
    subject = view.subject(f"{first['kind']}/{first['update']}/{steps}", rank, seed)
    if not view.size(rank)[seed] > 0:
        return not_applicable(subject, "nothing moves: the update stays zero")
    limit = float(view.theory("stability_limit", rank)[seed])
    usable = [
        row for row in family
        if not row["learning_rate"] > limit and str(view.final("outcome", row["place"], rank)[seed]) != "diverged"
    ]  # fmt: skip
    if not usable:
        return not_applicable(subject, "every step is above the stability limit or diverged (iterates not bounded)")
    points = [(row["duration"], largest(view.trajectory(residual, row["place"], rank)[seed])) for row in usable]
    noise = [_noise(view, row, residual, gap, rank, seed) for row in usable]
    clear = [(h, size) for (h, size), level in zip(points, noise, strict=True) if size > MARGIN * level]
    fitted = _shown(view, usable, gap, predicted, rank, seed)
    if len(clear) < 2:
        known = sum(math.isfinite(size) for _, size in points)
        why = (
            "fewer than two residuals: three step sizes with common recorded times are needed"
            if known < 2
            else "the residuals are too close to the solver's error; tighten solver.rtol or take larger steps"
        )
        return Finding(subject, math.nan, EXPECTED_FALL, math.nan, Verdict.UNRESOLVED, f"{why}; {fitted}")
    (h_big, big), (h_small, small) = clear[-2:]
    order = math.log(big / small) / math.log(h_big / h_small)
    fall = 2.0**order
    verdict = Verdict.PASS if order >= DECIDING_ORDER else Verdict.FAIL
    tolerance = EXPECTED_FALL - 2.0**DECIDING_ORDER
    return Finding(subject, fall, EXPECTED_FALL, tolerance, verdict, f"fall of the residual per halving; {fitted}")


def _noise(view: View, row: Row, residual: str, gap: str, rank: int, seed: int) -> float:
    """Error of a residual that the solvers' own errors allow."""
    error = largest(view.trajectory("estimated_error", FLOW, rank)[seed])
    error += largest(view.trajectory("estimated_error", row["place"], rank)[seed])
    if residual == gap:
        return error
    # Two gaps divided by their steps (the finer at about h/2: weights 4/h and 1/h), and the coefficient's own
    # solve at rtol, whose error grows a hundredfold at most over the horizons in use.
    coefficient = largest(view.trajectory(gap, row["place"], rank)[seed]) / row["duration"]
    return 5 * error / float(row["duration"]) + 100 * float(view.tree.attrs["rtol"]) * coefficient


def _shown(view: View, rows: list[Row], gap: str, predicted: str, rank: int, seed: int) -> str:
    """Fitted slope and measured over predicted gap at the smallest step: shown, not judged."""
    sizes = np.array([largest(view.trajectory(gap, row["place"], rank)[seed]) for row in rows])
    steps = np.array([row["duration"] for row in rows])
    good = np.isfinite(sizes) & (sizes > 0)
    text = "no gap"
    if good.sum() >= 2:
        slope = np.polyfit(np.log(steps[good]), np.log(sizes[good]), 1)[0]
        text = f"fitted slope of the gap {slope:.4f}"
    if predicted and good.any():
        last = rows[int(np.flatnonzero(good)[-1])]
        theory = largest(view.trajectory(predicted, last["place"], rank)[seed])
        text += f", gap/predicted at the smallest step {sizes[good][-1] / theory:.4f}"
    return text
