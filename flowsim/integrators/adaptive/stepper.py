"""What a stepper is to the driver: one step of a batch, with its own error in units of the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Field = Callable[[Tensor], Tensor]
Carry = tuple[Tensor, ...]


class Stepper(Protocol):
    """One step for a batch of trajectories, each with its own step size; nothing in `step` is read by the host.

    Attributes
    ----------
    name : str
        As in `adaptive.STEPPERS`.
    order : int
        k of the controller: the estimate of a step's error falls like h^k.
    cost : int
        Right-hand sides, or exact sub-flows, of one step at its present setting.
    block : int
        Most steps that may be taken between two looks at who is done: many where a step is cheap.
    """

    name: str
    block: int

    @property
    def order(self) -> int:
        """k of the controller."""

    @property
    def cost(self) -> int:
        """Evaluations of one step."""

    def begin(self, start: Tensor) -> tuple[Tensor, Carry]:
        """The state (S, ...) as the stepper steps it, and what it carries along: every tensor has the batch first."""

    def first_step(self, y: Tensor, carry: Carry, stop: Tensor) -> Tensor:
        """First steps (S,), no longer than `stop`, which shrink with the tolerance."""

    def step(self, y: Tensor, carry: Carry, h: Tensor) -> tuple[Tensor, Tensor, Carry]:
        """States after `h` (S,), errors in units of the tolerance (S,), and what is carried on; h = 0 returns y."""

    def longest(self, y: Tensor, carry: Carry) -> Tensor | None:
        """Longest steps (S,) that the present setting allows at y; None: any."""

    def demand(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor | None:
        """What the setting of the next block depends on, (S,); None: nothing."""

    @property
    def setting(self) -> int:
        """The present setting, the first one at the beginning: steps at equal settings run the same operations."""

    def choose(self, demand: float, present: int) -> int:
        """The setting that suits a trajectory with this demand and its present setting."""

    def use(self, setting: int) -> None:
        """Make it the present one."""

    def inside(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor:
        """States `h` (S,) after earlier states y of the same trajectories, less than the step accepted there."""

    @property
    def cost_inside(self) -> int:
        """Evaluations of `inside`."""

    def output(self, y: Tensor, carry: Carry) -> Tensor:
        """States y in the coordinates of the start."""


class OneSetting:
    """A stepper without settings to choose between."""

    def demand(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor | None:
        """No setting to choose."""
        return None

    @property
    def setting(self) -> int:
        """The only one."""
        return 0

    def choose(self, demand: float, present: int) -> int:
        """The only one."""
        return present

    def use(self, setting: int) -> None:
        """It is in use."""


class FieldStepper(OneSetting):
    """What all steppers of y' = field(y) have in common: they carry the slope, in the coordinates of the start.

    The norm of a trajectory is that of all its entries, ‖e‖ ≤ atol·√N + rtol·max(‖y‖, ‖y⁺‖): no rotation of rows
    and no gauge changes it, and no other member of the batch enters.
    """

    block = 32

    def __init__(self, field: Field, *, rtol: float, atol: float) -> None:
        self.field, self.rtol, self.atol = field, rtol, atol

    @property
    def order(self) -> int:
        """k of the controller."""
        raise NotImplementedError

    def begin(self, start: Tensor) -> tuple[Tensor, Carry]:
        """The start itself, and its slope."""
        return start, (self.field(start),)

    def first_step(self, y: Tensor, carry: Carry, stop: Tensor) -> Tensor:
        """Half a time constant, or the horizon, times rtol^(1/k); the horizon where nothing moves."""
        size, speed = norm(y), norm(carry[0])
        moving = (size > 0) & (speed > 0)
        constant = torch.where(moving, size / torch.where(moving, speed, 1.0), torch.inf)
        return torch.where(moving, 0.5 * torch.minimum(constant, stop) * self.rtol ** (1 / self.order), stop)

    def ratio(self, error: Tensor, y: Tensor, new: Tensor) -> Tensor:
        """‖error‖ in units of the tolerance, (S,)."""
        wrong = norm(error)
        allowed = self.atol * y[0].numel() ** 0.5 + self.rtol * torch.maximum(norm(y), norm(new))
        return torch.where(wrong == 0, wrong, wrong / allowed)

    def longest(self, y: Tensor, carry: Carry) -> Tensor | None:
        """Any step."""
        return None

    def step(self, y: Tensor, carry: Carry, h: Tensor) -> tuple[Tensor, Tensor, Carry]:
        """One step of every member."""
        raise NotImplementedError

    @property
    def cost(self) -> int:
        """Evaluations of one step."""
        raise NotImplementedError

    def inside(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor:
        """One shorter step: interpolants are less accurate than steps."""
        return self.step(y, self.begin(y)[1], h)[0]

    @property
    def cost_inside(self) -> int:
        """That of a step, and the slope at its beginning."""
        return 1 + self.cost

    def output(self, y: Tensor, carry: Carry) -> Tensor:
        """The state itself."""
        return y


def norm(x: Tensor) -> Tensor:
    """‖x‖ of each trajectory (S, ...) over all its entries, (S,) float64."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1).to(torch.float64)


def per_member(values: Tensor, y: Tensor) -> Tensor:
    """Values (S,) in the dtype of states (S, ...) and shaped to multiply them; booleans stay booleans."""
    values = values if values.dtype == torch.bool else values.to(y.dtype)
    return values.view(-1, *(1 for _ in y.shape[1:]))
