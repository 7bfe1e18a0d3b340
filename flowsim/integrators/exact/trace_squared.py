"""Closed form of the trace-squared flow, for every initial state.

With u = B + C, v = B − C the canonical flow is u' = −τu, v' = τv, so u = u0e^{−s}, v = v0e^{s}, s' = τ, and
x = e^{2s} solves the scalar Riccati equation x' = ½(U + 4wx − Vx²), U = ‖u0‖², V = ‖v0‖². The solution is written
with non-negative terms and exponents ≤ 0 only: it neither overflows nor cancels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsim.dynamics.halves import Halves
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.base import Solution, Status


def solve(
    landscape: TraceLandscape, B0: Tensor, C0: Tensor, times: Tensor, *, states: bool = True,
    halves: Halves | None = None,
) -> Solution:  # fmt: skip
    """States at canonical `times` (T,), from factors (S, q, r); without `states` functions of them, O(1) a time.

    `halves` are the numbers of B0 and C0 where they are known already.
    """
    start = Halves(B0, C0) if halves is None else halves
    nu, nv = start.u, start.v
    num, den, trace = riccati(landscape.w, nu, nv, landscape.w + start.inner, times[:, None])
    # U = 0 (V = 0) means u (v) is zero for ever; its growth factor may be infinite and must not be used.
    shrink = torch.where(nu > 0, (den / num).sqrt(), 0.0)
    grow = torch.where(nv > 0, (num / den).sqrt(), 0.0)
    # B and C are combinations of u and v: ‖B‖² + ‖C‖² = ½(‖u‖² + ‖v‖²), and Q = ½(uᵀv + vᵀu) grows like the
    # product of the two factors, which is 1.
    size = torch.hypot(shrink * nu, grow * nv) / math.sqrt(2.0)
    functions: dict[str, Tensor] = {}
    if not states:
        drift = torch.where(start.moving, (shrink * grow - 1).abs() * start.imbalance, 0.0)
        functions = {"excess": 0.5 * trace.square(), "pull_norm": trace.abs() * size, "imbalance_drift": drift}
        shrink, grow, trace, size = shrink[-1:], grow[-1:], trace[-1:], size[-1:]
    B, C = (B0.new_empty(len(trace), *B0.shape) for _ in range(2))
    shrink, grow = (shrink / 2)[..., None, None], (grow / 2)[..., None, None]
    for part in start.parts:
        u, v = shrink[:, part] * (B0[part] + C0[part]), grow[:, part] * (B0[part] - C0[part])
        torch.add(u, v, out=B[:, part])
        torch.sub(u, v, out=C[:, part])
    batch = B0.shape[0]
    # About a dozen rounded operations stand between the data and each factor; the growing half may be a difference.
    grown = nv if bool(landscape.w > 0) else nu
    lost = torch.where(grown > 0, torch.hypot(nu, nv) / grown, 1.0)
    return Solution(
        B, C, [Status.COMPLETED] * batch, ["exact"] * batch, ["riccati"] * batch, [1] * batch, [0] * batch,
        16.0 * torch.finfo(B0.dtype).eps * lost * size.square(), 0.5 * trace.square(), functions=functions,
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
