"""Checks of the trace-squared laws: `relative_error_law` and `inverse_sqrt_rank`.

For B0 = 0 (or A0 = 0) the limit is e = √(n/r_eff − 1), r_eff = ‖A0‖⁴/‖A0A0ᵀ‖². For Gaussian A0 the mean and
variance of e² are exact at every n and r. Squares are compared, never e itself: the mean of e lies below √E[e²].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowsim.checks.base import Finding, Verdict, judged, not_applicable, unresolved, worst
from flowsim.checks.view import FLOW, View, largest

Z_LIMIT = 4.0  # standard errors; 6e-5 of correct runs lie outside
KAIMING_KURTOSIS = -1.2  # excess kurtosis of the uniform distribution


def relative_error_law(view: View) -> list[Finding]:
    """Each run's relative error equals the exact form of its start."""
    if view.objective != "trace_squared":
        return [not_applicable("scenario", "the objective is not trace_squared")]
    findings = []
    for rank in range(len(view.ranks)):
        run = view.trajectory("relative_error", FLOW, rank)[:, -1]
        error = view.trajectory("estimated_error", FLOW, rank)
        findings.append(worst([_law(view, FLOW, rank, s, run[s], largest(error[s])) for s in range(len(view.seeds))]))
        for seed in view.companion_seeds("integrated", rank):
            value = view.companion("integrated", "relative_error", rank)[seed, -1]
            own = largest(view.companion("integrated", "estimated_error", rank)[seed])
            findings.append(_law(view, "integrated", rank, seed, value, own))
    return findings


def _law(view: View, label: int | str, rank: int, seed: int, observed: float, error: float) -> Finding:
    subject = view.subject(label, rank, seed)
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
    found = judged(subject, observed**2, exact**2, tolerance, f"squares; e = {observed:.8g}, limit {limit:.8g}")
    if found.verdict is Verdict.PASS and outcome == "not_yet":
        return Finding(
            subject, observed**2, limit**2, tolerance, Verdict.NOT_REACHED,
            f"exact at the last time, but not yet at the limit: {view.final('reason', FLOW, rank)[seed]}",
        )  # fmt: skip
    return found


def _error_of_square(view: View, rank: int, seed: int, exact: float, error: float) -> float:
    """Error of e² from an error of BA, and from rounding of the two forms being compared."""
    start = float(view.trajectory("loss", FLOW, rank)[seed, 0])
    trace = math.sqrt(start / view.coefficient)
    size = float(view.size(rank)[seed])
    moved = math.sqrt(view.rows) * error * size / trace if size > 0 else 0.0
    rounding = float(view.theory("relative_error_rounding", rank)[seed]) + 64 * view.epsilon * (2 + exact**2)
    return 2 * exact * moved + moved**2 + rounding


@dataclass(frozen=True)
class Law:
    """The ensemble's e² on the scenario's ranks: mean and variance of one draw.

    `exact` says whether mean and variance are exact; otherwise `bias` bounds the error of the mean.
    """

    name: str
    mean: np.ndarray
    variance: np.ndarray
    bias: np.ndarray


def gaussian_law(n: int, ranks: np.ndarray) -> Law:
    """E[e²] = (n−1)(n+2)/(rn+2) and its variance, for A0 with independent normal entries, B0 = 0, t = ∞."""
    rn = ranks * n
    mean = (n - 1) * (n + 2) / (rn + 2)
    variance = 4 * n**2 * (n - 1) * (n + 2) * (ranks - 1) * (ranks + 2) / ((rn + 2) ** 2 * (rn + 4) * (rn + 6))
    return Law("Gaussian", mean, variance, np.zeros_like(mean))


def kaiming_law(n: int, ranks: np.ndarray, draws: np.ndarray) -> Law:
    """E[e²] ≈ n(n+r+1+γ)/(nr+2+γ) − 1 for uniform entries, up to O(1/(n²r)) relative; variance from the draws."""
    mean = n * (n + ranks + 1 + KAIMING_KURTOSIS) / (n * ranks + 2 + KAIMING_KURTOSIS) - 1
    # Simulated for n = 3 … 20, r = 2 … 5: the mean of e² + 1 is off by 0.4 to 0.9 of 1/(n²r), relative.
    bias = (mean + 1) * 2 / (n**2 * ranks)
    variance = draws.var(axis=1, ddof=1) if draws.shape[1] > 1 else np.full(len(ranks), math.nan)
    return Law("uniform (Kaiming)", mean, variance, bias)


def inverse_sqrt_rank(view: View) -> list[Finding]:
    """The relative error is O(r^-1/2) over the scenario's ranks."""
    if view.objective != "trace_squared":
        return [not_applicable("scenario", "the objective is not trace_squared")]
    n, ranks = view.rows, np.array(view.ranks, dtype=float)
    e2 = np.array([view.trajectory("relative_error", FLOW, r)[:, -1] for r in range(len(ranks))]) ** 2
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
    weights = _slope_weights(ranks)
    slope, predicted = (float(weights @ (0.5 * np.log(x.mean(axis=1)))) for x in (e2, own))
    reason = _why_not(view, ranks, effective)
    subject = f"flow/ranks={int(ranks[0])}..{int(ranks[-1])}"
    if reason:
        return [
            not_applicable(subject, f"{reason}; fitted slope {slope:.4f}, predicted for this start {predicted:.4f}")
        ]
    if "not_yet" in outcomes:
        return [
            Finding(subject, slope, predicted, math.nan, Verdict.NOT_REACHED, "some runs have not reached their limit")
        ]
    law = _law_of(view, n, ranks, e2)
    # What is left to fall at the last time, and the rounding of the exact form.
    gap = np.array([_left(view, int(r)) for r in usable])
    if law is None:
        room = float(np.abs(weights) @ (0.5 * (gap + 64 * view.epsilon * (2 + own.max(1))) / own.min(1)))
        constant = float(np.sqrt((e2.mean(axis=1) * ranks)[0] / n))
        why = f"slope of ln e on ln r, predicted for these ranks; e ≈ {constant:.4f}·√(n/r) at the smallest"
        return [judged(subject, slope, predicted, room, why)]
    return _ensemble(view, subject, law, weights, ranks, e2, gap)


def _slope_weights(ranks: np.ndarray) -> np.ndarray:
    """a_i with Σa_i·y_i the least-squares slope of y against ln r."""
    x = np.log(ranks) - np.log(ranks).mean()
    weights: np.ndarray = x / (x @ x)
    return weights


def _left(view: View, rank: int) -> float:
    """Largest |e²(T) − e²(∞)| of one rank, from the exact forms."""
    now, limit = view.theory("relative_error_horizon", rank), view.theory("relative_error_limit", rank)
    return largest(np.abs(now**2 - limit**2))


def _law_of(view: View, n: int, ranks: np.ndarray, e2: np.ndarray) -> Law | None:
    kind = view.scenario["adapter"]["init"]["kind"]
    if kind == "gaussian":
        return gaussian_law(n, ranks)
    return kaiming_law(n, ranks, e2) if kind == "kaiming" else None


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


def _ensemble(
    view: View, subject: str, law: Law, weights: np.ndarray, ranks: np.ndarray, e2: np.ndarray, gap: np.ndarray
) -> list[Finding]:
    """Slope against the predicted one of the grid, and the mean of e² at each rank by its z-score."""
    draws = e2.shape[1]
    predicted = float(weights @ (0.5 * np.log(law.mean)))
    slope = float(weights @ (0.5 * np.log(e2.mean(axis=1))))
    fixed = float(np.abs(weights) @ (0.5 * (gap + law.bias) / law.mean))
    findings = []
    if draws < 2:
        why = f"one seed gives no error bar; predicted slope {predicted:.5f}"
        findings.append(Finding(subject, slope, predicted, math.nan, Verdict.UNRESOLVED, why))
    else:
        # Delete-one jackknife over seeds: ranks nested in one draw are correlated, seeds are not.
        left_out = (e2.sum(axis=1)[:, None] - e2) / (draws - 1)
        slopes = weights @ (0.5 * np.log(left_out))
        deviation = math.sqrt((draws - 1) / draws * float(((slopes - slopes.mean()) ** 2).sum()))
        why = f"slope of ln e on ln r over {draws} seeds against the {law.name} law on these ranks"
        findings.append(judged(subject, slope, predicted, Z_LIMIT * deviation + fixed, why))
    for place, rank in enumerate(ranks):
        mean, expected = float(e2[place].mean()), float(law.mean[place])
        spread = math.sqrt(float(law.variance[place]) / draws) if law.variance[place] >= 0 else math.nan
        room = Z_LIMIT * spread + float(law.bias[place] + gap[place]) + 64 * view.epsilon * (2 + expected)
        if math.isnan(room):
            continue
        z = f", z = {(mean - expected) / spread:+.2f}" if spread > 0 else ", the same for every draw"
        findings.append(judged(f"flow/rank={int(rank)}/seeds={draws}", mean, expected, room, f"mean of e²{z}"))
    return findings
