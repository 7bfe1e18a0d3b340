"""One step of an explicit Runge–Kutta pair whose last stage is the next step's first, for a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowsim.integrators.adaptive.stepper import Carry, Field, FieldStepper, per_member


class EmbeddedPair(FieldStepper):
    """y' = field(y) by a pair with s evaluations a step.

    Parameters
    ----------
    field : callable
    like : Tensor
        Dtype and device of the coefficients.
    order : int
        That of the solution; the embedded one, whose distance is the error estimate, is one lower.
    rows : sequence of sequences
        Coefficients of stages 2, …, s, and the weights.
    error : sequence
        Weights of the error estimate, s + 1.
    rtol, atol : float
        Tolerances of the invariant norm (`FieldStepper`).
    """

    def __init__(
        self, field: Field, like: Tensor, *, order: int, rows: Sequence[Sequence[float]], error: Sequence[float],
        rtol: float, atol: float,
    ) -> None:  # fmt: skip
        super().__init__(field, rtol=rtol, atol=atol)
        self._order = order
        self._rows = [like.new_tensor(row) for row in rows]
        self._error = like.new_tensor(error)

    @property
    def order(self) -> int:
        """k of the controller."""
        return self._order

    @property
    def cost(self) -> int:
        """Evaluations of one step."""
        return len(self._rows)

    def step(self, y: Tensor, carry: Carry, h: Tensor) -> tuple[Tensor, Tensor, Carry]:
        """One step of every member."""
        # Stages first, times h: what a stage is evaluated at is then one matrix-vector product added to y.
        stages = y.new_empty(self.cost + 1, *y.shape)
        flat, length, start = stages.view(len(stages), -1).mT, per_member(h, y), y.reshape(-1)
        slope, new = carry[0], y
        for place, row in enumerate(self._rows, start=1):
            torch.mul(slope, length, out=stages[place - 1])
            new = torch.addmv(start, flat[:, :place], row).view_as(y)
            slope = self.field(new)
        torch.mul(slope, length, out=stages[-1])
        return new, self.ratio((flat @ self._error).view_as(y), y, new), (slope,)
