"""``flowsim new``: a scenario that works as it is written, and never over another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call


@pytest.mark.parametrize("name", ["mine", "mine-2.yaml"])
def test_what_it_writes_is_a_scenario_without_mistakes_or_warnings(call: Call, tmp_path: Path, name: str) -> None:
    result = call("new", name)
    path = Path(f"{name.removesuffix('.yaml')}.yaml")
    assert result.exit_code == 0
    assert f"flowsim run {path}" in result.stdout
    assert "NAME" not in (tmp_path / path).read_text(encoding="utf-8")
    checked = call("validate", path)
    assert (checked.exit_code, checked.stdout, checked.stderr) == (0, f"{path}: ok\n", "")


def test_a_file_is_never_overwritten(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    result = call("new", "mine")
    assert result.exit_code == 4
    assert "exists already" in result.stderr.splitlines()[0]
    assert len(result.stderr.splitlines()) == 2
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_a_folder_that_is_not_there(call: Call) -> None:
    result = call("new", "absent/mine")
    assert result.exit_code == 4
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("name", ["Mine", "my scenario", "-mine", "", "a.b", ".yaml"])
def test_a_name_that_cannot_be(call: Call, tmp_path: Path, name: str) -> None:
    result = call("new", "--", name)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []
