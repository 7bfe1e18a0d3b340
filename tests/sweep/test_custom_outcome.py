"""How a trajectory of any objective ended, in the order of the rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from flowsim.integrators.base import Status
from flowsim.sweep.custom_outcome import CustomEnding, decide

TIMES = np.array([0.0, 1.0, 2.0])
EPS = float(np.finfo(np.float64).eps)


def ending(loss: list[float], slope: float, **more: Any) -> CustomEnding:
    given = {"times": TIMES, "floor": math.nan, "reach": 1e-6, "epsilon": EPS} | more
    return CustomEnding(np.array(loss), np.array([1.0, 1.0, slope]), **given)


# With reach 1e-6 and a fall of 1 over a time of 2: at rest below a gradient norm of √(1e-6/2) = 7.07e-4.
@pytest.mark.parametrize(
    ("end", "outcome", "said"),
    [
        (ending([1.0, 0.5, 1e-7], 0.5, floor=0.0), "reached", "excess loss 1e-07 is within 1e-06 of its start 1"),
        (ending([3.0, 2.5, 2 + 1e-7], 0.5, floor=2.0), "reached", "of its start 1"),
        (ending([1.0, 0.5, 1e-5], 0.5, floor=0.0), "not_yet", "1e-06 wanted; it falls by 0.25 a unit of time"),
        (ending([1.0, 0.5, 0.3], 0.5, floor=0.0), "not_yet", "loss 0.3"),
        (ending([1.0, 0.5, 0.0], 7.0e-4), "stationary_elsewhere", "a minimum, a saddle or a long plateau"),
        (ending([1.0, 0.5, 0.0], 7.2e-4), "not_yet", "it falls by 5.18e-07 a unit of time"),
        (ending([1.3, 0.8, 0.3], 7.0e-4, floor=0.0), "stationary_elsewhere", "above the floor 0"),
        (ending([1.0, 1.0, 1.0], 0.0), "stationary_elsewhere", "at rest at loss 1"),
        (ending([1.0, 1.0, 1.0], 1e-9), "stationary_elsewhere", "at rest"),  # 1e-18 a time is rounding of 1
        (ending([1.0, 1.0, 1.0], 1e-3), "not_yet", "falls by 1e-06"),
        (ending([1.0, 0.5, 1.5], 1.0), "not_yet", "loss 1.5 is above its start 1"),
        (ending([1.0, 10.0, 102.0], 1.0), "diverged", "loss 102 and growing"),
        (ending([1.0, 200.0, 102.0], 1.0), "not_yet", "above its start"),
        (ending([1.0, 10.0, math.nan], 1.0), "diverged", "loss not finite after t = 1"),
        (ending([-5.0, -6.0, -7.0], 1.0), "not_yet", "loss -7"),
        (ending([1.0, 0.0, -1.0], 1.0, floor=0.0), "not_yet", "the floor 0 that was given is no bound"),
        (ending([1.0, 0.0, -1.0], 0.0, floor=0.0), "stationary_elsewhere", "is no bound, the loss falls to -1"),
        (ending([1.0, 0.0, -2 * EPS], 0.1, floor=0.0), "reached", "within"),  # below by rounding alone
    ],
)
def test_a_completed_solve(end: CustomEnding, outcome: str, said: str) -> None:
    found, reason = decide(end, Status.COMPLETED)
    assert found == outcome and said in reason, reason


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.COMPLETED])
def test_a_solve_that_ended_early_keeps_its_name(status: Status) -> None:
    assert decide(ending([1.0, 0.5, 0.0], 0.0, floor=0.0), status)[0] == status.value


def test_no_time_is_no_rest() -> None:
    one = CustomEnding(np.array([1.0]), np.array([0.1]), np.array([0.0]), math.nan, 1e-6, EPS)
    assert decide(one, Status.COMPLETED)[0] == "not_yet"
