"""Companion solves: the same flow again, looser, tighter or by another method, so that checks solve nothing.

Each companion is held `against` another solve; what is stored is their distance. A numerical run gets itself at
10 and 100 times rtol (the evidence that its error falls with rtol, and the estimate of it), its first seed also a
tight solve by another method, with a looser one to estimate its error by, and the closed form where one exists. An
exact run gets, for its first seed, an integrated trajectory with its own looser companions: a closed form is never
judged by itself. A trace-squared start with one factor zero has a twin, the same start with orthonormal rows, which no
other such start can beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.base import Solution, scatter
from flowsim.integrators.selection import closed_form_holds
from flowsim.integrators.solve import solve_flow
from flowsim.theory.trace_squared import orthonormal_twin
from flowsim.trajectory.measure import measure

RUN = "run"
ORACLE = "dopri5"  # torchdiffeq's: nothing of flowsim's but the right-hand side and the norm
TWIN = "orthonormal"
OWN = "its own"  # the stepper of each run
LABELS = ("loose_10", "loose_100", "tight", "exact", "integrated", "integrated_10", "integrated_100", TWIN, "tight_10")
AGAINST = {
    "loose_10": RUN, "loose_100": "loose_10", "tight": RUN, "exact": RUN,
    "integrated": RUN, "integrated_10": "integrated", "integrated_100": "integrated_10",
    TWIN: "its own closed form", "tight_10": "tight",
}  # fmt: skip
RTOL_FACTOR = {
    "loose_10": 10.0, "loose_100": 100.0, "tight": 0.1, "exact": 1.0,
    "integrated": 1.0, "integrated_10": 10.0, "integrated_100": 100.0, TWIN: 1.0,
    "tight_10": 1.0,
}  # fmt: skip
FALL = 3.0  # fall of the change per tenfold rtol that counts as evidence of convergence
MOST_STEPS = 20_000  # of a companion: where it needs more, what it would show stays unresolved
# Up to so many, steps are limited by their growth and not by their error: no order shows. Of 300 runs held against a
# tight solve the estimate was up to 3.8 times too small with 11 to 15 steps, never with more (at most 0.6 of it).
FEW_STEPS = 20
TIGHTEST = 1e-13  # below this torchdiffeq's own rounding dominates


@dataclass
class Companion:
    """One companion of one rank.

    Attributes
    ----------
    members : list of int
        The seeds it was made for, as places in the batch.
    method : list of str
        How each was solved.
    numbers : dict of str to Tensor
        Variables of the `/companions` group, (T, len(members)).
    """

    label: str
    members: list[int]
    method: list[str]
    numbers: dict[str, Tensor]


def companions_of(
    problem: Canonical, run: Solution, times: Tensor, size: Tensor, *, rtol: float, atol: float
) -> list[Companion]:
    """All companions of one rank's flow; `run` holds its states at `times`, `size` is max_t ‖s·BA‖ (S,)."""
    batch = problem.B.shape[0]
    numeric = [i for i in range(batch) if run.method[i] != "exact"]
    closed = [i for i in range(batch) if run.method[i] == "exact"]
    solvable = [i for i in numeric if closed_form_holds(problem)[i]]
    wanted: list[tuple[str, list[int], str]] = []
    if numeric:
        first = numeric[0]
        other = "dopri8" if run.stepper[first] != "dopri8" else ORACLE
        wanted += [("loose_10", numeric, OWN), ("loose_100", numeric, OWN)]
        wanted += [("tight", [first], other), ("tight_10", [first], other)]
    if solvable:
        wanted.append(("exact", solvable, "exact"))
    if closed:
        wanted += [(label, closed[:1], ORACLE) for label in ("integrated", "integrated_10", "integrated_100")]
    solved: dict[str, tuple[list[int], Solution]] = {RUN: (list(range(batch)), run)}
    results = []
    for label, members, method in wanted:
        keep = torch.tensor(members, device=problem.B.device)
        part = problem.member(keep)
        tolerance = max(rtol * RTOL_FACTOR[label], TIGHTEST)
        # Each member of a run by another tolerance takes the stepper of that run.
        ways = [run.stepper[i] if method == OWN else method for i in members]
        solution = _solved(part, times, ways, rtol=tolerance, atol=atol * RTOL_FACTOR[label])
        against_members, against = solved[AGAINST[label]]
        places = torch.tensor([against_members.index(i) for i in members], device=problem.B.device)
        other_B, other_C = against.B[:, places], against.C[:, places]
        numbers = {
            "distance": products.distance(solution.B, solution.C, other_B, other_C) / size[keep],
            "factor_distance": torch.hypot(
                torch.linalg.matrix_norm(solution.B - other_B), torch.linalg.matrix_norm(solution.C - other_C)
            ) / problem.scale**0.5,
            "estimated_error": solution.rounding / size[keep],
        }  # fmt: skip
        measured = measure(part, solution.B, solution.C, solution.excess)
        numbers |= {name: value for name, value in measured.items() if name != "gradient_norm"}
        if label in ("tight", "integrated"):
            numbers["estimated_error"] = numbers["estimated_error"] + few_steps_bound(solution, tolerance, size[keep])
        solved[label] = (members, solution)
        results.append(Companion(label, members, solution.method, numbers))
    _estimate_others(results)
    if isinstance(problem.landscape, TraceLandscape):
        results += _orthonormal(problem, times, rtol, atol)
    return results


def _solved(problem: Canonical, times: Tensor, methods: list[str], *, rtol: float, atol: float) -> Solution:
    """Each member by a method of its own."""
    parts = []
    for method in dict.fromkeys(methods):
        members = [i for i, own in enumerate(methods) if own == method]
        part = problem.member(torch.tensor(members, device=problem.B.device))
        parts.append((members, solve_flow(part, times, method=method, rtol=rtol, atol=atol, max_steps=MOST_STEPS)))
    return scatter(parts, len(methods))


def _orthonormal(problem: Canonical, times: Tensor, rtol: float, atol: float) -> list[Companion]:
    """The twin of the first start that has one, integrated; its error is its distance from its closed form."""
    whole, members = orthonormal_twin(problem)
    if not members:
        return []
    twin = whole.member(torch.tensor(members[:1], device=problem.B.device))
    exact = solve_flow(twin, times, method="exact")
    found = solve_flow(twin, times, method=ORACLE, rtol=rtol, atol=atol, max_steps=MOST_STEPS)
    size = products.product_norm(exact.B, exact.C).amax(0)
    distance = products.distance(found.B, found.C, exact.B, exact.C) / size
    measured = measure(twin, found.B, found.C, found.excess)
    numbers = {name: value for name, value in measured.items() if name != "gradient_norm"}
    numbers |= {"distance": distance, "estimated_error": distance + found.rounding / size}
    return [Companion(TWIN, members[:1], [ORACLE], numbers)]


def error_from(near: Tensor, far: Tensor) -> Tensor:
    """Error estimate of a solve from d1, its distance to itself at 10·rtol, and d2, that from 10 to 100 times rtol.

    If each tenfold tightening shrinks the change at least `FALL`-fold, the error is at most Σ_k d1/FALL^k < d1. A
    small d1 can be chance (a difference that crosses zero), so d2/FALL is asked for too.
    """
    return torch.maximum(near, far / FALL)


def few_steps_bound(solution: Solution, rtol: float, size: Tensor) -> Tensor:
    """What the tolerance allows a solve of a few steps, in units of `size` (S,), (T, S); zero for more steps.

    Each accepted step may err by rtol·‖Z‖, which moves the product by twice ‖Z‖ times that.
    """
    steps = torch.tensor(solution.steps, dtype=size.dtype, device=size.device)
    squares = solution.B.square().sum((-2, -1)) + solution.C.square().sum((-2, -1))
    bound = 2 * steps * rtol * squares.nan_to_num(nan=0.0).amax(0) / size
    return torch.where(steps <= FEW_STEPS, bound, torch.zeros_like(bound)).expand_as(solution.rounding)


def _estimate_others(results: list[Companion]) -> None:
    """Give the integrated and the tight companion their error estimates."""
    by_label = {one.label: one for one in results}
    if "tight" in by_label:
        own, near = by_label["tight"].numbers, by_label["tight_10"].numbers["distance"]
        own["estimated_error"] = own["estimated_error"] + near
    if "integrated_10" in by_label:
        own = by_label["integrated"].numbers
        near, far = (by_label[name].numbers["distance"] for name in ("integrated_10", "integrated_100"))
        own["estimated_error"] = own["estimated_error"] + error_from(near, far)
