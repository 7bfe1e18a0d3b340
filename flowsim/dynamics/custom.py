"""The flow of any objective in full matrices: W = W0 + BCᵀ is formed, and ∇f evaluated at it.

Coordinates are scaled only: B̂ = √s·B, Ĉ = √s·Aᵀ and t̂ = s·t turn A' = −s·Bᵀ∇f, B' = −s·∇f·Aᵀ into
B̂' = −∇f·Ĉ, Ĉ' = −∇fᵀ·B̂, and a learning rate η into a step s·η. A state stacks the rows of B and of C, (n + m, r).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics.rounds import Step
from flowsim.problem.custom import Custom
from flowsim.problem.objectives import Adapter


@dataclass(frozen=True, eq=False)
class CustomFlow:
    """A batch of adapters on one objective.

    Attributes
    ----------
    objective : Custom
    B, C : Tensor, (S, n, r) and (S, m, r)
        Scaled factors at time 0; C is the transpose of Â.
    scale : float
        s, also the scaled time per unit of flow time.
    """

    objective: Custom
    B: Tensor
    C: Tensor
    scale: float

    @classmethod
    def of(cls, objective: Custom, adapter: Adapter) -> CustomFlow:
        """From an adapter with or without a batch dimension."""
        adapter.fits(objective)
        A, B = (X if adapter.batched else X[None] for X in (adapter.A, adapter.B))
        root = adapter.scale**0.5
        return cls(objective, root * B, root * A.mT, adapter.scale)

    def member(self, place: int) -> CustomFlow:
        """The same flow of one adapter, S = 1."""
        return CustomFlow(self.objective, self.B[place : place + 1], self.C[place : place + 1], self.scale)

    def factors(self, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        """A (..., r, m) and B (..., n, r) of the user."""
        root = self.scale**0.5
        return C.mT / root, B / root

    def weight(self, B: Tensor, C: Tensor) -> Tensor:
        """W, (..., n, m)."""
        return self.objective.pretrained + B @ C.mT

    def pulls(self, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        """−∇f·C and −∇fᵀ·B, at one evaluation of the gradient."""
        slope = self.objective.gradient(self.weight(B, C))
        return -(slope @ C), -(slope.mT @ B)

    def stack(self, B: Tensor, C: Tensor) -> Tensor:
        """The state (..., n + m, r)."""
        return torch.cat([B, C], dim=-2)

    def split(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """B and C of a state."""
        rows = self.objective.shape[0]
        return Z[..., :rows, :], Z[..., rows:, :]

    def velocity(self, Z: Tensor) -> Tensor:
        """Right-hand side of the flow, of the shape of the state."""
        return self.stack(*self.pulls(*self.split(Z)))


def round_of(flow: CustomFlow, update: str, step: float, inner_steps: int = 1) -> Step:
    """One round of gradient descent, as `dynamics.descent.descent_step`; `step` is s·η."""

    def move_b(B: Tensor, C: Tensor) -> Tensor:
        for _ in range(inner_steps):
            B = B + step * flow.pulls(B, C)[0]
        return B

    def move_c(B: Tensor, C: Tensor) -> Tensor:
        for _ in range(inner_steps):
            C = C + step * flow.pulls(B, C)[1]
        return C

    def simultaneous(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(inner_steps):
            pull_b, pull_c = flow.pulls(B, C)
            B, C = B + step * pull_b, C + step * pull_c
        return B, C

    def a_first(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C = move_c(B, C)
        return move_b(B, C), C

    def b_first(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        B = move_b(B, C)
        return B, move_c(B, C)

    return {"simultaneous": simultaneous, "a_first": a_first, "b_first": b_first}[update]
