"""Checks of the trace-squared laws: `relative_error_law` and `inverse_sqrt_rank`.

Each run is held against the exact form of its own start, the scenario's draws against the law of their kind
(`theory.ensemble`), and beside them the start with orthonormal rows, which has the least error of all. Squares are
compared, never e itself: the mean of e lies below √E[e²].
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, not_applicable, unresolved
from flowsim.checks.seeds import worst_seed
from flowsim.checks.view import FLOW, View, largest
from flowsim.theory.ensemble import Law, gaussian_law, orthonormal_law, power_law, slope_weights, uniform_law

Z_LIMIT = 4.0  # standard errors; 6e-5 of correct runs lie outside
CLAIM = (
    "O(r^-1/2) holds where r_eff grows like r: Gaussian, Kaiming and orthonormal starts, S^(1/2) V^T of singular "
    "values i^-a with a < 1/2"
)


def relative_error_law(view: View) -> list[Finding]:
    """Each run's relative error equals the exact form of its start."""
    if view.objective != "trace_squared":
        return [not_applicable("scenario", "the objective is not trace_squared")]
    findings = []
    for rank in range(len(view.ranks)):
        findings += worst_seed(view, rank, partial(_law, view, FLOW, rank))
        findings += [_law(view, "integrated", rank, seed) for seed in view.companion_seeds("integrated", rank)]
        findings += [_orthonormal(view, rank, seed) for seed in view.companion_seeds("orthonormal", rank)]
    return findings


def _orthonormal(view: View, rank: int, seed: int) -> Finding:
    """The start with orthonormal rows, integrated, against its exact error at the last time."""
    subject = view.subject("orthonormal", rank, seed)
    observed = float(view.last("orthonormal", "relative_error", rank)[seed])
    exact = float(view.theory("orthonormal_error", rank)[seed])
    if not math.isfinite(observed):
        return unresolved(subject, "the companion solve orthonormal did not complete")
    error = float(view.largest("orthonormal", "estimated_error", rank)[seed])
    tolerance = _error_of_square(view, rank, seed, exact, error)
    limit = float(orthonormal_law(view.rows, np.array([view.ranks[rank]])).mean[0])
    return judged(subject, observed**2, exact**2, tolerance, f"squares; n/r - 1 = {limit:.8g} at t = inf")


def _law(view: View, label: int | str, rank: int, seed: int) -> Finding:
    subject = view.subject(label, rank, seed)
    observed = float(view.last(label, "relative_error", rank)[seed])
    error = float(view.largest(label, "estimated_error", rank)[seed])
    exact = float(view.theory("relative_error_horizon", rank)[seed])
    limit = float(view.theory("relative_error_limit", rank)[seed])
    if not math.isfinite(exact):
        return not_applicable(subject, "the trace is zero at the start: full fine-tuning does not move")
    if why := view.incomplete(rank, seed, *(() if label == FLOW else (str(label), "integrated_10"))):
        return unresolved(subject, why)
    tolerance = _error_of_square(view, rank, seed, exact, error)
    # e = 1 is no update at all: an uncertainty of that size decides nothing (a start close to the saddle).
    if not tolerance < 1 + exact**2:
        return unresolved(subject, f"the error of e² is known only to be below {tolerance:.3g}")
    outcome = str(view.final("outcome", FLOW, rank)[seed])
    if abs(observed**2 - exact**2) > tolerance and (why := view.unproven(rank, seed)):
        return unresolved(subject, why)
    found = judged(subject, observed**2, exact**2, tolerance, f"squares; e = {observed:.8g}, limit {limit:.8g}")
    if found.verdict is Verdict.PASS and outcome == "not_yet":
        return Finding(
            subject, observed**2, limit**2, tolerance, Verdict.NOT_REACHED,
            f"exact at the last time, but not yet at the limit: {view.final('reason', FLOW, rank)[seed]}",
        )  # fmt: skip
    return found


def _error_of_square(view: View, rank: int, seed: int, exact: float, error: float) -> float:
    """Error of e² from an error of BA, and from rounding of the two forms being compared."""
    start = float(view.first(FLOW, "loss", rank)[seed])
    trace = math.sqrt(start / view.coefficient)
    size = float(view.size(rank)[seed])
    moved = math.sqrt(view.rows) * error * size / trace if size > 0 else 0.0
    rounding = float(view.theory("relative_error_rounding", rank)[seed]) + 64 * view.epsilon * (2 + exact**2)
    return 2 * exact * moved + moved**2 + rounding


def inverse_sqrt_rank(view: View) -> list[Finding]:
    """The relative error is O(r^-1/2) over the scenario's ranks."""
    if view.objective != "trace_squared":
        return [not_applicable("scenario", "the objective is not trace_squared")]
    n, ranks = view.rows, np.array(view.ranks, dtype=float)
    e2 = np.array([view.last(FLOW, "relative_error", r) for r in range(len(ranks))]) ** 2
    effective = np.array([view.theory("effective_rank", r) for r in range(len(ranks))])
    outcomes = {str(o) for r in range(len(ranks)) for o in view.final("outcome", FLOW, r)}
    broken = [view.incomplete(r, s) for r in range(len(ranks)) for s in range(len(view.seeds))]
    if any(broken):
        return [unresolved("flow", next(why for why in broken if why))]
    if not np.isfinite(e2).all():
        return [not_applicable("flow", "the relative error is not defined: the trace is zero at the start")]
    if not np.isfinite(effective).all():
        return [not_applicable("flow", "the law needs one factor to start at zero")]
    own = n / effective - 1  # the exact limit of each draw
    usable = np.flatnonzero((own > 1e3 * view.epsilon * n).all(axis=1) & (e2 > 0).all(axis=1))
    if len(usable) < 2:
        return [not_applicable("flow", "a slope needs two ranks with a positive error (r_eff < n)")]
    ranks, e2, own, effective = ranks[usable], e2[usable], own[usable], effective[usable]
    fit, predicted = power_law(ranks, e2.mean(axis=1)), power_law(ranks, own.mean(axis=1))[0]
    reason = _why_not(view, ranks, effective)
    subject = f"flow/ranks={int(ranks[0])}..{int(ranks[-1])}"
    fitted = f"fit e = {fit[1]:.4g} r^({fit[0]:.4f})"
    if reason:
        why = f"{reason}; {fitted}, slope predicted for this start {predicted:.4f}; {CLAIM}"
        return [not_applicable(subject, why)]
    if "not_yet" in outcomes:
        why = f"some runs have not reached their limit; {fitted}"
        return [Finding(subject, fit[0], predicted, math.nan, Verdict.NOT_REACHED, why)]
    law = _law_of(view, n, ranks)
    # What is left to fall at the last time, and the rounding of the exact form.
    gap = np.array([_left(view, int(r)) for r in usable])
    if law is None:
        weights = slope_weights(ranks)
        least = np.minimum(own.min(axis=1), e2.min(axis=1))  # of the two logarithms compared, the steeper one
        room = float(np.abs(weights) @ (0.5 * (gap + 64 * view.epsilon * (2 + own.max(axis=1))) / least))
        return [judged(subject, fit[0], predicted, room, f"{fitted}, slope predicted for these ranks")]
    return _ensemble(view, subject, law, ranks, e2, gap)


def _left(view: View, rank: int) -> float:
    """Largest |e²(T) − e²(∞)| of one rank, from the exact forms, and what the solver adds to it."""
    now, limit = view.theory("relative_error_horizon", rank), view.theory("relative_error_limit", rank)
    error = view.largest(FLOW, "estimated_error", rank)
    solver = [_error_of_square(view, rank, s, float(now[s]), float(error[s])) for s in range(len(view.seeds))]
    return largest(np.abs(now**2 - limit**2) + np.array(solver))


def _law_of(view: View, n: int, ranks: np.ndarray) -> Law | None:
    kind = view.scenario["adapter"]["init"]["kind"]
    laws = {"gaussian": gaussian_law, "kaiming": uniform_law}
    return laws[kind](n, ranks) if kind in laws else None


def _why_not(view: View, ranks: np.ndarray, effective: np.ndarray) -> str:
    """Why r_eff of this init does not grow like r; empty where it does.

    Gaussian, Kaiming and orthonormal inits have r_eff = Θ(r). An init Σ_r^{1/2}V_rᵀ has r_eff = (Σσ)²/Σσ²: of order r
    for σ_i ~ i^−a only if a < ½, and bounded for geometric decay. Other spectra are judged on the ranks at hand.
    """
    init = view.scenario["adapter"]["init"]
    if init["kind"] in ("gaussian", "kaiming", "orthogonal") or (init["kind"] == "spectral" and init["power"] == 0):
        return ""
    values = view.scenario["pretrained"].get("singular_values", {})
    if init["kind"] == "spectral" and isinstance(values, dict):
        kind = values.get("kind")
        if kind == "power" and values["exponent"] >= 0.5:
            return f"r_eff grows slower than r for singular values i^-{values['exponent']:g} (exponent at least 1/2)"
        if kind == "geometric" and values["ratio"] < 1:
            return "r_eff is bounded for geometrically decaying singular values"
        if kind in ("power", "flat"):
            return ""
    share = effective.mean(axis=1) / ranks
    if share.min() < 0.5 * share.max():
        return f"r_eff/r falls from {share.max():.3g} to {share.min():.3g} over these ranks"
    return ""


def _ensemble(view: View, subject: str, law: Law, ranks: np.ndarray, e2: np.ndarray, gap: np.ndarray) -> list[Finding]:
    """Slope against the predicted one of the grid, and the mean of e² at each rank by its z-score."""
    draws, weights = e2.shape[1], slope_weights(ranks)
    (slope, constant), (predicted, wanted) = power_law(ranks, e2.mean(axis=1)), power_law(ranks, law.mean)
    fixed = float(np.abs(weights) @ (0.5 * (gap + law.bias) / np.minimum(law.mean, e2.mean(axis=1))))
    fitted = f"fit e = {constant:.4g} r^({slope:.4f}), {law.name} law on these ranks {wanted:.4g} r^({predicted:.4f})"
    findings = []
    if draws < 2:
        why = f"one seed gives no error bar; {fitted}"
        findings.append(Finding(subject, slope, predicted, math.nan, Verdict.UNRESOLVED, why))
    else:
        # Delete-one jackknife over seeds: ranks nested in one draw are correlated, seeds are not.
        left_out = (e2.sum(axis=1)[:, None] - e2) / (draws - 1)
        slopes = weights @ (0.5 * np.log(left_out))
        deviation = math.sqrt((draws - 1) / draws * float(((slopes - slopes.mean()) ** 2).sum()))
        room = _quantile(draws - 1) * deviation + fixed
        findings.append(judged(subject, slope, predicted, room, f"{fitted}; {draws} seeds"))
    # Where no formula is known the draws' own scatter has to do.
    known = law.variance is not None or draws > 1
    variance = law.variance if law.variance is not None else e2.var(axis=1, ddof=1) if known else law.mean * math.nan
    for place, rank in enumerate(ranks):
        mean, expected = float(e2[place].mean()), float(law.mean[place])
        spread = math.sqrt(float(variance[place]) / draws)
        if math.isnan(spread):
            continue
        # A variance taken from few draws is uncertain itself.
        limit = Z_LIMIT if law.variance is not None else _quantile(draws - 1)
        room = limit * spread + float(law.bias[place] + gap[place]) + 64 * view.epsilon * (2 + expected)
        z = f", z = {(mean - expected) / spread:+.2f}" if spread > 0 else ", the same for every draw"
        findings.append(judged(f"flow/rank={int(rank)}/seeds={draws}", mean, expected, room, f"mean of e²{z}"))
    return findings


def _quantile(freedom: int) -> float:
    """Student's t with the tail of `Z_LIMIT` standard errors: a deviation estimated from few seeds is uncertain."""
    from scipy.special import ndtr, stdtrit

    return float(stdtrit(freedom, ndtr(Z_LIMIT)))
