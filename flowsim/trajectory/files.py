"""Files that are written whole or not at all: a hidden temporary beside the place, then the place itself."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from flowsim.errors import OutputError


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place once the block has ended well.

    Raises
    ------
    OutputError
        For every OSError of the block, and where the file cannot be put in its place.
    """
    with temporary_beside(path) as temporary:
        try:
            yield temporary
        except OSError as error:
            raise cannot_write(path, error) from error
        put_in_place(temporary, path)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A new hidden file `.<name>.<random><suffix>`, removed when the block ends unless it has been moved away."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    try:
        try:
            temporary.open("xb").close()
        except OSError as error:
            raise cannot_write(path, error) from error
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Make a finished temporary file durable and readable by all, and give it its name."""
    try:
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_stale(folder: Path) -> None:
    """Remove the temporary result files of writers that were killed; nobody may be writing there now."""
    for path in folder.glob(".*.nc.*"):
        path.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The two lines for a file that cannot be written."""
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{path}: cannot be written: its folder is gone", "Run the same command again.")
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}",
        "Check the folder's permissions and free space, or use --out.",
    )
