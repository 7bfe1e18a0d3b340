"""A stepper of the Frobenius flow that stays where it has arrived: a horizon beyond costs nothing.

Explicit steps are no longer than their stability interval allows, also where nothing moves any more. Between two blocks
of steps it is judged here whether what is left of the way is far below the tolerance (`standing`), once a block and not
once a step; from then on a step keeps the state, and may be as long as is asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.integrators.adaptive.standing import standing
from flowsim.integrators.adaptive.stepper import Carry, Stepper, per_member

SHARE = 0.1  # of the tolerance of the stepper: what a state at rest may be off, besides the error of its steps


class Resting:
    """A stepper, and the times for which its states stay.

    The last tensor carried is that time, 0 or long, (S, 1); the others are those of the stepper.

    Parameters
    ----------
    stepper : Stepper
        Steps states (S, 2, q, r) with r ≤ q, for which h = 0 is no motion.
    sigma : Tensor, (q,)
        Σ of the landscape, r of them at least singular values of its difference.
    rtol, atol : float
        Tolerances.
    factors : bool
        Whether B and C themselves are judged, or BCᵀ.
    """

    def __init__(self, stepper: Stepper, sigma: Tensor, *, rtol: float, atol: float, factors: bool) -> None:
        self.stepper, self.sigma, self.rtol, self.atol, self.factors = stepper, sigma, rtol, atol, factors
        self.name, self.block = stepper.name, stepper.block

    @property
    def order(self) -> int:
        """That of the stepper."""
        return self.stepper.order

    @property
    def cost(self) -> int:
        """That of the stepper, also at rest."""
        return self.stepper.cost

    def begin(self, start: Tensor) -> tuple[Tensor, Carry]:
        """What the stepper begins with; nobody rests."""
        y, carry = self.stepper.begin(start)
        return y, (*carry, torch.zeros(len(y), 1, dtype=torch.float64, device=y.device))

    def first_step(self, y: Tensor, carry: Carry, stop: Tensor) -> Tensor:
        """That of the stepper."""
        return self.stepper.first_step(y, carry[:-1], stop)

    def step(self, y: Tensor, carry: Carry, h: Tensor) -> tuple[Tensor, Tensor, Carry]:
        """One step; at rest one of length 0, whatever h."""
        new, ratio, own = self.stepper.step(y, carry[:-1], torch.where(h <= carry[-1][:, 0], 0.0, h))
        return new, ratio, (*own, carry[-1])

    def longest(self, y: Tensor, carry: Carry) -> Tensor | None:
        """That of the stepper, or the time of rest."""
        longest = self.stepper.longest(y, carry[:-1])
        return None if longest is None else torch.maximum(longest, carry[-1][:, 0])

    def demand(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor | None:
        """That of the stepper from those on their way; this is where the rest of the batch is found out."""
        carry[-1].copy_(self._rest(y)[:, None])
        demand = self.stepper.demand(y, carry[:-1], h)
        return None if demand is None else torch.where(carry[-1][:, 0] > 0, 0.0, demand)

    @property
    def setting(self) -> int:
        """That of the stepper."""
        return self.stepper.setting

    def choose(self, demand: float, present: int) -> int:
        """That of the stepper; the present one at rest."""
        return self.stepper.choose(demand, present) if demand > 0 else present

    def use(self, setting: int) -> None:
        """As the stepper."""
        self.stepper.use(setting)

    def inside(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor:
        """States a shorter time after earlier ones, some of which were on their way and some at rest."""
        still = h <= self._rest(y)
        moved = self.stepper.inside(y, carry[:-1], torch.where(still, 0.0, h))
        return torch.where(per_member(still, y), y, moved)

    @property
    def cost_inside(self) -> int:
        """That of the stepper."""
        return self.stepper.cost_inside

    def output(self, y: Tensor, carry: Carry) -> Tensor:
        """That of the stepper."""
        return self.stepper.output(y, carry[:-1])

    def _rest(self, y: Tensor) -> Tensor:
        tolerance = {"rtol": SHARE * self.rtol, "atol": SHARE * self.atol}
        curvature = self._curvature(y) if self.factors else y.new_zeros(len(y))
        return standing(self.sigma, y, curvature, **tolerance, factors=self.factors).rest.to(torch.float64)

    def _curvature(self, y: Tensor) -> Tensor:
        """Half the least eigenvalue of the Hessian at a minimum, but for the gauge's zeros, or less, from states there.

        Rows beyond the first r see [[CᵀC, −σ_{r+1}I], [−σ_{r+1}I, BᵀB]] or a smaller σ; within the first r the
        eigenvalues are sums of one of BᵀB and one of CᵀC, none of which is less.
        """
        rank = y.shape[-1]
        B, C = (y.mT @ y).unbind(1)
        cross = -self.sigma[rank : rank + 1].sum() * torch.eye(rank, dtype=y.dtype, device=y.device).expand_as(B)
        block = torch.cat([torch.cat([C, cross], dim=-1), torch.cat([cross, B], dim=-1)], dim=-2)
        # A state that is not finite rests nowhere, and would not decompose.
        finite = torch.isfinite(block).flatten(1).all(1)
        least = torch.linalg.eigvalsh(torch.where(per_member(finite, block), block, 0.0))[:, 0]
        return torch.where(finite, 0.5 * least.clamp_min(0.0), 0.0)
