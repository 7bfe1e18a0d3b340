"""The JSON schema: valid, repeatable, and of one mind with the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from flowsim.errors import ScenarioError
from flowsim.scenario import parse_scenario, schema_text

EXAMPLE = """\
name: frobenius
title: Rank against loss
objective: {kind: frobenius, coefficient: 0.5}
pretrained: {kind: spectrum, shape: [64, 48], singular_values: {kind: geometric, ratio: 0.6}, seed: 0}
target: {kind: zeros}
adapter:
  ranks: [1, 2, 4]
  seeds: 8
  init: {kind: gaussian, std: 1e-2}
  scaling: {kind: constant, value: 1.0}
schedules:
  - {kind: flow}
  - {kind: flow, update: a_first, windows: [0.2, 0.1, 0.05]}
  - {kind: descent, update: simultaneous, learning_rates: [0.1, 0.05, 0.025]}
  - {kind: descent, update: b_first, learning_rates: [0.1, 0.05, 0.025], inner_steps: 1}
time: {stop: 60.0, points: 101, spacing: linear}
reach: 1e-6
solver: {method: auto, rtol: 1e-9, atol: 1e-12}
compute: {device: auto, dtype: float64, threads: 1}
checks: auto
save: {factors: none}
"""


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_it_is_repeatable_text() -> None:
    text = schema_text()
    assert text == schema_text()
    assert text.endswith("}\n")
    assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    parts = [schema, *schema["$defs"].values()]
    for part in parts:
        assert part["description"] and part["additionalProperties"] is False
        for name, entry in part["properties"].items():
            assert name == "kind" or entry.get("description") or "$ref" in entry, f"{part['title']}.{name}"


def test_the_full_example_is_valid_for_both(validator: Any, tmp_path: Path) -> None:
    validator.validate(plain(EXAMPLE))
    scenario = parse_scenario(EXAMPLE, name="x", folder=tmp_path).scenario
    assert scenario.adapter.seeds == tuple(range(8))
    validator.validate(scenario.model_dump(mode="json"))


CHANGES = [
    ("seeds: 8", "seeds: [1, 2]", True),
    ("seeds: 8", "seeds: 0", False),
    ("seeds: 8", "seeds: []", False),
    ("seeds: 8", "sedes: 8", False),
    ("stop: 60.0", "stop: 60", True),
    ("stop: 60.0", "stop: 0", False),
    ("stop: 60.0", "stop: '60'", False),
    ("checks: auto", "checks: [equivalence, accuracy]", True),
    ("checks: auto", "checks: [equivalance]", False),
    ("checks: auto", "checks: all", False),
    ("ranks: [1, 2, 4]", "ranks: [1, 0]", False),
    ("ranks: [1, 2, 4]", "ranks: [true]", False),
    ("{kind: zeros}", "{kind: shift, by: {kind: zeros}}", True),
    ("{kind: zeros}", "{kind: shift, by: {kind: shift, by: {kind: zeros}}}", False),
    ("{kind: gaussian, std: 1e-2}", "{kind: spectral, of: difference, power: 0.5}", True),
    ("{kind: gaussian, std: 1e-2}", "{kind: spectral, of: difference, power: 1}", False),
    ("{kind: gaussian, std: 1e-2}", "{kind: pissa, std: 1}", False),
    ("{kind: gaussian, std: 1e-2}", "{kind: file}", False),
    ("{kind: gaussian, std: 1e-2}", "{kind: file, path: ''}", False),
    ("{kind: gaussian, std: 1e-2}", "{kind: file, path: s.npz, tensor: A}", False),
    ("{kind: gaussian, std: 1e-2}", "{kind: file, path: s.npz, sha256: abc}", False),
    ("{kind: geometric, ratio: 0.6}", "[3, 2, 1]", True),
    ("{kind: geometric, ratio: 0.6}", "{kind: geometric, exponent: 0.6}", False),
    ("method: auto", "method: dopri8", True),
    ("method: auto", "method: rk4", False),
    ("device: auto", "device: 'cuda:1'", True),
    ("device: auto", "device: gpu", False),
    ("{factors: none}", "{factors: none}\nsweep: null", True),
    ("{factors: none}", "{factors: none}\nsweep: {adapter.init.std: [1, 2], reach: [0.1]}", True),
    ("{factors: none}", "{factors: none}\nsweep: {adapter: {init: {std: [1, 2]}}}", True),
    ("{factors: none}", "{factors: none}\nsweep: {}", False),
    ("{factors: none}", "{factors: none}\nsweep: [1]", False),
    ("{factors: none}", "{factors: none}\nsweep: {reach: []}", False),
    ("{factors: none}", "{factors: none}\nsweep: {reach: 0.1}", False),
    ("{factors: none}", "{factors: none}\nsweep: {reach: {}}", False),
]


@pytest.mark.parametrize(("old", "new", "valid"), CHANGES)
def test_schema_and_reader_agree(validator: Any, tmp_path: Path, old: str, new: str, valid: bool) -> None:
    assert EXAMPLE.count(old) == 1
    text = EXAMPLE.replace(old, new)
    assert validator.is_valid(plain(text)) is valid
    if valid:
        parse_scenario(text, name="x", folder=tmp_path)
    else:
        with pytest.raises(ScenarioError):
            parse_scenario(text, name="x", folder=tmp_path)
