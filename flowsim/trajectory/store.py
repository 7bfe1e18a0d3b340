"""Reading a result file: one netCDF-4 file per run, read without trust, whole or in parts.

Every file is a plain netCDF-4 file that xarray and h5netcdf open alone; `draft` writes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import xarray as xr

from flowsim.errors import ResultError
from flowsim.scenario.memory import available_memory, size_text
from flowsim.trajectory import content, seal
from flowsim.trajectory.content import CONTENT, FORMAT
from flowsim.trajectory.files import cannot_write, remove_stale, replacing, write_text
from flowsim.trajectory.lazy import tree_of
from flowsim.trajectory.source import Source
from flowsim.trajectory.structure import Structure, Unsound, end_of_hdf5, examine

__all__ = [
    "CONTENT", "FORMAT", "cannot_write", "load", "open_result", "remove_stale", "replacing", "result_file",
    "write_text",
]  # fmt: skip

AGAIN = "Run the scenario again with --force."
OURS = "Give a file written by `flowsim run`."


def result_file(path: Path | str) -> Path:
    """The netCDF file of a result given as the file itself or its folder; hidden files are none."""
    path = Path(path)
    if path.is_dir():
        found = sorted(one for one in path.glob("*.nc") if not one.name.startswith("."))
        if not found and any((path / "tiles").glob("*.tile")):
            raise ResultError(f"{path}: is not finished: it holds tiles only", "Go on with `flowsim run SCENARIO`.")
        if not found and any(one.glob("*.nc") for one in path.iterdir() if one.is_dir()):
            raise ResultError(
                f"{path}: holds no result itself, but folders of results",
                f"Name one of them; `flowsim show {path}` lists them.",
            )
        if len(found) != 1:
            raise ResultError(
                f"{path}: holds {len(found)} result files, one wanted",
                "Give the folder of one result, or its .nc file.",
            )
        return found[0]
    if path.suffix in (".yaml", ".yml"):
        raise ResultError(f"{path}: is a scenario, not a result", "Give a result folder as printed by `flowsim run`.")
    if not path.is_file():
        raise ResultError(f"{path}: no such file or folder", "Give a result folder as printed by `flowsim run`.")
    return path


@contextlib.contextmanager
def open_result(path: Path | str) -> Iterator[xr.DataTree]:
    """Open a result for reading parts of it; the tree is of use until the block ends.

    Nothing that is read is kept: ask for a slab once, `tree["trajectory"]["loss"][0, 1].values`.

    Parameters
    ----------
    path : Path or str
        The `.nc` file or the folder that holds it.

    Raises
    ------
    ResultError
        If it is missing, not netCDF-4, damaged, or not written by flowsim.
    """
    with _opened(result_file(path)) as (tree, _):
        yield tree


def load(path: Path | str) -> xr.DataTree:
    """Read a result into memory.

    Parameters
    ----------
    path : Path or str
        The `.nc` file or the folder that holds it.

    Raises
    ------
    ResultError
        If it is missing, not netCDF-4, damaged, not written by flowsim, or larger than the free memory.
    """
    file = result_file(path)
    with _opened(file) as (tree, structure):
        if structure.needs > available_memory():
            raise ResultError(
                f"{file}: needs {size_text(structure.needs)} of memory, {size_text(available_memory())} are free",
                'Open it with xarray.open_datatree(…, engine="h5netcdf") and read parts of it.',
            )
        return tree.load()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[xr.DataTree, Structure]]:
    """The tree of a sound file and what is in it; the file is opened once, so that no other can take its place."""
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(Source(path))
            sealed = seal.content_size(raw)
            if sealed is not None and not seal.is_whole(raw, sealed):
                raise ResultError(f"{path}: was changed or damaged since it was written", AGAIN)
            end = end_of_hdf5(raw)
            if end is None:
                raise ResultError(f"{path}: is not a readable netCDF-4 result: it is no HDF5 file", AGAIN)
            if end != (raw.seek(0, 2) if sealed is None else sealed):
                raise ResultError(f"{path}: is not a readable netCDF-4 result: it is cut or has grown", AGAIN)
            file = stack.enter_context(h5py.File(raw, "r"))
            structure = examine(file, raw)
            _recognise(path, structure)
            content.require(structure)
            tree = tree_of(file, structure, str(path))
            content.agree(tree)
        except ResultError:
            raise
        except Unsound as fault:
            raise ResultError(f"{path}: is not a flowsim result: {fault}", OURS) from fault
        except Exception as error:  # h5py and xarray raise many kinds for damaged files
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ResultError(f"{path}: is not a readable netCDF-4 result: {first}", AGAIN) from error
        yield tree, structure


def _recognise(path: Path, structure: Structure) -> None:
    """Say of files of other programs and other versions what they are, before what they lack."""
    attrs = structure.groups[""].attrs
    if "digest" not in attrs:
        raise ResultError(f"{path}: is not a flowsim result: it carries no digest", OURS)
    if attrs.get("format") != FORMAT:
        raise ResultError(
            f"{path}: has result format {attrs.get('format')!r}, this flowsim reads {FORMAT}", "Run the scenario again."
        )
