"""``flowsim check``: judged again from the file, printed, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowsim.errors import ResultError
from tests.cli.conftest import Call, Stand, verdict


def test_the_verdicts_are_those_computed_again(call: Call, stand: Stand, tmp_path: Path) -> None:
    result = call("check", "results/tiny-01234567")
    assert (result.exit_code, result.stderr) == (0, "")
    assert stand.calls[0] == ("load", {"path": Path("results/tiny-01234567")})
    assert stand.judged and all(attrs == {"made": "again"} for attrs in stand.judged)
    assert "eckart_young" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("word", "code", "strict"), [("fail", 1, 1), ("unresolved", 0, 1), ("pass", 0, 0)])
def test_exit_code(call: Call, stand: Stand, word: str, code: int, strict: int) -> None:
    stand.rows = [verdict("eckart_young", word)]
    assert call("check", "r").exit_code == code
    assert call("check", "r", "--strict").exit_code == strict


def test_all_lists_every_verdict_unfolded(call: Call, stand: Stand) -> None:
    stand.rows = [verdict("eckart_young", "fail", f"flow/rank={r}") for r in range(40)]
    stand.rows[0]["reason"] = "a long reason " * 30
    lines = call("check", "r", "--all").stdout.splitlines()
    assert [line for line in lines if "flow/rank=39 " in line]
    assert any(line.endswith(("a long reason " * 30).rstrip()) for line in lines)


def test_json(call: Call, stand: Stand) -> None:
    stand.rows = [verdict("eckart_young", "not_applicable")]
    record = json.loads(call("check", "r", "--json").stdout, parse_constant=pytest.fail)
    assert record["exit_code"] == 0
    assert record["checks"][0]["tolerance"] is None


def test_what_is_no_result(call: Call, stand: Stand) -> None:
    stand.error = ResultError("r: no result here", "name a folder that flowsim run made")
    result = call("check", "r")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 2
