"""The result file: one netCDF-4 file per run, written whole or not at all, read with xarray and h5netcdf alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from flowsim.errors import OutputError, ResultError
from flowsim.trajectory.variables import (
    BASELINE,
    COMPANIONS,
    FINAL_NUMBERS,
    FINAL_WORDS,
    THEORY,
    THEORY_WORDS,
    TRAJECTORY,
)

FORMAT = 1  # raised when the meaning of a stored name changes
CONTENT = {
    "trajectory": (*TRAJECTORY, "flow_time", "step"),
    "final": (*TRAJECTORY, *FINAL_NUMBERS, *FINAL_WORDS),
    "baseline": tuple(BASELINE),
    "theory": (*THEORY, *THEORY_WORDS),
    "companions": (*COMPANIONS, "method"),
    "checks": ("name", "subject", "observed", "expected", "tolerance", "verdict", "reason"),
}
ATTRIBUTES = ("digest", "format", "resolved_scenario", "objective", "coefficient", "rows", "columns", "reach", "dtype")


def save(tree: xr.DataTree, path: Path) -> None:
    """Write the tree to `path` atomically: a reader sees the old file or the new one, never a part.

    Raises
    ------
    OutputError
        If the file cannot be written; nothing is left behind then.
    """
    encoding = {
        node.path: {
            name: {"zlib": True, "complevel": 4, "shuffle": True}
            for name, variable in node.dataset.variables.items()
            if variable.ndim > 0 and np.issubdtype(variable.dtype, np.number)
        }
        for node in tree.subtree
    }
    # Built in memory first: HDF5 on a full disk raises anything and may crash on closing the file.
    content = tree.to_netcdf(engine="h5netcdf", format="NETCDF4", encoding=encoding)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place once the block has ended well."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The two lines for a file that cannot be written."""
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}",
        "Check the folder's permissions and free space, or use --out.",
    )


def result_file(path: Path | str) -> Path:
    """The netCDF file of a result given as the file itself or its folder."""
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.nc"))
        if len(found) != 1:
            raise ResultError(
                f"{path}: holds {len(found)} result files, one wanted",
                "Give the folder of one result, or its .nc file.",
            )
        return found[0]
    if not path.is_file():
        raise ResultError(f"{path}: no such file or folder", "Give a result folder as printed by `flowsim run`.")
    return path


def load(path: Path | str) -> xr.DataTree:
    """Read a result into memory.

    Parameters
    ----------
    path : Path or str
        The `.nc` file or the folder that holds it.

    Raises
    ------
    ResultError
        If it is missing, not netCDF-4, damaged, or not written by flowsim.
    """
    file = result_file(path)
    try:
        with xr.open_datatree(file, engine="h5netcdf") as opened:
            tree: xr.DataTree = opened.load()
    except Exception as error:  # h5py and xarray raise many kinds for damaged files
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResultError(
            f"{file}: is not a readable netCDF-4 result: {first}", "Run the scenario again with --force."
        ) from error
    if "digest" not in tree.attrs:
        raise ResultError(
            f"{file}: is not a flowsim result: it carries no digest", "Give a file written by `flowsim run`."
        )
    if int(tree.attrs.get("format", -1)) != FORMAT:
        raise ResultError(
            f"{file}: has result format {tree.attrs.get('format')}, this flowsim reads {FORMAT}",
            "Run the scenario again.",
        )
    missing = _missing(tree)
    if missing:
        raise ResultError(
            f"{file}: is not a flowsim result: it lacks {missing[0]}", "Give a file written by `flowsim run`."
        )
    return tree


def _missing(tree: xr.DataTree) -> list[str]:
    """What a result must hold and this tree does not."""
    lacking = [f"the group {group!r}" for group in CONTENT if group not in tree.children]
    lacking += [f"the attribute {name!r}" for name in ATTRIBUTES if name not in tree.attrs]
    for group, names in CONTENT.items():
        if group in tree.children:
            lacking += [f"the variable {group}/{name}" for name in names if name not in tree[group].dataset]
    return lacking
