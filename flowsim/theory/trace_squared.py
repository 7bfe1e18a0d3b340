"""Trace-squared objective: limits, rates and the relative-error law of any start, from Gram scalars alone.

Notation as in `integrators.exact.trace_squared`. With K_a = AAᵀ, K_b = BᵀB, K_c = AB at time 0, sh = sinh s and
ch = cosh s, the size of the update is

    ‖ΔW‖² = 2sh⁴(⟨K_a, K_b⟩ + tr K_c²) − 4sh³ch⟨K_a + K_b, K_c⟩ + sh²ch²(‖K_a‖² + ‖K_b‖² + 2‖K_c‖²),

and the relative error e² = n‖ΔW‖²/τ0² − 2(τ0 − τ)/τ0 + 1. For B0 = 0 and t = ∞: e = √(n/r_eff − 1) with
r_eff = ‖A0‖⁴/‖A0A0ᵀ‖² ≤ r; orthonormal rows give r_eff = r.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import TraceLandscape, inner
from flowsim.integrators.exact.trace_squared import riccati


def _norms(problem: Canonical) -> tuple[TraceLandscape, Tensor, Tensor, Tensor]:
    landscape = problem.landscape
    assert isinstance(landscape, TraceLandscape)
    nu = torch.linalg.matrix_norm(problem.B + problem.C)
    nv = torch.linalg.matrix_norm(problem.B - problem.C)
    return landscape, nu, nv, landscape.trace(problem.B, problem.C)


def on_saddle(problem: Canonical) -> Tensor:
    """Members whose loss does not go to zero: V = 0 and w > 0, or U = 0 and w < 0, (S,) bool.

    Zero means zero to rounding of the factors: what is left then decides only when rounding leaves the saddle
    (`escape_time`).
    """
    landscape, nu, nv, _ = _norms(problem)
    noise = torch.finfo(nu.dtype).eps * sum(problem.B.shape[-2:]) * torch.hypot(nu, nv)
    return ((nv <= noise) & (landscape.w > 0)) | ((nu <= noise) & (landscape.w < 0))


def escape_time(problem: Canonical) -> Tensor:
    """Canonical time at which rounding leaves the saddle, (S,): infinite if V (or U) is exactly zero, NaN off it."""
    landscape, nu, nv, _ = _norms(problem)
    uv = nu * nv
    D = torch.hypot(2 * landscape.w, uv)
    large = D + 2 * landscape.w.abs()
    lost = torch.where(landscape.w > 0, nv, nu).square() + uv * (uv / large)
    time = torch.log(large / lost) / D
    return torch.where(on_saddle(problem), time, torch.full_like(time, torch.nan))


def excess_limit(problem: Canonical) -> Tensor:
    """Canonical loss at t = ∞: ½w² on the saddle's stable manifold, else 0, (S,)."""
    landscape, _, _, trace0 = _norms(problem)
    limit = torch.where(on_saddle(problem), landscape.w, torch.zeros_like(trace0))
    return 0.5 * torch.where(trace0 == 0, torch.zeros_like(limit), limit).square()


def speed(problem: Canonical) -> Tensor:
    """D = √(4w² + UV), the rate of τ and λ_max at the limit, canonical, (S,).

    NaN where the loss stays positive or falls algebraically (D = 0).
    """
    landscape, nu, nv, _ = _norms(problem)
    D = torch.hypot(2 * landscape.w, nu * nv)
    return torch.where(on_saddle(problem) | (D == 0), torch.full_like(D, torch.nan), D)


def relative_error(problem: Canonical, time: float) -> tuple[Tensor, Tensor]:
    """Exact relative error at a canonical time (∞ allowed), and the rounding error of its square, (S,) each.

    Normalised by ΔW_full(∞); NaN for τ0 = 0. The rounding follows the size of the terms that are added, which
    may cancel where both factors start away from zero.
    """
    landscape, nu, nv, trace0 = _norms(problem)
    saddle = on_saddle(problem)
    if time == float("inf"):
        D = torch.hypot(2 * landscape.w, nu * nv)
        settled = 1e3 / torch.where(D > 0, D, torch.ones_like(D)).min()  # e^{−Dt} underflows for every member
        horizon = settled.expand(1, 1)
    else:
        horizon = landscape.w.new_full((1, 1), time)
    num, den, trace = (x[0] for x in riccati(landscape.w, nu, nv, trace0, horizon))
    algebraic = torch.hypot(2 * landscape.w, nu * nv) == 0
    root = (num * den).sqrt()
    # x − 1 = (num − den)/den without cancellation: num − den = 4τ0·o, or 2τ0·t where D = 0.
    D = torch.hypot(2 * landscape.w, nu * nv)
    difference = torch.where(algebraic, 2 * trace0 * horizon[0], -4 * trace0 * torch.expm1(-D * horizon[0]))
    sh, ch = difference / (2 * root), (num + den) / (2 * root)
    gram_a, gram_b = problem.C.mT @ problem.C, problem.B.mT @ problem.B
    cross = problem.C.mT @ problem.B
    terms = torch.stack([
        2 * sh**4 * (inner(gram_a, gram_b) + inner(cross, cross.mT)),
        -4 * sh**3 * ch * inner(gram_a + gram_b, cross),
        (sh * ch).square() * (inner(gram_a, gram_a) + inner(gram_b, gram_b) + 2 * inner(cross, cross)),
    ])  # fmt: skip
    # V = 0 or U = 0: B = C or B = −C for ever, and ΔW = (x^∓1 − 1)·B0C0ᵀ, where sinh and cosh would overflow.
    factor = torch.where(nu > 0, den / num, torch.where(nv > 0, num / den, torch.ones_like(num)))
    alone = (factor - 1).square() * inner(gram_a, gram_b)
    one_sided = (nu == 0) | (nv == 0)
    size = torch.where(one_sided, alone, terms.sum(0))
    added = torch.where(one_sided, alone, terms.abs().sum(0))
    unit = landscape.size / trace0.square()
    moved = (trace0 - trace) / trace0
    squared = unit * size - 2 * moved + 1
    rounding = 64 * torch.finfo(unit.dtype).eps * (unit * added + 3)
    if time == float("inf"):
        # On the saddle both factors vanish: ΔW = −B0A0, τ = w.
        gone = landscape.size * inner(gram_a, gram_b) / trace0.square() - 2 * (trace0 - landscape.w) / trace0 + 1
        squared = torch.where(saddle, gone, squared)
        squared = torch.where(algebraic, torch.full_like(squared, torch.nan), squared)
    nan = torch.full_like(squared, torch.nan)
    return torch.where(trace0 == 0, nan, squared.clamp_min(0.0).sqrt()), rounding


def effective_rank(problem: Canonical) -> Tensor:
    """r_eff = ‖A0‖⁴/‖A0A0ᵀ‖² where B0 = 0 (or of B0 where A0 = 0), (S,); NaN otherwise."""
    zero_b = ~problem.B.flatten(1).any(-1)
    zero_c = ~problem.C.flatten(1).any(-1)
    moving = torch.where(zero_b[:, None, None], problem.C, problem.B)
    gram = moving.mT @ moving
    value = gram.diagonal(dim1=-2, dim2=-1).sum(-1).square() / inner(gram, gram)
    return torch.where(zero_b ^ zero_c, value, torch.full_like(value, torch.nan))


def local_rate(B: Tensor, C: Tensor) -> Tensor:
    """2(‖A‖² + ‖B‖²) at a minimum τ = 0, canonical, (S,)."""
    return 2 * (B.square().sum((-2, -1)) + C.square().sum((-2, -1)))
