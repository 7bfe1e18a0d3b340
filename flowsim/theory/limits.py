"""The `/theory` group: numbers that follow from the start and the SVD of Δ alone, in the user's units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.theory import frobenius, plateau, rates, trace_squared


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
    kappa, clock = problem.curvature, problem.clock
    batch = problem.B.shape[0]
    known = (_frobenius if isinstance(problem.landscape, FrobeniusLandscape) else _trace_squared)(problem, stop)
    nan = problem.B.new_full((batch,), math.nan)
    # The constant of C·t^(−power) carries a time to the power; that of C·e^(−rate·t) none.
    unit = torch.where(known.power.isnan(), torch.ones_like(nan), clock**-known.power)
    values = {
        "loss_floor": kappa * known.floor,
        "loss_limit": kappa * (known.floor + known.limit),
        "loss_reachable": kappa * (known.floor + torch.where(known.limit.isnan(), known.reachable, known.limit)),
        "excess_rounding": kappa * known.rounding,
        "escape_time": known.escape / clock,
        "overlap": known.overlap,
        "relative_error_limit": known.error,
        "relative_error_horizon": nan,
        "relative_error_rounding": nan,
        "effective_rank": nan,
        "orthonormal_error": nan,
        "convergence_rate": clock * known.rate,
        "convergence_power": known.power,
        "excess_constant": kappa * unit * known.constant,
        "stability_limit": 2 / (clock * known.sharpness),
        "sequential_stability_limit": known.sequential / clock,
        "parameters": problem.B.new_full((), float(problem.rank * sum(shape))),
        "energy": nan,
        "spectral_gap": nan,
    }
    return {name: value.expand(batch) for name, value in (values | known.own).items()}


@dataclass(frozen=True)
class _Known:
    """What both objectives know, canonical, (S,) or 0-d each; `own` holds variables of one of them."""

    floor: Tensor
    limit: Tensor
    reachable: Tensor
    rounding: Tensor
    escape: Tensor
    overlap: Tensor
    error: Tensor
    rate: Tensor
    power: Tensor
    constant: Tensor
    sharpness: Tensor
    sequential: Tensor
    own: dict[str, Tensor]


def _frobenius(problem: Canonical, stop: float) -> _Known:
    floor, limit = frobenius.loss_floor(problem), frobenius.excess_limit(problem)
    start = floor + problem.landscape.excess(problem.B, problem.C)
    error = ((floor + limit) / start).clamp_min(0.0).sqrt()
    end = rates.decay(problem)
    return _Known(
        floor, limit, frobenius.reachable_excess(problem), frobenius.rounding(problem), frobenius.escape_time(problem),
        frobenius.overlap(problem), torch.where(start > 0, error, torch.full_like(error, math.nan)),
        end.rate, end.power, end.constant,
        rates.sharpness_limit(problem), rates.sequential_limit(problem), 
        {"energy": frobenius.energy(problem), "spectral_gap": frobenius.spectral_gap(problem)},
    )  # fmt: skip


def _trace_squared(problem: Canonical, stop: float) -> _Known:
    limit, speed = trace_squared.excess_limit(problem), trace_squared.speed(problem)
    error, _ = trace_squared.relative_error(problem, math.inf)
    horizon, rounding = trace_squared.relative_error(problem, problem.clock * stop)
    own = {
        "relative_error_horizon": horizon,
        "orthonormal_error": trace_squared.orthonormal_error(problem, problem.clock * stop),
        "relative_error_rounding": rounding,
        "effective_rank": trace_squared.effective_rank(problem),
    }
    return _Known(
        problem.B.new_zeros(()), limit, limit, trace_squared.rounding(problem), trace_squared.escape_time(problem),
        trace_squared.overlap(problem),
        error, 2 * speed, trace_squared.power(problem), trace_squared.excess_constant(problem),
        speed, trace_squared.sequential_limit(problem), own,
    )  # fmt: skip


def missing_modes(problem: Canonical) -> list[str]:
    """The leading modes that each start's limit lacks, in words: empty where none is missing."""
    if not isinstance(problem.landscape, FrobeniusLandscape):
        return [""] * problem.B.shape[0]
    signs = frobenius.wrong_determinant(problem)
    return [
        ", ".join(map(str, modes)) + (" (the determinant of BA has the wrong sign)" if modes and wrong else "")
        for modes, wrong in zip(frobenius.missing_modes(problem), signs, strict=True)
    ]


@dataclass(frozen=True)
class Waiting:
    """`plateau.Plateau` in the user's units, (S,) each."""

    mode: Tensor
    leaving: Tensor
    last: Tensor
    excess: Tensor


def waiting_for(problem: Canonical, B: Tensor, C: Tensor, members: Sequence[int] | None = None) -> Waiting:
    """The leading modes that states (S, q, r) have still to learn, and the flow time that it takes (`plateau`)."""
    nan = B.new_full((B.shape[0],), math.nan)
    if not isinstance(problem.landscape, FrobeniusLandscape):
        return Waiting(torch.zeros_like(nan, dtype=torch.int64), nan, nan, nan)
    found = plateau.plateau(problem, B, C, members)
    clock = problem.clock
    return Waiting(found.mode, found.leaving / clock, found.last / clock, problem.curvature * found.excess)


def end_state_rates(problem: Canonical, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """`local_rate` and `sharpness` of states (S, q, r) at a minimum, in the user's units, (S,) each.

    Meaningful at a minimum only: the caller blanks the members that are not at one. Members with states that are
    not finite give NaN.
    """
    if not isinstance(problem.landscape, FrobeniusLandscape):
        rate = trace_squared.local_rate(B, C)
        rate = torch.where(rate.isfinite(), rate, math.nan)
        return problem.clock * rate, problem.clock * rate / 2
    finite = torch.isfinite(B).all(-1).all(-1) & torch.isfinite(C).all(-1).all(-1)
    mask = finite[:, None, None]
    B, C = torch.where(mask, B, torch.zeros_like(B)), torch.where(mask, C, torch.zeros_like(C))
    rate = rates.local_rate(problem, B, C)
    # Next to a saddle the linearisation of the minimum says nothing.
    learnt = torch.tensor([not plateau.missing_rows(problem, b, c) for b, c in zip(B, C, strict=True)])
    rate = torch.where(learnt.to(rate.device), rate, torch.full_like(rate, math.nan))
    largest = [torch.linalg.matrix_norm(X, ord=2).square() for X in (B, C)]
    sharpness = largest[0] + largest[1]
    nan = torch.full_like(sharpness, math.nan)
    return torch.where(finite, problem.clock * rate, nan), torch.where(finite, problem.clock * sharpness, nan)
