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
from flowsim.dynamics.landscape import TraceLandscape, inner
from flowsim.integrators.exact.trace_squared import halves, rates, riccati


@dataclass(frozen=True)
class _Start:
    """The scalars of a batch of starts, (S,) each."""

    problem: Canonical

    @property
    def landscape(self) -> TraceLandscape:
        landscape = self.problem.landscape
        assert isinstance(landscape, TraceLandscape)
        return landscape

    @property
    def w(self) -> Tensor:
        return self.landscape.w

    @cached_property
    def halves(self) -> tuple[Tensor, Tensor]:
        """u0 and v0, zero where they are zero to rounding."""
        return halves(self.problem.B, self.problem.C)

    @property
    def u(self) -> Tensor:
        return self.halves[0]

    @property
    def v(self) -> Tensor:
        return self.halves[1]

    @cached_property
    def nu(self) -> Tensor:
        return torch.linalg.matrix_norm(self.u)

    @cached_property
    def nv(self) -> Tensor:
        return torch.linalg.matrix_norm(self.v)

    @cached_property
    def trace0(self) -> Tensor:
        return self.landscape.trace(self.problem.B, self.problem.C)

    @cached_property
    def rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """D, P, M."""
        return rates(self.w, self.nu, self.nv)


def on_saddle(problem: Canonical) -> Tensor:
    """Members whose loss does not go to zero: V = 0 and w > 0, or U = 0 and w < 0, (S,) bool.

    Zero means zero to rounding of the factors: what is left then decides only when rounding leaves the saddle
    (`escape_time`).
    """
    start = _Start(problem)
    return ((start.nv == 0) & (start.w > 0)) | ((start.nu == 0) & (start.w < 0))


def escape_time(problem: Canonical) -> Tensor:
    """Canonical time at which rounding leaves the saddle, (S,): infinite if V (or U) is exactly zero, NaN off it."""
    start = _Start(problem)
    nu, nv = (torch.linalg.matrix_norm(X) for X in (problem.B + problem.C, problem.B - problem.C))
    D, P, M = rates(start.w, nu, nv)
    kept, lost = (P, nv.square() + M) if bool(start.w > 0) else (M, nu.square() + P)
    time = torch.log(kept / lost) / D
    return torch.where(on_saddle(problem), time, torch.full_like(time, torch.nan))


def excess_limit(problem: Canonical) -> Tensor:
    """Canonical loss at t = ∞: ½w² on the saddle's stable manifold, else 0, (S,)."""
    start = _Start(problem)
    limit = torch.where(on_saddle(problem), start.w, torch.zeros_like(start.trace0))
    return 0.5 * torch.where(start.trace0 == 0, torch.zeros_like(limit), limit).square()


def speed(problem: Canonical) -> Tensor:
    """D = √(4w² + UV), the rate of τ and λ_max at the limit, canonical, (S,).

    NaN where the loss stays positive or falls algebraically (D = 0).
    """
    D, _, _ = _Start(problem).rates
    return torch.where(on_saddle(problem) | (D == 0), torch.full_like(D, torch.nan), D)


def rounding(problem: Canonical) -> Tensor:
    """What rounding leaves of a canonical loss that is zero: ½(ε·n(|w| + ‖B‖‖C‖))², (S,)."""
    start = _Start(problem)
    size = start.w.abs() + torch.linalg.matrix_norm(problem.B) * torch.linalg.matrix_norm(problem.C)
    return 0.5 * (torch.finfo(size.dtype).eps * start.landscape.size * size).square()


def power(problem: Canonical) -> Tensor:
    """2 where the loss falls algebraically, like t⁻² (D = 0: w = 0 and one of U, V zero, not both), else NaN, (S,)."""
    start = _Start(problem)
    falls = (start.rates[0] == 0) & ((start.nu > 0) | (start.nv > 0))
    return torch.where(falls, 2.0, torch.nan).to(start.nu)


def overlap(problem: Canonical) -> Tensor:
    """Share of a start in the direction that leaves the saddle A = B = 0, √(V/(U + V)) for w > 0, (S,).

    √(U/(U + V)) for w < 0; NaN for w = 0, which has no saddle there, and for A = B = 0.
    """
    start = _Start(problem)
    nu, nv = (torch.linalg.matrix_norm(X) for X in (problem.B + problem.C, problem.B - problem.C))
    share = (nv if bool(start.w > 0) else nu) / torch.hypot(nu, nv)
    return torch.where(start.w == 0, torch.full_like(share, torch.nan), share)


def excess_constant(problem: Canonical) -> Tensor:
    """Canonical C with excess → C·e^{−2Dt}, or → C·t⁻² where the decay is algebraic, (S,); NaN where neither holds.

    τ → 4D²τ0/((U + P)(V + M))·e^{−Dt}; for D = 0 (w = 0 and U or V zero) τ → 2τ0/((U + V)t).
    """
    start = _Start(problem)
    D, P, M = start.rates
    U, V = start.nu.square(), start.nv.square()
    lead = torch.where(D > 0, (2 * D / (U + P)) * (2 * D / (V + M)), 2 / (U + V)) * start.trace0
    gone = on_saddle(problem) | (start.trace0 == 0) | ((U == 0) & (V == 0))
    return torch.where(gone, torch.full_like(lead, torch.nan), 0.5 * lead.square())


def time_to(problem: Canonical, excess: Tensor) -> Tensor:
    """Canonical time at which the loss has fallen to `excess` (S,), exact; ∞ where it never does, 0 where it has.

    With y = τ0/τ − 1 and e^{Dt} = 1 + δ the closed form is a quadratic equation for δ.
    """
    start = _Start(problem)
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
    return problem.C.square().sum((-2, -1)) - problem.B.square().sum((-2, -1))


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
    start = _Start(problem)
    D, P, M = start.rates
    U, V, trace0 = start.nu.square(), start.nv.square(), start.trace0
    algebraic = D == 0
    if math.isinf(time):
        num, den = U + P, V + M
        change, trace = 4 * trace0, torch.zeros_like(trace0)
    else:
        horizon = problem.B.new_full((1, 1), time)
        num, den, trace = (x[0] for x in riccati(start.w, start.nu, start.nv, trace0, horizon))
        change = torch.where(algebraic, 2 * trace0 * time, -4 * trace0 * torch.expm1(-D * time))
    gram_u, gram_v = (torch.linalg.matrix_norm(X.mT @ X) for X in (start.u, start.v))
    cross = torch.linalg.matrix_norm(start.u.mT @ start.v)

    def share(size: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return torch.where(size > 0, (change / left) * size * (change / right) * size, torch.zeros_like(size))

    size = (share(gram_u, num, num) + 2 * share(cross, num, den) + share(gram_v, den, den)) / 16
    if math.isinf(time):
        # On the saddle, and where the decay is algebraic, both factors vanish: ΔW = −B0A0, τ = w.
        gone = on_saddle(problem) | algebraic
        size = torch.where(gone, inner(problem.B.mT @ problem.B, problem.C.mT @ problem.C), size)
        trace = torch.where(gone, start.w, trace)
    unit = start.landscape.size / trace0.square()
    squared = unit * size - 2 * (trace0 - trace) / trace0 + 1
    rounding = 64 * torch.finfo(unit.dtype).eps * (unit * size + 3)
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


def orthonormal_twin(problem: Canonical) -> tuple[Canonical, list[int]]:
    """The same starts with orthonormal columns in place of the moving factor, and the members that have one.

    The factor's polar part, of the factor's own size, so that the clock stays: of all starts with one factor zero
    this has the least relative error, √(n/r − 1). Members with two moving factors, a rank above n or a trace that is
    zero already have none.
    """
    zero_b, zero_c = (~X.flatten(1).any(-1) for X in (problem.B, problem.C))
    moving = torch.where(zero_b[:, None, None], problem.C, problem.B)
    left, _, right = torch.linalg.svd(moving, full_matrices=False)
    size = torch.linalg.matrix_norm(moving) / problem.rank**0.5
    twin = size[:, None, None] * (left @ right)
    B = torch.where(zero_b[:, None, None], problem.B, twin)
    C = torch.where(zero_b[:, None, None], twin, problem.C)
    usable = (zero_b ^ zero_c) & (problem.rank <= problem.B.shape[-2]) & (_Start(problem).trace0 != 0)
    return dataclasses.replace(problem, B=B, C=C), torch.nonzero(usable).flatten().tolist()
