"""Bounds of the spectral radius of a flow's Jacobian, from r × r matrices alone and without a host read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowsim.dynamics.landscape import FrobeniusLandscape, Landscape, TraceLandscape, inner

Radius = Callable[[Tensor], Tensor]
SQUARINGS = 4


def radius_of(landscape: Landscape) -> Radius:
    """The bound for the flow on a landscape."""
    if isinstance(landscape, FrobeniusLandscape):
        return frobenius_radius(landscape)
    assert isinstance(landscape, TraceLandscape)
    return trace_radius(landscape)


def trace_radius(landscape: TraceLandscape) -> Radius:
    """‖B‖² + ‖C‖² + |τ| for B' = −τC, C' = −τB, as a function of Z (S, 2, q, r) with values (S,).

    The quadratic form of the Jacobian at (dB, dC) is (⟨dB, C⟩ + ⟨B, dC⟩)² + 2τ⟨dB, dC⟩ in size.
    """

    def radius(Z: Tensor) -> Tensor:
        B, C = Z.unbind(-3)
        return (Z.square().sum((-3, -2, -1)) + landscape.trace(B, C).abs()).to(torch.float64)

    return radius


def frobenius_radius(landscape: FrobeniusLandscape) -> Radius:
    """The bound for B' = (Σ − BCᵀ)C, C' = (Σ − BCᵀ)ᵀB, as a function of Z (S, 2, q, r) with values (S,).

    The Jacobian is minus the Hessian of ½‖Σ − BCᵀ‖². With b = ‖B‖₂, c = ‖C‖₂ and d ≥ ‖Σ − BCᵀ‖₂ its quadratic form
    at (dB, dC) is at most (c‖dB‖ + b‖dC‖)² + 2d‖dB‖‖dC‖ in size, so that its eigenvalues are at most those of
    [[c², bc + d], [bc + d, b²]]: about b² + c² at a minimum.

    d² = ‖Σ − BCᵀ‖_F² − Σ_{i≥r+2}σ_i²: a matrix of rank r lowers no singular value below the one r places further on
    (Weyl 1912), so that all but the largest of Σ − BCᵀ have at least those squares. At a minimum d = σ_{r+1}.
    """
    square = landscape.sigma.square()
    rest = torch.cat([square.flip(0).cumsum(0).flip(0), square.new_zeros(1)])
    total, last = rest[0], len(square)

    def radius(Z: Tensor) -> Tensor:
        B, C = Z.unbind(-3)
        G = Z.mT @ Z
        b, c = largest_eigenvalue(G).unbind(-1)
        known = total - rest[min(Z.shape[-1] + 1, last)]
        product = (landscape.sigma[:, None] * B * C).sum((-2, -1))
        d = (known + inner(*G.unbind(-3)) - 2 * product).clamp_min(0.0).sqrt()
        return (0.5 * (b + c) + torch.hypot(0.5 * (b - c), (b * c).sqrt() + d)).to(torch.float64)

    return radius


def largest_eigenvalue(G: Tensor) -> Tensor:
    """An upper bound of the largest eigenvalue of G (..., r, r), symmetric and positive semidefinite, (...).

    ‖G^16‖_F^(1/16) ≥ λ_1, and at most r^(1/32)·λ_1, by four squarings; G is divided by its norm first, so that no
    power leaves the range of the dtype.
    """
    size = torch.linalg.matrix_norm(G)
    power = G / size.clamp_min(torch.finfo(G.dtype).tiny)[..., None, None]
    for _ in range(SQUARINGS):
        power = power @ power
    return size * torch.linalg.matrix_norm(power) ** (0.5**SQUARINGS)
