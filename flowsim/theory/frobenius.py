"""Frobenius objective: floor, limit, rate and stability limit of a λ-balanced start, from closed forms alone.

Limit: BA(∞) = Σ_{j∈J} σ_j u_j v_jᵀ, where J are the greedily independent rows of c = [X; Y], taken in the order of
falling rates, that belong to a growing mode (+ω, σ > 0). The Eckart–Young limit is the case J = {1, …, r}.
Rate: the excess loss falls like e^{−2νt}, ν the smallest excited eigenvalue of the Hessian at the limit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.exact.balanced import rotated_modes
from flowsim.integrators.exact.mode_aligned import row_imbalance
from flowsim.integrators.exact.one_shot import Pivots, pivots_of
from flowsim.integrators.solve import closed_form_holds


def excess_limit(problem: Canonical) -> Tensor:
    """Canonical excess loss at t = ∞ for each member, (S,); NaN where no closed form exists.

    For Δ = 0 every start ends at BA = 0: where Bᵀ(BA) = 0 and (BA)Aᵀ = 0, BA itself is zero.
    """
    landscape = _landscape(problem)
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
    landscape = _landscape(problem)
    squares = landscape.sigma[: landscape.pairs].square()
    absent = _absent(problem)
    count = min(problem.rank, landscape.pairs)
    out = squares.new_zeros(problem.B.shape[0])
    for member in torch.nonzero(absent[:, :count].any(-1)).flatten().tolist():
        left = torch.where(absent[member], torch.zeros_like(squares), squares)
        best = torch.sort(left, descending=True).values[:count].sum()
        out[member] = 0.5 * (squares[:count].sum() - best).clamp_min(0.0)
    return out


def kept_modes(problem: Canonical) -> list[list[int] | None]:
    """Indices of the singular modes that survive at t = ∞, per member; None where no closed form exists."""
    sigma = _landscape(problem).sigma
    return [
        None if found is None else [j for j in found.chosen if j < len(sigma) and bool(sigma[j] > 0)]
        for found in _decompositions(problem)
    ]


def missing_modes(problem: Canonical) -> list[list[int]]:
    """Leading modes (1 is the strongest) that the limit lacks, per member.

    Without a closed form: those absent from the start, which stay absent.
    """
    landscape = _landscape(problem)
    wanted = min(problem.rank, int((landscape.sigma > 0).sum()))
    absent = _absent(problem)
    return [
        [j + 1 for j in range(wanted) if (bool(absent[member, j]) if kept is None else j not in kept)]
        for member, kept in enumerate(kept_modes(problem))
    ]


def wrong_determinant(problem: Canonical) -> list[bool]:
    """Whether the sign of det(BA) keeps a start from its target, per member.

    Square full-rank Δ, rank n and λ = 0: BA is invertible or singular for ever, and the sign of its determinant is
    conserved; where it is not that of Δ (here diag σ, positive) the last mode is never learnt.
    """
    landscape, B, C = _landscape(problem), problem.B, problem.C
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
    sigma = _landscape(problem).sigma
    out = sigma.new_full((problem.B.shape[0],), torch.nan)
    for member, (found, missing) in enumerate(zip(_decompositions(problem), missing_modes(problem), strict=True)):
        if found is None or not missing:
            continue
        times = [sigma.new_tensor(torch.inf)]
        inverse = torch.linalg.pinv(found.rows[found.chosen]) if found.chosen else None
        for mode in missing:
            if inverse is None:
                break
            mixed = (found.rows[mode - 1] @ inverse).abs()
            gap = found.rates[mode - 1] - found.rates[found.chosen]
            good = (mixed > 0) & (gap > 0)
            times += [(torch.log(1 / mixed[good]) / gap[good]).clamp_min(0.0).min()] if bool(good.any()) else []
        out[member] = torch.stack(times).min()
    return out


def _absent(problem: Canonical) -> Tensor:
    """Modes whose rows of B and C are both zero at the level of rounding of the factors, (S, p) bool."""
    rows = torch.hypot(torch.linalg.vector_norm(problem.B, dim=-1), torch.linalg.vector_norm(problem.C, dim=-1))
    noise = torch.finfo(rows.dtype).eps * sum(problem.B.shape[-2:]) * torch.linalg.vector_norm(rows, dim=-1)
    return rows[:, : _landscape(problem).pairs] <= noise[:, None]


def _decompositions(problem: Canonical) -> list[Pivots | None]:
    """Rotated rows and pivots of each member; None where no closed form exists."""
    omega, cos, sin = rotated_modes(_landscape(problem).sigma, row_imbalance(problem.B, problem.C))
    found: list[Pivots | None] = []
    for member, closed in enumerate(closed_form_holds(problem)):
        if not closed:
            found.append(None)
            continue
        B, C = problem.B[member], problem.C[member]
        x, y = cos[member][:, None], sin[member][:, None]
        rows = torch.cat([x * B + y * C, x * C - y * B])
        found.append(pivots_of(rows, torch.cat([omega[member], -omega[member]])))
    return found


def convergence_rate(problem: Canonical) -> Tensor:
    """2ν in canonical time for each member, (S,); NaN where no closed form exists or the decay is algebraic.

    Every other row of c is a combination L of the pivots; L_kj decays like e^{−(e_j − e_k)t}, and the slowest of
    those present is ν. Pairs of equal rates only turn within a tie or a null space. Holds at the Eckart–Young
    limit; a start that ends elsewhere gets NaN.
    """
    sigma = _landscape(problem).sigma
    wanted = list(range(min(problem.rank, int((sigma > 0).sum()))))
    out = sigma.new_full((problem.B.shape[0],), torch.nan)
    for member, (found, kept) in enumerate(zip(_decompositions(problem), kept_modes(problem), strict=True)):
        if found is None or kept != wanted or not wanted:
            continue
        c, rates, pivots = found.rows, found.rates, found.chosen
        if bool((rates[pivots] == 0).any()):
            continue  # λ = 0 and null directions among the pivots: algebraic
        inverse = torch.linalg.pinv(c[pivots])
        rounding = torch.finfo(c.dtype).eps * sum(c.shape)
        gaps = rates[pivots] - rates[:, None]
        mixed = (c @ inverse).abs() > rounding * torch.linalg.matrix_norm(c) * torch.linalg.matrix_norm(inverse)
        mixed &= gaps > rounding * rates.abs().max()
        mixed[pivots] = False
        # Each kept mode also approaches its own σ, at 2ω.
        out[member] = 2 * torch.cat([gaps[mixed], 2 * rates[kept[-1:]]]).min()
    return out


def sharpness_limit(problem: Canonical) -> Tensor:
    """λ_max = ‖A‖₂² + ‖B‖₂² of the canonical Hessian at the Eckart–Young limit, (S,); NaN where not known.

    At the limit AAᵀ and BᵀB have the eigenvalues ω_i ∓ λ_i/2 of the modes that are there; for one common λ this is
    √(4σ1² + λ²).
    """
    half = row_imbalance(problem.B, problem.C) / 2
    omega = torch.hypot(_landscape(problem).sigma.expand_as(half), half)
    rows = torch.hypot(torch.linalg.vector_norm(problem.B, dim=-1), torch.linalg.vector_norm(problem.C, dim=-1))
    there = rows > 0
    out = torch.where(there, omega - half, 0.0).amax(-1) + torch.where(there, omega + half, 0.0).amax(-1)
    known = torch.tensor(closed_form_holds(problem), device=out.device)
    reached = excess_limit(problem) == 0
    return torch.where(known & reached, out, torch.full_like(out, torch.nan))


def local_rate(problem: Canonical, B: Tensor, C: Tensor) -> Tensor:
    """2ν from the Gram matrices of states (S, q, r) at a minimum, any imbalance; canonical; NaN where algebraic.

    K_a = CᵀC and K_b = BᵀB. Rank below rank Δ: the smallest eigenvalue of [[K_a, −σI], [−σI, K_b]] for the next
    smaller singular value σ. Rank equal to rank Δ: the smallest of λ_min(K_a) + λ_min(K_b) and, where B (A) has a
    part outside the range of Δ, λ_min(K_a) (λ_min(K_b)).
    """
    landscape = _landscape(problem)
    sigma, rank = landscape.sigma, problem.rank
    present = int((sigma > 0).sum())
    gram_a, gram_b = C.mT @ C, B.mT @ B
    if rank < present:
        beyond = sigma[rank:] < sigma[rank - 1] * (1 - torch.finfo(sigma.dtype).eps * len(sigma))
        if not bool(beyond.any()):
            return sigma.new_zeros(B.shape[0])
        following = sigma[int(beyond.to(torch.int64).argmax()) + rank]
        cross = (-following * torch.eye(rank, dtype=B.dtype, device=B.device)).expand_as(gram_a)
        block = torch.cat([torch.cat([gram_a, cross], dim=-1), torch.cat([cross, gram_b], dim=-1)], dim=-2)
        return 2 * torch.linalg.eigvalsh(block)[..., 0]
    if rank > present:
        return sigma.new_full((B.shape[0],), torch.nan)
    least_a, least_b = torch.linalg.eigvalsh(gram_a)[..., 0], torch.linalg.eigvalsh(gram_b)[..., 0]
    nu = least_a + least_b
    outside_b = problem.B[:, present:].abs().amax((-2, -1)) > 0 if present < len(sigma) else least_a.new_zeros(()) > 0
    outside_c = problem.C[:, present:].abs().amax((-2, -1)) > 0 if present < len(sigma) else least_a.new_zeros(()) > 0
    nu = torch.where(outside_b, torch.minimum(nu, least_a), nu)
    return 2 * torch.where(outside_c, torch.minimum(nu, least_b), nu)


def loss_floor(problem: Canonical) -> Tensor:
    """½Σ_{i>r}σ_i², 0-d, from Δ alone: not by the landscape's floor, which is part of every recorded loss."""
    squares = _landscape(problem).sigma.square()
    ranks = torch.arange(1, len(squares) + 1, device=squares.device)
    return 0.5 * torch.where(ranks > problem.rank, squares, torch.zeros_like(squares)).flip(0).sum()


def energy(problem: Canonical) -> Tensor:
    """Share of the first r singular values of Δ in Σσ_i², 0-d; NaN for Δ = 0."""
    squares = _landscape(problem).sigma.square()
    return squares[: problem.rank].sum() / squares.sum()


def _landscape(problem: Canonical) -> FrobeniusLandscape:
    assert isinstance(problem.landscape, FrobeniusLandscape)
    return problem.landscape
