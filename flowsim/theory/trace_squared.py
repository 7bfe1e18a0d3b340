"""Trace-squared objective: limits, rates, times and the relative-error law of any start, from Gram scalars alone.

Notation as in `integrators.exact.trace_squared`: u = B + C, v = B − C, x = num/den. From
BCᵀ = ¼(u + v)(u − v)ᵀ and u = u0/√x, v = v0·√x the update is ΔW = ¼((1/x − 1)u0u0ᵀ − (x − 1)v0v0ᵀ), so that, with
K_u = u0ᵀu0, K_v = v0ᵀv0 and δ = num − den = 4τ0(1 − e^{−Dt}),

    ‖ΔW‖² = δ²/16·(‖K_u‖²/num² + 2‖u0ᵀv0‖²/(num·den) + ‖K_v‖²/den²),

a sum of non-negative terms, good on a saddle and next to it. The relative error is
e² = n‖ΔW‖²/τ0² − 2(τ0 − τ)/τ0 + 1. For B0 = 0 and t = ∞: e = √(n/r_eff − 1) with r_eff = ‖A0‖⁴/‖A0A0ᵀ‖² ≤ r.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.integrators.exact.trace_squared import rates, riccati


@dataclass(frozen=True)
class _Start:
    """The numbers of a batch of starts on which all here depends, (S,) each; w and n are those of the objective.

    Attributes
    ----------
    nu, nv : Tensor
        ‖u0‖ and ‖v0‖, zero where they are zero to rounding.
    trace0 : Tensor
        τ at time 0.
    gram_u, gram_v, cross : Tensor
        ‖K_u‖, ‖K_v‖ and ‖u0ᵀv0‖.
    """

    w: Tensor
    n: int
    nu: Tensor
    nv: Tensor
    trace0: Tensor
    gram_u: Tensor
    gram_v: Tensor
    cross: Tensor

    @classmethod
    def of(cls, problem: Canonical) -> _Start:
        landscape, half = _landscape(problem), problem.halves
        trace0 = landscape.w + half.inner
        return cls(landscape.w, landscape.size, half.u, half.v, trace0, half.gram_u, half.gram_v, half.cross)

    @classmethod
    def twin_of(cls, problem: Canonical) -> _Start:
        """Those of `orthonormal_twin` where one factor is zero: ‖u0‖ = ‖v0‖ = ‖X‖ and XᵀX = (‖X‖²/r)·I."""
        landscape, size = _landscape(problem), torch.maximum(problem.halves.b, problem.halves.c)
        gram = size.square() / problem.rank**0.5
        return cls(landscape.w, landscape.size, size, size, landscape.w.expand_as(size), gram, gram, gram)

    @cached_property
    def rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """D, P, M."""
        return rates(self.w, self.nu, self.nv)

    @property
    def on_saddle(self) -> Tensor:
        return ((self.nv == 0) & (self.w > 0)) | ((self.nu == 0) & (self.w < 0))


def _landscape(problem: Canonical) -> TraceLandscape:
    assert isinstance(problem.landscape, TraceLandscape)
    return problem.landscape


def on_saddle(problem: Canonical) -> Tensor:
    """Members whose loss does not go to zero: V = 0 and w > 0, or U = 0 and w < 0, (S,) bool.

    Zero means zero to rounding of the factors: what is left then decides only when rounding leaves the saddle
    (`escape_time`).
    """
    return _Start.of(problem).on_saddle


def escape_time(problem: Canonical) -> Tensor:
    """Canonical time at which rounding leaves the saddle, (S,): infinite if V (or U) is exactly zero, NaN off it."""
    start = _Start.of(problem)
    nu, nv = problem.halves.u_as_is, problem.halves.v_as_is
    D, P, M = rates(start.w, nu, nv)
    kept, lost = (P, nv.square() + M) if bool(start.w > 0) else (M, nu.square() + P)
    time = torch.log(kept / lost) / D
    return torch.where(on_saddle(problem), time, torch.full_like(time, torch.nan))


def excess_limit(problem: Canonical) -> Tensor:
    """Canonical loss at t = ∞: ½w² on the saddle's stable manifold, else 0, (S,)."""
    start = _Start.of(problem)
    limit = torch.where(on_saddle(problem), start.w, torch.zeros_like(start.trace0))
    return 0.5 * torch.where(start.trace0 == 0, torch.zeros_like(limit), limit).square()


def speed(problem: Canonical) -> Tensor:
    """D = √(4w² + UV), the rate of τ and λ_max at the limit, canonical, (S,).

    NaN where the loss stays positive or falls algebraically (D = 0).
    """
    D, _, _ = _Start.of(problem).rates
    return torch.where(on_saddle(problem) | (D == 0), torch.full_like(D, torch.nan), D)


def rounding(problem: Canonical) -> Tensor:
    """What rounding leaves of a canonical loss that is zero: ½(ε·n(|w| + ‖B‖‖C‖))², (S,)."""
    start = _Start.of(problem)
    size = start.w.abs() + problem.halves.b * problem.halves.c
    return 0.5 * (torch.finfo(size.dtype).eps * start.n * size).square()


def power(problem: Canonical) -> Tensor:
    """2 where the loss falls algebraically, like t⁻² (D = 0: w = 0 and one of U, V zero, not both), else NaN, (S,)."""
    start = _Start.of(problem)
    falls = (start.rates[0] == 0) & ((start.nu > 0) | (start.nv > 0))
    return torch.where(falls, 2.0, torch.nan).to(start.nu)


def overlap(problem: Canonical) -> Tensor:
    """Share of a start in the direction that leaves the saddle A = B = 0, √(V/(U + V)) for w > 0, (S,).

    √(U/(U + V)) for w < 0; NaN for w = 0, which has no saddle there, and for A = B = 0.
    """
    start = _Start.of(problem)
    nu, nv = problem.halves.u_as_is, problem.halves.v_as_is
    share = (nv if bool(start.w > 0) else nu) / torch.hypot(nu, nv)
    return torch.where(start.w == 0, torch.full_like(share, torch.nan), share)


def excess_constant(problem: Canonical) -> Tensor:
    """Canonical C with excess → C·e^{−2Dt}, or → C·t⁻² where the decay is algebraic, (S,); NaN where neither holds.

    τ → 4D²τ0/((U + P)(V + M))·e^{−Dt}; for D = 0 (w = 0 and U or V zero) τ → 2τ0/((U + V)t).
    """
    start = _Start.of(problem)
    D, P, M = start.rates
    U, V = start.nu.square(), start.nv.square()
    lead = torch.where(D > 0, (2 * D / (U + P)) * (2 * D / (V + M)), 2 / (U + V)) * start.trace0
    gone = on_saddle(problem) | (start.trace0 == 0) | ((U == 0) & (V == 0))
    return torch.where(gone, torch.full_like(lead, torch.nan), 0.5 * lead.square())


def time_to(problem: Canonical, excess: Tensor) -> Tensor:
    """Canonical time at which the loss has fallen to `excess` (S,), exact; ∞ where it never does, 0 where it has.

    With y = τ0/τ − 1 and e^{Dt} = 1 + δ the closed form is a quadratic equation for δ.
    """
    start = _Start.of(problem)
    D, P, M = start.rates
    U, V = start.nu.square(), start.nv.square()
    y = start.trace0.abs() / (2 * excess).sqrt() - 1
    safe = torch.where(D > 0, D, torch.ones_like(D))
    g, a = (U + V) / safe - 2 * y, ((P + U) / safe) * ((M + V) / safe)
    d = (g.square() + 4 * a * y.clamp_min(0.0)).sqrt()
    delta = torch.where(g >= 0, 4 * y / (g + d), (d - g) / a)
    time = torch.where(D > 0, torch.log1p(delta) / safe, 2 * y / (U + V))
    return torch.where(y <= 0, torch.zeros_like(time), time)


def sequential_limit(problem: Canonical) -> Tensor:
    """Largest stable canonical step of sequential descent at the flow's limit, (S,); NaN where there is none.

    At the limit a + b = D, and a − b = ‖A‖² − ‖B‖² is conserved.
    """
    D, half = speed(problem), _trace_imbalance(problem) / 2
    return step_limit(D / 2 + half, D / 2 - half)


def _trace_imbalance(problem: Canonical) -> Tensor:
    b, c = problem.halves.b, problem.halves.c
    return (c - b) * (c + b)


def step_limit(a: Tensor, b: Tensor) -> Tensor:
    """ℓ(a, b): the smallest step η at which |(1 − ηa)(1 − ηb)| exceeds 1, for a, b ≥ 0.

    (a + b)/(ab) if (a + b)² < 8ab, where the product of the two factors then stays above −1; else the first root of
    (1 − ηa)(1 − ηb) = −1. One factor zero leaves 2/a.
    """
    total, product = a + b, (a * b).clamp_min(0.0)
    root = (total.square() - 8 * product).clamp_min(0.0).sqrt()
    return torch.where(total.square() < 8 * product, total / product, 4 / (total + root))


def relative_error(problem: Canonical, time: float) -> tuple[Tensor, Tensor]:
    """Exact relative error at a canonical time (∞ allowed), and the rounding error of its square, (S,) each.

    Normalised by ΔW_full(∞); NaN for τ0 = 0.
    """
    return _relative_error(_Start.of(problem), time)


def orthonormal_error(problem: Canonical, time: float) -> Tensor:
    """Exact relative error of `orthonormal_twin` at a canonical time (∞ allowed), (S,); NaN where there is none."""
    error, _ = _relative_error(_Start.twin_of(problem), time)
    return torch.where(has_twin(problem), error, torch.nan)


def _relative_error(start: _Start, time: float) -> tuple[Tensor, Tensor]:
    D, P, M = start.rates
    U, V, trace0 = start.nu.square(), start.nv.square(), start.trace0
    algebraic = D == 0
    if math.isinf(time):
        num, den = U + P, V + M
        change, trace = 4 * trace0, torch.zeros_like(trace0)
    else:
        horizon = trace0.new_full((1, 1), time)
        num, den, trace = (x[0] for x in riccati(start.w, start.nu, start.nv, trace0, horizon))
        change = torch.where(algebraic, 2 * trace0 * time, -4 * trace0 * torch.expm1(-D * time))

    def share(size: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return torch.where(size > 0, (change / left) * size * (change / right) * size, 0.0)

    size = share(start.gram_u, num, num) + 2 * share(start.cross, num, den) + share(start.gram_v, den, den)
    if math.isinf(time):
        # On the saddle, and where the decay is algebraic, one half is zero and the other vanishes: τ = w and
        # ΔW = −B0A0, which is ∓¼ of the half that moves times its transpose.
        gone = start.on_saddle | algebraic
        size = torch.where(gone, start.gram_u.square() + start.gram_v.square(), size)
        trace = torch.where(gone, start.w, trace)
    unit = start.n / trace0.square() / 16
    squared = unit * size - 2 * (trace0 - trace) / trace0 + 1
    rounding = 64 * torch.finfo(unit.dtype).eps * (unit * size + 3)
    return torch.where(trace0 == 0, torch.nan, squared.clamp_min(0.0).sqrt()), rounding


def effective_rank(problem: Canonical) -> Tensor:
    """r_eff = ‖A0‖⁴/‖A0A0ᵀ‖² where B0 = 0 (or of B0 where A0 = 0), (S,); NaN otherwise."""
    half = problem.halves  # u = C, or B, whichever is there
    return torch.where(half.zero_b ^ half.zero_c, (half.u.square() / half.gram_u).square(), torch.nan)


def local_rate(B: Tensor, C: Tensor) -> Tensor:
    """2(‖A‖² + ‖B‖²) at a minimum τ = 0, canonical, (S,)."""
    return 2 * (torch.linalg.matrix_norm(B).square() + torch.linalg.matrix_norm(C).square())


def orthonormal_twin(problem: Canonical) -> tuple[Canonical, list[int]]:
    """The same starts with orthonormal columns in place of the moving factor, and the members that have one.

    The factor's polar part, of the factor's own size, so that the clock stays: of all starts with one factor zero
    this has the least relative error, √(n/r − 1). Members with two moving factors, a rank above n or a trace that is
    zero already have none.
    """
    zero_b = problem.halves.zero_b[:, None, None]
    moving = torch.where(zero_b, problem.C, problem.B)
    left, _, right = torch.linalg.svd(moving, full_matrices=False)
    size = torch.linalg.matrix_norm(moving) / problem.rank**0.5
    twin = size[:, None, None] * (left @ right)
    B, C = torch.where(zero_b, problem.B, twin), torch.where(zero_b, twin, problem.C)
    return dataclasses.replace(problem, B=B, C=C), torch.nonzero(has_twin(problem)).flatten().tolist()


def has_twin(problem: Canonical) -> Tensor:
    """Whether a start has an orthonormal twin, (S,) bool."""
    one_moves = problem.halves.zero_b ^ problem.halves.zero_c
    return one_moves & (problem.rank <= problem.B.shape[-2]) & (_Start.of(problem).trace0 != 0)
