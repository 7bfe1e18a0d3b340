"""Factorisations of small matrices, batched, that never stop for the host.

Cholesky and LU come from LAPACK or cuSOLVER without an error check: a matrix that has no factor gives NaN instead of
an exception. The polar factor and the Lyapunov equation need eigenvectors; on a CPU LAPACK computes them. On an
accelerator `torch.linalg.eigh` and `svd` wait for the device, so Newton's iteration for the matrix sign takes their
place (Higham 2008, Functions of Matrices, ch. 5 and 8): a fixed number of inverses, with scalings that depend on
bounds of the singular values alone (Byers & Xu 2008), never on the iterate.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEWTON_STEPS = 9  # enough for singular values as far apart as 1/ε (Byers & Xu 2008)


def cholesky(P: Tensor) -> Tensor:
    """Lower triangular K with KKᵀ = P (G, r, r); NaN where P is not positive definite to rounding."""
    K, failed = torch.linalg.cholesky_ex(P, check_errors=False)
    return torch.where((failed == 0)[..., None, None], K, torch.nan)


def inverse(X: Tensor) -> Tensor:
    """X⁻¹ (G, r, r); not finite where X is singular, whose triangular factors have a zero to be divided by."""
    return torch.linalg.inv_ex(X, check_errors=False).inverse


def polar(X: Tensor, *, iterate: bool | None = None) -> Tensor:
    """The orthogonal factor of X (G, r, r): X = S·polar(X) with S symmetric and positive semidefinite.

    Parameters
    ----------
    iterate : bool or None
        Newton's iteration, or a singular value decomposition; None: the iteration wherever X is not on a CPU.

    Notes
    -----
    Entries that are not finite count as zero, for LAPACK would raise.
    """
    X = torch.nan_to_num(X, 0.0, 0.0, 0.0)
    if not _chosen(X, iterate):
        left, _, right = torch.linalg.svd(X)
        return torch.bmm(left, right)
    X = X / _bound(X)
    for scale in _scalings(torch.finfo(X.dtype).eps):
        X = 0.5 * (scale * X + inverse(X).mT / scale)
    return X


def lyapunov(K: Tensor, R: Tensor, *, iterate: bool | None = None) -> Tensor:
    """The symmetric T with KT + TK = R, for symmetric R and symmetric positive definite K (G, r, r).

    `iterate` as in `polar`; Newton's iteration for the sign of [[K, R], [0, −K]] then works on its two blocks
    (Roberts 1980).
    """
    if not _chosen(K, iterate):
        K, R = torch.nan_to_num(K, 0.0, 0.0, 0.0), torch.nan_to_num(R, 0.0, 0.0, 0.0)
        values, vectors = torch.linalg.eigh(K)
        sums = values[..., :, None] + values[..., None, :]
        inner = torch.bmm(torch.bmm(vectors.mT, R), vectors) / sums
        return torch.bmm(torch.bmm(vectors, inner), vectors.mT)
    size = _bound(K)
    K, R = K / size, R / size
    for scale in _scalings(torch.finfo(K.dtype).eps):
        inverted = inverse(K)
        K = 0.5 * (scale * K + inverted / scale)
        R = 0.5 * (scale * R + torch.bmm(torch.bmm(inverted, R), inverted) / scale)
    return 0.5 * R


def _chosen(X: Tensor, iterate: bool | None) -> bool:
    return X.device.type != "cpu" if iterate is None else iterate


def _bound(X: Tensor) -> Tensor:
    """A bound of ‖X‖₂ that neither overflows nor underflows, (G, 1, 1)."""
    return X.shape[-1] * X.abs().amax((-2, -1), keepdim=True)


def _scalings(least: float) -> list[float]:
    """The factors of Newton's steps for singular values between `least` and 1."""
    factors = [least**-0.5]
    factors.append((2 * least**0.5 / (1 + least)) ** 0.5)
    while len(factors) < NEWTON_STEPS:
        factors.append((2 / (factors[-1] + 1 / factors[-1])) ** 0.5)
    return factors
