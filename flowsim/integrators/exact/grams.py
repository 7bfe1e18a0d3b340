"""Gram matrices and their triangular roots: cheaper than a QR or an SVD of the tall matrix, where that is as good.

With H = D⁻¹GD⁻¹ of unit diagonal, Cholesky's relative error is ε·‖H⁻¹‖, whatever the lengths D of the columns (Demmel
1989), that of a QR 2ε·‖H⁻¹‖^½. The inverse is bounded from the triangle: Σ1/λ_i(H) = ‖R⁻¹‖²_F for H = RᵀR, and as
Σλ_i = r the other r − 1 reciprocals sum to at least (r − 1)²/r, so that ‖H⁻¹‖ ≤ ‖R⁻¹‖²_F − r + 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128  # columns that are multiplied at once: below the diagonal of blocks nothing is computed


def upper_gram(X: Tensor) -> Tensor:
    """XᵀX of X (..., q, r) on and above its diagonal, (..., r, r); below it is not defined."""
    rank = X.shape[-1]
    if rank < 2 * BLOCK:
        return X.mT @ X
    G = X.new_zeros(*X.shape[:-2], rank, rank)
    for first in range(0, rank, BLOCK):
        here = slice(first, first + BLOCK)
        G[..., here, first:] = X[..., here].mT @ X[..., first:]
    return G


def gram(X: Tensor) -> Tensor:
    """XᵀX, (..., r, r)."""
    upper = upper_gram(X)
    return upper if X.shape[-1] < 2 * BLOCK else upper.triu() + upper.triu(1).mT


def scaled_root(G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """R and D with G = D·RᵀR·D, of shapes (..., r, r) and (..., r), and a bound on ‖(RᵀR)⁻¹‖, (...).

    The bound is infinite or NaN where there is no such root.
    """
    rank = G.shape[-1]
    lengths = G.diagonal(dim1=-2, dim2=-1).sqrt()
    low, failed = torch.linalg.cholesky_ex(G / lengths[..., None] / lengths[..., None, :])
    eye = torch.eye(rank, dtype=G.dtype, device=G.device).expand_as(G)
    inverse = torch.linalg.solve_triangular(low, eye, upper=False)
    bound = inverse.square().sum((-2, -1)) - rank + 2
    return low.mT, lengths, torch.where(failed == 0, bound, torch.inf)


def shifted_root(W: Tensor, limit: float) -> Tensor:
    """The upper triangle R with RᵀR = I + WᵀW and a positive diagonal, (..., r, r), from W (..., q, r).

    By Cholesky where ‖H⁻¹‖ ≤ `limit` for all, else by a QR that never forms the Gram matrix.
    """
    rank = W.shape[-1]
    eye = torch.eye(rank, dtype=W.dtype, device=W.device)
    R, lengths, inverse = scaled_root(gram(W) + eye)
    if bool((inverse <= limit).all()):
        return R * lengths[..., None, :]
    R = torch.linalg.qr(torch.cat([eye.expand(*W.shape[:-2], rank, rank), W], dim=-2), mode="r").R
    return R * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., :, None]


def surely_independent(X: Tensor, noise: Tensor) -> Tensor:
    """Whether the least singular value of X (..., q, r) is certainly above `noise` (...), bool.

    False says nothing: a Gram matrix does not see singular values below ε^½ of its lengths.
    """
    rows, rank = X.shape[-2:]
    if rank > rows:
        return torch.zeros_like(noise, dtype=torch.bool)
    _, lengths, inverse = scaled_root(gram(X))
    # Entries of H are sums of `rows` rounded terms; where that cannot halve its least eigenvalue, the bound stands.
    known = 2 * rank * rows * torch.finfo(X.dtype).eps * inverse < 1
    return known & (lengths.amin(-1) > noise * (2 * inverse).sqrt())
