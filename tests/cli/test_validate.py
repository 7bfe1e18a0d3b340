"""``flowsim validate``: every mistake, two lines each, exit 2."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Call


def test_a_good_scenario(call: Call, scenario: Path) -> None:
    result = call("validate", scenario)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{scenario}: ok\n", "")


def test_every_mistake_is_told_in_two_lines(call: Call, scenario: Path) -> None:
    text = scenario.read_text(encoding="utf-8")
    scenario.write_text(text.replace("ranks: [1, 2]", "ranks: [0]").replace("points:", "point:"))
    result = call("validate", scenario)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    for first, second, row in zip(lines[::2], lines[1::2], (5, 6), strict=True):
        assert f"tiny.yaml:{row}:" in first
        assert second.startswith("  ")


def test_all_files_are_looked_at(call: Call, scenario: Path, tmp_path: Path) -> None:
    result = call("validate", tmp_path / "absent.yaml", scenario)
    assert (result.exit_code, result.stdout) == (2, f"{scenario}: ok\n")
    assert "absent.yaml" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_warnings_are_counted(call: Call, scenario: Path) -> None:
    text = scenario.read_text(encoding="utf-8")
    scenario.write_text(text.replace("ranks: [1, 2]", "ranks: [1, 7]"))
    result = call("validate", scenario)
    assert (result.exit_code, result.stdout) == (0, f"{scenario}: ok, 1 warning\n")
    assert result.stderr.startswith(f"{scenario}: warning: ")


def test_the_points_of_a_sweep_are_counted(call: Call, scenario: Path) -> None:
    text = scenario.read_text(encoding="utf-8")
    for section, said in [
        ("sweep: {adapter.init.std: [1, 2], reach: [0.1, 0.2, 0.3]}", "6 points"),
        ("sweep: {adapter.init.std: [1]}", "1 point"),
        ("sweep: {adapter.init.std: [1], solver.rtol: [1e-17]}", "1 point, 1 warning"),
    ]:
        scenario.write_text(f"{text}\n{section}\n")
        assert call("validate", scenario).stdout == f"{scenario}: ok, {said}\n"


def test_settings_change_every_scenario(call: Call, scenario: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(scenario.read_text(encoding="utf-8").replace("name: tiny", "name: other"), encoding="utf-8")
    result = call("validate", scenario, other, "--set", "adapter.ranks=[1, 9]", "--set", "adapter.init.std=2")
    assert (result.exit_code, result.stdout) == (0, f"{scenario}: ok, 1 warning\n{other}: ok, 1 warning\n")
    result = call("validate", scenario, "--set", "adapter.rnaks=[1]", "--set", "time.stop=-1", "--set", "x")
    assert (result.exit_code, result.stdout) == (2, "")
    told = {line.split(":")[0] for line in result.stderr.splitlines()[::2]}
    assert told == {"--set adapter.rnaks", "--set time.stop", "--set x"}
