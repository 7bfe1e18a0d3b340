"""Errors keep what they say on their way from another process."""

from __future__ import annotations

import pickle

import pytest

from flowsim.errors import (
    FlowsimError,
    HypothesisError,
    InputError,
    Interrupted,
    Mistake,
    OutputError,
    ResultError,
    ScenarioError,
)
from flowsim.scenario.array_files import WeightError
from flowsim.sweep.ledger import BusyError

KINDS = [FlowsimError, InputError, HypothesisError, OutputError, ResultError, BusyError]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_the_same_after_pickling(kind: type[FlowsimError]) -> None:
    error = kind("what is wrong", "what to do")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == "what is wrong"
    assert again.lines() == ["what is wrong", "  what to do"] and again.exit_code == error.exit_code


def test_errors_with_more_to_say() -> None:
    weight = pickle.loads(pickle.dumps(WeightError("what", "do", key="sha256")))
    assert weight.lines() == ["what", "  do"] and weight.key == "sha256"
    scenario = ScenarioError([Mistake("s.yaml:1:2", "one", "do"), Mistake("s.yaml:3:4", "two")])
    assert pickle.loads(pickle.dumps(scenario)).lines() == scenario.lines()
    assert len(scenario.lines()) == 3


def test_an_interruption_is_ctrl_c_to_everybody() -> None:
    stop = Interrupted("interrupted: 1 of 2 tiles are finished", "go on")
    assert isinstance(stop, KeyboardInterrupt) and not isinstance(stop, Exception)
    assert stop.lines() == ["interrupted: 1 of 2 tiles are finished", "  go on"] and stop.exit_code == 130
