"""The exact λ-balanced flow over any time as one step for a batch, in graph coordinates: no exponent is positive.

Z' = S_λZ − ½ZZᵀZ with Z = [B; C] and S_λ = [[λ/2, Σ], [Σ, −λ/2]] is a matrix Riccati flow for ZZᵀ whatever BᵀB − CᵀC
is; where that is λI it is LoRA's own flow. Its rows c = [X; Y] in the eigenbasis of S_λ (`exact.balanced`) have rates
e = [ω; −ω], and with N = I + Σ_k φ(e_k)c_kᵀc_k, φ(e) = (e^{2eh} − 1)/(2e), the state after h is e^{eh}cN^{−½} up to an
orthogonal matrix on the right.

Nothing grows faster than the r leading rows X1, whose rates are D. The other rows R are a graph over them,
c = [I; L]X1, and with D_r the least of D and U = X1⁻¹·diag e^{(D_r − D)h},

    c⁺ = [I; diag a·R·U]·K⁻ᵀO,   KKᵀ = Uᵀ(e^{−2D_r h}I + Rᵀ diag g·R)U + diag f(D),
    a = e^{(e − D_r)h},   g = e^{2(max(e, 0) − D_r)h}·f(e),   f(e) = (1 − e^{−2|e|h})/(2|e|), h where e = 0.

The rotation O makes cᵀc⁺ symmetric and positive (Procrustes): along the flow ZᵀZ' is symmetric, so this gauge is right
to second order in h, undone by a step of −h, and the identity at a fixed point whatever h. Rounding is amplified by
the condition of X1 with rows of length 1: once in a, and twice in g, of which only Grams are formed.

References
----------
Bittanti, S., Laub, A. J. & Willems, J. C. (1991). The Riccati Equation. Springer. (Solutions as graphs.)
Dominé, C. et al. (2024). From lazy to rich: exact learning dynamics in deep linear networks. arXiv:2409.14623
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowsim.integrators.adaptive.small import cholesky, inverse, polar
from flowsim.integrators.exact.one_shot import Rates


class Exponents(NamedTuple):
    """Exponents per unit of time of q pairs of rows, r of them leading, for a batch.

    Attributes
    ----------
    late : Tensor, (S, 2n + r + 1) with n = 2q − r
        None positive: e − D_r and 2(max(e, 0) − D_r) of the n rows beside the leading ones, D_r − D, −2D_r.
    twice : Tensor, (S, 2q)
        2|e|.
    """

    late: Tensor
    twice: Tensor

    @classmethod
    def of(cls, rates: Rates, rank: int) -> Exponents:
        """From the rates of q rows, the largest first."""
        omega, above = rates.omega, rates.above - rates.above[..., rank - 1 : rank]
        slowest = omega[..., rank - 1 : rank]
        others = above[..., rank:]
        # Between rows of one sign, differences of ω − |λ|/2: for |λ| ≫ σ those of ω would be rounding.
        late = [others, -omega - slowest, 2 * others, -2 * slowest.expand_as(omega), -above[..., :rank], -2 * slowest]
        return cls(torch.cat(late, dim=-1).clamp_max(0.0), 2 * rates.signed.abs())


class Coefficients(NamedTuple):
    """What multiplies the rows over a time h, (..., 1 or as said) for any batch dimensions.

    Attributes
    ----------
    moved, kept : Tensor, (..., n)
        a and g of the n = 2q − r rows beside the leading ones.
    lead, own : Tensor, (..., r)
        e^{(D_r − D)h} and f(D) of the leading rows.
    start : Tensor, (..., 1)
        e^{−2D_r h}.
    """

    moved: Tensor
    kept: Tensor
    lead: Tensor
    own: Tensor
    start: Tensor

    @classmethod
    def over(cls, exponents: Exponents, h: Tensor) -> Coefficients:
        """For times h ≥ 0, (..., S, 1)."""
        late, twice = exponents
        rank = 2 * twice.shape[-1] + 1 - late.shape[-1]
        still = twice == 0
        share = torch.where(still, h, -torch.expm1(-twice * h) / torch.where(still, 1.0, twice))
        rows = twice.shape[-1] - rank
        moved, kept, lead, start = torch.split(torch.exp(late * h), [rows, rows, rank, 1], dim=-1)
        return cls(moved, kept * share[..., rank:], lead, share[..., :rank], start)

    def part(self, members: slice) -> Coefficients:
        """Those of some members of the first batch dimension."""
        return Coefficients(*(x[members] for x in self))

    def flat(self) -> Coefficients:
        """The first two batch dimensions as one."""
        return Coefficients(*(x.flatten(0, 1) for x in self))


def advance(state: Tensor, over: Coefficients, room: Tensor | None = None) -> Tensor:
    """Rows c (G, 2q, r) after the time of the coefficients (G, ...), in the place of those before.

    Parameters
    ----------
    state : Tensor, (G, 2q, r)
        Overwritten, and returned.
    room : Tensor, (G, 2q − r, 2r), optional
        Scratch space.
    """
    rank = state.shape[-1]
    lead, rest = state[:, :rank], state[:, rank:]
    if room is None:
        room = state.new_empty(*rest.shape[:2], 2 * rank)
    moved = torch.mul(rest, over.moved[..., None], out=room[..., :rank])
    torch.mul(rest, over.kept[..., None], out=room[..., rank:])
    # Rows scaled to one length: a mode not yet learned is a tiny row, and must not cost the others digits.
    length = torch.linalg.vector_norm(lead, dim=-1)
    U = inverse(lead / length[..., None]) * (over.lead / length)[..., None, :]
    both = torch.bmm(U.mT, torch.bmm(rest.mT, room))
    P = torch.bmm(torch.addcmul(both[..., rank:], over.start[..., None], U.mT), U)
    P.diagonal(dim1=-2, dim2=-1).add_(over.own)
    K = cholesky(P)
    turn = polar(torch.linalg.solve_triangular(K, lead + both[..., :rank], upper=False))
    head = torch.linalg.solve_triangular(K.mT, turn, upper=True)
    torch.bmm(moved, torch.bmm(U, head), out=rest)
    state[:, :rank] = head
    return state
