"""All ranks of a nested λ-balanced start in one pass.

If rank r takes the first r columns of one start with BᵀB − AAᵀ = λI, every rank is λ-balanced with the same λ, and its
N_r is the leading r × r block of N = RᵀR. With the triangular root the first r columns of the solution at the largest
rank therefore are the solution at rank r, at any time: one pass serves all ranks. (Orthogonal rows with B = 0 are such
a start; a scale that depends on the rank is not.)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.base import Solution
from flowsim.integrators.exact import balanced
from flowsim.integrators.exact.grams import surely_independent, upper_gram

SHARED = "all ranks are leading parts of one balanced start, and share one pass"


def solve(landscape: FrobeniusLandscape, B0: Tensor, C0: Tensor, times: Tensor) -> Solution:
    """The solution at the largest rank from factors (S, q, R), by sub-steps alone: its leading columns are nested."""
    whole = balanced.solve(landscape, B0, C0, times, jumps=False)
    count = len(whole.stepper)
    return replace(whole, stepper=["nested"] * count, choice=[SHARED] * count)


def leading(solution: Solution, rank: int) -> Solution:
    """The solution at a smaller rank: its rounding is no larger."""
    return replace(solution, B=solution.B[..., :rank], C=solution.C[..., :rank])


def losses(landscape: FrobeniusLandscape, B: Tensor, C: Tensor) -> Tensor:
    """Canonical loss of every leading rank of states (..., q, R), (..., R), for the price of one.

    2f_r = ‖Σ‖² − 2Σ_{j≤r}⟨Σb_j, c_j⟩ + the sum of the leading r × r block of (BᵀB)∘(CᵀC). Its absolute error is about
    ε‖Σ‖²; `FrobeniusLandscape.excess` of one rank keeps more digits.
    """
    if B.ndim > 2:  # one state after the other: what is as large as all states is made of none
        return torch.stack([losses(landscape, b, c) for b, c in zip(B, C, strict=True)])
    grams = (upper_gram(B) * upper_gram(C)).triu()
    blocks = (2 * grams.sum(-2) - grams.diagonal(dim1=-2, dim2=-1)).cumsum(-1)
    overlap = (landscape.sigma[:, None] * B * C).sum(-2).cumsum(-1)
    return 0.5 * (landscape.sigma.square().sum() + landscape.outside - 2 * overlap + blocks)


def one_pass(landscape: FrobeniusLandscape, B0: Tensor, C0: Tensor, times: Tensor) -> bool:
    """Whether one pass serves all ranks of factors (S, q, R).

    Not where a rank alone would take one long step, and not where columns are dependent: `balanced` then turns them
    among each other, and the leading ones are no longer those of a smaller rank.
    """
    omega, _, _ = balanced.rotated_modes(landscape.sigma, balanced.imbalance_value(B0, C0))
    longest = torch.diff(times, prepend=times.new_zeros(1)).max()
    both = torch.cat([B0, C0], dim=-2)
    noise = torch.finfo(B0.dtype).eps * sum(B0.shape[-2:]) * torch.linalg.matrix_norm(both)
    independent = both.shape[-2] >= both.shape[-1] and bool(
        surely_independent(both, noise).all() or (torch.linalg.svdvals(both)[..., -1] > noise).all()
    )
    return independent and bool(omega.max() * longest <= balanced.BLOCK * balanced.CAP)
