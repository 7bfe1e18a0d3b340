"""A result file in the making: netCDF-4, written in slabs, so that it may be larger than memory.

It is written with h5py, by the rules that netCDF-4 adds to HDF5 (dimension scales and their numbers). h5netcdf, which
reads it, would write the same, but looks every object up by its path so often that this takes four times as long.
The same calls give the same bytes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from h5py import h5ds

from flowsim import __version__
from flowsim.trajectory.disk import Disk
from flowsim.trajectory.files import cannot_write, put_in_place, temporary_beside
from flowsim.trajectory.lazy import tree_of
from flowsim.trajectory.seal import add_seal
from flowsim.trajectory.source import Source
from flowsim.trajectory.structure import examine

SMALL_BYTES = 8192  # up to here a variable is one piece, not compressed
CHUNK_BYTES = 2**20  # of a variable at most; HDF5 keeps as much of each variable in memory
TEXT = h5py.string_dtype()
TEXT_KINDS = "OUT"  # of arrays: objects, fixed and variable length
COMPRESSED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
FORMAT_OF_HDF5 = ("v110", "v110")  # the first whose metadata carries checksums; HDF5 reads it since 2016
NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable.%10d"

Index = tuple[int | slice, ...]


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Draft]:
    """A file that takes its place at `path` once the block has ended well, and leaves nothing otherwise.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with temporary_beside(path) as temporary:
        yield Draft(temporary, path)
        try:
            add_seal(temporary)
        except OSError as error:
            raise cannot_write(path, error) from error
        put_in_place(temporary, path)


@dataclass
class _Group:
    """What a group has: size and number of each dimension, the coordinates beside these, and which variables name."""

    sizes: dict[str, int]
    numbers: dict[str, int]
    others: dict[str, tuple[str, ...]]
    named: set[str] = field(default_factory=set)


@dataclass
class _Known:
    """What has been declared so far; it outlives the writers."""

    groups: dict[str, _Group] = field(default_factory=dict)
    dimensions: int = 0


class Draft:
    """A result file that is not yet in its place.

    Parameters
    ----------
    temporary : Path
        Where it is written.
    path : Path
        Where it will be.
    """

    def __init__(self, temporary: Path, path: Path) -> None:
        self._temporary, self._path = temporary, path
        self._known = _Known()
        self._begun = False

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writer]:
        """Open the file for writing; the first time creates it, later ones add to it. Not while it is being read.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        disk = Disk(self._temporary, self._path)
        try:
            with h5py.File(
                disk, "r+" if self._begun else "w", libver=FORMAT_OF_HDF5, track_order=True, rdcc_nbytes=CHUNK_BYTES
            ) as file:
                if not self._begun:
                    file.attrs.create("_NCProperties", np.bytes_(_properties()))
                    self._begun = True
                writer = Writer(file, disk, self._known)
                yield writer
                writer.finish()
        except Exception as error:
            disk.check()  # the cause, rather than what HDF5 made of it
            if isinstance(error, SystemError) and _was_interrupted(error):
                raise KeyboardInterrupt from error
            raise
        finally:
            disk.close()
        disk.check()

    @contextlib.contextmanager
    def reading(self) -> Iterator[xr.DataTree]:
        """The file so far, opened lazily. Not while it is being written."""
        with Source(self._temporary) as raw, h5py.File(raw, "r") as file:
            yield tree_of(file, examine(file, raw), str(self._path))


class Writer:
    """Writes parts of a result file; see `Draft.writing`.

    Groups are named by their path ("trajectory", "factors/rank_2"), with or without a slash before it.
    """

    def __init__(self, file: h5py.File, disk: Disk, known: _Known) -> None:
        self._file, self._disk, self._known = file, disk, known
        self._open: dict[tuple[str, str], h5py.Dataset] = {}

    def attributes(self, attrs: Mapping[str, object]) -> None:
        """Set attributes of the root: text, numbers or lists of either."""
        _set(self._file, attrs)
        self._disk.check()

    def group(self, path: str, dims: Mapping[str, int], coords: Mapping[str, xr.Variable]) -> None:
        """Create a group with its dimensions and coordinates.

        Parameters
        ----------
        path : str
        dims : mapping of str to int
            Sizes.
        coords : mapping of str to Variable
            Along these dimensions; one that is called like its dimension is the index of that.
        """
        path = _clean(path)
        others = {name: tuple(map(str, one.dims)) for name, one in coords.items() if name not in dims}
        group = self._known.groups[path] = _Group(dict(dims), {}, others)
        place = self._place(path)
        for name, size in dims.items():
            group.numbers[name] = self._known.dimensions
            self._known.dimensions += 1
            if name in coords:
                if coords[name].dims != (name,) or coords[name].size != size:
                    raise ValueError(f"{path}/{name}: not along its own dimension")
                scale = self._whole(path, name, coords[name])
                h5ds.set_scale(scale.id, name.encode())
            else:
                scale = place.create_dataset(name, shape=(size,), dtype=">f4", track_order=True)
                h5ds.set_scale(scale.id, NOT_A_VARIABLE % size)
            scale.attrs.create("_Netcdf4Dimid", np.int32(group.numbers[name]))
        for name in others:
            self._whole(path, name, coords[name])
        self._disk.check()

    def declare(
        self,
        group: str,
        name: str,
        dims: tuple[str, ...],
        kind: type,
        attrs: Mapping[str, object],
        chunks: Mapping[str, int] | None = None,
    ) -> None:
        """Create a variable in which nothing is written yet.

        Parameters
        ----------
        group, name : str
        dims : tuple of str
            Dimensions of the group.
        kind : type
            float (reads NaN where nothing is written), int (0) or str ("").
        attrs : mapping
            Text, numbers or lists of either.
        chunks : mapping of str to int, optional
            How far the pieces reach in which a large variable is stored, all along dimensions that are not named.
            Pieces never written take no room; larger ones than `CHUNK_BYTES` are cut, the first dimension first.
        """
        path = _clean(group)
        known = self._known.groups[path]
        shape = tuple(known.sizes[dim] for dim in dims)
        options: dict[str, Any] = {}
        pieces = _pieces(shape, [(chunks or {}).get(dim, size) for dim, size in zip(dims, shape, strict=True)])
        if pieces is not None:
            options["chunks"] = pieces
            options |= COMPRESSED if kind is not str else {}
        if kind is float:
            options["fillvalue"] = np.nan
        one = self._file[f"/{path}"].create_dataset(
            name, shape=shape, dtype={float: np.float64, int: np.int64, str: TEXT}[kind], track_order=True, **options
        )
        self._open[path, name] = one
        _set(one, attrs)
        if dims == (name,):
            return
        for place, dim in enumerate(dims):
            h5ds.attach_scale(one.id, self._scale(path, dim).id, place)
        if dims:
            one.attrs.create("_Netcdf4Coordinates", np.array([known.numbers[dim] for dim in dims], dtype=np.int32))
        if kind is float:
            one.attrs.create("_FillValue", np.array([np.nan]))
        if name not in known.others:
            beside = sorted(other for other, along in known.others.items() if set(along) <= set(dims))
            if beside:
                one.attrs.create("coordinates", " ".join(beside))
                known.named.update(beside)
        self._disk.check()

    def put(self, group: str, name: str, index: Index, values: np.ndarray) -> None:
        """Write a slab.

        Parameters
        ----------
        group, name : str
            A declared variable.
        index : tuple of int or slice
            Where; dimensions that are left out are written all along.
        values : ndarray
            Of exactly the shape that the index selects.

        Raises
        ------
        ValueError, TypeError
            If the values have another shape or kind than the place where they go.
        """
        path = _clean(group)
        one = self._open.get((path, name))
        if one is None:
            one = self._open[path, name] = self._file[f"/{path}/{name}"]
        given, wanted = np.asarray(values), _selected(index, one.shape)
        if given.shape != wanted:
            raise ValueError(f"{path}/{name}: values of shape {given.shape} where {wanted} is wanted")
        text = one.dtype.kind == "O"
        fits = given.dtype.kind in TEXT_KINDS if text else np.can_cast(given.dtype, one.dtype, "same_kind")
        if not fits:
            raise TypeError(f"{path}/{name}: values of kind {given.dtype}, {one.dtype} wanted")
        if given.size > 0:
            one[index] = given.astype(object) if text else given
        self._disk.check()

    def dataset(self, path: str, data: xr.Dataset) -> None:
        """Write a small group whole: its attributes, dimensions, coordinates and variables."""
        path = _clean(path)
        self.group(path, {str(name): size for name, size in data.sizes.items()}, _named(data.coords))
        _set(self._file[f"/{path}"], data.attrs)
        for name, variable in _named(data.data_vars).items():
            self._whole(path, name, variable)

    def finish(self) -> None:
        """Name coordinates that no variable names (none lies along their dimensions) at their group, as xarray does."""
        for path, group in self._known.groups.items():
            if left := sorted(set(group.others) - group.named):
                self._file[f"/{path}"].attrs.create("coordinates", " ".join(left))
        self._disk.check()

    def _place(self, path: str) -> h5py.Group:
        """The group of that path, made where it is missing; netCDF-4 wants the order of creation kept."""
        place: h5py.Group = self._file
        for name in path.split("/") if path else ():
            place = place[name] if name in place else place.create_group(name, track_order=True)
        return place

    def _whole(self, path: str, name: str, variable: xr.Variable) -> h5py.Dataset:
        self.declare(path, name, tuple(map(str, variable.dims)), _kind(variable.dtype), variable.attrs)
        self.put(path, name, (), variable.values)
        return self._open[path, name]

    def _scale(self, path: str, dim: str) -> h5py.Dataset:
        if (path, dim) not in self._open:
            self._open[path, dim] = self._file[f"/{path}/{dim}"]
        return self._open[path, dim]


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt is behind it: h5py makes something else of one that comes while it calls `Disk`."""
    return isinstance(error, KeyboardInterrupt) or (error is not None and _was_interrupted(error.__cause__))


def _clean(path: str) -> str:
    return path.strip("/")


def _named(variables: Mapping[Any, xr.DataArray]) -> dict[str, xr.Variable]:
    return {str(name): one.variable for name, one in variables.items()}


def _kind(dtype: np.dtype[Any]) -> type:
    found = {np.dtype(np.float64): float, np.dtype(np.int64): int}.get(dtype)
    if found is None and dtype.kind in TEXT_KINDS:
        return str
    if found is None:
        raise TypeError(f"{dtype} is not stored: float64, int64 or text")
    return found


def _set(target: h5py.Group | h5py.Dataset, attrs: Mapping[str, object]) -> None:
    """Set attributes; numbers have one dimension, as netCDF-4 wants it."""
    for name, value in attrs.items():
        if isinstance(value, str):
            target.attrs.create(name, str(value))
            continue
        values = np.atleast_1d(np.asarray(value))
        if values.dtype.kind == "U":
            target.attrs.create(name, values.astype(object), dtype=TEXT)
        elif values.dtype.kind in "if":
            target.attrs.create(name, values)
        else:
            raise TypeError(f"attribute {name}: neither text nor numbers: {value!r}")


def _pieces(shape: tuple[int, ...], wanted: list[int]) -> tuple[int, ...] | None:
    """The chunks of a variable of 8 bytes an element; None where it is stored in one piece."""
    if 8 * math.prod(shape) <= SMALL_BYTES:
        return None
    pieces = [max(1, min(one, size)) for one, size in zip(wanted, shape, strict=True)]
    for place in range(len(pieces)):
        rest = 8 * math.prod(pieces[place + 1 :])
        pieces[place] = max(1, min(pieces[place], CHUNK_BYTES // rest))
    return tuple(pieces)


def _selected(index: Index, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what an index selects."""
    if len(index) > len(shape):
        raise ValueError(f"{len(index)} indices for {len(shape)} dimensions")
    found = [len(range(*one.indices(size))) for one, size in zip(index, shape, strict=False) if isinstance(one, slice)]
    return (*found, *shape[len(index) :])


def _properties() -> str:
    """What netCDF-4 wants to be told of who wrote a file."""
    return f"version=2,flowsim={__version__},hdf5={h5py.version.hdf5_version},h5py={h5py.__version__}"
