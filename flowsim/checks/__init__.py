"""Theorems as checks: each judges a stored result and solves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from flowsim.checks import (
    alignment_check,
    flow_checks,
    law_checks,
    limit_checks,
    of_dataset,
    rate_checks,
    solver_checks,
    step_checks,
)
from flowsim.checks.base import SEVERITY, Finding, Verdict, rank_of
from flowsim.checks.view import View
from flowsim.trajectory.points import points_of
from flowsim.trajectory.store import open_result


@dataclass(frozen=True)
class Check:
    """One check: what it states in words and as LaTeX, where that is proven, what is observed and when that passes.

    With `leads` the first finding is the statement itself and the others support it: it then speaks for the check
    among equal verdicts, in place of the most strained one.
    """

    statement: str
    formula: str
    reference: str
    measures: str
    passes: str
    judge: Callable[[View], list[Finding]]
    objective: str | None = None
    leads: bool = False


_PAPER = "Rushka & Klabjan 2026, arXiv 2602.10212"
CHECKS: dict[str, Check] = {
    "equivalence": Check(
        "sequential and simultaneous updates have one limit flow: their gap falls in proportion to the step",
        r"\|s\,(BA_{\text{sequential}}-BA_{\text{simultaneous}})\|_F\quad=e_1(t)\,h+O(h^2),\quad h=k\eta",
        f"{_PAPER}, Theorem 2.4; Hairer, Lubich & Wanner 2006, ch. IX",
        "fall of the extrapolation residual per halving (at least 2.83)",
        "observed ≥ expected − tolerance",
        step_checks.equivalence,
    ),
    "descent_follows_flow": Check(
        "descent stays within O(learning rate) of the flow, with the predicted leading coefficient",
        r"\|s\,(BA_{\text{descent}}-BA_{\text{flow}})\|_F\quad=e_1(t)\,h+O(h^2),\quad h=k\eta",
        "Hairer, Lubich & Wanner 2006, ch. IX",
        "fall of the extrapolation residual per halving (at least 2.83)",
        "observed ≥ expected − tolerance",
        step_checks.descent_follows_flow,
    ),
    "eckart_young": Check(
        "the loss tends to the Eckart–Young floor, the tail of the squared singular values of the difference",
        r"f(W(t))\to c\sum_{i>r}\sigma_i(\Delta)^2",
        f"Eckart & Young 1936; {_PAPER}, Theorem 2.11",
        "loss at the last time",
        "reached, and |observed − expected| ≤ tolerance",
        limit_checks.eckart_young,
        "frobenius",
    ),
    "alignment": Check(
        "the leading singular subspaces of BA tend to those of the difference, where there is a gap at the rank",
        r"\tfrac1r\,\|U_r^{\top}\hat U\|_F^2\to1",
        f"{_PAPER}, Theorem 2.11, of subspaces; Fan 1949",
        "1 - alignment, the worse side",
        "reached, and observed ≤ tolerance",
        alignment_check.alignment,
        "frobenius",
    ),
    "zero_loss": Check(
        "the trace-squared loss tends to 0",
        r"c\,(\mathrm{tr}\,W(t))^2\to0",
        f"{_PAPER}, Theorem 2.7",
        "loss at the last time",
        "reached, and |observed − expected| ≤ tolerance",
        limit_checks.zero_loss,
        "trace_squared",
    ),
    "relative_error_law": Check(
        "the relative error is √(n/r_eff − 1), or the exact form of this start",
        r"\frac{\|\Delta W-\Delta W_{\text{full}}\|_F}{\|\Delta W_{\text{full}}\|_F}=\sqrt{\frac{n}{r_{\text{eff}}}-1}",
        f"{_PAPER}, Theorem 2.8, in exact form",
        "square of the relative error",
        "|observed − expected| ≤ tolerance",
        law_checks.relative_error_law,
        "trace_squared",
    ),
    "inverse_sqrt_rank": Check(
        "the relative error falls like r^(−1/2) over these ranks",
        r"\frac{\|\Delta W-\Delta W_{\text{full}}\|_F}{\|\Delta W_{\text{full}}\|_F}=O(r^{-1/2})",
        f"{_PAPER}, Theorem 2.8",
        "slope of ln e on ln r, or mean of e² at a rank",
        "|observed − expected| ≤ tolerance",
        law_checks.inverse_sqrt_rank,
        "trace_squared",
        leads=True,
    ),
    "closed_form": Check(
        "the integrated trajectory equals the exact solution",
        r"BA_{\text{integrated}}(t)=BA_{\text{exact}}(t)",
        "Fukumizu 1998; Braun et al. 2022; Dominé et al. 2024, arXiv 2409.14623",
        "largest distance of BA, integrated against exact",
        "observed ≤ tolerance",
        solver_checks.closed_form,
    ),
    "conservation": Check(
        "the imbalance Q is constant along the flow, and the factors are bounded by it and by BA",
        r"Q=B^{\top}B-AA^{\top}=Q_0,\quad\|B^{\top}B+AA^{\top}\|_F^2\quad=\|Q_0\|_F^2+4\,\|BA\|_F^2",
        "Du, Hu & Lee 2018; Tarmoun et al. 2021",
        "largest drift of Q, or defect of the identity",
        "observed ≤ tolerance",
        flow_checks.conservation,
    ),
    "monotone_loss": Check(
        "the loss never rises along the flow",
        r"\frac{df}{dt}=-\|\partial_A f\|_F^2-\|\partial_B f\|_F^2\le0",
        "gradient flow",
        "largest rise of the loss between two times",
        "observed ≤ tolerance",
        flow_checks.monotone_loss,
    ),
    "convergence_rate": Check(
        "the excess loss falls at the rate of the smallest excited eigenvalue of the Hessian",
        r"f-f_{\text{floor}}\sim C\,e^{-2\nu t}",
        "linearisation at the limit; closed forms of the references of closed_form",
        "rate of the excess loss, late",
        "|observed − expected| ≤ tolerance",
        rate_checks.convergence_rate,
    ),
    "stability": Check(
        "descent stays at the minimum where its multipliers allow it, and leaves it where they do not",
        r"|\mu|<1\ \text{at the minimum},\quad\text{simultaneous: }\eta<2/\lambda_{\max}",
        "linearised round of descent; Cohen et al. 2021, arXiv 2103.00065 (edge of stability)",
        "fall of the excess loss per round, as a multiplier",
        "|observed − expected| ≤ tolerance, or above 1 where the descent leaves the minimum",
        rate_checks.stability,
    ),
    "accuracy": Check(
        "the solver's error falls with rtol, and its estimate bounds it",
        r"\|s\,(BA-BA_{\text{true}})\|_F\quad\le\text{estimate}\quad\to0\ \text{with rtol}",
        "Hairer, Nørsett & Wanner 1993, II.4",
        "largest distance of BA from a better solution",
        "observed ≤ tolerance, and the error falls with rtol",
        solver_checks.accuracy,
    ),
}

COLUMNS = ("name", "subject", "statement", "reference", "observed", "expected", "tolerance", "verdict", "reason")


def check(result: xr.DataTree | xr.Dataset | Path | str) -> xr.Dataset:
    """Judge a result from its stored numbers alone, each point of a sweep as a result of its own.

    Parameters
    ----------
    result : DataTree, or path of a result folder or file, or Dataset of `simulate`
        A tree may be opened lazily and be larger than memory: numbers are read by pieces. Of a dataset three checks
        are judged that hold of every objective: `conservation`, `monotone_loss` and `accuracy`.

    Returns
    -------
    Dataset
        The `/checks` group: one entry along `check` for each judged instance. In a sweep a subject begins with the
        label of its point.

    Raises
    ------
    ResultError
        If a path is given that is not a readable result.
    InputError
        If a dataset is given that `simulate` did not make.
    """
    if isinstance(result, xr.Dataset):
        with np.errstate(all="ignore"):
            return _dataset(of_dataset.judge(result))
    if not isinstance(result, xr.DataTree):
        with open_result(result) as tree:
            return check(tree)
    rows: list[tuple[str, Finding]] = []
    with np.errstate(all="ignore"):
        for label, point in points_of(result.drop_nodes("checks", errors="ignore")):
            view = View(point)
            found = ((name, one) for name in _chosen(view) for one in CHECKS[name].judge(view))
            rows += [(name, replace(one, subject=f"{label}/{one.subject}") if label else one) for name, one in found]
    return _dataset(rows)


def _chosen(view: View) -> list[str]:
    """The scenario's list, or every check that speaks of its objective and schedules."""
    asked = view.scenario["checks"]
    if asked != "auto":
        return list(asked)
    names = [name for name, one in CHECKS.items() if one.objective in (None, view.objective)]
    if not any(row["kind"] == "descent" for row in view.schedules):
        names = [name for name in names if name not in ("descent_follows_flow", "stability")]
    if all(row["update"] == "simultaneous" for row in view.schedules):
        names.remove("equivalence")
    return names


def _dataset(rows: list[tuple[str, Finding]]) -> xr.Dataset:
    words = {
        "name": [name for name, _ in rows],
        "subject": [one.subject for _, one in rows],
        "statement": [CHECKS[name].statement for name, _ in rows],
        "reference": [CHECKS[name].reference for name, _ in rows],
        "verdict": [str(one.verdict) for _, one in rows],
        "reason": [one.reason for _, one in rows],
    }
    numbers = {
        "observed": [one.observed for _, one in rows],
        "expected": [one.expected for _, one in rows],
        "tolerance": [one.tolerance for _, one in rows],
    }
    data = {name: ("check", np.array(values, dtype=object)) for name, values in words.items()}
    data |= {name: ("check", np.array(values, dtype=np.float64)) for name, values in numbers.items()}
    group = xr.Dataset({name: data[name] for name in COLUMNS})
    for name in COLUMNS:
        group[name].attrs = {
            "long_name": name,
            "units": "" if name in words else "as stated",
            "formula": "see statement",
        }
    return group


def verdict_table(tree: xr.DataTree) -> list[dict[str, object]]:
    """The stored findings as plain rows, with the check's name under `check`."""
    group = tree["checks"].to_dataset()
    if not group.sizes.get("check", 0):
        return []
    columns: dict[str, list[object]] = {}
    for name in COLUMNS:
        kind = float if name in ("observed", "expected", "tolerance") else str
        columns["check" if name == "name" else name] = [kind(value) for value in group[name].values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def summarize(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """One row per check: its decisive finding (the worst verdict, then the most strained), and a count of verdicts."""
    by_check: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_check.setdefault(str(row["check"]), []).append(row)
    summary = []
    for name, own in by_check.items():
        decisive = max(own, key=lambda row: _weight(name, _finding(row)))
        counts = Counter(str(row["verdict"]) for row in own)
        text = ", ".join(f"{counts[v]} {v}" for v in sorted(Verdict, key=SEVERITY.__getitem__) if counts[v])
        summary.append(decisive | {"count": text, "measures": CHECKS[name].measures})
    return summary


def _weight(name: str, finding: Finding) -> tuple[int, float]:
    severity, strain = rank_of(finding)
    return severity, 0.0 if CHECKS[name].leads else strain


def _finding(row: dict[str, object]) -> Finding:
    return Finding(
        str(row["subject"]), float(str(row["observed"])), float(str(row["expected"])), float(str(row["tolerance"])),
        Verdict(str(row["verdict"])), str(row["reason"]),
    )  # fmt: skip
