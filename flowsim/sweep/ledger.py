"""The finished tiles of a run on disk, until the result is whole: what a run that was stopped goes on from.

They lie in `tiles/` inside the result's folder, one file each, written whole or not at all, beside the plan that says
what they belong to. One run at a time: the system lets go of a dead process's lock by itself.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flowsim.errors import OutputError, ResultError
from flowsim.sweep.slabs import About, DamagedTile, Slabs, unpack
from flowsim.sweep.tiles import Tile
from flowsim.trajectory.files import cannot_write, replacing, write_text

FOLDER = "tiles"
PLAN, LOCK, HOLDER = "plan.json", "lock", "holder.json"
MOST_TEXT = 2**20  # of a plan or a holder: more was not written by flowsim


class BusyError(OutputError):
    """Another run is at work on the same result."""


@dataclass(frozen=True)
class Ledger:
    """The tiles of one result.

    Attributes
    ----------
    folder : Path
        Of the result.
    name, digest : str
        Of the scenario.
    tiles : sequence of Tile
        All of them.
    """

    folder: Path
    name: str
    digest: str
    tiles: Sequence[Tile]

    @property
    def place(self) -> Path:
        """Where the tiles lie."""
        return self.folder / FOLDER

    def path(self, tile: Tile) -> Path:
        """The file of a tile."""
        return self.place / f"{tile.index:06d}.tile"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the result for the block.

        Raises
        ------
        BusyError
            If another run holds it.
        OutputError
            If nothing can be written there.
        """
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.place / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise BusyError(self._busy(), "Wait for it to end, or stop it; then run the same command again.") from None
        except (OSError, NotImplementedError) as error:
            broken = error if isinstance(error, OSError) else OSError(0, "the file system cannot lock files")
            raise cannot_write(self.place, broken) from error
        try:
            about = {
                "process": os.getpid(),
                "host": platform.node(),
                "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
            write_text(self.place / HOLDER, json.dumps(about) + "\n")
            yield
        finally:
            with contextlib.suppress(OSError):
                (self.place / HOLDER).unlink(missing_ok=True)
            lock.release()

    def _busy(self) -> str:
        holder = _json(self.place / HOLDER) or {}
        named = (
            f"process {holder['process']} on {holder['host']}, since {holder['since']}"
            if holder.keys() >= {"process", "host", "since"}
            else "another process"
        )
        return f"{self.folder}: is being computed by {named}"

    def open(self, stamp: dict[str, str], *, anew: bool) -> None:
        """Begin, or go on, with tiles of this stamp; only while `held`.

        Raises
        ------
        ResultError
            If there are tiles that another scenario, version or device has left.
        """
        plan = {"name": self.name, "digest": self.digest, "tiles": len(self.tiles), "stamp": stamp}
        there = _json(self.place / PLAN)
        if anew:
            self.clear()
        elif there is not None and (why := _differs(there, plan)):
            raise ResultError(
                f"{self.place}: holds unfinished work of {why}",
                "Go on with what began it, or begin anew with --force.",
            )
        elif there is None and any(self.place.glob("*.tile")):
            self.clear()  # nobody knows what these belong to
        for part in self.place.glob(".*.tile"):
            _remove(part)  # begun by a run that was killed
        if there != plan or anew:
            write_text(self.place / PLAN, json.dumps(plan, indent=2) + "\n")

    def read(self, tile: Tile, about: About) -> Slabs | None:
        """The arrays of a finished tile; None where there is none.

        Raises
        ------
        DamagedTile
            If there is something else.
        """
        path = self.path(tile)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedTile(f"it cannot be read: {error.strerror or error}") from error
        slabs, found = unpack(content)
        if found != about:
            raise DamagedTile("it is of another scenario, tile or version")
        return slabs

    def save(self, tile: Tile, content: bytes) -> None:
        """Write a finished tile, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with replacing(self.path(tile)) as temporary:
            temporary.write_bytes(content)

    def drop(self, tile: Tile) -> None:
        """Remove what stands in a tile's place.

        Raises
        ------
        OutputError
            If it cannot be removed.
        """
        _remove(self.path(tile))

    def clear(self) -> None:
        """Remove all tiles."""
        for path in self.place.glob("*.tile"):
            _remove(path)

    def leave(self) -> None:
        """Remove the folder of tiles where it holds none; nothing where another run is at work."""
        if not self.place.is_dir():
            return  # a lock would make it
        with contextlib.suppress(OSError, Timeout), FileLock(self.place / LOCK, timeout=0):
            if not any(self.place.glob("*.tile")):
                shutil.rmtree(self.place)


def has_tiles(folder: Path) -> bool:
    """Whether a result's folder holds tiles, of a run that has not come to its end."""
    return any((folder / FOLDER).glob("[0-9]*.tile"))


def _remove(path: Path) -> None:
    """Remove a file, or whatever stands in its place."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _differs(there: dict[str, Any], plan: dict[str, Any]) -> str:
    """What unfinished work belongs to, where that is not this plan; empty where it is."""
    if there.get("digest") != plan["digest"]:
        return "another scenario"
    old, new = there.get("stamp"), plan["stamp"]
    if not isinstance(old, dict):
        return "an unknown version"
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return f"{name} {old.get(name, 'unknown')} (here: {new.get(name, 'none')})"
    return "" if there.get("tiles") == plan["tiles"] else "another version"


def _json(path: Path) -> dict[str, Any] | None:
    """A small JSON mapping; None where there is none."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MOST_TEXT))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
