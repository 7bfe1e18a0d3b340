"""Finished tiles on disk: one run at a time, nothing mixed, nothing believed that is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowsim.errors import OutputError, ResultError
from flowsim.sweep.ledger import BusyError, Ledger
from flowsim.sweep.slabs import DamagedTile, pack
from flowsim.sweep.tiles import Tile

STAMP = {"flowsim": "1", "torch": "2.13", "device": "cpu"}
TILES = tuple(Tile(index, 0, index, index + 1, 0, 2) for index in range(3))
SLABS = {"trajectory/loss": np.arange(3.0)}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ein Ordner mit Ü", "name", "0123", TILES)


def about(tile: Tile) -> dict[str, Any]:
    return tile.about("0123") | {"stamp": STAMP}


def test_a_saved_tile_is_read(ledger: Ledger) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        assert ledger.read(TILES[1], about(TILES[1])) is None
        ledger.save(TILES[1], pack(SLABS, about(TILES[1])))
        found = ledger.read(TILES[1], about(TILES[1]))
        assert found is not None and found["trajectory/loss"].tolist() == [0, 1, 2]
    plan = json.loads((ledger.place / "plan.json").read_text())
    assert plan == {"name": "name", "digest": "0123", "tiles": 3, "stamp": STAMP}
    assert sorted(path.name for path in ledger.place.iterdir()) == ["000001.tile", "lock", "plan.json"]
    ledger.leave()
    assert ledger.place.is_dir()  # there is work in it
    ledger.clear()
    ledger.leave()
    assert not ledger.place.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
        lambda path: path.write_bytes(pack(SLABS, about(TILES[2]))),  # of another tile
        lambda path: path.write_bytes(pack(SLABS, TILES[1].about("4567") | {"stamp": STAMP})),  # of another scenario
        lambda path: path.write_bytes(pack(SLABS, TILES[1].about("0123") | {"stamp": STAMP | {"torch": "2.14"}})),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_anything_else_is_damage(ledger: Ledger, spoil: Any) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        ledger.save(TILES[1], pack(SLABS, about(TILES[1])))
        spoil(ledger.path(TILES[1]))
        with pytest.raises(DamagedTile):
            ledger.read(TILES[1], about(TILES[1]))


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"digest": "4567"}, "another scenario"),
        ({"stamp": STAMP | {"torch": "2.14"}}, "torch 2.14 (here: 2.13)"),
        ({"stamp": STAMP | {"device": "cuda"}}, "device cuda (here: cpu)"),
        ({"stamp": {"flowsim": "1"}}, "device unknown (here: cpu)"),
        ({"stamp": 3}, "an unknown version"),
        ({"tiles": 7}, "another version"),
    ],
)
def test_work_of_another_kind_is_refused_and_kept(ledger: Ledger, plan: dict[str, Any], why: str) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        ledger.save(TILES[0], pack(SLABS, about(TILES[0])))
        there = json.loads((ledger.place / "plan.json").read_text())
        (ledger.place / "plan.json").write_text(json.dumps(there | plan))
        with pytest.raises(ResultError) as caught:
            ledger.open(STAMP, anew=False)
        assert why in caught.value.lines()[0] and "--force" in caught.value.lines()[1]
        assert ledger.path(TILES[0]).is_file()
        ledger.open(STAMP, anew=True)
        assert not ledger.path(TILES[0]).exists()
        assert json.loads((ledger.place / "plan.json").read_text()) == there


def test_beginning_anew_removes_whatever_stands_there(ledger: Ledger) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        (ledger.place / "000000.tile").mkdir()
        (ledger.place / "000000.tile" / "file").write_text("x")
        (ledger.place / ".000001.tile.ab.tile").mkdir()
        ledger.open(STAMP, anew=True)
        assert not list(ledger.place.glob("*.tile")) and not list(ledger.place.glob(".*.tile"))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '"x"', "\x00"])
def test_tiles_without_a_plan_belong_to_nobody(ledger: Ledger, text: str) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        ledger.save(TILES[0], pack(SLABS, about(TILES[0])))
        (ledger.place / "plan.json").write_text(text)
        ledger.open(STAMP, anew=False)
        assert not ledger.path(TILES[0]).exists()


def test_the_second_run_says_who_holds_it(ledger: Ledger) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        ledger.save(TILES[0], pack(SLABS, about(TILES[0])))
        with pytest.raises(BusyError) as caught, ledger.held():
            raise AssertionError("two at a time")
        assert f"process {os.getpid()} on " in caught.value.lines()[0] and len(caught.value.lines()) == 2
        ledger.leave()
        assert ledger.path(TILES[0]).is_file()
        (ledger.place / "holder.json").write_text("{")
        with pytest.raises(BusyError) as caught, ledger.held():
            raise AssertionError("two at a time")
        assert "another process" in caught.value.lines()[0]
    with ledger.held():
        pass


HOLD = """
import sys, time
from pathlib import Path
from flowsim.sweep.ledger import Ledger
with Ledger(Path(sys.argv[1]), "name", "0123", ()).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_of_a_dead_process_is_none(ledger: Ledger) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(ledger.folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(BusyError) as caught, ledger.held():
            raise AssertionError("two at a time")
        assert f"process {other.pid} on " in caught.value.lines()[0]
        other.send_signal(signal.SIGKILL)
        other.wait()
    with ledger.held():
        assert (ledger.place / "holder.json").is_file()


def test_what_a_killed_run_was_writing_is_swept_away(ledger: Ledger) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        part = ledger.place / ".000002.tile.8f3a.tile"
        part.write_bytes(b"half")
        ledger.open(STAMP, anew=False)
        assert not part.exists()


def test_a_folder_that_is_gone_or_in_the_way(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.held():
        ledger.open(STAMP, anew=False)
        import shutil

        shutil.rmtree(ledger.folder)
        with pytest.raises(OutputError) as caught:
            ledger.save(TILES[0], b"")
        assert "cannot be written" in caught.value.lines()[0]
        ledger.clear()
    ledger.leave()
    ledger.folder.write_text("a file")
    with pytest.raises(OutputError) as caught, ledger.held():
        raise AssertionError("there is no folder")
    assert len(caught.value.lines()) == 2
