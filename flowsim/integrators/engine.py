"""torchdiffeq's adaptive methods behind one adapter: the general engine and the independent oracle.

The error of a step is measured per trajectory in a norm that no rotation of rows and no gauge changes,
‖e‖_F/(atol·√N + rtol·‖Z‖_F) with N the number of entries, and the batch takes the largest. torchdiffeq's failures
are assertions; here they become a named status, every trajectory is then solved on its own, and each keeps what it
reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchdiffeq import odeint

from flowsim.integrators.base import Status

# Order of each method's interpolant is at most 4; methods above order 5 must step onto the wanted times.
METHODS = {"dopri5": 5, "dopri8": 8, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 2}
MAX_STEPS = 200_000

Field = Callable[[Tensor], Tensor]


@dataclass
class Integrated:
    """States (T, S, ...) with status and counts for each trajectory."""

    states: Tensor
    status: list[Status]
    steps: list[int]
    evaluations: list[int]


@dataclass
class _Probe:
    """The right-hand side as torchdiffeq calls it, with counts and the state at the start of the step."""

    field: Field
    scale_state: Tensor
    rtol: float
    atol: float
    evaluations: int = 0
    steps: int = 0
    reached: list[Tensor] = field(default_factory=list)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 1
        return self.field(y)

    def callback_step(self, t: Tensor, y: Tensor, dt: Tensor) -> None:
        self.scale_state = y

    def callback_accept_step(self, t: Tensor, y: Tensor, dt: Tensor) -> None:
        self.steps += 1
        self.reached = [t + dt]

    def norm(self, error: Tensor) -> Tensor:
        """The largest member's error in units of its tolerance."""
        dims = tuple(range(1, error.ndim))
        entries = error[0].numel()
        size = self.scale_state.square().sum(dims).sqrt()
        tolerance = self.atol * entries**0.5 + self.rtol * size
        return (error.square().sum(dims).sqrt() / tolerance).max()


def integrate(
    velocity: Field, start: Tensor, times: Tensor, *, method: str, rtol: float, atol: float,
    max_steps: int = MAX_STEPS,
) -> Integrated:  # fmt: skip
    """Solve y' = velocity(y) from `start` (S, ...) at time 0 for the increasing `times` (T,).

    Parameters
    ----------
    velocity : callable
        Autonomous right-hand side, acting on the whole batch.
    method : str
        One of `METHODS`.
    rtol, atol : float
        Tolerances of the invariant norm above.
    max_steps : int
        Largest number of steps between two wanted times.

    Notes
    -----
    rtol = 0 and atol = 1 go to torchdiffeq, which then hands the bare error to our norm.
    """
    whole = _attempt(velocity, start, times, method, rtol, atol, max_steps)
    if whole.status[0] is Status.COMPLETED or start.shape[0] == 1:
        return whole
    alone = [
        _attempt(velocity, start[i : i + 1], times, method, rtol, atol, max_steps) for i in range(start.shape[0])
    ]
    return Integrated(
        torch.cat([one.states for one in alone], dim=1),
        [one.status[0] for one in alone],
        [one.steps[0] for one in alone],
        [one.evaluations[0] for one in alone],
    )


def _attempt(
    velocity: Field, start: Tensor, times: Tensor, method: str, rtol: float, atol: float, max_steps: int
) -> Integrated:
    batch = start.shape[0]
    clock = times.to(torch.float64)
    states = start.new_full((len(times), *start.shape), torch.nan)
    # torchdiffeq wants the initial time first and strictly increasing times after it.
    lead = int(bool(clock[0] > 0))
    grid = torch.cat([clock.new_zeros(1), clock]) if lead else clock
    if len(grid) == 1:
        states[0] = start
        return Integrated(states, [Status.COMPLETED] * batch, [0] * batch, [0] * batch)
    probe = _Probe(velocity, start, rtol, atol)
    try:
        states = _call(probe, start, grid, method, max_steps)[lead:]
        status = Status.COMPLETED
    except AssertionError as stop:
        status = _status_of(str(stop), probe)
        steps, evaluations = probe.steps, probe.evaluations
        done = int((grid <= probe.reached[0]).sum()) if probe.reached else 1
        if done > 1:  # the same steps again, asking only for the times that were reached
            again = _Probe(velocity, start, rtol, atol)
            states[: done - lead] = _call(again, start, grid[:done], method, max_steps)[lead:]
        elif not lead:
            states[0] = start
        probe.steps, probe.evaluations = steps, evaluations
    if status is Status.COMPLETED and not bool(torch.isfinite(states).all()):
        status = Status.DIVERGED
    return Integrated(states, [status] * batch, [probe.steps] * batch, [probe.evaluations] * batch)


def _call(probe: _Probe, start: Tensor, grid: Tensor, method: str, max_steps: int) -> Tensor:
    options: dict[str, object] = {"norm": probe.norm, "max_num_steps": max_steps, "dtype": torch.float64}
    if METHODS[method] > 5:
        options["step_t"] = grid
    result: Tensor = odeint(probe, start, grid, rtol=0.0, atol=1.0, method=method, options=options)
    return result


def _status_of(message: str, probe: _Probe) -> Status:
    if not bool(torch.isfinite(probe.field(probe.scale_state)).all()):
        return Status.DIVERGED
    if "max_num_steps" in message:
        return Status.MAX_STEPS
    if "underflow" in message:
        return Status.STEP_UNDERFLOW
    return Status.FAILED
