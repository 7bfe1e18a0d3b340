"""``flowsim show FOLDER``: a row for every result, whatever its state, and never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from flowsim.cli.listing import result_list
from tests.cli.conftest import Call


@pytest.fixture
def results(tmp_path: Path, trace_run: Any) -> Path:
    """A folder with one complete result."""
    folder = tmp_path / "results"
    shutil.copytree(trace_run.folder, folder / trace_run.folder.name)
    return folder


def state(folder: Path) -> str:
    [row] = result_list(folder)
    return str(row["state"])


def test_a_complete_result(call: Call, results: Path, trace_run: Any) -> None:
    digest = trace_run.tree.attrs["digest"]
    result = call("show", results)
    assert (result.exit_code, result.stderr) == (0, "")
    heading, _, row = result.stdout.splitlines()
    assert heading.split() == ["name", "digest", "outcomes", "verdicts", "on", "disk", "state"]
    assert row.split()[:2] == ["trace", digest[:8]] and row.endswith("complete")
    words = trace_run.tree["final"]["outcome"].values
    [record] = json.loads(call("show", results, "--json").stdout)["results"]
    assert sum(record["outcomes"].values()) == words.size
    assert all((words == word).sum() == count for word, count in record["outcomes"].items())
    verdicts = trace_run.tree["checks"]["verdict"].values
    assert all((verdicts == word).sum() == count for word, count in record["verdicts"].items())
    assert sum(record["verdicts"].values()) == verdicts.size
    assert record["digest"] == digest and record["folder"] == str(results / trace_run.folder.name)
    on_disk = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    assert record["bytes"] == on_disk


def test_an_unfinished_result(call: Call, tmp_path: Path) -> None:
    tiles = tmp_path / "results" / "big-12345678" / "tiles"
    tiles.mkdir(parents=True)
    (tiles / "plan.json").write_text('{"tiles": 40, "digest": "1234567890abcdef", "name": "big"}')
    for place in range(12):
        (tiles / f"{place:06d}.tile").touch()
    (tiles / ".000012.tile.x.tile").touch()  # begun, not finished
    for folder in (tmp_path / "results", tmp_path / "results" / "big-12345678"):
        row = call("show", folder).stdout.splitlines()[2]
        assert row.split()[:2] == ["big", "12345678"] and row.endswith("12 of 40 tiles")


@pytest.mark.parametrize(
    "plan",
    ["", "[]", "{}", '{"tiles": "x"}', '{"tiles": true}', '{"tiles": -1}', "[" * 100_000, '{"tiles": 1' + "0" * 5000],
)
def test_a_damaged_plan(tmp_path: Path, plan: str) -> None:
    place = tmp_path / "results" / "x" / "tiles"
    place.mkdir(parents=True)
    (place / "plan.json").write_text(plan)
    assert state(tmp_path / "results") == "unreadable: its plan of tiles is damaged"


def test_rows_are_sorted_by_name(call: Call, results: Path, trace_run: Any) -> None:
    for name in ("ä ö 漢字", "two words", "a", ".hidden"):
        shutil.copytree(trace_run.folder, results / name)
    (results / "no result").mkdir()
    (results / "file.txt").touch()
    names = [row["name"] for row in json.loads(call("show", results, "--json").stdout)["results"]]
    assert names == ["a", trace_run.folder.name, "two words", "ä ö 漢字"]
    lines = call("show", results).stdout.splitlines()[2:]
    assert [line.split("   ")[0].strip() for line in lines] == ["a", "trace", "two words", "ä ö 漢字"]


def test_an_empty_folder(call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("show", "empty")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "empty holds no results; flowsim run SCENARIO --out empty puts one there.\n"
    assert json.loads(call("show", "empty", "--json").stdout)["results"] == []


def test_a_folder_has_no_points(call: Call, results: Path) -> None:
    result = call("show", results, "--at", "std=1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds no result of its own" in result.stderr and len(result.stderr.splitlines()) == 2


def test_damaged_and_hostile_files_are_rows(call: Call, results: Path, trace_run: Any) -> None:
    content = trace_run.file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    hostile = {
        "cut": content[: len(content) // 2],
        "flipped": bytes(flipped),
        "empty": b"",
        "text": b"no netCDF at all\n" * 100,
        "\x1b[31mred": b"\x1b[2J",
    }
    for name, bad in hostile.items():
        (results / name).mkdir()
        (results / name / "x.nc").write_bytes(bad)
    (results / "pipe").mkdir()
    os.mkfifo(results / "pipe" / "x.nc")
    (results / "folder").mkdir()
    (results / "folder" / "x.nc").mkdir()
    (results / "loop").mkdir()
    (results / "loop" / "x.nc").symlink_to("x.nc")
    (results / "two").mkdir()
    for name in ("x.nc", "y.nc"):
        (results / "two" / name).write_bytes(content)
    result = call("show", results)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    states = {row["name"]: row["state"] for row in result_list(results)}
    assert len(states) == len(hostile) + 5 == len(result.stdout.splitlines()) - 2
    assert states.pop(trace_run.folder.name) == "complete"
    assert all(one.startswith("unreadable: ") and "/x.nc" not in one for one in states.values()), states
    assert states["two"] == "unreadable: holds 2 result files, one wanted"
    assert states["pipe"] == states["folder"] == "unreadable: x.nc is no file"


def test_failed_tiles_are_said(results: Path, trace_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    from flowsim.trajectory import store

    tree = trace_run.tree.copy()
    tree.attrs["failed_tiles"] = 2
    monkeypatch.setattr(store, "open_result", lambda path: contextlib.nullcontext(tree))
    assert state(results) == "complete but 2 tiles failed"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(results: Path) -> None:
    locked = results / "locked"
    locked.mkdir()
    locked.chmod(0)
    try:
        assert {row["state"] for row in result_list(results)} == {"complete", "unreadable: Permission denied"}
    finally:
        locked.chmod(0o755)


def test_a_name_that_is_no_text(call: Call, results: Path, trace_run: Any) -> None:
    shutil.copytree(trace_run.folder, results / os.fsdecode(b"\xff"))
    assert call("show", results).exit_code == 0
    assert len(json.loads(call("show", results, "--json").stdout)["results"]) == 2
