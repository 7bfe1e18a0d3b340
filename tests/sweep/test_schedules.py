"""Schedules on one clock: what a scenario expands to, when each is recorded, which times are the same."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsim.scenario import parse_scenario
from flowsim.scenario.model import Scenario, Time
from flowsim.sweep.schedules import ScheduleItem, clock_of, expand, nominal_times

FLOW = ScheduleItem("flow", "flow", "simultaneous")


def scenario(schedules: str) -> Scenario:
    text = (
        "name: x\nobjective: {kind: frobenius}\npretrained: {kind: gaussian, shape: [3, 3], std: 1.0, seed: 0}\n"
        f"adapter: {{ranks: [1], seeds: 1, init: {{kind: kaiming}}}}\nschedules: {schedules}\ntime: {{stop: 1.0}}\n"
    )
    return parse_scenario(text, name="x", folder=Path()).scenario


def descent(rate: float, update: str = "simultaneous", inner: int = 1) -> ScheduleItem:
    return ScheduleItem(f"d{rate}{update}{inner}", "descent", update, learning_rate=rate, inner_steps=inner)


def window(h: float, update: str = "a_first") -> ScheduleItem:
    return ScheduleItem(f"w{h}{update}", "flow", update, window=h)


def test_the_flow_comes_first_asked_for_or_not() -> None:
    for text in ("[{kind: descent, learning_rates: [0.1]}]", "[{kind: descent, learning_rates: [0.1]}, {kind: flow}]"):
        items = expand(scenario(text))
        assert [item.kind for item in items] == ["flow", "descent"]
        assert items[0] == FLOW and items[0].duration is None


def test_one_item_for_each_window_and_learning_rate() -> None:
    items = expand(scenario(
        "[{kind: flow, update: symmetric, windows: [0.2, 0.1]},"
        " {kind: descent, update: a_first, learning_rates: [0.04, 0.02], inner_steps: 3}]"
    ))  # fmt: skip
    assert [item.duration for item in items] == [None, 0.2, 0.1, pytest.approx(0.12), pytest.approx(0.06)]
    assert items[1].family == items[2].family == ("flow", "symmetric", 1)
    assert items[3].family == items[4].family == ("descent", "a_first", 3) != items[1].family
    assert len({item.label for item in items}) == len(items)
    assert items[3].step == items[3].duration
    partner = items[3].with_update("simultaneous")
    assert (partner.update, partner.learning_rate, partner.inner_steps) == ("simultaneous", 0.04, 3)
    assert partner.label not in {item.label for item in items}
    with pytest.raises(AssertionError):
        _ = items[0].step


def test_nominal_times_begin_at_zero_and_end_at_stop() -> None:
    linear = nominal_times(Time(stop=0.7, points=8))
    np.testing.assert_allclose(linear, np.arange(8) * 0.1, atol=1e-15)
    log = nominal_times(Time(stop=50.0, points=6, spacing="log", first=0.003))
    assert log[0] == 0.0 and log[1] == 0.003 and log[-1] == 50.0
    np.testing.assert_allclose(np.diff(np.log(log[1:])), math.log(50 / 0.003) / 4, rtol=1e-12)


def test_rounds_are_nearest_and_ties_go_to_the_earlier() -> None:
    clock = clock_of([FLOW, descent(0.4)], np.array([0.0, 0.2, 0.21, 0.4, 0.6, 1.0]))
    np.testing.assert_array_equal(clock.rounds, [[0] * 6, [0, 0, 1, 1, 1, 2]])
    np.testing.assert_allclose(clock.flow_time[1], [0, 0, 0.4, 0.4, 0.4, 0.8], atol=1e-15)
    np.testing.assert_array_equal(clock.flow_time[0], clock.times)
    np.testing.assert_allclose(clock.union, [0, 0.2, 0.21, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_array_equal(clock.union[clock.places], clock.flow_time)
    np.testing.assert_array_equal(clock.rounds_of(0.4), clock.rounds[1])


def test_equal_times_computed_in_two_ways_are_one_time() -> None:
    """3·0.1 is not 0.3, and 5·0.06 and 15·0.02 are neither: the flow is wanted once for all of them."""
    items = [FLOW, descent(0.1), descent(0.02, inner=3), descent(0.06), window(0.05), descent(0.03)]
    times = np.linspace(0.0, 3.0, 11)
    clock = clock_of(items, times)
    for index, item in enumerate(items[1:], start=1):
        wanted = clock.rounds[index] * item.step
        np.testing.assert_allclose(clock.flow_time[index], wanted, rtol=1e-14)
    assert np.min(np.diff(clock.union)) > 1e-9
    assert set(clock.flow_time[1]) <= set(times)  # every tenth falls on the nominal grid, exactly
    np.testing.assert_array_equal(clock.union[clock.places], clock.flow_time)


def test_families_share_the_times_that_their_rounds_share() -> None:
    """Halved steps on a grid of multiples: every recorded time is common to the family, as Richardson needs."""
    items = [FLOW, descent(0.04), descent(0.02), descent(0.01)]
    clock = clock_of(items, np.linspace(0.0, 4.0, 6))
    np.testing.assert_array_equal(clock.places[1], clock.places[2])
    np.testing.assert_array_equal(clock.places[1], clock.places[3])
    np.testing.assert_array_equal(clock.rounds[3], 4 * clock.rounds[1])


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from([0.1, 0.07, 0.05, 1 / 3, 0.31, 1e-3]), min_size=1, max_size=4, unique=True),
    st.integers(2, 40), st.floats(0.5, 20.0),
)  # fmt: skip
def test_any_clock_is_consistent(steps: list[float], points: int, stop: float) -> None:
    times = np.linspace(0.0, stop, points)
    clock = clock_of([FLOW, *(descent(step) for step in steps)], times)
    assert (np.diff(clock.union) > 0).all() and set(times) <= set(clock.union)
    np.testing.assert_array_equal(clock.union[clock.places], clock.flow_time)
    assert (np.diff(clock.flow_time, axis=1) >= 0).all()
    for index, step in enumerate(steps, start=1):
        assert (np.abs(clock.flow_time[index] - times) <= step / 2 * (1 + 1e-9)).all()
    # Two different times never lie within rounding of each other.
    assert (np.diff(clock.union) > 4 * np.finfo(float).eps * clock.union[1:]).all()
