"""The λ-balanced flow over any length of time in one step: exponents ≤ 0 only, no sub-steps, products alone.

Order the rows of c = [X; Y] by falling rate e and pick the first linearly independent ones, the pivots J. Every other
row is a combination of the pivots before it, c_k = Σ_j L_kj·c_j, and with N = I + Σφ(e_j)c_jᵀc_j the state is
c(t)c(t)ᵀ = E(RᵀR)⁻¹Eᵀ, where d_j = e^{−max(e_j, 0)t}, ψ(e)² = (1 − e^{−2|e|t})/(2|e|) and

    E_j = e^{min(e_j, 0)t},   E_kj = e^{(e_k − max(e_j, 0))t}·L_kj,
    RᵀR = [c_J⁺·diag d]ᵀ[…] + diag ψ_j² + Σ_k (ψ_k·e^{(max(e_k, 0) − max(e_j, 0))t}·L_kj)ᵀ(…).

Nothing grows: a pivot's rate is never below that of a row that depends on it. The rounding is that of c_J⁺, hence
proportional to the condition number of the pivots, each scaled to length 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pivots:
    """One member's rows, and which of them carry the state.

    Attributes
    ----------
    rows : Tensor, (2q, r)
        c.
    rates : Tensor, (2q,)
        e, the rate of each row.
    chosen : list of int
        J, in the order of falling rates; as many as the rank of c.
    order : list of int
        All rows by falling rate.
    """

    rows: Tensor
    rates: Tensor
    chosen: list[int]
    order: list[int]

    @cached_property
    def _lengths(self) -> Tensor:
        return torch.linalg.vector_norm(self.rows[self.chosen], dim=-1)

    @cached_property
    def inverse(self) -> Tensor:
        """c_J⁺ (r, |J|). The rows are scaled to length 1 first: a tiny row then costs no digits of the others."""
        return torch.linalg.pinv(self.rows[self.chosen] / self._lengths[:, None]) / self._lengths

    @cached_property
    def combinations(self) -> Tensor:
        """L (2q, |J|) with rows = L·rows[J]; zero where a pivot comes after the row in the order."""
        mixed = self.rows @ self.inverse
        place = torch.empty(len(self.order), dtype=torch.int64, device=self.rows.device)
        place[self.order] = torch.arange(len(self.order), device=self.rows.device)
        mixed = torch.where(place[self.chosen] <= place[:, None], mixed, torch.zeros_like(mixed))
        mixed[self.chosen] = torch.eye(len(self.chosen), dtype=mixed.dtype, device=mixed.device)
        return mixed

    @property
    def condition(self) -> float:
        """Condition number of the pivots, each scaled to length 1; 1 if there is none."""
        if not self.chosen:
            return 1.0
        values = torch.linalg.svdvals(self.rows[self.chosen] / self._lengths[:, None])
        return float(values[0] / values[-1])


def pivots_of(rows: Tensor, rates: Tensor) -> Pivots:
    """The pivots of rows (2q, r) with rates (2q,); rows that are dependent to rounding count as dependent.

    Judged by the smallest singular value, not by what a row has outside the span of the others: where these are
    nearly dependent themselves, that is amplified rounding.
    """
    order = torch.argsort(rates, descending=True, stable=True).tolist()
    rank = rows.shape[-1]
    noise = torch.finfo(rows.dtype).eps * sum(rows.shape) * torch.linalg.matrix_norm(rows, ord=2)

    def independent(indices: list[int]) -> bool:
        return bool(torch.linalg.svdvals(rows[indices])[-1] > noise)

    if independent(order[:rank]):
        return Pivots(rows, rates, order[:rank], order)
    chosen: list[int] = []
    for index in order:
        if len(chosen) == rank:
            break
        if independent([*chosen, index]):
            chosen.append(index)
    return Pivots(rows, rates, chosen, order)


def jump(start: Pivots, h: float) -> Tensor:
    """The rows after a time h, (2q, r), up to one orthogonal matrix on the right."""
    rows, rates, chosen = start.rows, start.rates, start.chosen
    if not chosen:
        return torch.zeros_like(rows)
    up, down = rates.clamp_min(0.0), rates.clamp_max(0.0)
    lead = up[chosen]
    mixed = start.combinations
    # Exponents of zero entries may be positive: they are masked before the exponential, not after.
    late = torch.where(mixed != 0, (up[:, None] - lead).clamp_max(0.0), torch.zeros_like(mixed))
    span = mixed * torch.exp(late * h)
    R = torch.linalg.qr(torch.cat([start.inverse * torch.exp(-lead * h), _psi(rates, h)[:, None] * span]), mode="r").R
    moved = torch.linalg.solve_triangular(R, torch.exp(down * h)[:, None] * span, upper=True, left=False)
    return torch.cat([moved, moved.new_zeros(len(rows), rows.shape[-1] - len(chosen))], dim=-1)


def _psi(rates: Tensor, h: float) -> Tensor:
    """√((1 − e^{−2|e|h})/(2|e|)), √h where e = 0."""
    size = rates.abs()
    safe = torch.where(size > 0, size, torch.ones_like(size))
    return torch.where(size > 0, -torch.expm1(-2 * safe * h) / (2 * safe), torch.full_like(size, h)).sqrt()
