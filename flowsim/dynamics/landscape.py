"""The two objectives in canonical coordinates, where every flow has the same simple form.

Canonical means: scale s = 1, curvature κ = 2c = 1 and, for Frobenius, the singular basis of the difference Δ.
With C = Aᵀ both factors have shape (q, r), and the gradient flow is

    B' = pull(B, C),   C' = pull(C, B),

one function for both factors, because swapping them transposes W. For f̂ = ½‖Σ − BCᵀ‖² the pull is ΣY − X(YᵀY);
for f̂ = ½τ², τ = w + tr BCᵀ, it is −τY. All functions take leading batch dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


def inner(X: Tensor, Y: Tensor) -> Tensor:
    """⟨X, Y⟩ = tr XᵀY over the last two dimensions."""
    return (X * Y).sum((-2, -1))


class Landscape(Protocol):
    """A canonical objective: what a flow, a descent and a record need to know of it."""

    def pull(self, X: Tensor, Y: Tensor) -> Tensor:
        """−∂f̂/∂X with the other factor Y, (..., q, r)."""

    def pull_derivative(self, X: Tensor, Y: Tensor, dX: Tensor, dY: Tensor) -> Tensor:
        """Derivative of `pull` at (X, Y) in the direction (dX, dY)."""

    def relax(self, X: Tensor, Y: Tensor, window: float) -> Tensor:
        """X after its own exact flow for canonical time `window` with Y held fixed."""

    def excess(self, B: Tensor, C: Tensor) -> Tensor:
        """f̂ minus its infimum over rank r, free of cancellation, (...)."""

    def floor(self, rank: int) -> Tensor:
        """The infimum of f̂ over updates of the given rank."""

    @property
    def gradient_bound(self) -> float:
        """g with ‖∇f̂‖²_F ≤ g·2f̂ and ‖Hessian of f̂ in W‖ ≤ g."""


@dataclass(frozen=True)
class FrobeniusLandscape:
    """f̂ = ½‖Σ − BCᵀ‖²_F, Σ = diag(sigma) of size q × q, zero-padded.

    Attributes
    ----------
    sigma : Tensor, (q,)
        Singular values of Δ, largest first, then zeros for directions outside its range.
    pairs : int
        p = min(n, m), the number of singular pairs; rows beyond it belong to one side only.
    outside : Tensor, 0-d, or float
        ‖Δ‖² − Σσ², the part of Δ that no row of B and C can reach: zero unless `sigma` is not all of the spectrum
        (`reduction`). It belongs to the floor, whatever the rank, and moves nothing.
    """

    sigma: Tensor
    pairs: int
    outside: Tensor | float = 0.0

    @cached_property
    def _host(self) -> list[float]:
        """The singular values on the host, read once: a solve must not wait for them."""
        values: list[float] = self.sigma.tolist()
        return values

    @property
    def gradient_bound(self) -> float:
        """The Hessian of f̂ in W is the identity."""
        return 1.0

    def pull(self, X: Tensor, Y: Tensor) -> Tensor:
        """ΣY − X(YᵀY)."""
        # As one fused product of a batch: this is what every step of a flow spends its time on.
        flat = Y.reshape(-1, *Y.shape[-2:])
        gram = torch.bmm(flat.mT, flat)
        pulled = torch.baddbmm(self.sigma[:, None] * flat, X.reshape(flat.shape), gram, alpha=-1)
        return pulled.view(Y.shape)

    def pull_derivative(self, X: Tensor, Y: Tensor, dX: Tensor, dY: Tensor) -> Tensor:
        """ΣdY − dX(YᵀY) − X(dYᵀY + YᵀdY)."""
        cross = Y.mT @ dY
        return self.sigma[:, None] * dY - dX @ (Y.mT @ Y) - X @ (cross + cross.mT)

    def relax(self, X: Tensor, Y: Tensor, window: float) -> Tensor:
        """X + (ΣY − XK)·ξ(K), K = YᵀY, ξ(l) = (1 − e^{−lh})/l: no cancellation where the pull vanishes."""
        values, vectors = torch.linalg.eigh(Y.mT @ Y)
        values = values.clamp_min(0.0)
        tiny = values * window < torch.finfo(values.dtype).eps
        gain = torch.where(tiny, torch.full_like(values, window), -torch.expm1(-values * window) / values)
        return X + ((self.pull(X, Y) @ vectors) * gain[..., None, :]) @ vectors.mT

    def floor(self, rank: int) -> Tensor:
        """½Σ_{i>r}σ_i² (Eckart & Young 1936), summed from the smallest, and half of what is outside."""
        return 0.5 * (self.sigma[rank:].square().flip(0).sum() + self.outside)

    def excess(self, B: Tensor, C: Tensor) -> Tensor:
        """Half the gap of the stable split: no term of the size of the floor ever enters.

        With k = min(r, p), B = [B1; B2], C = [C1; C2]:
        gap = ‖Σ_k − B1C1ᵀ‖² + ‖B1C2ᵀ‖² + ‖B2C1ᵀ‖² + ‖B2C2ᵀ‖² − 2Σ_{i>k}σ_i(B2C2ᵀ)_ii.
        """
        k = min(B.shape[-1], self.pairs)
        sigma, tail = self.sigma[:k], self.sigma[k:, None]
        B1, B2, C1, C2 = B[..., :k, :], B[..., k:, :], C[..., :k, :], C[..., k:, :]
        if k < self.pairs and self._host[k - 1] == self._host[k] > 0:
            B1, B2, C1, C2, tail = self._turned(B, C, k)
        lead = torch.diag(sigma) - B1 @ C1.mT
        if B.shape[-1] > self.pairs:
            # More columns than pairs: B1 and C2 may be orthogonal in them, and the product of their Grams cancels.
            cross = (B1 @ C2.mT).square().sum((-2, -1)) + (B2 @ C1.mT).square().sum((-2, -1))
        else:
            cross = inner(B1.mT @ B1, C2.mT @ C2) + inner(B2.mT @ B2, C1.mT @ C1)
        gap = lead.square().sum((-2, -1)) + cross
        gap = gap + inner(B2.mT @ B2, C2.mT @ C2) - 2 * inner(tail * B2, C2)
        return 0.5 * gap

    def _turned(self, B: Tensor, C: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The split at a tie σ_k = σ_{k+1}: lead and rest of B and C, and the σ of the rest.

        Within the tie any rotation of the rows is as good. The split of the fixed axes would cancel at order σ²; the
        lead takes the directions in which the state is largest, and what is left of the tied rows joins the rest.
        """
        tied = torch.nonzero(self.sigma == self.sigma[k - 1]).flatten()
        first, last = int(tied[0]), int(tied[-1]) + 1
        here = slice(first, last)
        finite = torch.isfinite(B[..., here, :] + C[..., here, :]).flatten(-2).all(-1)[..., None, None]
        both = torch.where(finite, B[..., here, :] + C[..., here, :], 0.0)
        basis = torch.linalg.svd(both, full_matrices=False)[0][..., : k - first]

        def parts(X: Tensor) -> tuple[Tensor, Tensor]:
            lead = basis.mT @ X[..., here, :]
            rest = X[..., here, :] - basis @ lead
            return torch.cat([X[..., :first, :], lead], -2), torch.cat([rest, X[..., last:, :]], -2)

        B1, B2 = parts(B)
        C1, C2 = parts(C)
        return B1, B2, C1, C2, torch.cat([self.sigma[here], self.sigma[last:]])[:, None]


@dataclass(frozen=True)
class TraceLandscape:
    """f̂ = ½τ², τ = w + ⟨B, C⟩, where w is the trace of the frozen weight (0-d tensor)."""

    w: Tensor
    size: int

    @property
    def gradient_bound(self) -> float:
        """∇f̂ = τI has norm τ√n, and the Hessian vec(I)vec(I)ᵀ norm n."""
        return float(self.size)

    def inner(self, X: Tensor, Y: Tensor) -> Tensor:
        """⟨X, Y⟩, (...)."""
        return inner(X, Y)

    def trace(self, B: Tensor, C: Tensor) -> Tensor:
        """τ = tr W, (...)."""
        return self.w + self.inner(B, C)

    def pull(self, X: Tensor, Y: Tensor) -> Tensor:
        """−τY."""
        return -self.trace(X, Y)[..., None, None] * Y

    def pull_derivative(self, X: Tensor, Y: Tensor, dX: Tensor, dY: Tensor) -> Tensor:
        """−dτ·Y − τ·dY."""
        change = self.inner(dX, Y) + self.inner(X, dY)
        return -change[..., None, None] * Y - self.trace(X, Y)[..., None, None] * dY

    def relax(self, X: Tensor, Y: Tensor, window: float) -> Tensor:
        """X − τ(1 − e^{−bh})/b·Y with b = ‖Y‖²."""
        b = self.inner(Y, Y)
        tiny = b * window < torch.finfo(b.dtype).eps
        gain = torch.where(tiny, torch.full_like(b, window), -torch.expm1(-b * window) / b)
        return X - (self.trace(X, Y) * gain)[..., None, None] * Y

    def floor(self, rank: int) -> Tensor:
        """Zero: already rank 1 can cancel a trace."""
        return torch.zeros_like(self.w)

    def excess(self, B: Tensor, C: Tensor) -> Tensor:
        """½τ²."""
        return 0.5 * self.trace(B, C).square()


@dataclass(frozen=True)
class TracePlane(TraceLandscape):
    """The same objective on the plane of a start: B = b_1C0 + b_2B0, C = c_1C0 + c_2B0, whatever n and r.

    Flow, windows and descent move B by multiples of C and C by multiples of B, so that they never leave
    span{A0ᵀ, B0}: two coefficients a factor, (S, 2, 1), are the exact state of any of them.

    Attributes
    ----------
    gram : Tensor, (S, 2, 2)
        Gram matrix of (C0, B0), through which the coefficients know every inner product.
    """

    gram: Tensor

    def inner(self, X: Tensor, Y: Tensor) -> Tensor:
        """⟨X, Y⟩ of factors given by their coefficients, (...)."""
        return inner(X, self.gram @ Y)

    @classmethod
    def of(cls, landscape: TraceLandscape, B0: Tensor, C0: Tensor) -> TracePlane:
        """The plane of factors (S, q, r)."""
        basis = torch.stack([C0, B0], dim=1).flatten(-2)
        return cls(landscape.w, landscape.size, basis @ basis.mT)

    def start(self) -> tuple[Tensor, Tensor]:
        """Coefficients of B0 and C0, (S, 2, 1) each."""
        zero, one = torch.zeros_like(self.gram[:, :1, :1]), torch.ones_like(self.gram[:, :1, :1])
        return torch.cat([zero, one], dim=1), torch.cat([one, zero], dim=1)
