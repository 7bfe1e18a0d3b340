"""From the user's W0, W*, A, B, s, c to canonical coordinates and back.

Scaling (exact for the flow and for gradient descent alike): with Â = √s·A, B̂ = √s·B, t̂ = sκt and κ = 2c the
flow of f(W0 + sBA) becomes that of f̂ = f/κ with scale 1. Frobenius is then rotated into the singular basis of
Δ = W* − W0, where the right-hand side costs O((n+m)r²) and exact zeros stay exact zeros. Directions outside the
range of U (or V) do move when the factor has a part there; an orthonormal basis of that part replaces them, so
the canonical state has at most min(n, m) + r rows whatever n and m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from flowsim.dynamics.halves import Halves
from flowsim.dynamics.landscape import FrobeniusLandscape, Landscape, TraceLandscape
from flowsim.problem.objectives import Adapter, Frobenius, Objective, TraceSquared


@dataclass(frozen=True, eq=False)
class Canonical:
    """A batch of adapters on one landscape.

    Attributes
    ----------
    landscape : Landscape
    B, C : Tensor, (batch, q, r)
        Canonical factors at time 0; C is the transpose of Â.
    scale, curvature : float
        s and κ of the original problem.
    left, right : Tensor, (n, q) or (batch, n, q); (m, q) or (batch, m, q)
        Orthonormal columns (zero where padded): B_original = left·B/√s, A_original = (right·C)ᵀ/√s.
    """

    landscape: Landscape
    B: Tensor
    C: Tensor
    scale: float
    curvature: float
    left: Tensor | None
    right: Tensor | None

    @property
    def clock(self) -> float:
        """Canonical time per unit of flow time, sκ; also canonical step per unit of learning rate."""
        return self.scale * self.curvature

    @property
    def rank(self) -> int:
        """Number of columns of the factors."""
        return int(self.B.shape[-1])

    @cached_property
    def halves(self) -> Halves:
        """Numbers of B ± C, found once: what a trace-squared trajectory depends on."""
        return Halves(self.B, self.C)

    def member(self, keep: Tensor | slice) -> Canonical:
        """The same problem for some members of the batch."""
        left, right = (X[keep] if X is not None and X.ndim == 3 else X for X in (self.left, self.right))
        return Canonical(self.landscape, self.B[keep], self.C[keep], self.scale, self.curvature, left, right)

    def factors(self, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        """A (..., r, m) and B (..., n, r) in the user's coordinates from canonical (..., batch, q, r)."""
        if self.left is not None and self.right is not None:
            B, C = _rotated(self.left, B), _rotated(self.right, C)
        root = self.scale**0.5
        return C.mT / root, B / root


def _rotated(basis: Tensor, X: Tensor) -> Tensor:
    """basis·X for factors X (..., q, r): one product of two matrices where all share the basis (n, q)."""
    if basis.ndim == 3:
        return basis @ X
    moved = X.movedim(-2, 0)
    return (basis @ moved.flatten(1)).view(len(basis), *moved.shape[1:]).movedim(0, -2)


def canonical(objective: Objective, adapter: Adapter) -> Canonical:
    """Bring an adapter (with or without a batch dimension) to canonical coordinates."""
    adapter.fits(objective)
    A = adapter.A if adapter.batched else adapter.A[None]
    B = adapter.B if adapter.batched else adapter.B[None]
    root = adapter.scale**0.5
    B, C = root * B, root * A.mT
    if isinstance(objective, TraceSquared):
        diagonal = objective.pretrained.diagonal()
        w = diagonal.sum()
        # A trace that is zero to rounding is zero: its sign would decide where the flow goes.
        noise = torch.finfo(w.dtype).eps * len(diagonal) * diagonal.abs().sum()
        w = torch.where(w.abs() <= noise, torch.zeros_like(w), w)
        landscape: Landscape = TraceLandscape(w, objective.shape[0])
        return Canonical(landscape, B.contiguous(), C.contiguous(), adapter.scale, objective.curvature, None, None)
    return _spectral(objective, B, C, adapter.scale)


def _spectral(objective: Frobenius, B: Tensor, C: Tensor, scale: float) -> Canonical:
    system = objective.singular_system
    left, rest_b = _outside(system.U, B)
    right, rest_c = _outside(system.V, C)
    extra = max(rest_b.shape[-2], rest_c.shape[-2])
    pairs = system.values.shape[0]
    rows_b = torch.cat([system.U.mT @ B, pad(rest_b, extra, -2)], dim=-2)
    rows_c = torch.cat([system.V.mT @ C, pad(rest_c, extra, -2)], dim=-2)
    lost = start_rounding(B, C, objective.shape)
    values = torch.where(system.values > lost, system.values, torch.zeros_like(system.values))
    sigma = pad(values, pairs + extra, 0)
    landscape = FrobeniusLandscape(sigma, pairs)
    left, right = pad(left, pairs + extra, -1), pad(right, pairs + extra, -1)
    return Canonical(landscape, rows_b, rows_c, scale, objective.curvature, left, right)


def start_rounding(B: Tensor, C: Tensor, shape: tuple[int, int]) -> Tensor:
    """The size at or below which a singular value may be the rounding of a frozen W0 − s·B0·A0 (PiSSA), 0-d.

    B and C are canonical factors (S, ·, r) at time 0.
    """
    start = torch.linalg.matrix_norm(B) * torch.linalg.matrix_norm(C)
    return torch.finfo(B.dtype).eps * max(shape) * start.min()


def _outside(basis: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
    """Extend an orthonormal basis (n, p) by the part of X (batch, n, r) outside it.

    Returns the extended basis and the coordinates of that part, (batch, e, r) with e ≤ min(r, n − p).
    """
    n, p = basis.shape
    rest = X - basis @ (basis.mT @ X)
    rest = rest - basis @ (basis.mT @ rest)
    # A square basis has no outside, and what a zero factor has outside is zero: both stay so exactly.
    if n == p or not bool(X.any()):
        return basis, X.new_zeros(*X.shape[:-2], 0, X.shape[-1])
    if n - p <= X.shape[-1]:
        complement = torch.linalg.qr(basis, mode="complete").Q[:, p:]
        return torch.cat([basis, complement], dim=-1), complement.mT @ X
    Q, R = torch.linalg.qr(rest)
    return torch.cat([basis.expand(X.shape[0], n, p), Q], dim=-1), R


def pad(X: Tensor, size: int, dim: int) -> Tensor:
    """X with zeros at the end of a dimension, up to a size."""
    missing = size - X.shape[dim]
    if missing <= 0:
        return X
    shape = list(X.shape)
    shape[dim] = missing
    return torch.cat([X, X.new_zeros(shape)], dim=dim)
