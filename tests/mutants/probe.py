"""A pytest plugin for a mutated copy: only that copy is tested, and what became of each test is written down."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

OUTCOMES = "outcomes.json"
PASSED, ASSERTED = "passed", "an assertion failed"

_found: dict[str, str] = {}


def pytest_configure() -> None:
    import flowsim

    # The editable install would otherwise hide that nothing was mutated.
    if Path(flowsim.__file__).resolve().parent.parent != Path.cwd().resolve():
        raise pytest.UsageError(f"{flowsim.__file__} is not the copy in {Path.cwd()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None:
        asserted = call.when == "call" and call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
        _found[item.nodeid] = ASSERTED if asserted else f"{call.excinfo.typename} in {call.when}: {call.excinfo.value}"
    elif call.when == "call":
        _found[item.nodeid] = PASSED
    return report


def pytest_sessionfinish() -> None:
    Path(OUTCOMES).write_text(json.dumps(_found), encoding="utf-8")
