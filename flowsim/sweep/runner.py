"""States of the schedules of one rank, each computed once and shared by the comparisons that need it."""

from __future__ import annotations

from flowsim.dynamics.coordinates import Canonical
from flowsim.integrators.base import Solution
from flowsim.integrators.stepped import descend, sequential_flow
from flowsim.sweep.schedules import Clock, ScheduleItem


class Runner:
    """Runs descents and windows of one rank on the rounds of the clock."""

    def __init__(self, batch: Canonical, clock: Clock) -> None:
        self.batch, self.clock = batch, clock
        self._known: dict[tuple[str, str, float, int], Solution] = {}

    def of(self, item: ScheduleItem) -> Solution:
        """States of a schedule that advances in rounds, at its recorded times."""
        key = (item.kind, item.update, item.step, item.inner_steps)
        if key not in self._known:
            rounds = self.clock.rounds_of(item.step)
            if item.kind == "descent":
                solved = descend(self.batch, item.update, item.learning_rate, item.inner_steps, rounds)
            else:
                solved = sequential_flow(self.batch, item.update, item.window, rounds)
            self._known[key] = solved
        return self._known[key]

    def family(self, item: ScheduleItem) -> list[ScheduleItem]:
        """The item and the next two smaller steps of its family, from the largest to the smallest."""
        smaller = [
            other
            for other in self.clock.items
            if other.duration is not None and other.family == item.family and other.step < item.step
        ]
        return [item, *sorted(smaller, key=lambda other: -other.step)[:2]]
