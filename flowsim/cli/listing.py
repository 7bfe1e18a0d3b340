"""The results in a folder: one row each, whatever state they are in."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsim.cli import tables
from flowsim.errors import FlowsimError, ResultError

if TYPE_CHECKING:
    import xarray

LETTERS = 8  # of a digest
PLAN = Path("tiles", "plan.json")  # of a result that is not finished
MOST_TEXT = 2**20  # bytes of a plan: more was not written by flowsim


def is_listing(path: Path) -> bool:
    """Whether a path is a folder without a result file of its own."""
    return path.is_dir() and not _files(path)


def result_list(folder: Path) -> list[dict[str, Any]]:
    """One row per result below a folder, by name; the folder itself where it is an unfinished result.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of dict
        name, digest, folder; outcomes, verdicts: word -> how many; bytes on disk; state: `complete`, `3 of 40 tiles`,
        `complete but 2 tiles failed`, or `unreadable: …` with the reason.

    Raises
    ------
    ResultError
        If the folder itself cannot be read.
    """
    try:
        if (folder / PLAN).exists():
            return [_row(folder)]
        inside = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    except OSError as error:
        raise ResultError(
            f"{folder}: cannot be read: {error.strerror or error}", "Give a folder that holds results."
        ) from error
    return [_row(one) for one in inside if _is_result(one)]


def result_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """`result_list` for a reader."""
    cells = []
    for row in rows:
        name, digest = printable(row["name"]), row["digest"] and printable(row["digest"])[:LETTERS]
        cells.append(
            [
                name.removesuffix(f"-{digest}"),
                digest or "-",
                counted(row["outcomes"]),
                counted(row["verdicts"]),
                tables.size(row["bytes"]),
                printable(row["state"]),
            ]
        )
    return tables.table(["name", "digest", "outcomes", "verdicts", "on disk", "state"], cells, right=(4,))


def counted(counts: Mapping[str, int]) -> str:
    """`12 pass, 1 fail`; a dash for nothing."""
    return ", ".join(f"{count} {printable(word)}" for word, count in counts.items()) or "-"


def printable(text: str) -> str:
    """Text that cannot command a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _is_result(path: Path) -> bool:
    try:
        return path.is_dir() and (bool(_files(path)) or (path / PLAN).exists())
    except OSError:
        return True  # a folder that cannot be read is worth a row


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("*.nc") if not one.name.startswith("."))


def _row(folder: Path) -> dict[str, Any]:
    """What is known of one result; what is wrong with it is its state."""
    row: dict[str, Any] = {
        "name": folder.name or str(folder), "digest": None, "folder": str(folder), "outcomes": {}, "verdicts": {},
        "bytes": _size(folder), "state": "complete",
    }  # fmt: skip
    try:
        files = _files(folder)
        row |= _finished(files) if files else _unfinished(folder)
    except FlowsimError as error:
        prefixes = (f"{folder / PLAN}: ", *(f"{file}: " for file in _files(folder)), f"{folder}: ")
        reason = error.message
        for prefix in prefixes:
            reason = reason.removeprefix(prefix)
        row["state"] = f"unreadable: {' '.join(reason.split())}"
    except OSError as error:
        row["state"] = f"unreadable: {error.strerror or error}"
    return row


def _finished(files: list[Path]) -> dict[str, Any]:
    from flowsim.trajectory.store import open_result

    if len(files) > 1:
        raise ResultError(f"holds {len(files)} result files, one wanted")
    if not files[0].is_file():  # to open a pipe would wait for ever
        raise ResultError(f"{files[0].name} is no file")
    with open_result(files[0]) as tree:
        failed = int(tree.attrs.get("failed_tiles", 0))
        return {
            "digest": str(tree.attrs["digest"]),
            "outcomes": _outcomes(tree),
            "verdicts": _verdicts(tree),
            "state": f"complete but {failed} tile{'s' * (failed > 1)} failed" if failed else "complete",
        }


def _outcomes(tree: xarray.DataTree) -> dict[str, int]:
    """Of all trajectories, the most frequent first; read a slab at a time."""
    words = tree["final"].dataset["outcome"].variable
    counts: Counter[str] = Counter()
    for place in range(words.shape[0]):
        counts.update(map(str, words[place].values.ravel()))
    return dict(counts.most_common())


def _verdicts(tree: xarray.DataTree) -> dict[str, int]:
    """Of all checks, the best first."""
    from flowsim.checks.base import SEVERITY

    counts = Counter(map(str, tree["checks"].dataset["verdict"].values))
    return {str(word): counts[str(word)] for word in SEVERITY if counts[str(word)]}


def _unfinished(folder: Path) -> dict[str, Any]:
    """How far a result has come of which there are only tiles."""
    path = folder / PLAN
    if not path.is_file():
        raise ResultError("its plan of tiles is no file")
    with path.open("rb") as file:
        text = file.read(MOST_TEXT)
    try:
        plan = json.loads(text)
        tiles, digest = plan["tiles"], plan.get("digest")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ResultError("its plan of tiles is damaged") from error
    if isinstance(tiles, bool) or not isinstance(tiles, int) or tiles < 1:
        raise ResultError("its plan of tiles is damaged")
    done = sum(not one.name.startswith(".") for one in path.parent.glob("*.tile"))
    return {"digest": digest if isinstance(digest, str) else None, "state": f"{done} of {tiles} tiles"}


def _size(folder: Path) -> int:
    """Bytes of the files in a folder and below it; links are not followed, what cannot be read counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total
