"""The seal of a result file: the sha256 of all that stands before it, behind the end of what HDF5 reads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

MARK = b"\nflowsim sha256\n"
HASH_BYTES = hashlib.sha256().digest_size
SEAL_BYTES = HASH_BYTES + len(MARK)
BLOCK_BYTES = 2**20


def add_seal(path: Path) -> None:
    """Append the seal to a finished file."""
    with path.open("r+b") as file:
        file.write(_hash(file, file.seek(0, 2)) + MARK)


def content_size(file: BinaryIO) -> int | None:
    """How many bytes the seal covers; None where there is no seal."""
    size = file.seek(0, 2) - SEAL_BYTES
    if size < 0:
        return None
    file.seek(size + HASH_BYTES)
    return size if file.read(len(MARK)) == MARK else None


def is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the first `size` bytes are those that were sealed."""
    found = _hash(file, size)
    return file.read(HASH_BYTES) == found


def _hash(file: BinaryIO, size: int) -> bytes:
    """The sha256 of the first `size` bytes, and the file placed behind them; memory does not grow with the file."""
    file.seek(0)
    done = hashlib.sha256()
    while size > 0:
        block = file.read(min(size, BLOCK_BYTES))
        if not block:
            break
        done.update(block)
        size -= len(block)
    return done.digest()
