"""Adaptive steps for a batch of trajectories that share nothing but their shape, resident on their device.

Time, step, error, outcome and output of every trajectory are tensors on its device, and each accepts and rejects by
its own error. A block of steps reads nothing back to the host; one read a block says how many still run, between which
times they are and what the next block has to be set to. Output changes no step: a wanted time is reached by one shorter
step of the same stepper from the state before it, all wanted times of a block together. Trajectories that are done
leave the batch between blocks.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from flowsim.integrators.adaptive.stepper import Carry, Stepper, per_member
from flowsim.integrators.base import Integrated, Status

BLOCK = 32  # most steps between two host reads
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
PROPORTIONAL, INTEGRAL = 1.0, 0.3  # exponents of the PI controller, times 1/k: a growing step keeps to its tolerance
SMALLEST, CALM, HOPELESS = 1e-10, 1e-4, 1e10  # bounds of a step's error in units of the tolerance, for the controller
EPS = torch.finfo(torch.float64).eps
PATH_ENTRIES = 32_000_000  # entries of the states kept for output within a block: bounds its length
OUTPUT_ENTRIES = 4_000_000  # entries of one batch of output steps: bounds the memory of their stages

Record = Callable[[Tensor, Tensor], Mapping[str, Tensor]]

_RUNNING, _DONE, _UNDERFLOW, _LIMIT, _DIVERGED = range(5)
_STATUS = {
    _RUNNING: Status.FAILED,  # nothing ends like this
    _DONE: Status.COMPLETED,
    _UNDERFLOW: Status.STEP_UNDERFLOW,
    _LIMIT: Status.MAX_STEPS,
    _DIVERGED: Status.DIVERGED,
}


@dataclass
class Batch:
    """The trajectories on their way; every tensor has the batch first.

    Attributes
    ----------
    place : Tensor, (S,)
        Their places in the whole.
    y, carry : Tensor, (S, ...)
        State, and what the stepper carries along.
    t, h, error : Tensor, (S,) float64
        Time, next step, and error of the last accepted step in units of the tolerance.
    accepted, tried, evaluations, status : Tensor, (S,) int64
    """

    place: Tensor
    y: Tensor
    carry: Carry
    t: Tensor
    h: Tensor
    error: Tensor
    accepted: Tensor
    tried: Tensor
    evaluations: Tensor
    status: Tensor

    def keep(self, members: list[int]) -> Batch:
        """Some of them."""
        index = torch.tensor(members, dtype=torch.int64, device=self.place.device)
        return self.each(lambda tensor: tensor[index])

    @classmethod
    def joined(cls, parts: list[Batch]) -> Batch:
        """Several as one."""
        if len(parts) == 1:
            return parts[0]
        names = [one.name for one in fields(cls) if one.name != "carry"]
        carry = tuple(torch.cat(tensors) for tensors in zip(*(part.carry for part in parts), strict=True))
        return cls(carry=carry, **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def clone(self) -> Batch:
        """A copy in tensors of its own."""
        return self.each(torch.clone)

    def take(self, other: Batch) -> None:
        """Copy another batch of the same shape into these tensors."""
        for one in fields(self):
            if one.name != "carry":
                getattr(self, one.name).copy_(getattr(other, one.name))
        for mine, theirs in zip(self.carry, other.carry, strict=True):
            mine.copy_(theirs)

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Every tensor changed."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        carry = tuple(change(tensor) for tensor in values.pop("carry"))
        return Batch(carry=carry, **{name: change(tensor) for name, tensor in values.items()})


@dataclass
class Group:
    """Trajectories that take the next block at one setting of the stepper.

    Attributes
    ----------
    setting : int
    batch : Batch
    alive : list of bool
        Which of them are not done.
    first : float
        The earliest of the times of these.
    ahead : float
        Steps that the slowest needs at its present step.
    """

    setting: int
    batch: Batch
    alive: list[bool]
    first: float
    ahead: float


@dataclass
class Path:
    """Where each step of a block began: states (K, S, ...) and times (K, S), the last row its end."""

    states: Tensor
    times: Tensor


def integrate(
    stepper: Stepper, start: Tensor, times: Tensor, *, max_steps: int, states: bool = True,
    record: Record | None = None, block: int = BLOCK, capture: bool = False,
) -> Integrated:  # fmt: skip
    """Solve from `start` (S, ...) at time 0 for the increasing `times` (T,).

    Parameters
    ----------
    stepper : Stepper
        Knows the equation and the tolerance.
    max_steps : int
        Largest number of tried steps of one trajectory.
    states : bool
        Whether states are kept at all times, or functions of them alone.
    record : callable, optional
        From states (k, S', ...) of the trajectories at places (S',) to named functions of them, (k, S'), which are
        kept at all times.
    block : int
        Most steps between two host reads.
    capture : bool
        Whether a block becomes a CUDA graph (`capture.Captured`); on other devices nothing changes.

    Notes
    -----
    A trajectory that ends early keeps what it has: its states and functions are NaN at later times, and no other
    trajectory notices.
    """
    solve = Solve(stepper, start, times, max_steps, states=states, record=record, block=block)
    groups = solve.begin()
    steps = solve.block
    if capture and start.is_cuda:
        from flowsim.integrators.adaptive.capture import Captured  # it needs this module

        steps = Captured(solve)
    while groups:
        groups = solve.sorted([part for group in groups for part in solve.advance(group, steps)])
    return solve.result()


class Solve:
    """What all trajectories of one solve share, and where their output is kept."""

    def __init__(
        self, stepper: Stepper, start: Tensor, times: Tensor, max_steps: int, *, states: bool, record: Record | None,
        block: int,
    ) -> None:  # fmt: skip
        self.stepper, self.start, self.max_steps, self.record = stepper, start, max_steps, record
        self.times = times.to(torch.float64)
        self.stop = self.times[-1]
        self.shortest = 16 * EPS * (EPS * self.stop)
        self.most = max(1, min(block, stepper.block, PATH_ENTRIES // max(start.numel(), 1)))
        self.length, self.choosing = self.most, False
        self._host_times: list[float] = self.times.tolist()
        count, size = len(times), len(start)
        self.states = start.new_full((count, *start.shape), torch.nan) if states else None
        self.functions: dict[str, Tensor] = {}
        self.last = start.clone()
        self.t = self.times.new_zeros(size)
        self.status = torch.full((size,), _RUNNING, device=start.device)
        self.accepted, self.tried, self.evaluations = (torch.zeros_like(self.status) for _ in range(3))

    def begin(self) -> list[Group]:
        """The trajectories at time 0, without those that cannot start or have nowhere to go."""
        everyone = torch.arange(len(self.start), device=self.start.device)
        if self._host_times[0] == 0:
            self._store(0, self.start[None], everyone, torch.ones_like(everyone, dtype=torch.bool)[None])
        y, carry = self.stepper.begin(self.start)
        sound = torch.isfinite(y.flatten(1)).all(1)
        for tensor in carry:
            sound = sound & torch.isfinite(tensor.flatten(1)).all(1)
        status = torch.where(sound, self.status, torch.full_like(self.status, _DIVERGED))
        status = torch.where(sound & (self.stop <= 0), torch.full_like(status, _DONE), status)
        h = self.stepper.first_step(y, carry, self.stop)
        zero, one = torch.zeros_like(self.status), torch.ones_like(self.t)
        batch = Batch(everyone, y, carry, self.t.clone(), h, one, zero, zero.clone(), zero + 1, status)
        self._note(batch)
        return self.sorted(self._going_on(batch, self.stepper.setting, self._facts(batch)))

    def advance(self, group: Group, steps: Callable[[Batch], tuple[Batch, Path]]) -> list[Group]:
        """A block of steps, its output, and those that go on, by the setting that suits each."""
        self.stepper.use(group.setting)
        # Where settings change between blocks, these have one length: a trajectory's steps must not depend on others.
        self.length = self.most if self.choosing else max(1, math.ceil(min(self.most, group.ahead)))
        batch, path = steps(group.batch)
        facts = self._facts(batch)
        # Those that were done before are at the end of all times, and wanted none of this block.
        reached = [time for time, one in zip(facts[0], group.alive, strict=True) if one]
        first, last = (bisect.bisect_right(self._host_times, time) for time in (group.first, max(reached)))
        self._flush(batch, path, first, last)
        self._note(batch)
        return self._going_on(batch, group.setting, facts)

    def sorted(self, parts: list[Group]) -> list[Group]:
        """Trajectories at equal settings as one batch."""
        together: dict[int, list[Group]] = {}
        for part in parts:
            together.setdefault(part.setting, []).append(part)
        return [
            Group(
                setting, Batch.joined([one.batch for one in same]), [alive for one in same for alive in one.alive],
                min(one.first for one in same), max(one.ahead for one in same),
            )
            for setting, same in together.items()
        ]  # fmt: skip

    def _facts(self, b: Batch) -> list[list[float]]:
        """Time, steps ahead, demand, and whether it runs, of each trajectory: the one host read of a block."""
        running, demand = b.status == _RUNNING, self.stepper.demand(b.y, b.carry, b.h)
        self.choosing = demand is not None
        ahead = torch.where(running, (self.stop - b.t) / b.h, 0.0).nan_to_num(nan=torch.inf)
        wish = torch.zeros_like(b.h) if demand is None else demand
        facts: list[list[float]] = torch.stack([b.t, ahead, wish, running.to(b.t)]).tolist()
        return facts

    def _going_on(self, batch: Batch, setting: int, facts: list[list[float]]) -> list[Group]:
        """Those that run, by setting; the others stay among them while these are the more."""
        times, ahead, demand, running = facts
        chosen: dict[int, list[int]] = {}
        for place, one in enumerate(running):
            if one:
                chosen.setdefault(self.stepper.choose(demand[place], setting), []).append(place)
        if self.states is None and not all(running):
            self.last[batch.place] = self.stepper.output(batch.y, batch.carry)
        groups = []
        for own, members in chosen.items():
            most = len(members) > len(running) // 2 and len(chosen) == 1
            alive = [bool(one) for one in running] if most else [True] * len(members)
            groups.append(
                Group(
                    own, batch if most else batch.keep(members), alive, min(times[place] for place in members),
                    max(ahead[place] for place in members),
                )
            )  # fmt: skip
        return groups

    def block(self, batch: Batch) -> tuple[Batch, Path]:
        """A block of steps; nothing is read by the host."""
        states = batch.y.new_empty(self.length + 1, *batch.y.shape)
        times = batch.t.new_empty(self.length + 1, len(batch.place))
        for place in range(self.length):
            states[place], times[place] = batch.y, batch.t
            batch = self.step(batch)
        states[-1], times[-1] = batch.y, batch.t
        return batch, Path(states, times)

    def step(self, b: Batch) -> Batch:
        """One step of every trajectory; those that are done take steps of length 0."""
        running, left = b.status == _RUNNING, self.stop - b.t
        longest = self.stepper.longest(b.y, b.carry)
        wanted = b.h if longest is None else torch.minimum(b.h, longest)
        # A step that would leave a sliver takes it along.
        h = torch.where(wanted * (1 + 1e-10) >= left, left, wanted) * running
        y, ratio, carry = self.stepper.step(b.y, b.carry, h)
        accept = running & (ratio <= 1)  # NaN is not
        finite = torch.isfinite(ratio)
        ratio = torch.where(finite, ratio, HOPELESS)
        k = self.stepper.order
        grow = ratio.clamp_min(SMALLEST) ** (-PROPORTIONAL / k) * b.error ** (INTEGRAL / k)
        factor = SAFETY * torch.where(accept, grow, ratio ** (-1 / k))
        following = h * factor.clamp(SHRINK, GROW)
        t = torch.where(accept, torch.where(h == left, self.stop, b.t + h), b.t)
        tried = b.tried + running
        short = following <= torch.maximum(16 * EPS * t, self.shortest)
        ended = torch.where(short, torch.where(finite, _UNDERFLOW, _DIVERGED), _RUNNING)
        ended = torch.where(tried >= self.max_steps, torch.where(short, ended, _LIMIT), ended)
        ended = torch.where(t >= self.stop, _DONE, ended)
        mask = per_member(accept, y)
        return Batch(
            b.place, torch.where(mask, y, b.y),
            tuple(
                old if new is old else torch.where(per_member(accept, new), new, old)
                for new, old in zip(carry, b.carry, strict=True)
            ),
            t, following, torch.where(accept, ratio.clamp_min(CALM), b.error), b.accepted + accept, tried,
            b.evaluations + self.stepper.cost * running, torch.where(running, ended, b.status),
        )  # fmt: skip

    def _flush(self, batch: Batch, path: Path, first: int, last: int) -> None:
        """Store what a block's trajectories were at the wanted times number first … last − 1 that it passed."""
        rows = max(1, OUTPUT_ENTRIES // max(batch.y.numel(), 1))
        for begin in range(first, last, rows):
            wanted = self.times[begin : min(begin + rows, last), None]
            passed = (wanted > path.times[0]) & (wanted <= path.times[-1])
            slot = (path.times[:, None] < wanted).sum(0) - 1
            slot = torch.where(passed, slot, torch.zeros_like(slot))
            span = torch.where(passed, wanted - path.times.gather(0, slot), 0.0)
            base = path.states[slot, torch.arange(len(batch.place), device=slot.device)].flatten(0, 1)
            carry = tuple(tensor.repeat(len(wanted), *(1 for _ in tensor.shape[1:])) for tensor in batch.carry)
            moved = self.stepper.inside(base, carry, span.flatten())
            moved = self.stepper.output(moved, carry).view(len(wanted), len(batch.place), *self.start.shape[1:])
            self._store(begin, moved, batch.place, passed)
            self.evaluations[batch.place] += self.stepper.cost_inside * passed.sum(0)

    def _store(self, begin: int, states: Tensor, place: Tensor, passed: Tensor) -> None:
        """Keep states (k, S, ...) of the trajectories at `place`, or functions of them, where they are wanted."""
        rows = slice(begin, begin + len(states))
        if self.states is not None:
            mask = passed.view(*passed.shape, *(1 for _ in states.shape[2:]))
            self.states[rows, place] = torch.where(mask, states, self.states[rows, place])
        for name, value in (self.record(states, place) if self.record is not None else {}).items():
            if name not in self.functions:
                self.functions[name] = value.new_full((len(self.times), len(self.start)), torch.nan)
            kept = self.functions[name]
            kept[rows, place] = torch.where(passed, value, kept[rows, place])

    def _note(self, b: Batch) -> None:
        """Write what is known of these trajectories into the whole."""
        self.t[b.place], self.status[b.place] = b.t, b.status
        self.accepted[b.place], self.tried[b.place] = b.accepted, b.tried
        self.evaluations[b.place] += b.evaluations
        b.evaluations.zero_()

    def result(self) -> Integrated:
        """What is kept, on the device; names and counts on the host."""
        names = [_STATUS[code] for code in self.status.tolist()]
        states = self.last[None] if self.states is None else self.states
        return Integrated(states, names, self.accepted.tolist(), self.evaluations.tolist(), self.functions)
