"""Small runs shared by many tests, made once each, and ways to judge, spoil and read them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Windows, descents and both kinds of solver: rank 1 has a closed form, rank 2 has none (rows of unequal length).
FROBENIUS = """\
# A comment that must survive.
name: tiny
title: A tiny scenario
objective: {kind: frobenius, coefficient: 0.7}
pretrained: {kind: spectrum, shape: [6, 5], singular_values: [2.0, 1.2, 0.5, 0.2], seed: 3}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5}, scaling: {kind: constant, value: 1.5}}
schedules:
  - {kind: flow, update: a_first, windows: [0.05, 0.025, 0.0125]}
  - {kind: flow, update: symmetric, windows: [0.1, 0.05, 0.025]}
  - {kind: descent, learning_rates: [0.04, 0.02, 0.01]}
  - {kind: descent, update: b_first, learning_rates: [0.04, 0.02, 0.01]}
time: {stop: 10.0, points: 6}
save: {factors: all}
"""

#: Trace-squared has a closed form from every start.
TRACE = """\
name: trace
objective: {kind: trace_squared}
pretrained: {kind: gaussian, shape: [8, 8], std: 0.3, seed: 3}
adapter: {ranks: [1, 2, 4], seeds: 4, init: {kind: gaussian, std: 0.3}, scaling: {kind: constant, value: 1.5}}
schedules:
  - {kind: descent, update: a_first, learning_rates: [0.02, 0.01, 0.005]}
time: {stop: 8.0, points: 5}
"""

Solve = Callable[..., Any]
Rows = list[dict[str, Any]]


def execute_text(text: str, out: Path, **options: Any) -> Any:
    from flowsim.pipeline import execute
    from flowsim.scenario.read import parse_scenario

    document = parse_scenario(text, name="s.yaml", folder=out)
    given: dict[str, Any] = {"device": "cpu", "plots": False, "force": False, "progress": None}
    return execute(document, out=out, **(given | options))


@pytest.fixture
def run_text(tmp_path: Path) -> Solve:
    """Run the text of a scenario below the test's own folder; returns `pipeline.Finished`."""
    return lambda text, **options: execute_text(text, options.pop("out", tmp_path), **options)


@pytest.fixture(scope="session")
def solved_before() -> dict[str, Any]:
    """Finished runs by the texts of their scenarios."""
    return {}


@pytest.fixture
def solve(
    request: pytest.FixtureRequest, run_text: Solve, solved_before: dict[str, Any], tmp_path_factory: Any
) -> Solve:
    """Run the text of a scenario, equal texts once: nobody looks at the folder, and each test reads a tree of its own.

    A test that changes the code runs it itself, and nobody else sees what it made.
    """
    if "monkeypatch" in request.fixturenames:
        return run_text

    def once(text: str) -> Any:
        if text not in solved_before:
            solved_before[text] = execute_text(text, tmp_path_factory.mktemp("solved"))
        return dataclasses.replace(solved_before[text])

    return once


@pytest.fixture(scope="session")
def frobenius_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished run of `FROBENIUS`; not to be changed."""
    return execute_text(FROBENIUS, tmp_path_factory.mktemp("frobenius"))


@pytest.fixture(scope="session")
def trace_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished run of `TRACE`; not to be changed."""
    return execute_text(TRACE, tmp_path_factory.mktemp("trace"))


@pytest.fixture(scope="session")
def gallery_result(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The result of a scenario of the gallery by its name, solved once by all test processes together."""
    from tests.gallery.runs import solved
    from tests.gallery.table import ENTRIES

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "gallery"
    folder.mkdir(exist_ok=True)
    return functools.cache(lambda name: solved(ENTRIES[name], folder))


@pytest.fixture
def frobenius_tree(frobenius_run: Any) -> Any:
    """A copy of the Frobenius result, to be spoilt."""
    return frobenius_run.tree.copy(deep=True)


@pytest.fixture
def trace_tree(trace_run: Any) -> Any:
    """A copy of the trace-squared result, to be spoilt."""
    return trace_run.tree.copy(deep=True)


@pytest.fixture(scope="session")
def frobenius_text() -> str:
    return FROBENIUS


@pytest.fixture(scope="session")
def trace_text() -> str:
    return TRACE


@pytest.fixture(scope="session")
def judge() -> Callable[..., Rows]:
    """Judge a tree again: the rows of all checks, or of the one named, as plain dictionaries."""
    from flowsim.checks import check, verdict_table

    def rows(tree: Any, name: str | None = None) -> Rows:
        import xarray as xr

        again = tree.copy()
        again["checks"] = xr.DataTree(check(tree))
        return [row for row in verdict_table(again) if name in (None, row["check"])]

    return rows


@pytest.fixture(scope="session")
def sha256() -> Callable[[Path], str]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def no_solving(monkeypatch: pytest.MonkeyPatch, frobenius_run: Any, trace_run: Any) -> None:
    """Every way to solve a flow, to descend or to take windows raises, once the shared runs are made."""
    from flowsim.integrators import engine, solve, stepped
    from flowsim.integrators.exact import balanced, mode_aligned, trace_squared
    from flowsim.sweep import companions, starts

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a check must not solve anything")

    for module, name in (
        (solve, "solve_flow"), (starts, "solve_flow"), (companions, "solve_flow"), (engine, "integrate"),
        (balanced, "solve"), (mode_aligned, "solve"), (trace_squared, "solve"), (stepped, "iterate"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, refuse)
