"""``flowsim show``: theory of a scenario, or a result beside it, and the smallest rank that is enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Call, Stand
from tests.report.sweeps import real_sweep

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


@pytest.fixture
def result(stand: Stand, tmp_path: Path) -> Path:
    """The folder of a result that is a stand-in."""
    (tmp_path / "tiny.nc").touch()
    return tmp_path


def test_a_result(call: Call, result: Path) -> None:
    shown = call("show", result, "--within", "0.1")
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert ["2", "14", "0.928571", "7", "0.5", "0.5", "-"] in [line.split() for line in lines]
    assert any("final loss of at most 0.1 times" in line and "is 2 (" in line for line in lines)
    assert any(line.split() == ["flow", "4", "reached"] for line in lines)
    assert any(line.startswith("eckart_young") for line in lines)


def test_a_result_as_json(call: Call, result: Path) -> None:
    record = json.loads(call("show", result, "--json", "--within", "0.01").stdout, parse_constant=pytest.fail)
    assert (record["smallest_rank_by_floor"], record["smallest_rank_by_loss"]) == (None, None)
    assert [row["loss"] for row in record["ranks"]] == [2.5, 0.5]
    assert record["ranks"][0]["relative_error"] is None


def test_a_rank_that_failed(call: Call, stand: Stand, result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it, the number of its parameters neither."""
    tree = stand.tree()
    for name in ("parameters", "energy", "loss_floor"):
        tree["theory"][name] = tree["theory"][name].astype(float)
        tree["theory"][name].values[0] = np.nan
    tree["final"]["loss"].values[:, 0] = np.nan
    tree["trajectory"]["loss"].values[:, 0] = np.nan
    tree["final"]["outcome"].values[:, 0] = "failed"
    monkeypatch.setattr(stand, "load", lambda path: tree)
    shown = call("show", result)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert ["1", "-", "-", "-", "-", "-", "-"] in [line.split() for line in shown.stdout.splitlines()]
    assert "2 failed" in shown.stdout


def test_a_sweep(call: Call) -> None:
    """A row a point: its values, how the flow ended, loss and time of the largest rank, verdicts; then all verdicts."""
    shown = call("show", real_sweep())
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == "phases: A small sweep"
    assert lines[2] == "a sweep of 6 points: 2 x adapter.init.std, 3 x pretrained.singular_values.exponent"
    assert lines[4].split() == [
        "std", "exponent", "outcomes", "final", "loss,", "r=2", "time", "to", "reach,", "r=2", "verdicts",
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[6:12]] == [[s, e] for s in ("1", "0.01") for e in ("0.5", "1", "2")]
    assert "rank 2, medians over 2 seeds" in shown.stdout
    assert f"flowsim show {real_sweep()} --at std=1 --at exponent=0.5" in shown.stdout
    assert any(line.startswith("conservation") for line in lines)


def test_a_sweep_as_json(call: Call) -> None:
    from flowsim.trajectory.points import points_of
    from flowsim.trajectory.store import load

    record = json.loads(call("show", real_sweep(), "--json").stdout, parse_constant=pytest.fail)
    tree = load(real_sweep())
    assert record["sweep"] == {"adapter.init.std": [1.0, 0.01], "pretrained.singular_values.exponent": [0.5, 1, 2]}
    assert record["rank"] == 2
    for row, (label, point) in zip(record["points"], points_of(tree), strict=True):
        flow = point["final"].to_dataset().isel(schedule=0)
        assert row["point"] == label
        assert row["outcomes"] == {word: int((flow["outcome"] == word).sum()) for word in row["outcomes"]}
        assert sum(row["outcomes"].values()) == 4
        assert row["loss"] == pytest.approx(float(flow["loss"].sel(rank=2).median()), rel=1e-15)
        times = flow["reach_time"].sel(rank=2).values
        assert row["reach_time"] == (pytest.approx(times.mean()) if np.isfinite(times).all() else None)
        verdicts = point["checks"]["verdict"].values
        assert row["verdicts"] == {word: int((verdicts == word).sum()) for word in row["verdicts"]}
        assert sum(row["verdicts"].values()) == verdicts.size > 0


def test_a_long_sweep_is_cut(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim.cli import sweep_table

    monkeypatch.setattr(sweep_table, "MOST_ROWS", 4)
    text = call("show", real_sweep()).stdout
    assert "… 3 more points; flowsim show RESULT --all shows every one" in text and text.count("\n0.01 ") == 0
    text = call("show", real_sweep(), "--all").stdout
    assert "more points" not in text and text.count("\n0.01 ") == 3
    assert len(json.loads(call("show", real_sweep(), "--json").stdout)["points"]) == 6


def test_one_point_of_a_sweep(call: Call) -> None:
    at = ("--at", "std=1e-2", "--at", "pretrained.singular_values.exponent=2")
    shown = call("show", real_sweep(), *at)
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[3] == "the point std = 0.01, exponent = 2 of a sweep"
    assert lines[5].split()[:3] == ["rank", "parameters", "energy"]
    record = json.loads(call("show", real_sweep(), *at, "--json").stdout)
    assert record["point"] == {"adapter.init.std": 0.01, "pretrained.singular_values.exponent": 2}
    # The singular values are 1, 1/4 and 1/9.
    assert record["ranks"][1]["energy"] == pytest.approx(1 / (1 + 1 / 16 + 1 / 81))


@pytest.mark.parametrize(
    ("at", "what"),
    [(["--at", "std=3"], "no such value"), (["--at", "std=1"], "leaves pretrained.singular_values.exponent open")],
)
def test_no_such_point(call: Call, at: list[str], what: str) -> None:
    shown = call("show", real_sweep(), *at)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert what in shown.stderr and len(shown.stderr.splitlines()) == 2


def test_points_of_what_is_no_sweep(call: Call, trace_run: Any, scenario: Path) -> None:
    for path in (trace_run.folder, scenario):
        shown = call("show", path, "--at", "std=3")
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert "nothing is swept here" in shown.stderr


def test_a_scenario_with_a_sweep(call: Call, tmp_path: Path) -> None:
    """Theory of the first point, or of the one asked for."""
    path = real_sweep() / "scenario.yaml"
    shown = call("show", path)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[2] == (
        "a sweep of 6; the first point std = 1, exponent = 0.5; --at chooses another"
    )
    first = json.loads(call("show", path, "--json").stdout)
    assert (first["points"], first["point"]["adapter.init.std"]) == (6, 1.0)
    assert first["ranks"][0]["energy"] == pytest.approx((1 + 1 / 2) / (1 + 1 / 2 + 1 / 3))
    last = json.loads(call("show", path, "--json", "--at", "std=0.01", "--at", "exponent=2").stdout)
    assert last["ranks"][0]["energy"] == pytest.approx((1 + 1 / 16) / (1 + 1 / 16 + 1 / 81))


def test_what_does_not_exist(call: Call) -> None:
    result = call("show", "absent")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 2
