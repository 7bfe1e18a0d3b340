"""One word for how a trajectory ended: every row of the table, and the further time that goes with `not_yet`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from flowsim.integrators.base import SENTENCES, Status
from flowsim.sweep.outcome import Ending, Horizon, Outcome, decide, decide_all, of_unknown_limit

NAN, INF = math.nan, math.inf
TIMES = np.linspace(0.0, 10.0, 11)


def falling(rate: float, start: float = 2.0, to: float = 0.0) -> np.ndarray:
    return to + (start - to) * np.exp(-rate * TIMES)


def ending(excess: Any, **changes: Any) -> Ending:
    given: dict[str, Any] = {
        "excess": np.asarray(excess, dtype=float),
        "times": TIMES[: len(excess)], "limit_excess": 0.0, "rate": NAN, "reach": 1e-6,
    }  # fmt: skip
    return Ending(**(given | changes))


DESCENT = {"learning_rate": 0.5, "stability_limit": 0.4}
CASES = [
    ("reached", ending(falling(2.0)), "excess loss 4.12e-09 is within 1e-06 of its start 2"),
    ("reached", ending([2.0, 2e-6]), "is within"),  # exactly at the wanted value
    ("reached", ending([0.0, 0.0]), "excess loss 0 is within"),  # there from the start
    ("reached", ending([2.0, -1e-17]), "is within"),  # rounding below the floor
    ("reached", ending(falling(2.0), **DESCENT), "is within"),  # above the limit, yet it arrived
    ("not_yet", ending(falling(0.5)), "excess loss 0.0135, 2e-06 wanted; about 17.63 more flow time"),
    ("not_yet", ending(falling(0.5), limit_excess=NAN), "more flow time"),
    ("not_yet", ending(falling(0.5), learning_rate=0.3, stability_limit=0.4), "more flow time"),
    ("not_yet", ending(falling(0.5), learning_rate=0.3, stability_limit=NAN), "more flow time"),
    ("not_yet", ending([2.0, 1.0, 1.5]), "excess loss 1.5, 2e-06 wanted"),  # rising: no further time
    (
        "not_yet",
        ending(falling(0.5, to=1.0), limit_excess=1.0, floor=0.25),
        "still falling towards a loss of 1.25 (excess 1), above the floor",
    ),
    ("not_yet", ending(np.full(11, 1.0), limit_excess=0.0), "excess loss 1, 1e-06 wanted"),  # a plateau, not the end
    (
        "stationary_elsewhere",
        ending(falling(3.0, to=1.0), limit_excess=1.0),
        "this start cannot fall below a loss of 1 (excess 1)",
    ),
    (
        "stationary_elsewhere",
        ending(falling(3.0, to=1.0), limit_excess=1.0, missing="1, 3", overlap=2.5e-17, escape=36.0, floor=0.5),
        "a loss of 1.5 (excess 1); missing: modes 1, 3; the start's overlap with the leading directions is 2.5e-17; "
        "only rounding leaves that limit, from about t = 36 in this dtype",
    ),
    (
        "stationary_elsewhere",
        ending(falling(9.0, to=1.0), limit_excess=NAN, departure=INF, waiting=2, floor=0.5, saddle=1.0),
        "at rest at loss 1.5: nothing of mode 2 is there to grow",
    ),
    # A loss that stands still says nothing by itself: without a mode that is missing for good it is a plateau.
    ("not_yet", ending(falling(9.0, to=1.0), limit_excess=NAN), "excess loss 1, 2e-06 wanted"),
    (
        "not_yet",
        ending(falling(9.0, to=1.0), limit_excess=NAN, departure=12.5, arrival_of_last=80.0, waiting=2),
        "a plateau: mode 2 is learnt after 12.5 more flow time, the last one after 80",
    ),
    (
        "not_yet",
        ending(falling(9.0, to=1.0), limit_excess=NAN, departure=INF, waiting=2, saddle=0.9),
        "close to a saddle it cannot leave",
    ),
    ("left_minimum", ending([2.0, 0.3, 0.9], **DESCENT), "excess loss stays at 0.9; learning rate 0.5 is above"),
    ("diverged", ending([2.0, 1e88, NAN]), "loss not finite after t = 1"),
    ("diverged", ending([2.0, 1e88, INF]), "loss not finite after t = 1"),
    ("diverged", ending([NAN, NAN]), "loss not finite after t = 0"),
    ("diverged", ending([2.0, NAN], **DESCENT), "learning rate 0.5 is above the stability limit 0.4"),
]


@pytest.mark.parametrize(("outcome", "end", "reason"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_completed_solve(outcome: str, end: Ending, reason: str) -> None:
    word, sentence, further = decide(end, Status.COMPLETED)
    assert word == outcome and isinstance(word, Outcome)
    assert reason in sentence
    assert math.isfinite(further) == ("more flow time" in sentence)
    assert math.isnan(further) or outcome == "not_yet"


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.COMPLETED])
def test_a_solve_that_did_not_complete_keeps_its_name(status: Status) -> None:
    word, sentence, further = decide(ending([2.0, NAN]), status)
    assert (str(word), sentence) == (status.value, SENTENCES[status])
    assert math.isnan(further)


def test_every_status_has_an_outcome_and_every_outcome_a_test() -> None:
    assert {s.value for s in Status} - {o.value for o in Outcome} == {"completed"}
    seen = {case[0] for case in CASES} | {s.value for s in Status}
    assert {o.value for o in Outcome} - seen == {"not_run"}  # said of what was never started


def test_further_time_uses_the_exact_rate_where_there_is_one() -> None:
    excess = falling(0.5)
    wanted = math.log(excess[-1] / 2e-6)
    assert decide(ending(excess), Status.COMPLETED)[2] == pytest.approx(wanted / 0.5)
    assert decide(ending(excess, rate=0.25), Status.COMPLETED)[2] == pytest.approx(wanted / 0.25)
    # Flat, rising, or wanted at zero: nothing can be said.
    for nothing in (np.full(11, 1.0), [2.0, 1.0, 1.5], [0.0, 1.0]):
        assert math.isnan(decide(ending(nothing), Status.COMPLETED)[2])


def test_two_times_are_enough() -> None:
    word, _, further = decide(ending([2.0, 1.0], times=np.array([0.0, 3.0])), Status.COMPLETED)
    assert word == "not_yet" and further == pytest.approx(math.log(1e6 / 2) / (math.log(2) / 3))


def test_members_of_a_batch_are_decided_one_by_one() -> None:
    excess = torch.tensor(np.stack([falling(2.0), falling(0.5), falling(3.0, to=1.0)], axis=1))
    theory = {
        "loss_floor": np.full(3, 0.25), "loss_limit": np.array([0.25, 0.25, 1.25]),
        "loss_reachable": np.array([0.25, 0.25, 1.25]),
        "convergence_rate": np.array([2.0, 0.5, NAN]), "stability_limit": np.full(3, NAN),
    }  # fmt: skip
    numbers = {"excess_loss": excess}
    status = [Status.COMPLETED, Status.COMPLETED, Status.COMPLETED]
    found = decide_all(numbers, status, Horizon(TIMES, theory, 1e-6))
    assert [str(word) for word, _, _ in found] == ["reached", "not_yet", "stationary_elsewhere"]
    found = decide_all(numbers, [Status.MAX_STEPS] * 3, Horizon(TIMES, theory, 1e-6))
    assert [str(word) for word, _, _ in found] == ["max_steps"] * 3


def test_plateaus_are_looked_for_where_no_limit_is_known() -> None:
    assert of_unknown_limit({"loss_limit": np.array([NAN, 0.25, NAN])}) == [0, 2]


def test_a_fall_that_still_accelerates_gives_no_time() -> None:
    slow = 2 * np.exp(-1e-4 * np.exp(0.5 * TIMES))
    word, sentence, further = decide(ending(slow, limit_excess=NAN), Status.COMPLETED)
    assert word == "not_yet" and math.isnan(further) and "more flow time" not in sentence


def test_rounding_of_the_excess_is_zero() -> None:
    word, sentence, _ = decide(ending([1e-31, 8e-32], rounding=1e-30), Status.COMPLETED)
    assert word == "reached"
    word, sentence, _ = decide(ending([1.0, 1e-5], rounding=2e-5), Status.COMPLETED)
    assert word == "reached" and "is rounding" in sentence


def test_a_loss_below_its_exact_limit_has_left_it() -> None:
    word, sentence, _ = decide(ending([2.0, 1.0, 0.5], limit_excess=1.0, escape=1.5), Status.COMPLETED)
    assert word == "not_yet" and "rounding has left the limit of this start" in sentence


def test_an_exploding_descent_diverges_whatever_is_known_of_its_limit() -> None:
    word, _, _ = decide(ending([2.0, 1e10, 3e194], learning_rate=0.1), Status.COMPLETED)
    assert word == "diverged"
