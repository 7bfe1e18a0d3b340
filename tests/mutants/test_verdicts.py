"""What the checks say of the two small runs; the mutants' table names these tests where a verdict sees a mistake."""

from __future__ import annotations

import pytest

from flowsim.checks import CHECKS, verdict_table


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("run", ["frobenius_run", "trace_run"])
def test_no_finding_fails(run: str, name: str, request: pytest.FixtureRequest) -> None:
    rows = verdict_table(request.getfixturevalue(run).tree)
    assert "fail" not in {row["verdict"] for row in rows if row["check"] == name}
