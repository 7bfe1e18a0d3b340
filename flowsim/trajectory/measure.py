"""From states to numbers: every per-trajectory variable that needs only the problem and the states.

All of them are gauge-invariant except `imbalance_drift` and `factor_norm`, which any orthogonal gauge leaves alone
where Q0 is a multiple of the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics import invariants, products
from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.functions import Functions, functions_of
from flowsim.dynamics.landscape import FrobeniusLandscape, TraceLandscape

Measured = dict[str, Tensor]


def in_user_units(problem: Canonical, functions: Functions) -> Measured:
    """Loss, excess loss, gradient norm and imbalance drift from canonical functions of the state, (...).

    NaN where the state is NaN or a number overflows: a diverging state may still be finite where a number made of it
    no longer is.
    """
    kappa, scale = problem.curvature, problem.scale
    known = torch.where(functions["excess"].isinf(), torch.nan, functions["excess"])
    numbers = {
        "loss": kappa * (problem.landscape.floor(problem.rank) + known),
        "excess_loss": kappa * known,
        "gradient_norm": kappa * scale**0.5 * functions["pull_norm"],
        "imbalance_drift": functions["imbalance_drift"] / scale,
    }
    return {name: torch.where(value.isinf(), torch.nan, value) for name, value in numbers.items()}


def relative_error(problem: Canonical, B: Tensor, C: Tensor, loss: Tensor) -> Tensor:
    """‖ΔW − ΔW_full(∞)‖/‖ΔW_full(∞)‖, (...); NaN where full fine-tuning does not move.

    Frobenius: full fine-tuning ends at W*, so this is √(f/f(0)). Trace-squared: it moves by −(τ0/n)·I.
    """
    landscape, B0, C0 = problem.landscape, problem.B, problem.C
    if isinstance(landscape, FrobeniusLandscape):
        start = problem.curvature * (landscape.floor(problem.rank) + landscape.excess(B0, C0))
        return torch.where(start > 0, (loss / start).clamp_min(0.0).sqrt(), torch.full_like(loss, torch.nan))
    assert isinstance(landscape, TraceLandscape)
    start = landscape.trace(B0, C0)
    moved = products.distance(B, C, B0.expand_as(B), C0.expand_as(C))
    change = products_trace(B, C) - products_trace(B0, C0)
    squared = landscape.size * (moved / start).square() + 2 * change / start + 1
    return torch.where(start != 0, squared.clamp_min(0.0).sqrt(), torch.full_like(squared, torch.nan))


def products_trace(B: Tensor, C: Tensor) -> Tensor:
    """tr BCᵀ, (...)."""
    return (B * C).sum((-2, -1))


def measure(problem: Canonical, B: Tensor, C: Tensor, excess: Tensor | None = None) -> Measured:
    """The scalar variables of states (T, S, q, r) as tensors (T, S)."""
    if excess is not None:
        excess = torch.where(excess.isnan(), problem.landscape.excess(B, C), excess)
    start = invariants.imbalance(problem.B, problem.C)
    numbers = in_user_units(problem, functions_of(problem.landscape, B, C, start, excess))
    scale = problem.scale
    numbers |= {
        "relative_error": relative_error(problem, B, C, numbers["loss"]),
        "factor_norm": torch.hypot(torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C)) / scale**0.5,
        "product_norm": products.product_norm(B, C),
        "gram_sum_norm": invariants.gram_sum_norm(B, C) / scale,
    }
    return {name: torch.where(value.isinf(), torch.nan, value) for name, value in numbers.items()}


def spectrum(problem: Canonical, B: Tensor, C: Tensor, modes: int) -> Tensor:
    """Singular values of s·BA, (T, S, modes), NaN beyond min(rank, rows)."""
    values = products.singular_values(B, C)
    out = values.new_full((*values.shape[:-1], modes), torch.nan)
    count = min(modes, values.shape[-1])
    out[..., :count] = values[..., :count]
    return out


def alignment(problem: Canonical, B: Tensor, C: Tensor) -> Tensor:
    """Alignment of the leading r-subspaces with those of Δ, (T, S, 2); NaN where these are not defined.

    They are not defined for trace-squared (no difference), for ranks above rank Δ, and for σ_r = σ_{r+1}.
    """
    landscape, rank = problem.landscape, problem.rank
    undefined = B.new_full((*B.shape[:-2], 2), torch.nan)
    if not isinstance(landscape, FrobeniusLandscape) or rank > landscape.pairs:
        return undefined
    sigma = landscape.sigma
    following = sigma[rank] if rank < len(sigma) else sigma.new_zeros(())
    noise = torch.finfo(sigma.dtype).eps * len(sigma) * sigma[0]
    if not bool(sigma[rank - 1] - following > noise):
        return undefined
    return products.leading_alignment(B, C, rank)
