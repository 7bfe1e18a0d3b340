"""The λ-balanced flow from a start with one factor zero (LoRA's B = 0): half the rows of `balanced`.

There the rotated rows X and Y are parallel, X = p·F and Y = ±s·F with F the factor that moves and p ≥ s the two of
cos θ and sin θ, and stay so: Y = (±s/p)e^{−2ωt}·X. The sub-steps need X alone,

    X⁺ = e^{ωh}X·M,   M·Mᵀ = N⁻¹,   N = I + Σ_i (φ(ω_i) + (s_i/p_i)²e^{−4ω_it}φ(−ω_i))x_ix_iᵀ,

and the factors are X·(p + (s²/p)e^{−2ωt}) and X·s(1 − e^{−2ωt}): no difference is formed, and zero is zero at first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.integrators.exact.grams import shifted_root
from flowsim.integrators.exact.one_shot import Rates


@dataclass(frozen=True)
class Rows:
    """The rows that move, and how Y follows X.

    Attributes
    ----------
    X : Tensor, (S, q, r)
    main, side : Tensor, (S, q)
        p and s.
    """

    X: Tensor
    main: Tensor
    side: Tensor

    @classmethod
    def of(cls, moving: Tensor, cos: Tensor, sin: Tensor) -> Rows:
        """From the factor that moves (S, q, r); rows that are zero to rounding are zero."""
        main, side = torch.maximum(cos, sin), torch.minimum(cos, sin)
        X = main[..., None] * moving
        noise = torch.finfo(X.dtype).eps * sum(X.shape[-2:]) * torch.linalg.matrix_norm(X)
        return cls(
            torch.where(torch.linalg.vector_norm(X, dim=-1)[..., None] > noise[:, None, None], X, 0.0), main, side
        )

    @property
    def lost(self) -> Tensor:
        """How many times its own rounding a row has lost, (S,): X is no small sum of rows of B and C."""
        return (1 / self.main).amax(-1)

    def factors(self, X: Tensor, omega: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """The factor that moved at first, and the other, from X at `times`, (T, S, q, r) each; X is overwritten."""
        exponent = -2 * omega * times[:, None, None]
        more = self.side.square() / self.main * torch.exp(exponent)
        first = (self.main + more)[..., None] * X
        return first, X.mul_((self.side * -torch.expm1(exponent))[..., None])

    def step(self, rates: Rates, X: Tensor, t: float, h: float) -> Tensor:
        """X after a sub-step h from time t."""
        omega = rates.omega
        safe = torch.where(omega > 0, omega, 1.0)
        grown = torch.where(omega > 0, torch.expm1(2 * safe * h) / (2 * safe), h)
        faded = torch.where(omega > 0, -torch.expm1(-2 * safe * h) / (2 * safe), h)
        weights = grown + (self.side / self.main * torch.exp(-2 * omega * t)).square() * faded
        R = shifted_root(weights.sqrt()[..., None] * X, 2 * math.exp(float(omega.max()) * h))
        # What all rows grow by is divided out of the root, as in `balanced`.
        R = R * torch.exp(-rates.base[..., :1] * h)[..., None]
        return torch.linalg.solve_triangular(R, torch.exp(rates.above * h)[..., None] * X, upper=True, left=False)
