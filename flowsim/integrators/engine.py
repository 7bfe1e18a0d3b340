"""torchdiffeq's adaptive methods behind one adapter: the general engine and the independent oracle.

Error norm: per trajectory and invariant under rotations of rows and gauge, ‖e‖_F/(atol·√N + rtol·‖Z‖_F) with N the
number of entries; the batch takes the largest. Output: torchdiffeq's interpolants are less accurate than its steps
(measured: by a factor of ten and erratically), so a wanted time is reached by one shorter step of the same method
from the accepted state before it. All wanted times take that step together, as one batch in rescaled time; no
accepted step is changed. Failures: torchdiffeq asserts; here that becomes a named status, every trajectory is then
solved on its own, and each keeps what it reached.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchdiffeq import odeint

from flowsim.integrators.base import Integrated, Status

ORDERS = {"dopri5": 5, "dopri8": 8, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 2}
METHODS = tuple(ORDERS)
MAX_STEPS = 200_000
OUTPUT_ENTRIES = 4_000_000  # entries of one batch of output steps: bounds the memory of their stages

Field = Callable[[Tensor], Tensor]


@dataclass
class _Probe:
    """The right-hand side as torchdiffeq calls it, with counts, and the states from which output is computed."""

    field: Field
    scale_state: Tensor
    rtol: float
    atol: float
    wanted: list[float]
    evaluations: int = 0
    steps: int = 0
    before: list[tuple[float, Tensor]] = dataclasses.field(default_factory=list)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 1
        return self.field(y)

    def callback_step(self, t: Tensor, y: Tensor, dt: Tensor) -> None:
        self.scale_state = y

    def callback_accept_step(self, t: Tensor, y: Tensor, dt: Tensor) -> None:
        self.steps += 1
        start, end = float(t), float(t + dt)
        while len(self.before) < len(self.wanted) and self.wanted[len(self.before)] <= end:
            self.before.append((start, y))

    def norm(self, error: Tensor) -> Tensor:
        """The largest member's error in units of its tolerance."""
        dims = tuple(range(1, error.ndim))
        size = self.scale_state.square().sum(dims).sqrt()
        tolerance = self.atol * error[0].numel() ** 0.5 + self.rtol * size
        return (error.square().sum(dims).sqrt() / tolerance).max()


def integrate(
    velocity: Field, start: Tensor, times: Tensor, *, method: str, rtol: float, atol: float,
    max_steps: int = MAX_STEPS,
) -> Integrated:  # fmt: skip
    """Solve y' = velocity(y) from `start` (S, ...) at time 0 for the increasing `times` (T,).

    Parameters
    ----------
    velocity : callable
        Autonomous right-hand side, acting on any batch.
    method : str
        One of `METHODS`.
    rtol, atol : float
        Tolerances of the invariant norm above.
    max_steps : int
        Largest number of steps.

    Notes
    -----
    rtol = 0 and atol = 1 go to torchdiffeq, which then hands the bare error to our norm.
    """
    whole = _attempt(velocity, start, times, method, rtol, atol, max_steps)
    if whole.status[0] is Status.COMPLETED or start.shape[0] == 1:
        return whole
    alone = [_attempt(velocity, start[i : i + 1], times, method, rtol, atol, max_steps) for i in range(start.shape[0])]
    return Integrated(
        torch.cat([one.states for one in alone], dim=1),
        [one.status[0] for one in alone],
        [one.steps[0] for one in alone],
        [one.evaluations[0] for one in alone],
    )


def _attempt(
    velocity: Field, start: Tensor, times: Tensor, method: str, rtol: float, atol: float, max_steps: int
) -> Integrated:
    batch, clock = start.shape[0], times.to(torch.float64)
    probe = _Probe(velocity, start, rtol, atol, clock.tolist())
    status = Status.COMPLETED
    if float(clock[-1]) > 0:
        span = torch.stack([torch.zeros_like(clock[-1]), clock[-1]])
        try:
            _call(probe, start, span, method, max_steps, first_step=_first_step(probe, start, method, float(clock[-1])))
        except AssertionError as stop:
            status = _status_of(str(stop), probe)
    else:
        probe.before = [(0.0, start)]
    states = start.new_full((len(clock), *start.shape), torch.nan)
    chunk = max(1, OUTPUT_ENTRIES // start.numel())
    for first in range(0, len(probe.before), chunk):
        ready = probe.before[first : first + chunk]
        last = first + len(ready)
        output = _output(probe, ready, clock[first:last], method)
        if output is None:
            status = Status.FAILED if status is Status.COMPLETED else status
            break
        states[first:last] = output
    if status is Status.COMPLETED and not bool(torch.isfinite(states).all()):
        status = Status.DIVERGED
    return Integrated(states, [status] * batch, [probe.steps] * batch, [probe.evaluations] * batch)


def _first_step(probe: _Probe, start: Tensor, method: str, stop: float) -> float | None:
    """A first step that shrinks with rtol like every other: half a time constant, or horizon, times rtol^(1/(q + 1)).

    torchdiffeq's own may span the whole horizon whatever rtol is; runs at different rtol then take the same steps, and
    their equality says nothing about their error. None, which leaves the choice to it, where nothing moves.
    """
    dims = tuple(range(1, start.ndim))
    probe.evaluations += 1
    size, speed = (X.square().sum(dims).sqrt() for X in (start, probe.field(start)))
    moving = (size > 0) & (speed > 0) & torch.isfinite(speed)
    if not bool(moving.any()):
        return None
    constant = min(float((size[moving] / speed[moving]).min()), stop)
    return 0.5 * constant * float(probe.rtol) ** (1 / (ORDERS[method] + 1))


def _output(probe: _Probe, before: list[tuple[float, Tensor]], times: Tensor, method: str) -> Tensor | None:
    """States at `times`, each one step of the method away from the accepted state before it."""
    base = torch.stack([state for _, state in before])
    shape = base.shape
    starts = torch.tensor([time for time, _ in before], dtype=torch.float64, device=times.device)
    spans = (times - starts).to(base.dtype)
    spans = spans.repeat_interleave(shape[1]).view(-1, *(1 for _ in shape[2:]))
    flat = base.flatten(0, 1)
    local = _Probe(lambda y: spans * probe.field(y), flat, probe.rtol, probe.atol, [])
    unit = torch.tensor([0.0, 1.0], dtype=torch.float64, device=times.device)
    try:
        ends = _call(local, flat, unit, method, MAX_STEPS, first_step=1.0, step_t=unit[1:])
    except AssertionError:
        return None
    probe.evaluations += local.evaluations
    # The interpolant's rounding must not touch a state that is wanted where a step begins, the start above all.
    return torch.where(spans == 0, flat, ends[-1]).view(shape)


def _call(probe: _Probe, start: Tensor, grid: Tensor, method: str, max_steps: int, **extra: object) -> Tensor:
    options = {"norm": probe.norm, "max_num_steps": max_steps, "dtype": torch.float64, **extra}
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
