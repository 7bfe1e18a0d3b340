"""Closed form of the Frobenius flow for mode-aligned factors, each mode with its own imbalance.

Hypothesis: B0 = U_r·diag(b)·Oᵀ and A0 = O·diag(a)·V_rᵀ with O orthogonal and U_r, V_r singular vectors of Δ. The flow
then keeps O and splits into r scalar flows b' = σa − ba², a' = σb − ab² (Saxe, McClelland & Ganguli 2014), each
λ-balanced with its own λ = b² − a². With ω, θ of `balanced`, c₊ = cos θ·b + sin θ·a and c₋ = cos θ·a − sin θ·b,
over any time t and with exponents ≤ 0 only,

    X = c₊/√den,  Y = e^{−2ωt}·c₋/√den,  den = e^{−2ωt} + (1 − e^{−2ωt})(c₊² + e^{−2ωt}c₋²)/(2ω).

The start Σ_r^p·V_rᵀ against b·U_r·Σ_r^p is of this kind, balanced or not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.base import Solution, Status, rotated_bound
from flowsim.integrators.exact.balanced import imbalance_value, rotated_modes


def directions(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Unit directions o_k of the rows and whether the factors (S, q, r) are mode-aligned to rounding, (S,).

    Aligned: the rows (B_k, C_k) of every mode k are multiples of one unit vector o_k, and these are orthogonal for
    different modes. Returns o as (S, q, r), zero for modes that are not present.
    """
    longer = torch.where((B.square().sum(-1) >= C.square().sum(-1))[..., None], B, C)
    length = torch.linalg.vector_norm(longer, dim=-1, keepdim=True)
    size = torch.hypot(torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C))[:, None, None]
    noise = torch.finfo(B.dtype).eps * (B.shape[-2] + B.shape[-1]) * size
    present = length > noise
    unit = torch.where(present, longer / torch.where(present, length, torch.ones_like(length)), 0.0)

    def outside(X: Tensor) -> Tensor:
        return X - (X * unit).sum(-1, keepdim=True) * unit

    parallel = torch.hypot(outside(B), outside(C)).amax((-2, -1)) <= noise[:, 0, 0]
    # Orthogonality matters in proportion to the lengths that it multiplies.
    weighted = unit * length
    gram = weighted @ weighted.mT
    crossed = (gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))).abs().amax((-2, -1))
    return unit, parallel & (crossed <= noise[:, 0, 0] * size[:, 0, 0])


def row_imbalance(B: Tensor, C: Tensor) -> Tensor:
    """λ of every row, (S, q): b² − a² of each mode where the factors are mode-aligned, else the common λ."""
    unit, aligned = directions(B, C)
    return torch.where(aligned[:, None], _own_imbalance(*_amplitudes(unit, B, C)), imbalance_value(B, C)[:, None])


def _amplitudes(unit: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    return (B * unit).sum(-1), (C * unit).sum(-1)


def _own_imbalance(b: Tensor, a: Tensor) -> Tensor:
    """b² − a², zero where it is zero to rounding."""
    value = (b - a) * (b + a)
    noise = 4 * torch.finfo(b.dtype).eps * (b.square() + a.square())
    return torch.where(value.abs() <= noise, torch.zeros_like(value), value)


def solve(landscape: FrobeniusLandscape, B0: Tensor, C0: Tensor, times: Tensor) -> Solution:
    """States at canonical `times` (T,) from mode-aligned factors (S, q, r), the flow's own B and C."""
    unit, _ = directions(B0, C0)
    b, a = _amplitudes(unit, B0, C0)
    omega, cos, sin = rotated_modes(landscape.sigma, _own_imbalance(b, a))
    plus, minus = cos * b + sin * a, cos * a - sin * b
    length = torch.hypot(a, b)
    # A growing part that is rounding would be of order one after its escape time: it counts as zero.
    plus = torch.where(plus.abs() <= 4 * torch.finfo(b.dtype).eps * length, torch.zeros_like(plus), plus)
    lost = torch.where(plus != 0, length / plus.abs(), torch.ones_like(plus)).amax(-1)
    t = times[:, None, None]
    decay, rest = torch.exp(-2 * omega * t), _half_phi(omega, t)
    den = decay + rest * (plus.square() + decay * minus.square())
    gone = plus == 0
    safe = torch.where(den > 0, den, torch.ones_like(den)).sqrt()
    X = torch.where(gone, torch.zeros_like(safe), plus / safe)
    # A mode without its growing part decays by itself; in the general form e^{−2ωt} would be 0/0 late.
    alone = torch.exp(-omega * t) * minus / (1 + rest * minus.square()).sqrt()
    Y = torch.where(gone, alone, decay * minus / safe)
    B = (cos * X - sin * Y)[..., None] * unit
    C = (sin * X + cos * Y)[..., None] * unit
    batch = B0.shape[0]
    return Solution(
        B,
        C,
        [Status.COMPLETED] * batch,
        ["exact"] * batch,
        ["mode_aligned"] * batch,
        [int(bool(times[-1] > 0))] * batch,
        [0] * batch,
        rotated_bound(B, C, 16.0 * lost),
    )


def _half_phi(omega: Tensor, t: Tensor) -> Tensor:
    """(1 − e^{−2ωt})/(2ω), t where ω = 0."""
    still = omega == 0
    safe = torch.where(still, torch.ones_like(omega), omega)
    return torch.where(still, t.expand(*t.shape[:1], *omega.shape), -torch.expm1(-2 * safe * t) / (2 * safe))
