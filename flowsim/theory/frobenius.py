"""Frobenius objective: where a start ends. Floor, limit, missing modes, overlap, from closed forms and Δ alone.

Limit: BA(∞) = Σ_{j∈J} σ_j u_j v_jᵀ, where J are the greedily independent rows of c = [X; Y], taken in the order of
falling rates, that belong to a growing mode (+ω, σ > 0). The Eckart–Young limit is the case J = {1, …, r}.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.exact.balanced import rotated_modes
from flowsim.integrators.exact.mode_aligned import row_imbalance
from flowsim.integrators.exact.one_shot import Pivots, Rates, pivots_of
from flowsim.integrators.selection import closed_form_holds


def excess_limit(problem: Canonical) -> Tensor:
    """Canonical excess loss at t = ∞ for each member, (S,); NaN where no closed form exists.

    For Δ = 0 every start ends at BA = 0: where Bᵀ(BA) = 0 and (BA)Aᵀ = 0, BA itself is zero.
    """
    landscape = landscape_of(problem)
    sigma = landscape.sigma
    if not bool((sigma > 0).any()):
        return sigma.new_zeros(problem.B.shape[0])
    lead = sigma[: min(problem.rank, landscape.pairs)].square().sum()
    out = sigma.new_full((problem.B.shape[0],), torch.nan)
    for member, kept in enumerate(kept_modes(problem)):
        if kept is not None:
            # Summing the lost modes keeps an exact zero where none is lost.
            wanted = set(range(min(problem.rank, landscape.pairs)))
            lost = sigma[sorted(wanted - set(kept))].square().sum()
            gained = sigma[sorted(set(kept) - wanted)].square().sum()
            out[member] = 0.5 * (lost - gained).clamp_min(0.0).minimum(lead)
    return out


def reachable_excess(problem: Canonical) -> Tensor:
    """Lowest canonical excess loss that any flow from this start can reach, (S,), whatever its imbalance.

    A mode whose rows of B and C are both zero at the start stays zero for ever; what is left is the best rank-r
    approximation by the other modes. Rows count as zero at the level of rounding of the factors.
    """
    landscape = landscape_of(problem)
    squares = landscape.sigma[: landscape.pairs].square()
    absent = absent_modes(problem)
    count = min(problem.rank, landscape.pairs)
    out = squares.new_zeros(problem.B.shape[0])
    for member in torch.nonzero(absent[:, :count].any(-1)).flatten().tolist():
        left = torch.where(absent[member], torch.zeros_like(squares), squares)
        best = torch.sort(left, descending=True).values[:count].sum()
        out[member] = 0.5 * (squares[:count].sum() - best).clamp_min(0.0)
    return out


def kept_modes(problem: Canonical) -> list[list[int] | None]:
    """Indices of the singular modes that survive at t = ∞, per member; None where no closed form exists."""
    sigma = landscape_of(problem).sigma
    return [
        None if found is None else [j for j in found.chosen if j < len(sigma) and bool(sigma[j] > 0)]
        for found in pivots(problem)
    ]


def leading(problem: Canonical) -> list[int]:
    """Indices of the modes of the Eckart–Young limit, 0 … min(r, rank Δ) − 1."""
    return list(range(min(problem.rank, int((landscape_of(problem).sigma > 0).sum()))))


def overlap(problem: Canonical) -> Tensor:
    """How much of a start points to the Eckart–Young limit, (S,), from 0 (a leading direction is missing) to 1.

    The smallest singular value of the growing parts X of the leading modes, over the size of the factors. Without a
    closed form, that of their rows of B and C side by side: zero only where a direction is missing from both.
    """
    modes = leading(problem)
    if not modes:
        return problem.B.new_full((problem.B.shape[0],), torch.nan)
    _, cos, sin = (
        x[:, modes, None] for x in rotated_modes(landscape_of(problem).sigma, row_imbalance(problem.B, problem.C))
    )
    B, C = problem.B[:, modes], problem.C[:, modes]
    grown = torch.linalg.svdvals(cos * B + sin * C)[:, -1]
    there = torch.linalg.svdvals(torch.cat([B, C], dim=-1))[:, -1]
    size = torch.linalg.matrix_norm(torch.cat([problem.B, problem.C], dim=-2), ord=2)
    closed = torch.tensor(closed_form_holds(problem), device=grown.device)
    return torch.where(closed, grown, there) / size


def missing_modes(problem: Canonical) -> list[list[int]]:
    """Leading modes (1 is the strongest) that the limit lacks, per member.

    Without a closed form: those absent from the start, which stay absent.
    """
    absent = absent_modes(problem)
    return [
        [j + 1 for j in leading(problem) if (bool(absent[member, j]) if kept is None else j not in kept)]
        for member, kept in enumerate(kept_modes(problem))
    ]


def wrong_determinant(problem: Canonical) -> list[bool]:
    """Whether the sign of det(BA) keeps a start from its target, per member.

    Square full-rank Δ, rank n and λ = 0: BA is invertible or singular for ever, and the sign of its determinant is
    conserved; where it is not that of Δ (here diag σ, positive) the last mode is never learnt.
    """
    landscape, B, C = landscape_of(problem), problem.B, problem.C
    square = len(landscape.sigma) == landscape.pairs == problem.rank and bool((landscape.sigma > 0).all())
    balanced = (row_imbalance(B, C) == 0).all(-1)
    if not square:
        return [False] * B.shape[0]
    return [bool(one) for one in (balanced & (torch.linalg.det(B @ C.mT) < 0)).tolist()]


def escape_time(problem: Canonical) -> Tensor:
    """Canonical time at which rounding carries a start to a mode that its limit lacks, (S,).

    A missing mode i is a combination L of the kept ones j, and L_ij grows like e^{(e_i − e_j)t}: it arrives when the
    smallest ln(1/|L_ij|)/(e_i − e_j) has passed. Infinite where the zeros are exact, NaN where nothing is missing or
    no closed form exists.
    """
    sigma = landscape_of(problem).sigma
    out = sigma.new_full((problem.B.shape[0],), torch.nan)
    for member, (found, missing) in enumerate(zip(pivots(problem), missing_modes(problem), strict=True)):
        if found is None or not missing:
            continue
        times = [sigma.new_tensor(torch.inf)]
        inverse = torch.linalg.pinv(found.rows[found.chosen]) if found.chosen else None
        for mode in missing:
            if inverse is None:
                break
            mixed = (found.rows[mode - 1] @ inverse).abs()
            gap = -found.gaps[mode - 1]
            good = (mixed > 0) & (gap > 0)
            times += [(torch.log(1 / mixed[good]) / gap[good]).clamp_min(0.0).min()] if bool(good.any()) else []
        out[member] = torch.stack(times).min()
    return out


def absent_modes(problem: Canonical) -> Tensor:
    """Modes whose rows of B and C are both zero at the level of rounding of the factors, (S, p) bool."""
    there = present_rows(problem, problem.B) | present_rows(problem, problem.C)
    return ~there[:, : landscape_of(problem).pairs]


def present_rows(problem: Canonical, X: Tensor) -> Tensor:
    """Rows of a factor X (S, q, r) of the start that are above the rounding of both factors, (S, q) bool."""
    size = torch.hypot(torch.linalg.matrix_norm(problem.B), torch.linalg.matrix_norm(problem.C))
    noise = torch.finfo(X.dtype).eps * sum(X.shape[-2:]) * size
    return torch.linalg.vector_norm(X, dim=-1) > noise[:, None]


@lru_cache(maxsize=1)
def pivots(problem: Canonical) -> list[Pivots | None]:
    """Rotated rows and pivots of each member; None where no closed form exists.

    Kept for the start at hand, which is asked for its limit, rate, missing modes and escape in turn.
    """
    sigma, value = landscape_of(problem).sigma, row_imbalance(problem.B, problem.C)
    omega, cos, sin = rotated_modes(sigma, value)
    rates = Rates.of(sigma, omega, value)
    found: list[Pivots | None] = []
    for member, closed in enumerate(closed_form_holds(problem)):
        if not closed:
            found.append(None)
            continue
        B, C = problem.B[member], problem.C[member]
        x, y = cos[member][:, None], sin[member][:, None]
        rows = torch.cat([x * B + y * C, x * C - y * B])
        found.append(pivots_of(rows, rates.member(member)))
    return found


def loss_floor(problem: Canonical) -> Tensor:
    """½Σ_{i>r}σ_i², 0-d, from Δ alone: not by the landscape's floor, which is part of every recorded loss."""
    landscape = landscape_of(problem)
    squares = landscape.sigma.square()
    ranks = torch.arange(1, len(squares) + 1, device=squares.device)
    tail = torch.where(ranks > problem.rank, squares, torch.zeros_like(squares)).flip(0).sum()
    return 0.5 * (tail + landscape.outside)


def rounding(problem: Canonical) -> Tensor:
    """What rounding leaves of a canonical excess loss that is zero: ½(q + r)r(εs)², s of the size of Δ and BA, (S,)."""
    sigma = landscape_of(problem).sigma
    rows, rank = problem.B.shape[-2:]
    start = torch.linalg.matrix_norm(problem.B) * torch.linalg.matrix_norm(problem.C)
    size = torch.finfo(sigma.dtype).eps * torch.maximum(start, sigma[0].expand_as(start))
    return 0.5 * (rows + rank) * rank * size.square()


def spectral_gap(problem: Canonical) -> Tensor:
    """σ_r² − σ_{r+1}² of Δ, 0-d: zero at a tie, where no best subspace exists, and beyond rank Δ.

    An excess bounds the angles of the subspaces: with k = r of the leading directions, for every BA of rank r,
    2·excess ≥ (σ_r² − σ_{r+1}²)·r·(1 − alignment), as ‖Δ − BA‖² ≥ ‖Δ‖² − ‖PΔ‖² with P the projection on either
    space of BA (Ky Fan 1949).
    """
    squares = torch.nn.functional.pad(landscape_of(problem).sigma, (0, problem.rank + 1)).square()
    return squares[problem.rank - 1] - squares[problem.rank]


def energy(problem: Canonical) -> Tensor:
    """Share of the first r singular values of Δ in Σσ_i², 0-d; NaN for Δ = 0."""
    landscape = landscape_of(problem)
    squares = landscape.sigma.square()
    return squares[: problem.rank].sum() / (squares.sum() + landscape.outside)


def landscape_of(problem: Canonical) -> FrobeniusLandscape:
    """The Frobenius landscape of a problem."""
    assert isinstance(problem.landscape, FrobeniusLandscape)
    return problem.landscape
