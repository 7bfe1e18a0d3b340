"""The classes of a scenario: defaults, labels, what they accept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from flowsim.scenario import Scenario
from flowsim.scenario.model import CHECKS, METHODS, DescentSchedule, FlowSchedule, Time, label_number

LEAST: dict[str, Any] = {
    "name": "least",
    "objective": {"kind": "frobenius"},
    "pretrained": {"kind": "zeros", "shape": [3, 2]},
    "adapter": {"ranks": [1]},
    "time": {"stop": 1},
}


def test_defaults_are_those_of_the_contract() -> None:
    scenario = Scenario.model_validate(LEAST)
    dump = scenario.model_dump(mode="json")
    assert dump["objective"] == {"kind": "frobenius", "coefficient": 0.5}
    assert dump["adapter"] == {
        "ranks": [1],
        "seeds": [0],
        "init": {"kind": "kaiming", "zero": "B", "nested": True},
        "scaling": {"kind": "constant", "value": 1.0},
    }
    assert dump["schedules"] == [{"kind": "flow", "update": "simultaneous", "windows": None}]
    assert dump["time"] == {"stop": 1.0, "points": 101, "spacing": "linear", "first": None}
    assert dump["reach"] == 1e-6
    assert dump["solver"] == {"method": "auto", "rtol": 1e-9, "atol": 1e-12}
    assert dump["compute"] == {"device": "auto", "dtype": "float64", "threads": 1}
    assert dump["checks"] == "auto"
    assert dump["save"] == {"factors": "none"}


def test_the_resolved_scenario_is_a_scenario() -> None:
    scenario = Scenario.model_validate(LEAST)
    assert Scenario.model_validate(json.loads(scenario.model_dump_json())) == scenario


def test_a_scenario_cannot_be_changed() -> None:
    scenario = Scenario.model_validate(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        scenario.name = "other"  # type: ignore[misc]


def test_seeds_are_a_count_or_a_list() -> None:
    adapter = {"ranks": [1], "seeds": 8}
    assert Scenario.model_validate({**LEAST, "adapter": adapter}).adapter.seeds == tuple(range(8))
    adapter = {"ranks": [1], "seeds": [5, 3]}
    assert Scenario.model_validate({**LEAST, "adapter": adapter}).adapter.seeds == (5, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.05, "0.05"),
        (2.0, "2"),
        (1e-7, "1e-07"),
        (0.123456789, "0.123456789"),
        (1 / 3, repr(1 / 3)),
    ],
)
def test_label_numbers_are_short_and_lose_no_digit(value: float, text: str) -> None:
    assert label_number(value) == text
    assert float(text) == value


def test_labels_are_those_of_the_contract() -> None:
    assert FlowSchedule(kind="flow").labels() == [("flow", "simultaneous", None)]
    assert FlowSchedule(kind="flow", update="a_first", windows=(0.2, 0.1)).labels() == [
        ("flow/a_first/window=0.2", "a_first", 0.2),
        ("flow/a_first/window=0.1", "a_first", 0.1),
    ]
    assert DescentSchedule(kind="descent", learning_rates=(0.05,)).labels() == [
        ("descent/simultaneous/learning_rate=0.05", "simultaneous", 0.05)
    ]
    assert DescentSchedule(kind="descent", update="b_first", learning_rates=(0.05,), inner_steps=8).labels() == [
        ("descent/b_first/learning_rate=0.05/inner_steps=8", "b_first", 0.05)
    ]


def test_an_integer_is_a_number_and_true_is_not() -> None:
    assert Time(stop=60).stop == 60.0
    with pytest.raises(ValidationError):
        Time(stop=True)
    with pytest.raises(ValidationError):
        Time(stop=60.0, points=11.0)  # type: ignore[arg-type]


def test_every_method_and_check_has_a_name() -> None:
    assert METHODS[:3] == ("auto", "exact", "adaptive")
    assert METHODS[3:7] == ("splitting4", "splitting6", "stabilised", "tsit5")
    assert {"dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"} == set(METHODS[7:])
    assert len(CHECKS) == len(set(CHECKS)) == 13
    scenario = Scenario.model_validate({**LEAST, "checks": list(CHECKS)})
    assert scenario.checks == CHECKS


@pytest.mark.parametrize(
    "init",
    [
        {"kind": "kaiming", "zero": "A", "nested": False},
        {"kind": "gaussian"},
        {"kind": "gaussian", "std": 0, "zero": "none"},
        {"kind": "orthogonal", "scale": 2},
        {"kind": "spectral", "of": "pretrained"},
        {"kind": "spectral", "of": "difference", "power": 0.5, "scale": -1, "b": 1},
        {"kind": "pissa"},
        {"kind": "values", "A": [[1, 0]], "B": [[0], [0], [0]]},
    ],
)
def test_every_init_is_accepted(init: dict[str, Any]) -> None:
    scenario = Scenario.model_validate({**LEAST, "adapter": {"ranks": [1], "init": init}})
    assert scenario.adapter.init.model_dump(mode="json").items() >= init.items()


@pytest.mark.parametrize(
    "matrix",
    [
        {"kind": "zeros"},
        {"kind": "values", "values": [[1, 2], [3, 4]]},
        {"kind": "gaussian", "shape": [3, 2], "std": 0.5, "seed": 7},
        {"kind": "spectrum", "shape": [3, 3], "singular_values": [3, 2, 1], "symmetric": True, "seed": 1},
        {
            "kind": "spectrum",
            "shape": [3, 2],
            "singular_values": {"kind": "power", "exponent": 1, "scale": 2},
        },
        {"kind": "spectrum", "shape": [3, 2], "singular_values": {"kind": "geometric", "ratio": 0.5}},
        {"kind": "spectrum", "shape": [3, 2], "singular_values": {"kind": "flat", "value": 1, "count": 2}},
        {"kind": "file", "path": "w.npy"},
        {"kind": "file", "path": "w.safetensors", "tensor": "a", "package": "b", "sha256": "0" * 64},
    ],
)
def test_every_matrix_is_accepted(matrix: dict[str, Any]) -> None:
    scenario = Scenario.model_validate({**LEAST, "target": matrix})
    assert scenario.target is not None and scenario.target.kind == matrix["kind"]
    shifted = Scenario.model_validate({**LEAST, "target": {"kind": "shift", "by": matrix}})
    assert shifted.target is not None and shifted.target.kind == "shift"
