"""``flowsim show``: theory of a scenario, or a result beside it, and the smallest rank that is enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Stand

# The difference of the scenario has the singular values 3, 2, 1, and the loss is half its squared norm, 7.
FLOORS = {1: 2.5, 2: 0.5}


def test_a_scenario_as_json(call: Call, scenario: Path) -> None:
    record = json.loads(call("show", scenario, "--json").stdout)
    assert record["shape"] == [4, 3]
    for row in record["ranks"]:
        rank = row["rank"]
        assert row["parameters"] == 7 * rank
        assert row["share"] == pytest.approx(7 * rank / 12)
        assert row["loss_start"] == pytest.approx(7)
        assert row["loss_floor"] == pytest.approx(FLOORS[rank])
        assert row["energy"] == pytest.approx(1 - FLOORS[rank] / 7)


@pytest.mark.parametrize(("within", "rank"), [(2.5 / 7 + 1e-9, 1), (2.5 / 7 - 1e-9, 2), (0.5 / 7 - 1e-9, 3), (0, 3)])
def test_the_smallest_rank_need_not_be_in_the_scenario(call: Call, scenario: Path, within: float, rank: int) -> None:
    record = json.loads(call("show", scenario, "--json", "--within", within).stdout)
    assert (record["smallest_rank_by_floor"], record["looked_at"]) == (rank, "every rank")


def test_a_scenario_as_text(call: Call, scenario: Path) -> None:
    result = call("show", scenario, "--within", "0.1")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["tiny: A tiny scenario", "frobenius: f(W) = c ||W - W*||_F^2, c = 0.5"]
    assert ["2", "14", "116.7%", "0.928571", "7", "0.5", "0.07143"] in [line.split() for line in lines]
    assert lines[-1] == "The smallest rank with a loss floor of at most 0.1 times the loss at time 0 is 2 (every rank)."


def test_a_result(call: Call, stand: Stand, tmp_path: Path) -> None:
    result = call("show", tmp_path, "--within", "0.1")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert ["2", "14", "0.928571", "7", "0.5", "0.5", "-"] in [line.split() for line in lines]
    assert any("final loss of at most 0.1 times" in line and "is 2 (" in line for line in lines)
    assert any(line.split() == ["flow", "4", "reached"] for line in lines)
    assert any(line.startswith("eckart_young") for line in lines)


def test_a_result_as_json(call: Call, stand: Stand, tmp_path: Path) -> None:
    record = json.loads(call("show", tmp_path, "--json", "--within", "0.01").stdout, parse_constant=pytest.fail)
    assert (record["smallest_rank_by_floor"], record["smallest_rank_by_loss"]) == (None, None)
    assert [row["loss"] for row in record["ranks"]] == [2.5, 0.5]
    assert record["ranks"][0]["relative_error"] is None


def test_what_does_not_exist(call: Call) -> None:
    result = call("show", "absent")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 2
