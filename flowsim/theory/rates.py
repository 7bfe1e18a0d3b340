"""Frobenius objective: how fast a start ends. Rates, constants, sharpness and step limits at the limit.

The excess loss falls like C·e^{−2νt}, ν the smallest excited eigenvalue of the Hessian at the limit, or like C·t⁻²
where that is zero. Every row of c = [X; Y] that is no pivot is a combination L of the pivots before it, and L_kj
decays like e^{−(e_j − e_k)t}; the slowest of those present is ν.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.integrators.exact.balanced import rotated_modes
from flowsim.integrators.exact.mode_aligned import row_imbalance
from flowsim.integrators.exact.one_shot import Pivots, Rates
from flowsim.integrators.selection import closed_form_holds
from flowsim.theory.frobenius import (
    absent_modes,
    excess_limit,
    kept_modes,
    landscape_of,
    leading,
    pivots,
    present_rows,
)
from flowsim.theory.trace_squared import step_limit


@dataclass(frozen=True)
class Decay:
    """How the canonical excess loss of each member falls at last, (S,) each; NaN where that is not known.

    Attributes
    ----------
    rate : Tensor
        2ν in excess → C·e^{−2νt}; NaN where the decay is algebraic.
    power : Tensor
        2 in excess → C·t⁻²; NaN where it is exponential.
    constant : Tensor
        C.
    """

    rate: Tensor
    power: Tensor
    constant: Tensor


def decay(problem: Canonical) -> Decay:
    """The last phase of every member that ends at the Eckart–Young limit and has a closed form.

    Algebraic (λ = 0, rank above rank Δ): q pivots in null directions, each a product s' = −2s², give q/(8t²).
    Exponential: Σ ω_j(ω_j − e_k)L_kj² over the pairs of the slowest rate, or the approach of the last mode to its own
    σ, whichever is slower.
    """
    sigma = landscape_of(problem).sigma
    out = [sigma.new_full((problem.B.shape[0],), torch.nan) for _ in range(3)]
    wanted = leading(problem)
    theta = rotated_modes(sigma, row_imbalance(problem.B, problem.C))
    for member, (found, kept) in enumerate(zip(pivots(problem), kept_modes(problem), strict=True)):
        if found is None or kept is None or sorted(kept) != wanted or not found.chosen:
            continue
        still = int((found.rates[found.chosen] == 0).sum())
        if still:
            out[1][member], out[2][member] = 2.0, still / 8
            continue
        rate, constant = _exponential(found, kept, *(x[member] for x in theta))
        out[0][member], out[2][member] = rate, constant
    return Decay(*out)


def _exponential(found: Pivots, kept: list[int], omega: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """2ν and C of one member. Pairs of equal rates only turn within a tie or a null space: they do not count."""
    c, rates, chosen = found.rows, found.rates, found.chosen
    rounding = torch.finfo(c.dtype).eps * sum(c.shape)
    mixed, gaps = _beside_equals(found), found.gaps
    there = mixed.abs() > rounding * torch.linalg.matrix_norm(c) * torch.linalg.matrix_norm(found.inverse)
    there &= (gaps > 0) & ~found.equal
    # Each kept mode also approaches its own σ, at 2ω, through its decaying row.
    own = 2 * omega[kept[-1:]] if kept else omega[:0]
    candidates = torch.cat([gaps[there], own])
    if not len(candidates):
        return candidates.new_tensor(torch.nan), candidates.new_tensor(torch.nan)
    nu = candidates.min()
    close = there & (gaps <= nu * (1 + 1e3 * rounding))
    terms = (rates[chosen] * gaps * mixed.square())[close]
    null = torch.cat([cos * sin == 0] * 2)
    if bool(close[~null][:, null[chosen]].any()):
        # A null pivot pulls on a learnt mode: its growing row then turns as well, and no constant is derived here.
        return 2 * nu, nu.new_tensor(torch.nan)
    if not len(own) or own[0] > nu * (1 + 1e3 * rounding):
        return 2 * nu, terms.sum()
    if not _alone(found, kept, close):
        return 2 * nu, nu.new_tensor(torch.nan)
    return 2 * nu, _own_approach(found, kept, omega, cos, sin)


def _beside_equals(found: Pivots) -> Tensor:
    """L in a basis of the rows in which a pivot has no equals: (2q, |J|), zero on the rows beside the pivots.

    Within a tie or a null space any rotation of the rows is as good. What its pivots carry is a subspace T = QR of the
    space: Q takes their place, so that their columns become L·R⁻¹, and the others lose their part along Q.
    """
    mixed = found.rows @ found.inverse
    out, done = mixed.clone(), set()
    for first in range(len(found.chosen)):
        if first in done:
            continue
        group = torch.nonzero(found.equal[:, first]).flatten()
        inside = [place for place, row in enumerate(found.chosen) if row in group]
        done |= set(inside)
        basis, R = torch.linalg.qr(mixed[group][:, inside])
        out[:, inside] = torch.linalg.solve_triangular(R, out[:, inside], upper=True, left=False)
        out[group] = out[group] - basis @ (basis.mT @ out[group])
    return out


def _alone(found: Pivots, kept: list[int], close: Tensor) -> bool:
    """Whether the slowest pair is a mode with its own decaying row, so that nothing else shares the rate."""
    half, last = len(found.rates) // 2, kept[-1]
    place = found.chosen.index(last)
    others = close.clone()
    others[half + last, place] = False
    return found.chosen == kept and not bool(others.any())


def _own_approach(found: Pivots, kept: list[int], omega: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """C where all of BA is learnt and the last mode is the slowest: 2ω²(cos 2θ·L − ω sin 2θ·X)², rate 4ω.

    L = C₋C₊⁻¹ and X = (C₊C₊ᵀ)⁻¹ − diag(1/2ω) + Lᵀdiag(1/2ω)L of the kept modes, at the last one.
    """
    half, last = len(found.rates) // 2, kept[-1]
    L = found.rows[[half + j for j in kept]] @ found.inverse
    weight = 1 / (2 * omega[kept])
    X = found.inverse.mT @ found.inverse - torch.diag(weight) + L.mT @ (weight[:, None] * L)
    cos2, sin2 = cos[last] ** 2 - sin[last] ** 2, 2 * cos[last] * sin[last]
    return 2 * omega[last] ** 2 * (cos2 * L[-1, -1] - omega[last] * sin2 * X[-1, -1]).square()


def _end_spectra(problem: Canonical) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues α of AAᵀ and β of BᵀB at the Eckart–Young limit by row (S, q), and where they are known, (S,).

    α_i = ω_i − λ_i/2 and β_i = ω_i + λ_i/2 for the modes that are there, zero elsewhere.
    """
    half = row_imbalance(problem.B, problem.C) / 2
    sigma = landscape_of(problem).sigma
    rates = Rates.of(sigma, torch.hypot(sigma.expand_as(half), half), 2 * half)
    small, large = rates.above, rates.omega + rates.base
    there = torch.hypot(torch.linalg.vector_norm(problem.B, dim=-1), torch.linalg.vector_norm(problem.C, dim=-1)) > 0
    known = torch.tensor(closed_form_holds(problem), device=large.device) & (excess_limit(problem) == 0)
    alpha, beta = torch.where(half >= 0, small, large), torch.where(half >= 0, large, small)
    zero = torch.zeros_like(large)
    return torch.where(there, alpha, zero), torch.where(there, beta, zero), known


def sharpness_limit(problem: Canonical) -> Tensor:
    """λ_max = ‖A‖₂² + ‖B‖₂² of the canonical Hessian at the Eckart–Young limit, (S,); NaN where not known.

    For one common λ this is √(4σ1² + λ²).
    """
    alpha, beta, known = _end_spectra(problem)
    out = alpha.amax(-1) + beta.amax(-1)
    return torch.where(known, out, torch.full_like(out, torch.nan))


def sequential_limit(problem: Canonical) -> Tensor:
    """Largest stable canonical step of sequential descent at the Eckart–Young limit, (S,); NaN where not known.

    The least of ℓ(α_j, β_i) over the kept modes i, j; of 2/(ω_i + √(λ²/4 − σ_k²)) for kept i and k > r with
    σ_k ≤ |λ_i|/2; and of 2/α_1 (2/β_1) where only B (only A) has further directions. The order of the factors does
    not matter: the two rounds are cyclic products of the same two half-rounds. Known for ranks up to rank Δ.
    """
    landscape, rank = landscape_of(problem), problem.rank
    alpha, beta, known = _end_spectra(problem)
    sigma = landscape.sigma
    if rank > int((sigma > 0).sum()):
        return torch.full_like(alpha[:, 0], torch.nan)
    a, b = alpha[:, :rank], beta[:, :rank]
    limits = [step_limit(a[:, :, None], b[:, None, :]).flatten(1).amin(-1)]
    omega, half = (a + b) / 2, (b - a).abs() / 2
    beyond = sigma[rank : landscape.pairs]
    under = half[:, :, None].square() - beyond.square()
    free = torch.where(under >= 0, 2 / (omega[:, :, None] + under.clamp_min(0.0).sqrt()), torch.inf)
    limits += [free.flatten(1).amin(-1)] if len(beyond) else []
    # Rows past p belong to one side only, at each start: to B if n > m.
    outside_b, outside_c = (present_rows(problem, X)[:, landscape.pairs :].any(-1) for X in (problem.B, problem.C))
    limits.append(torch.where(outside_b, 2 / a.amax(-1), torch.inf))
    limits.append(torch.where(outside_c, 2 / b.amax(-1), torch.inf))
    out = torch.stack(limits).amin(0)
    return torch.where(known, out, torch.full_like(out, torch.nan))


def local_rate(problem: Canonical, B: Tensor, C: Tensor) -> Tensor:
    """2ν from the Gram matrices of states (S, q, r) near a minimum, any imbalance; canonical; NaN where algebraic.

    K_a = CᵀC and K_b = BᵀB. Rank below rank Δ: the smallest eigenvalue of [[K_a, −σI], [−σI, K_b]] for the next
    smaller singular value σ that the start contains. Otherwise BA = Δ at the minimum and the eigenvalues are β + α
    with β of BBᵀ and α of AᵀA on the directions where B and A are not zero; the least that is not zero. What is
    below the distance √(2·excess) from the minimum counts as zero there; NaN where that is in doubt.
    """
    sigma, rank = landscape_of(problem).sigma, problem.rank
    gram_a, gram_b = C.mT @ C, B.mT @ B
    if rank >= int((sigma > 0).sum()):
        return 2 * _least_sum(problem, B, C)
    pairs = sigma[: landscape_of(problem).pairs]
    below = pairs[(pairs > 0) & (pairs < sigma[rank - 1] * (1 - torch.finfo(sigma.dtype).eps * len(sigma)))]
    nu = sigma.new_full((B.shape[0],), torch.inf)
    absent = absent_modes(problem)
    for value in torch.unique(below).flip(0).tolist():
        excited = (~absent & (pairs == value)).any(-1)
        cross = (-value * torch.eye(rank, dtype=B.dtype, device=B.device)).expand_as(gram_a)
        block = torch.cat([torch.cat([gram_a, cross], dim=-1), torch.cat([cross, gram_b], dim=-1)], dim=-2)
        nu = torch.where(excited & nu.isinf(), torch.linalg.eigvalsh(block)[..., 0], nu)
        if bool(nu.isfinite().all()):
            break  # the first value that a start contains decides
    least = [torch.linalg.eigvalsh(gram)[..., 0] for gram in (gram_a, gram_b)]
    outside = [present_rows(problem, X)[:, sigma == 0].any(-1) for X in (problem.B, problem.C)]
    for value, there in zip(least, outside, strict=True):
        nu = torch.where(there, torch.minimum(nu, value), nu)
    return 2 * torch.minimum(nu, least[0] + least[1])


def _least_sum(problem: Canonical, B: Tensor, C: Tensor) -> Tensor:
    """Smallest β + α that is not zero, (S,); the rows count in which the start or Δ has something."""
    landscape = landscape_of(problem)
    noise = (2 * landscape.excess(B, C)).clamp_min(0.0).sqrt() * 2
    floor = torch.finfo(B.dtype).eps * sum(B.shape[-2:]) * (B.square().sum((-2, -1)) + C.square().sum((-2, -1)))
    spectra, doubt = [], torch.zeros_like(noise, dtype=torch.bool)
    for X, start in ((B, problem.B), (C, problem.C)):
        alive = (landscape.sigma > 0) | present_rows(problem, start)
        # As many eigenvalues as directions: fewer than columns, or more, whose decay is by the other factor alone.
        values = torch.nn.functional.pad(torch.linalg.svdvals(X).square(), (0, 1))
        doubt |= ((values > 0.1 * noise[:, None]) & (values < 10 * noise[:, None]) & (values > floor[:, None])).any(-1)
        values = torch.where(values <= torch.maximum(noise, floor)[:, None], torch.zeros_like(values), values)
        there = torch.arange(values.shape[-1], device=X.device) < alive.sum(-1)[:, None]
        spectra.append(torch.where(there, values, torch.full_like(values, torch.inf)))
    sums = spectra[0][:, :, None] + spectra[1][:, None, :]
    least = torch.where(sums > 0, sums, torch.full_like(sums, torch.inf)).flatten(1).amin(-1)
    return torch.where(least.isinf() | doubt, torch.full_like(least, torch.nan), least)
