"""``flowsim run``: what it passes on, what it prints, how it exits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flowsim.cli.common import note
from flowsim.cli.progress import Lines
from flowsim.errors import Interrupted, OutputError
from tests.cli.conftest import Call, Stand, verdict


def test_prints_outcomes_verdicts_and_where_the_result_is(call: Call, scenario: Path, stand: Stand) -> None:
    result = call("run", scenario)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "tiny: A tiny scenario"
    assert any(line.split() == ["flow", "4", "reached"] for line in lines)
    assert any(line.split() == ["eckart_young", "pass", "0.5", "0.25", "1e-09", "1", "pass"] for line in lines)
    assert lines[-1] == f"result: {Path('results/tiny-01234567')}"


def test_passes_its_options_on(call: Call, scenario: Path, stand: Stand, tmp_path: Path) -> None:
    args = ("--out", tmp_path / "o", "--device", "cpu", "--no-plots", "--force", "--jobs", "3")
    call("run", scenario, *args, "--set", "adapter.ranks=[1]", "--set", "time.stop=2.5")
    name, options = stand.calls[0]
    document = options.pop("document")
    assert isinstance(options.pop("progress"), Lines)  # stderr is no terminal here
    assert options.pop("tell") is note
    assert name == "execute"
    assert options == {
        "out": tmp_path / "o",
        "device": "cpu",
        "plots": False,
        "force": True,
        "jobs": 3,
        "scheduler": None,
    }
    assert document.scenario.adapter.ranks == (1,)
    assert document.scenario.time.stop == 2.5


@pytest.mark.parametrize(
    ("label", "outcome", "code"),
    [
        ("flow", "diverged", 3),
        ("flow", "step_underflow", 3),
        ("flow", "max_steps", 3),
        ("flow", "failed", 3),
        ("flow", "not_yet", 0),
        ("flow", "stationary_elsewhere", 0),
        ("descent/simultaneous/learning_rate=0.1", "diverged", 0),
        ("descent/simultaneous/learning_rate=0.1", "left_minimum", 0),
        ("descent/simultaneous/learning_rate=0.1", "not_run", 3),
        ("descent/simultaneous/learning_rate=0.1", "failed", 3),
    ],
)
def test_outcomes_decide_the_exit_code(
    call: Call, scenario: Path, stand: Stand, label: str, outcome: str, code: int
) -> None:
    stand.outcomes = {(label, 2, 1): outcome}
    result = call("run", scenario)
    assert result.exit_code == code
    assert f"1 {outcome}" in result.stdout
    told = f"not completed: {label}, rank 2, seed 1: {outcome} (because)"
    assert result.stderr.splitlines()[:1] == ([told] if code else [])


def test_several_that_did_not_complete_are_counted(call: Call, scenario: Path, stand: Stand) -> None:
    stand.outcomes = {("flow", rank, 0): "max_steps" for rank in (1, 2)}
    assert "(and 1 more)" in call("run", scenario).stderr


@pytest.mark.parametrize(
    ("word", "code", "strict"),
    [
        ("pass", 0, 0),
        ("not_applicable", 0, 0),
        ("not_reached", 0, 1),
        ("unresolved", 0, 1),
        ("fail", 1, 1),
    ],
)
def test_verdicts_decide_the_exit_code(
    call: Call, scenario: Path, stand: Stand, word: str, code: int, strict: int
) -> None:
    stand.rows = [verdict("eckart_young", word), verdict("monotone_loss", "pass")]
    result = call("run", scenario)
    assert result.exit_code == code
    assert (f"eckart_young: {word}: why {word}" in result.stdout) == (word != "pass")
    result = call("run", scenario, "--strict")
    assert result.exit_code == strict
    assert len(result.stderr.splitlines()) == 2 * strict


def test_a_flow_that_did_not_complete_goes_before_a_failed_check(call: Call, scenario: Path, stand: Stand) -> None:
    stand.outcomes = {("flow", 1, 0): "failed"}
    stand.rows = [verdict("eckart_young", "fail")]
    result = call("run", scenario)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 4


def test_complete_already(call: Call, scenario: Path, stand: Stand) -> None:
    stand.already_complete = True
    result = call("run", scenario)
    assert result.exit_code == 0
    assert "is complete already" in result.stderr
    assert "eckart_young" in result.stdout


def test_a_complete_result_needs_no_room(
    call: Call, scenario: Path, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that may only be read it answers all the same."""
    from flowsim.cli import run as module
    from flowsim.scenario.digest import folder_name
    from flowsim.scenario.read import read_scenario

    def refuse(folder: Path) -> None:
        raise OutputError(f"{folder} cannot be written", "name another one")

    monkeypatch.setattr(sys.modules[module.callback.__module__], "ensure_writable", refuse)
    assert call("run", scenario, "--out", tmp_path / "out").exit_code == 4
    folder = tmp_path / "out" / folder_name(read_scenario(scenario))
    folder.mkdir(parents=True)
    (folder / "tiny.nc").touch()
    assert call("run", scenario, "--out", tmp_path / "out").exit_code == 0


def test_quiet_prints_the_folder_alone(call: Call, scenario: Path, stand: Stand) -> None:
    stand.already_complete = True
    result = call("run", scenario, "--quiet")
    assert (result.stdout, result.stderr) == (f"{Path('results/tiny-01234567')}\n", "")
    assert stand.calls[0][1]["progress"] is None and stand.calls[0][1]["tell"] is None


@pytest.mark.parametrize(("given", "jobs"), [("auto", 0), ("1", 1), ("4096", 4096)])
def test_jobs_are_a_number_or_auto(call: Call, scenario: Path, stand: Stand, given: str, jobs: int) -> None:
    call("run", scenario, "--jobs", given)
    assert stand.calls[0][1]["jobs"] == jobs


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "many", "4097", "9" * 5000, "", "٣"])
def test_other_jobs_are_refused(call: Call, scenario: Path, stand: Stand, given: str) -> None:
    result = call("run", scenario, "--jobs", given)
    assert (result.exit_code, stand.calls) == (2, [])
    assert len(result.stderr.splitlines()) == 2 and "--jobs" in result.stderr


def test_a_scheduler_is_passed_on(call: Call, scenario: Path, stand: Stand) -> None:
    call("run", scenario, "--scheduler", "tcp://host:8786")
    assert stand.calls[0][1]["scheduler"] == "tcp://host:8786"


def test_jobs_and_a_scheduler_are_two_ways(call: Call, scenario: Path, stand: Stand) -> None:
    result = call("run", scenario, "--scheduler", "tcp://host:8786", "--jobs", "2")
    assert (result.exit_code, stand.calls) == (2, []) and "give one of them" in result.stderr


def test_a_failed_tile_may_be_tried_again(call: Call, scenario: Path, stand: Stand) -> None:
    stand.outcomes = {("flow", 1, 0): "failed"}
    assert call("run", scenario).stderr.splitlines()[1].strip().startswith("the same command tries again")


def test_ctrl_c_says_how_to_go_on(call: Call, scenario: Path, stand: Stand) -> None:
    stand.error = Interrupted("interrupted: 3 of 9 tiles are finished", "The same command goes on from there.")
    result = call("run", scenario)
    assert (result.exit_code, result.stdout) == (130, "")
    lines = ["interrupted: 3 of 9 tiles are finished", "  The same command goes on from there."]
    assert result.stderr.splitlines() == lines


def test_json_is_one_object_without_nan(call: Call, scenario: Path, stand: Stand) -> None:
    stand.rows = [verdict("eckart_young", "pass"), verdict("zero_loss", "not_applicable")]
    stand.outcomes = {("flow", 1, 0): "not_yet"}
    record = json.loads(call("run", scenario, "--json").stdout, parse_constant=pytest.fail)
    assert record["name"] == "tiny"
    assert record["exit_code"] == 0
    assert record["file"] == str(Path("results/tiny-01234567/tiny.nc"))
    assert record["outcomes"]["flow"] == {"reached": 3, "not_yet": 1}
    assert [row["tolerance"] for row in record["checks"]] == [1e-9, None]
    assert [row["count"] for row in record["summary"]] == ["1 pass", "1 not_applicable"]


def test_dry_run_computes_and_leaves_nothing(call: Call, scenario: Path, stand: Stand, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = call("run", scenario, "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [name for name, _ in stand.calls] == ["plan"]
    assert sorted(tmp_path.iterdir()) == before
    for words in (
        ["trajectories:", "4"],
        ["tiles:", "2,", "up", "to", "2", "at", "a", "time", "here", "(--jobs", "auto)"],
        ["memory:", "about", "400.0", "MiB", "for", "each", "worker"],
        ["file:", "about", "20.0", "KiB", "before", "compression"],
        ["1", "exact", "balanced"],
    ):
        assert words in [line.split() for line in result.stdout.splitlines()]


def test_dry_run_as_json(call: Call, scenario: Path, stand: Stand) -> None:
    record = json.loads(call("run", scenario, "--dry-run", "--json", "--device", "cpu").stdout)
    assert record["trajectories"] == 4
    assert record["folder"] == str(Path("results/tiny-01234567"))
    assert stand.calls[0][1]["device"] == "cpu"


def test_an_output_that_cannot_be_written_is_told_before_anything_runs(
    call: Call, scenario: Path, stand: Stand, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = call("run", scenario, "--out", tmp_path / "file" / "results")
    assert (result.exit_code, result.stdout, stand.calls) == (4, "", [])
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("override", ["adapter.ranks=[0]", "adapter.rank=[1]", "time.stop=abc", "nonsense"])
def test_a_bad_override_is_refused_before_anything_runs(
    call: Call, scenario: Path, stand: Stand, tmp_path: Path, override: str
) -> None:
    before = sorted(tmp_path.iterdir())
    result = call("run", scenario, "--set", override)
    assert (result.exit_code, result.stdout, stand.calls) == (2, "", [])
    assert len(result.stderr.splitlines()) == 2
    assert sorted(tmp_path.iterdir()) == before


def test_warnings_go_to_stderr(call: Call, scenario: Path, stand: Stand) -> None:
    result = call("run", scenario, "--set", "adapter.ranks=[1,7]")
    assert result.exit_code == 0
    assert "warning:" in result.stderr
    assert "warning:" not in result.stdout
