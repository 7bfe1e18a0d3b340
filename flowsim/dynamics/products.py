"""Quantities of the product BCᵀ computed from its factors, without forming it.

Only products are comparable between methods: (B, C) and (BO, CO) with O orthogonal are the same weight, so every
distance here is gauge-invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Term = tuple[float, Tensor, Tensor]


def norm_of_sum(terms: Sequence[Term]) -> Tensor:
    """‖Σ_i a_i·B_iC_iᵀ‖_F for terms (a_i, B_i, C_i), shape (...).

    The triangular factors of the stacked B and the stacked C carry the norm. Unlike Gram matrices of a difference,
    whose rounding is ε·‖BC‖² under a square root, the error is ε·‖B‖‖C‖. Non-finite states give NaN.
    """
    left = torch.cat([a * B for a, B, _ in terms], dim=-1)
    right = torch.cat([C.expand(*B.shape[:-2], *C.shape[-2:]) for _, B, C in terms], dim=-1)
    return guarded(lambda X, Y: torch.linalg.matrix_norm(_triangle(X) @ _triangle(Y).mT), left, right)


def distance(B1: Tensor, C1: Tensor, B2: Tensor, C2: Tensor) -> Tensor:
    """‖B1C1ᵀ − B2C2ᵀ‖_F, shape (...)."""
    if B2.ndim < B1.ndim:
        B2, C2 = B2.expand_as(B1), C2.expand_as(C1)
    return norm_of_sum([(1.0, B1, C1), (-1.0, B2, C2)])


def product_norm(B: Tensor, C: Tensor) -> Tensor:
    """‖BCᵀ‖_F = √⟨BᵀB, CᵀC⟩, shape (...)."""
    return ((B.mT @ B) * (C.mT @ C)).sum((-2, -1)).clamp_min(0.0).sqrt()


def singular_values(B: Tensor, C: Tensor) -> Tensor:
    """Singular values of BCᵀ, largest first, (..., min(q, r)); NaN for states that are not finite."""
    return guarded(lambda X, Y: torch.linalg.svdvals(_triangle(X) @ _triangle(Y).mT), B, C)


def leading_alignment(B: Tensor, C: Tensor, k: int) -> Tensor:
    """‖U_kᵀÛ_k‖²_F/k for the left and right leading k-subspaces of BCᵀ against the first k axes, (..., 2).

    In the singular basis of Δ the first k axes are Δ's own leading directions. NaN where BCᵀ has numerical rank
    below k, because its k-subspace is then not defined.
    """

    def both_sides(X: Tensor, Y: Tensor) -> Tensor:
        Qx, Rx = torch.linalg.qr(X)
        Qy, Ry = torch.linalg.qr(Y)
        U, values, Vh = torch.linalg.svd(Rx @ Ry.mT)
        defined = values[..., k - 1] > X.shape[-2] * torch.finfo(X.dtype).eps * values[..., 0]
        left = (Qx[..., :k, :] @ U[..., :, :k]).square().sum((-2, -1)) / k
        right = (Qy[..., :k, :] @ Vh.mT[..., :, :k]).square().sum((-2, -1)) / k
        pair = torch.stack([left, right], dim=-1)
        return torch.where(defined[..., None], pair, torch.full_like(pair, torch.nan))

    return guarded(both_sides, B, C)


def guarded(function: Callable[[Tensor, Tensor], Tensor], X: Tensor, Y: Tensor) -> Tensor:
    """Apply a factorisation to finite states only: LAPACK refuses others, their results are NaN."""
    limit = torch.finfo(X.dtype).max ** 0.25
    size = torch.maximum(X.abs().amax((-2, -1)), Y.abs().amax((-2, -1)))
    usable = size < limit  # False for NaN too
    mask = usable[..., None, None]
    result = function(torch.where(mask, X, torch.zeros_like(X)), torch.where(mask, Y, torch.zeros_like(Y)))
    for _ in range(result.ndim - usable.ndim):
        usable = usable[..., None]
    return torch.where(usable, result, torch.full_like(result, torch.nan))


def _triangle(X: Tensor) -> Tensor:
    """The triangular factor of X (..., q, k), or X itself where it is wide already."""
    return torch.linalg.qr(X, mode="r").R if X.shape[-2] > X.shape[-1] else X
