"""Checks of steps going to zero: `descent_follows_flow` and `equivalence`.

The gap of a schedule with step h is h·e1 + O(h²) with a computable e1. Removing the O(h) error of the measured
coefficient by Richardson extrapolation leaves a residual that falls like h², four-fold per halving, if and only if
e1 is right; a wrong e1 leaves a residual that does not fall at all. Orders are whole numbers, so 1.5 decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from flowsim.checks.base import Finding, Verdict, not_applicable
from flowsim.checks.seeds import worst_seed
from flowsim.checks.view import FLOW, View, largest_over_time

DECIDING_ORDER = 1.5
EXPECTED_FALL = 4.0
SETTLED_SHARE = 1 / 3  # a coefficient that changes by less than this share of the residual has settled
SETTLED_SLOPE = 0.25  # so has an order that changes by less than this
MARGIN = 3.0  # a residual counts if it is this far above the solver's error

Row = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """The stored variables that one comparison needs."""

    gap: str
    predicted: str
    residual: str
    drift: str


AGAINST_FLOW = Names("flow_gap", "predicted_gap", "richardson_residual", "richardson_drift")
AGAINST_PARTNER = Names(
    "update_order_gap", "predicted_order_gap", "richardson_order_residual", "richardson_order_drift"
)
# The symmetric window has no first-order term: its gap itself falls like h².
SECOND_ORDER = Names("flow_gap", "", "flow_gap", "")


def descent_follows_flow(view: View) -> list[Finding]:
    """Descent stays within O(η) of the flow, with the predicted leading coefficient."""
    families = _families(view, lambda row: row["kind"] == "descent")
    if not families:
        return [not_applicable("scenario", "there is no descent schedule")]
    return [one for family in families for one in _judge(view, family, AGAINST_FLOW)]


def equivalence(view: View) -> list[Finding]:
    """Sequential and simultaneous updates have one limit flow."""
    families = _families(view, lambda row: row["place"] != FLOW and row["update"] != "simultaneous")
    if not families:
        return [not_applicable("scenario", "there is no sequential schedule")]
    findings: list[Finding] = []
    for family in families:
        if family[0]["kind"] == "descent":
            names = AGAINST_PARTNER
        else:
            names = SECOND_ORDER if family[0]["update"] == "symmetric" else AGAINST_FLOW
        findings += _judge(view, family, names)
    return findings


def _families(view: View, wanted: Callable[[Row], bool]) -> list[list[Row]]:
    """Schedules that differ in step size only, each family from the largest step to the smallest."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in view.schedules:
        if wanted(row):
            groups.setdefault((str(row["kind"]), str(row["update"]), int(row["inner_steps"])), []).append(row)
    return [sorted(rows, key=lambda row: -row["duration"]) for rows in groups.values()]


def _judge(view: View, family: list[Row], names: Names) -> Iterable[Finding]:
    """One finding per rank: the worst seed."""
    first = family[0]
    steps = f"inner_steps={first['inner_steps']}" if first["kind"] == "descent" else "windows"
    label = f"{first['kind']}/{first['update']}/{steps}"
    for rank in range(len(view.ranks)):
        sizes = _sizes_of(view, family, names, rank)
        yield from worst_seed(view, rank, partial(_judge_one, view, label, sizes, names, rank), label)


def _bounded(view: View, schedule: int, rank: int) -> np.ndarray:
    """Whether the iterates stay bounded, (seed,): descent within the stability limit that did not diverge."""
    bounded: np.ndarray = (view.final("outcome", schedule, rank) != "diverged") & ~view.unstable(schedule, rank)
    return bounded


@dataclass(frozen=True)
class Sizes:
    """One step size at one rank: what `Point` holds, for every seed, and what it is made of, (seed,).

    `error` is the solver's where the gap or residual is largest; `usable` says whether the iterates stay bounded.
    """

    h: float
    usable: np.ndarray
    gap: np.ndarray
    predicted: np.ndarray
    residual: np.ndarray
    drift: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Point:
    """One step size: the sizes over time (largest) of its gap, residual and drift, and the residual's noise."""

    h: float
    gap: float
    residual: float
    drift: float
    noise: float


def _judge_one(view: View, label: str, family: list[Sizes], names: Names, rank: int, seed: int) -> Finding:
    subject = view.subject(label, rank, seed)
    if why := view.incomplete(rank, seed):
        return _open(subject, why)
    if not view.size(rank)[seed] > 0:
        return not_applicable(subject, "nothing moves: the update stays zero")
    if (escape := float(view.theory("escape_time", rank)[seed])) < view.times[-1]:
        return not_applicable(subject, f"rounding decides where each run goes, from about t = {escape:.4g}")
    usable = [sizes for sizes in family if sizes.usable[seed]]
    if not usable:
        return not_applicable(subject, "every step is above the stability limit or diverged (iterates not bounded)")
    points = [_point(view, sizes, names, rank, seed) for sizes in usable]
    shown = _shown(usable, points, names, seed)
    clear = [p for p in points if p.residual > MARGIN * p.noise]
    if len(clear) < 2:
        few = sum(math.isfinite(p.residual) for p in points) < 2
        return _open(subject, f"{TOO_FEW if few else TOO_CLOSE}; {shown}")
    coarse, fine = clear[-2:]
    order = _slope(coarse.h, coarse.residual, fine.h, fine.residual)
    fall, tolerance = 2.0**order, EXPECTED_FALL - 2.0**DECIDING_ORDER
    if order >= DECIDING_ORDER:
        return Finding(
            subject, fall, EXPECTED_FALL, tolerance, Verdict.PASS, f"fall of the residual per halving; {shown}"
        )
    why = _why_wrong(points, coarse, names, float(usable[-1].predicted[seed]))
    if not why or _too_large(view, fine.h, rank, seed):
        return _open(subject, f"{NOT_ASYMPTOTIC} (the residual falls {fall:.3g}-fold per halving); {shown}")
    return Finding(subject, fall, EXPECTED_FALL, tolerance, Verdict.FAIL, f"{why}; {shown}")


TOO_FEW = "fewer than two residuals: three step sizes with common recorded times are needed"
TOO_CLOSE = "the residuals are too close to the solver's error; tighten solver.rtol or take larger steps"
NOT_ASYMPTOTIC = "the steps are too large for their leading order to show; take smaller steps"


def _open(subject: str, reason: str) -> Finding:
    return Finding(subject, math.nan, EXPECTED_FALL, math.nan, Verdict.UNRESOLVED, reason)


def _why_wrong(points: list[Point], coarse: Point, names: Names, predicted: float) -> str:
    """Why a residual that does not fall contradicts the statement; empty where the steps are just too large.

    Either the gap itself has settled at too low an order, or the measured coefficient has settled (its change is
    small against the residual) at a value that is not the predicted one. Steps too large can imitate both, late in
    time, where flow and iteration are both close to their common limit: a gap that stalls there is smaller than
    predicted, and one in its leading order is proportional to the step.
    """
    gaps = [p for p in points if p.gap > MARGIN * p.noise * (1 if names is SECOND_ORDER else p.h)]
    order = _slope(gaps[-2].h, gaps[-2].gap, gaps[-1].h, gaps[-1].gap) if len(gaps) >= 2 else math.nan
    if len(gaps) >= 3:
        before = _slope(gaps[-3].h, gaps[-3].gap, gaps[-2].h, gaps[-2].gap)
        wanted = DECIDING_ORDER if names is SECOND_ORDER else DECIDING_ORDER - 1
        if order < wanted and abs(order - before) < SETTLED_SLOPE and not gaps[-1].gap < predicted:
            return f"the gap does not fall as it should: its order has settled at {order:.2f}"
    if coarse.drift < SETTLED_SHARE * coarse.residual and not abs(order - 1) > SETTLED_SLOPE:
        return "the measured leading coefficient has settled, and is not the predicted one"
    return ""


def _too_large(view: View, h: float, rank: int, seed: int) -> bool:
    """Whether a step is no small part of the shortest time scale at the limit, 1/λ_max: no order shows then."""
    limit = float(view.theory("stability_limit", rank)[seed])
    if not math.isfinite(limit):
        limit = 2 / float(view.final("sharpness", FLOW, rank)[seed])
    return h > limit / 2


def _slope(h1: float, y1: float, h2: float, y2: float) -> float:
    return math.log(y1 / y2) / math.log(h1 / h2)


def _sizes_of(view: View, family: list[Row], names: Names, rank: int) -> list[Sizes]:
    """The sizes of every step of a family, from the largest step to the smallest."""
    usable = [_bounded(view, row["place"], rank) for row in family]
    shared = None if names is SECOND_ORDER else _shared(view, family, usable, names, rank)
    return [_sizes(view, row, names, rank, good, shared) for row, good in zip(family, usable, strict=True)]


def _sizes(view: View, row: Row, names: Names, rank: int, usable: np.ndarray, shared: np.ndarray | None) -> Sizes:
    schedule = row["place"]

    def size(name: str) -> np.ndarray:
        return view.largest(schedule, name, rank) if name else np.full(len(view.seeds), math.nan)

    def size_where_shared(name: str) -> np.ndarray:
        if shared is None:
            return size(name)
        return largest_over_time(np.where(shared, view.trajectory(name, schedule, rank), math.nan))

    return Sizes(
        h=float(row["duration"]),
        usable=usable,
        gap=size(names.gap),
        predicted=size(names.predicted),
        residual=size_where_shared(names.residual),
        drift=size_where_shared(names.drift),
        error=_decisive_error(view, schedule, names, rank, shared),
    )


def _shared(view: View, family: list[Row], usable: list[np.ndarray], names: Names, rank: int) -> np.ndarray:
    """The times, (seed, time) bool, at which every pair of neighbouring steps has a residual: only there they compare.

    Steps that are not usable for a seed, or have no residual at all, do not count.
    """
    shared = np.ones((len(view.seeds), len(view.times)), dtype=bool)
    for row, good in zip(family, usable, strict=True):
        known = np.isfinite(view.trajectory(names.residual, row["place"], rank))
        shared &= known | ~(good & known.any(-1))[:, None]
    return shared


def _decisive_error(view: View, schedule: int, names: Names, rank: int, shared: np.ndarray | None) -> np.ndarray:
    """The solver's error, (seed,), at the time at which the gap or residual is largest: the one that counts."""
    errors = view.trajectory("estimated_error", FLOW, rank) + view.trajectory("estimated_error", schedule, rank)
    decisive = view.trajectory(names.residual, schedule, rank)
    decisive = decisive if shared is None else np.where(shared, decisive, np.nan)
    at = np.where(np.isnan(decisive), -math.inf, decisive).argmax(-1)
    there = np.take_along_axis(errors, at[:, None], axis=-1)[:, 0]
    return np.where(np.isfinite(decisive).any(-1), there, largest_over_time(errors))


def _point(view: View, sizes: Sizes, names: Names, rank: int, seed: int) -> Point:
    h, gap, error = sizes.h, float(sizes.gap[seed]), float(sizes.error[seed])
    if names is SECOND_ORDER:
        return Point(h, gap, gap, math.nan, error)
    # Two gaps divided by their steps (weights 4/h and 1/h for halved steps), and the coefficient's own solve at
    # rtol, whose error over the horizons in use stays below a hundred times that. The solve controls state and
    # responses together: where the gap has decayed at all recorded times, rtol of the state is what is left.
    rtol = float(view.tree.attrs["rtol"])
    noise = 5 * error / h + 100 * rtol * gap / h + rtol * _response_scale(view, rank, seed)
    return Point(h, gap, float(sizes.residual[seed]), float(sizes.drift[seed]), noise)


def _response_scale(view: View, rank: int, seed: int) -> float:
    """What a response of the size of the state makes of the coefficient: 2cs²·‖Z‖²/max_t ‖s·BA‖."""
    state = float(view.largest(FLOW, "factor_norm", rank)[seed])
    return 2 * view.coefficient * view.scale(rank) ** 2 * state**2 / float(view.size(rank)[seed])


def _shown(family: list[Sizes], points: list[Point], names: Names, seed: int) -> str:
    """Fitted slope and measured over predicted gap at the smallest step: shown, not judged."""
    good = [place for place, p in enumerate(points) if p.gap > 0 and math.isfinite(p.gap)]
    if len(good) < 2:
        return "no slope"
    steps, sizes = np.array([points[i].h for i in good]), np.array([points[i].gap for i in good])
    text = f"fitted slope of the gap {np.polyfit(np.log(steps), np.log(sizes), 1)[0]:.4f}"
    if names.predicted:
        predicted = family[good[-1]].predicted[seed]
        text += f", gap/predicted at the smallest step {sizes[-1] / predicted:.4f}"
    return text
