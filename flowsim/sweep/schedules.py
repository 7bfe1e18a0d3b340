"""The schedules of a scenario on one clock: who is recorded when, and which steps belong together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsim.dynamics.rounds import nearest_rounds
from flowsim.scenario.model import Scenario, Time

FLOW = "flow"


@dataclass(frozen=True)
class ScheduleItem:
    """One entry along the `schedule` dimension: a flow, a window length or a learning rate."""

    label: str
    kind: str
    update: str
    window: float = math.nan
    learning_rate: float = math.nan
    inner_steps: int = 1

    @property
    def duration(self) -> float | None:
        """Flow time of one round: the window, or inner steps × learning rate; None for the flow itself."""
        if self.kind == "descent":
            return self.inner_steps * self.learning_rate
        return None if math.isnan(self.window) else self.window

    @property
    def step(self) -> float:
        """`duration` of a schedule that advances in rounds."""
        assert self.duration is not None, "the simultaneous flow has no rounds"
        return self.duration

    @property
    def family(self) -> tuple[str, str, int]:
        """Items that differ in step size only."""
        return self.kind, self.update, self.inner_steps

    def with_update(self, update: str) -> ScheduleItem:
        """The same step size with another update order (its label is not one of the scenario's)."""
        return ScheduleItem(
            f"({update} for {self.label})", self.kind, update, self.window, self.learning_rate, self.inner_steps
        )


def stability_name(update: str, inner_steps: int) -> str:
    """The theory variable that holds the stability limit of such a descent; empty where none is known (k > 1)."""
    if update == "simultaneous":
        return "stability_limit"
    return "sequential_stability_limit" if inner_steps == 1 else ""


def expand(scenario: Scenario) -> list[ScheduleItem]:
    """All schedule items, the simultaneous flow first: it is computed whether asked for or not."""
    items = [ScheduleItem(FLOW, "flow", "simultaneous")]
    for schedule in scenario.schedules:
        for label, update, step in schedule.labels():
            value = math.nan if step is None else step
            if schedule.kind == "descent":
                items.append(
                    ScheduleItem(label, "descent", update, learning_rate=value, inner_steps=schedule.inner_steps)
                )
            elif label != FLOW:
                items.append(ScheduleItem(label, "flow", update, window=value))
    return items


def nominal_times(time: Time) -> np.ndarray:
    """The times of the scenario, (T,): 0 first, stop last."""
    if time.spacing == "linear":
        return np.linspace(0.0, time.stop, time.points)
    assert time.first is not None
    grid = np.geomspace(time.first, time.stop, time.points - 1)
    grid[0], grid[-1] = time.first, time.stop
    return np.concatenate([[0.0], grid])


@dataclass(frozen=True)
class Clock:
    """When each schedule is recorded.

    Attributes
    ----------
    times : ndarray, (T,)
        Nominal times.
    rounds : ndarray, (schedule, T)
        Round recorded for each nominal time; 0 … for the flow.
    flow_time : ndarray, (schedule, T)
        Flow time of that round.
    """

    items: tuple[ScheduleItem, ...]
    times: np.ndarray
    rounds: np.ndarray
    flow_time: np.ndarray

    @cached_property
    def union(self) -> np.ndarray:
        """All times at which the flow is wanted, increasing and distinct, (U,)."""
        return np.unique(self.flow_time)

    def rounds_of(self, duration: float) -> np.ndarray:
        """The recorded rounds of any schedule whose rounds last that long, (T,)."""
        return nearest_rounds(self.times, duration)

    @cached_property
    def places(self) -> np.ndarray:
        """Index into `union` of each recorded time, (schedule, T)."""
        return np.searchsorted(self.union, self.flow_time)


def clock_of(items: Iterable[ScheduleItem], times: np.ndarray) -> Clock:
    """Place every schedule on the clock of the flow."""
    items = tuple(items)
    rounds = np.zeros((len(items), len(times)), dtype=np.int64)
    flow_time = np.tile(times, (len(items), 1))
    known = times
    for index, item in enumerate(items):
        if item.duration is None:
            continue
        rounds[index] = nearest_rounds(times, item.duration)
        exact = rounds[index] * item.duration
        # Equal times computed in two ways differ by rounding: take the one already on the clock.
        place = np.searchsorted(known, exact).clip(1, len(known) - 1)
        near = np.where(exact - known[place - 1] < known[place] - exact, known[place - 1], known[place])
        same = np.abs(near - exact) <= 8 * np.finfo(np.float64).eps * np.abs(exact)
        flow_time[index] = np.where(same, near, exact)
        known = np.union1d(known, flow_time[index])
    return Clock(items, times, rounds, flow_time)
