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
class Rates:
    """The rates of the rows of c: +ω for the first half, −ω for the second, with ω = base + above.

    ω − |λ|/2 = σ²/(ω + |λ|/2) is kept beside ω: for |λ| ≫ σ the differences of rates are differences of these, and
    lost in those of ω.

    Attributes
    ----------
    omega, base, above : Tensor, (..., q)
        ω, |λ|/2 and ω − |λ|/2.
    """

    omega: Tensor
    base: Tensor
    above: Tensor

    @classmethod
    def of(cls, sigma: Tensor, omega: Tensor, value: Tensor) -> Rates:
        """From σ and ω (..., q) and λ, broadcast against them."""
        base = (value.abs() / 2).expand_as(omega)
        total = omega + base
        return cls(omega, base, sigma.square() / torch.where(total > 0, total, torch.ones_like(total)))

    def member(self, index: int | slice) -> Rates:
        """The rates of some of a batch (S, q)."""
        return Rates(self.omega[index], self.base[index], self.above[index])

    @property
    def signed(self) -> Tensor:
        """e, (..., 2q)."""
        return torch.cat([self.omega, -self.omega], dim=-1)

    @property
    def shifted(self) -> Tensor:
        """e − |λ|/2, (..., 2q)."""
        return torch.cat([self.above, -self.omega - self.base], dim=-1)


@dataclass(frozen=True)
class Pivots:
    """One member's rows, and which of them carry the state.

    Attributes
    ----------
    rows : Tensor, (2q, r)
        c.
    spectrum : Rates, (q,)
    chosen : list of int
        J, in the order of falling rates; as many as the rank of c.
    order : list of int
        All rows by falling rate.
    """

    rows: Tensor
    spectrum: Rates
    chosen: list[int]
    order: list[int]

    @cached_property
    def rates(self) -> Tensor:
        """e, the rate of each row, (2q,)."""
        return self.spectrum.signed

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

    @cached_property
    def gaps(self) -> Tensor:
        """e_j − e_k of every row k and pivot j, (2q, |J|), without cancellation between rows of one sign."""
        sign = torch.cat([torch.ones_like(self.spectrum.omega), -torch.ones_like(self.spectrum.omega)])
        base, above = (torch.cat([x, x]) for x in (self.spectrum.base, self.spectrum.above))
        difference = (above[self.chosen] - above[:, None]) + (base[self.chosen] - base[:, None])
        same = sign[self.chosen] == sign[:, None]
        return torch.where(same, sign[:, None] * difference, self.rates[self.chosen] - self.rates[:, None])

    @cached_property
    def equal(self) -> Tensor:
        """Whether row k and pivot j have one rate to rounding, (2q, |J|)."""
        base, above = (torch.cat([x, x]) for x in (self.spectrum.base, self.spectrum.above))
        size = above[self.chosen] + above[:, None]
        size = torch.where(
            base[self.chosen] == base[:, None], size, self.rates[self.chosen].abs() + self.rates.abs()[:, None]
        )
        return self.gaps.abs() <= torch.finfo(self.rows.dtype).eps * sum(self.rows.shape) * size

    @property
    def condition(self) -> float:
        """Condition number of the pivots, each scaled to length 1; 1 if there is none."""
        if not self.chosen:
            return 1.0
        values = torch.linalg.svdvals(self.rows[self.chosen] / self._lengths[:, None])
        return float(values[0] / values[-1])


def pivots_of(rows: Tensor, spectrum: Rates) -> Pivots:
    """The pivots of rows (2q, r) with rates (q,); rows that are dependent to rounding count as dependent.

    Judged by the smallest singular value, not by what a row has outside the span of the others: where these are
    nearly dependent themselves, that is amplified rounding.
    """
    fine = torch.argsort(torch.cat([spectrum.above, -spectrum.above]), descending=True, stable=True)
    order = fine[torch.argsort(spectrum.signed[fine], descending=True, stable=True)].tolist()
    rank = rows.shape[-1]
    noise = torch.finfo(rows.dtype).eps * sum(rows.shape) * torch.linalg.matrix_norm(rows, ord=2)

    def independent(indices: list[int]) -> bool:
        return bool(torch.linalg.svdvals(rows[indices])[-1] > noise)

    if independent(order[:rank]):
        return Pivots(rows, spectrum, order[:rank], order)
    chosen: list[int] = []
    for index in order:
        if len(chosen) == rank:
            break
        if independent([*chosen, index]):
            chosen.append(index)
    return Pivots(rows, spectrum, chosen, order)


def jump(start: Pivots, h: float) -> Tensor:
    """The rows after a time h, (2q, r), up to one orthogonal matrix on the right."""
    rows, rates, chosen = start.rows, start.rates, start.chosen
    if not chosen:
        return torch.zeros_like(rows)
    up, down = rates.clamp_min(0.0), rates.clamp_max(0.0)
    lead = up[chosen]
    mixed = start.combinations
    # Exponents of zero entries may be positive: they are masked before the exponential, not after.
    growing = (rates[:, None] > 0) & (lead > 0)
    late = torch.where(growing, -start.gaps, up[:, None] - lead)
    late = torch.where(mixed != 0, late.clamp_max(0.0), torch.zeros_like(mixed))
    span = mixed * torch.exp(late * h)
    R = torch.linalg.qr(torch.cat([start.inverse * torch.exp(-lead * h), _psi(rates, h)[:, None] * span]), mode="r").R
    moved = torch.linalg.solve_triangular(R, torch.exp(down * h)[:, None] * span, upper=True, left=False)
    return torch.cat([moved, moved.new_zeros(len(rows), rows.shape[-1] - len(chosen))], dim=-1)


def _psi(rates: Tensor, h: float) -> Tensor:
    """√((1 − e^{−2|e|h})/(2|e|)), √h where e = 0."""
    size = rates.abs()
    safe = torch.where(size > 0, size, torch.ones_like(size))
    return torch.where(size > 0, -torch.expm1(-2 * safe * h) / (2 * safe), torch.full_like(size, h)).sqrt()
