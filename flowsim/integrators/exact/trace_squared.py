"""Closed form of the trace-squared flow, for every initial state.

With u = B + C, v = B − C the canonical flow is u' = −τu, v' = τv, so u = u0e^{−s}, v = v0e^{s}, s' = τ, and
x = e^{2s} solves the scalar Riccati equation x' = ½(U + 4wx − Vx²), U = ‖u0‖², V = ‖v0‖². The solution is written
with non-negative terms and exponents ≤ 0 only: it neither overflows nor cancels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.base import Solution, Status, rotated_bound


def halves(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """u = B + C and v = B − C, (S, q, r) each; one that is zero to rounding of the other is zero.

    What rounding leaves of it would decide, after its escape time, where the flow goes.
    """
    u, v = B + C, B - C
    nu, nv = torch.linalg.matrix_norm(u), torch.linalg.matrix_norm(v)
    noise = torch.finfo(B.dtype).eps * sum(B.shape[-2:]) * torch.hypot(nu, nv)
    zero = torch.zeros_like(u)
    return torch.where((nu > noise)[:, None, None], u, zero), torch.where((nv > noise)[:, None, None], v, zero)


def solve(landscape: TraceLandscape, B0: Tensor, C0: Tensor, times: Tensor, *, states: bool = True) -> Solution:
    """States at canonical `times` (T,), from factors (S, q, r); without `states` functions of them, O(1) a time."""
    u0, v0 = halves(B0, C0)
    nu, nv = torch.linalg.matrix_norm(u0), torch.linalg.matrix_norm(v0)
    num, den, trace = riccati(landscape.w, nu, nv, landscape.trace(B0, C0), times[:, None])
    # U = 0 (V = 0) means u (v) is zero for ever; its growth factor may be infinite and must not be used.
    shrink = torch.where(nu > 0, (den / num).sqrt(), torch.zeros_like(num))
    grow = torch.where(nv > 0, (num / den).sqrt(), torch.zeros_like(num))
    functions: dict[str, Tensor] = {}
    if not states:
        # B and C are combinations of u and v: ‖B‖² + ‖C‖² = ½(‖u‖² + ‖v‖²), and Q = ½(uᵀv + vᵀu) grows like the
        # product of the two factors, which is 1.
        size = torch.hypot(shrink * nu, grow * nv) / math.sqrt(2.0)
        moving = (nu > 0) & (nv > 0)
        drift = torch.where(moving, (shrink * grow - 1).abs() * torch.linalg.matrix_norm(imbalance(B0, C0)), 0.0)
        functions = {"excess": 0.5 * trace.square(), "pull_norm": trace.abs() * size, "imbalance_drift": drift}
    kept = slice(None) if states else slice(-1, None)
    u, v = shrink[kept, :, None, None] * u0, grow[kept, :, None, None] * v0
    B, C = (u + v) / 2, (u - v) / 2
    batch = B0.shape[0]
    # About a dozen rounded operations stand between the data and each factor; the growing half may be a difference.
    grown = nv if bool(landscape.w > 0) else nu
    lost = torch.where(grown > 0, torch.hypot(nu, nv) / grown, torch.ones_like(grown))
    return Solution(
        B, C, [Status.COMPLETED] * batch, ["exact"] * batch, ["riccati"] * batch, [1] * batch, [0] * batch,
        rotated_bound(B, C, 16.0 * lost), 0.5 * trace[kept].square(), functions=functions,
    )  # fmt: skip


def rates(w: Tensor, nu: Tensor, nv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D = √(4w² + UV), P = D + 2w and M = D − 2w, (S,) each: none by a difference, PM = UV."""
    uv = nu * nv
    D = torch.hypot(2 * w, uv)
    large = D + 2 * w.abs()
    small = uv * (uv / torch.where(large > 0, large, torch.ones_like(large)))
    return (D, large, small) if bool(w >= 0) else (D, small, large)


def riccati(w: Tensor, nu: Tensor, nv: Tensor, trace0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numerator and denominator of x = e^{2s} = num/den, and the trace τ(t).

    Parameters
    ----------
    w : Tensor
        Trace of the frozen weight.
    nu, nv : Tensor, (S,)
        ‖u0‖ and ‖v0‖.
    trace0 : Tensor, (S,)
        τ at time 0.
    t : Tensor, (T, 1)
        Canonical times.
    """
    U, V = nu.square(), nv.square()
    D, P, M = rates(w, nu, nv)
    z, o = torch.exp(-D * t), -torch.expm1(-D * t)
    still = D == 0  # w = 0 and one of U, V zero: the exponentials become polynomials
    num = torch.where(still, 1 + U * t / 2, U * o + P + M * z)
    den = torch.where(still, 1 + V * t / 2, V * o + M + P * z)
    trace = (2 * D / num) * (2 * D / den) * z * trace0
    # On the saddle's stable manifold z cancels between numerator and denominator.
    trace = torch.where((nv == 0) & (w > 0), 2 * D * trace0 / num, trace)
    trace = torch.where((nu == 0) & (w < 0), 2 * D * trace0 / den, trace)
    trace = torch.where(still, trace0 / (num * den), trace)
    return num, den, trace
