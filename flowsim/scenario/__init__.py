"""Scenarios: YAML text in, a validated and resolved `Document` out; nothing is computed."""

from __future__ import annotations

from flowsim.scenario.digest import digest_of
from flowsim.scenario.model import Scenario
from flowsim.scenario.read import Document, WeightFile, parse_scenario, read_scenario
from flowsim.scenario.schema import schema_text
from flowsim.scenario.start_files import load_start_file
from flowsim.scenario.sweep import Axis
from flowsim.scenario.weights import load_matrix_file

__all__ = [
    "Axis",
    "Document",
    "Scenario",
    "WeightFile",
    "digest_of",
    "load_matrix_file",
    "load_start_file",
    "parse_scenario",
    "read_scenario",
    "schema_text",
]
