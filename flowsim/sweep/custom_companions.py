"""What the checks need of a flow of any objective: the same flow looser and tighter, and what its loss may be off by.

As in `companions`: each member at 10 and 100 times rtol, the first also by another method at a tenth of rtol, which
has a looser one to tell its own error. The curvature of f, which no theory gives here, is measured between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.dynamics.custom import CustomFlow
from flowsim.integrators.base import Solution, Status
from flowsim.integrators.custom import DEFAULT, ORACLE, solve
from flowsim.problem.custom import AT_ONCE
from flowsim.sweep.companions import AGAINST, MOST_STEPS, RTOL_FACTOR, TIGHTEST, error_from, few_steps_bound

LABELS = ("loose_10", "loose_100", "tight", "tight_10")
FOR_ALL = ("loose_10", "loose_100")  # the others are made for the first member alone


@dataclass
class CustomCompanions:
    """Companions and the error estimates they give; NaN, and no status, where one was not made.

    Attributes
    ----------
    size : Tensor, (S,)
        max_t ‖s·BA‖, the unit of distances and estimates; NaN where nothing moves.
    estimated_error, loss_error : Tensor, (T, S)
        Of the run: of s·BA in units of `size`; of f.
    distance, factor_distance, own_error : Tensor, (L, T, S)
        Of each companion from what it is held against; its own estimated error.
    status : list of list of str, (L, S)
    """

    size: Tensor
    estimated_error: Tensor
    loss_error: Tensor
    distance: Tensor
    factor_distance: Tensor
    own_error: Tensor
    status: list[list[str]]


def companions_of(flow: CustomFlow, run: Solution, times: Tensor, *, rtol: float, atol: float) -> CustomCompanions:
    """All companions of a run that holds its states at `times` (T,)."""
    largest = products.product_norm(run.B, run.C).nan_to_num(nan=0.0).amax(0)
    size = torch.where(largest > 0, largest, torch.full_like(largest, torch.nan))
    shape = (len(LABELS), *run.rounding.shape)
    distance, factors, own = (run.B.new_full(shape, torch.nan) for _ in range(3))
    status = [[""] * len(size) for _ in LABELS]
    method = run.stepper[0]
    other = DEFAULT if method != DEFAULT else ORACLE
    solved = {"run": run}
    if Status.COMPLETED not in run.status:  # nothing could be decided
        unknown = run.rounding * torch.nan
        return CustomCompanions(size, unknown, unknown.clone(), distance, factors, own, status)
    for place, label in enumerate(LABELS):
        tolerance = max(rtol * RTOL_FACTOR[label], TIGHTEST)
        found = solved[label] = solve(
            flow if label in FOR_ALL else flow.member(0), times, method=method if label in FOR_ALL else other,
            rtol=tolerance, atol=atol * RTOL_FACTOR[label], max_steps=MOST_STEPS,
        )  # fmt: skip
        count = found.B.shape[1]
        against = solved[AGAINST[label]]
        B, C = against.B[:, :count], against.C[:, :count]
        distance[place, :, :count] = products.distance(found.B, found.C, B, C) / size[:count]
        change = torch.hypot(torch.linalg.matrix_norm(found.B - B), torch.linalg.matrix_norm(found.C - C))
        factors[place, :, :count] = change / flow.scale**0.5
        own[place, :, :count] = found.rounding / size[:count]
        if label == "tight":
            own[place, :, :1] += few_steps_bound(found, tolerance, size[:1])
        status[place][:count] = [str(one) for one in found.status]
    own[LABELS.index("tight"), :, :1] += distance[LABELS.index("tight_10"), :, :1]
    error = run.rounding / size + error_from(distance[0], distance[1]) + few_steps_bound(run, rtol, size)
    error = error.masked_fill(error.isinf(), torch.nan)
    loss_error = _loss_error(flow, [run, solved["loose_10"], solved["loose_100"]], error * size)
    return CustomCompanions(size, error, loss_error, distance, factors, own, status)


def _loss_error(flow: CustomFlow, runs: list[Solution], delta: Tensor) -> Tensor:
    """‖∇f‖δ + Lδ²/2, (T, S): what an error δ of W does to f.

    L is the largest secant of ∇f seen, between the run and its two looser companions at all times (L, S).
    """
    slopes, secants = [], []
    share = max(1, AT_ONCE // (len(runs) * len(flow.B) * flow.objective.pretrained.numel()))
    for first in range(0, len(delta), share):
        part = slice(first, first + share)
        W = torch.stack([flow.weight(one.B[part], one.C[part]) for one in runs])
        slope = flow.objective.gradient(W)
        rise, way = (torch.linalg.matrix_norm(X[1:] - X[0]) for X in (slope, W))
        slopes.append(torch.linalg.matrix_norm(slope[0]))
        secants.append(torch.where(way > 0, rise / way, torch.zeros_like(way)).nan_to_num(nan=0.0).amax((0, 1)))
    curvature = torch.stack(secants).amax(0)
    # Where nothing moves there is no unit for δ, and no error either.
    delta = torch.where(delta.isnan().all(0), torch.zeros_like(delta), delta)
    return torch.cat(slopes) * delta + curvature * delta.square() / 2
