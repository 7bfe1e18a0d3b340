"""``flowsim schema``: a JSON schema, to which the scenario of these tests conforms."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from tests.cli.conftest import Call


def test_schema_accepts_a_scenario_and_refuses_a_mistake(call: Call, scenario: Path) -> None:
    result = call("schema")
    assert (result.exit_code, result.stderr) == (0, "")
    schema = json.loads(result.stdout)
    value = YAML(typ="safe", pure=True).load(scenario.read_text(encoding="utf-8"))
    jsonschema.validate(value, schema)
    value["adaptor"] = {}
    with pytest.raises(jsonschema.ValidationError, match="adaptor"):
        jsonschema.validate(value, schema)
