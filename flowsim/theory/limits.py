"""The `/theory` group: numbers that follow from the start and the SVD of Δ alone, in the user's units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.theory import frobenius, trace_squared


def theory_of(problem: Canonical, shape: tuple[int, int], stop: float) -> dict[str, Tensor]:
    """All theory variables of one rank, each (S,); NaN where no closed form exists.

    Parameters
    ----------
    problem : Canonical
        The batch of starts.
    shape : (n, m)
    stop : float
        The last flow time.
    """
    landscape, kappa, clock = problem.landscape, problem.curvature, problem.clock
    batch = problem.B.shape[0]
    floor = problem.B.new_zeros(())
    nan = problem.B.new_full((batch,), math.nan)
    if isinstance(landscape, FrobeniusLandscape):
        floor, limit = frobenius.loss_floor(problem), frobenius.excess_limit(problem)
        reachable, escape = frobenius.reachable_excess(problem), frobenius.escape_time(problem)
        start = floor + landscape.excess(problem.B, problem.C)
        error = torch.where(start > 0, ((floor + limit) / start).clamp_min(0.0).sqrt(), nan)
        rate, sharpness = frobenius.convergence_rate(problem), frobenius.sharpness_limit(problem)
        horizon, rounding, effective = nan, nan, nan
        energy = frobenius.energy(problem).expand(batch)
    else:
        limit = reachable = trace_squared.excess_limit(problem)
        escape = trace_squared.escape_time(problem)
        error, _ = trace_squared.relative_error(problem, math.inf)
        horizon, rounding = trace_squared.relative_error(problem, clock * stop)
        sharpness = trace_squared.speed(problem)
        rate, effective, energy = 2 * sharpness, trace_squared.effective_rank(problem), nan
    return {
        "loss_floor": (kappa * floor).expand(batch),
        "loss_limit": kappa * (floor + limit),
        "loss_reachable": kappa * (floor + torch.where(limit.isnan(), reachable, limit)),
        "escape_time": escape / clock,
        "relative_error_limit": error,
        "relative_error_horizon": horizon,
        "relative_error_rounding": rounding,
        "effective_rank": effective,
        "convergence_rate": clock * rate,
        "stability_limit": 2 / (clock * sharpness),
        "parameters": problem.B.new_full((batch,), float(problem.rank * sum(shape))),
        "energy": energy,
    }


def missing_modes(problem: Canonical) -> list[str]:
    """The leading modes that each start's limit lacks, in words: empty where none is missing."""
    if not isinstance(problem.landscape, FrobeniusLandscape):
        return [""] * problem.B.shape[0]
    signs = frobenius.wrong_determinant(problem)
    return [
        ", ".join(map(str, modes)) + (" (the determinant of BA has the wrong sign)" if modes and wrong else "")
        for modes, wrong in zip(frobenius.missing_modes(problem), signs, strict=True)
    ]


def end_state_rates(problem: Canonical, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """`local_rate` and `sharpness` of states (S, q, r) at a minimum, in the user's units, (S,) each.

    Meaningful at a minimum only: the caller blanks the members that are not at one. Members with states that are
    not finite give NaN.
    """
    finite = torch.isfinite(B).all(-1).all(-1) & torch.isfinite(C).all(-1).all(-1)
    mask = finite[:, None, None]
    B, C = torch.where(mask, B, torch.zeros_like(B)), torch.where(mask, C, torch.zeros_like(C))
    if isinstance(problem.landscape, FrobeniusLandscape):
        rate = frobenius.local_rate(problem, B, C)
        largest = [torch.linalg.matrix_norm(X, ord=2).square() for X in (B, C)]
        sharpness = largest[0] + largest[1]
    else:
        rate = trace_squared.local_rate(B, C)
        sharpness = rate / 2
    nan = torch.full_like(sharpness, math.nan)
    return torch.where(finite, problem.clock * rate, nan), torch.where(finite, problem.clock * sharpness, nan)
