"""What an HDF5 file contains, found without trust: before anything else opens it, and with bounds on all it asks for.

A result is groups of variables of float64, int64 and text with dimension scales; everything else that HDF5 can do
(links to other files, data in other files, virtual data, references, plugins, …) is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5, h5a, h5d, h5g, h5l, h5o, h5p, h5r, h5s, h5t, h5z

OBJECTS = 100_000  # groups and variables of a file
DEPTH = 8  # groups within groups
ATTRIBUTES = 200  # of one object
ENTRIES = 10_000  # of one attribute
ATTRIBUTE_BYTES = 2**28  # text of all attributes
DIMENSIONS = 16
LENGTH = 2**40  # of a dimension
INDEX_BYTES = 2**28  # numbers along one dimension, which are read at once when a file is opened
CHUNK_BYTES = 2**26  # of a piece of a variable, which is read at once
BLOCK_BYTES = 2**20  # read at once where the file is read past HDF5
FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
POINTER_BYTES, TEXT_BYTES = 8, 60  # what a text takes in memory beside its letters
REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("place", "<u4")])  # a text in the file
NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
UNREAD = {"REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_FillValue"}
OF_NETCDF = {"CLASS", "NAME", "DIMENSION_LIST"}


class Unsound(Exception):
    """A file that is no result; the message says what is wrong with it."""


@dataclass(frozen=True)
class Stored:
    """A variable: its kind (float, int or str), dimensions, shape and attributes."""

    kind: type
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attrs: dict[str, Any]


@dataclass
class Group:
    """A group: the sizes of its dimensions, its variables, which of these are coordinates, its attributes."""

    dims: dict[str, int] = field(default_factory=dict)
    variables: dict[str, Stored] = field(default_factory=dict)
    coordinates: set[str] = field(default_factory=set)
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Structure:
    """The groups of a file by path ("" is the root), and the bytes that its variables need in memory."""

    groups: dict[str, Group] = field(default_factory=dict)
    needs: int = 0


def end_of_hdf5(raw: BinaryIO) -> int | None:
    """Where HDF5 says that a file ends: in its first block, whose layout depends on its version. None: no HDF5."""
    raw.seek(0)
    head = raw.read(64)
    place = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8]) if len(head) == 64 else None
    if not head.startswith(b"\x89HDF\r\n\x1a\n") or place is None:
        return None
    return int.from_bytes(head[place : place + 8], "little")


def examine(file: h5py.File, raw: BinaryIO) -> Structure:
    """Find out what a file contains.

    Parameters
    ----------
    file : h5py.File
    raw : binary file
        The same file without HDF5.

    Raises
    ------
    Unsound
        If it holds what no result holds.
    """
    return _Examination(file, raw).structure


class _Examination:
    """One walk through a file."""

    def __init__(self, file: h5py.File, raw: BinaryIO) -> None:
        self._file, self._raw = file.id, raw
        self._size = os.fstat(raw.fileno()).st_size
        self._seen: set[int] = set()
        self._attribute_bytes = self._letters = 0
        self.structure = Structure()
        self._group("", h5g.open(file.id, b"/"), {})
        if self._letters > self._size:
            raise Unsound("texts share their letters")

    def _group(self, path: str, place: h5g.GroupID, above: dict[int, tuple[str, int]]) -> None:
        """Walk through one group; `above` has name and size of the dimensions of the groups above, by address."""
        self._enter(path, place)
        group = self.structure.groups[path] = Group()
        group.attrs = dict(self._attributes(path, place))
        self._note_coordinates(group, group.attrs)
        variables: list[tuple[str, h5d.DatasetID, dict[str, Any]]] = []
        groups: list[tuple[str, h5g.GroupID]] = []
        scales = dict(above)
        for name, child in self._children(path, place):
            where = f"{path}/{name}".lstrip("/")
            if isinstance(child, h5g.GroupID):
                groups.append((where, child))
            elif isinstance(child, h5d.DatasetID):
                address = self._enter(where, child)
                attrs = dict(self._attributes(where, child))
                if attrs.get("CLASS") == "DIMENSION_SCALE":
                    size = self._dimension(where, child)
                    scales[address] = name, size
                    group.dims[name] = size
                variables.append((name, child, attrs))
            else:
                raise Unsound(f"{where!r} is neither group nor variable")
        for name, dataset, attrs in variables:
            where = f"{path}/{name}".lstrip("/")
            label = str(attrs.get("NAME", "")).encode()
            if name in group.dims and label.startswith(NO_VARIABLE):
                self._plain(where, dataset, any_number=True)
                continue
            kind = self._plain(where, dataset)
            dims = (name,) if name in group.dims else self._dims(where, dataset, attrs, scales)
            self._note_coordinates(group, attrs)
            about = {key: value for key, value in attrs.items() if key not in OF_NETCDF}
            group.variables[name] = Stored(kind, dims, dataset.shape, about)
            self._weigh(where, dataset, kind, index=name in group.dims)
        if path.count("/") + 1 > DEPTH:
            raise Unsound(f"{path!r} lies too deep")
        for where, child in groups:
            self._group(where, child, scales)

    def _note_coordinates(self, group: Group, attrs: dict[str, Any]) -> None:
        """Take the attribute out that names coordinates."""
        named = attrs.pop("coordinates", "")
        group.coordinates.update(named.split() if isinstance(named, str) else ())

    def _enter(self, where: str, place: h5g.GroupID | h5d.DatasetID) -> int:
        """The address of an object, which has one name only."""
        info = h5o.get_info(place)
        if info.addr in self._seen or info.rc != 1:
            raise Unsound(f"{where!r} has more than one name")
        self._seen.add(info.addr)
        if len(self._seen) > OBJECTS:
            raise Unsound("it has too many variables")
        return int(info.addr)

    def _children(self, path: str, place: h5g.GroupID) -> Iterator[tuple[str, Any]]:
        if place.get_num_objs() > OBJECTS:
            raise Unsound("it has too many variables")
        names: list[bytes] = []
        tracked = place.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
        place.links.iterate(names.append, idx_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME)
        for raw in names:
            name = raw.decode()
            if not name.isprintable() or len(name) > 255:
                raise Unsound(f"{path!r} holds a name of unusual signs")
            if place.links.get_info(raw).type != h5l.TYPE_HARD:
                raise Unsound(f"'{path}/{name}' leads elsewhere")
            yield name, h5o.open(place, raw)

    def _attributes(self, where: str, place: h5g.GroupID | h5d.DatasetID) -> Iterator[tuple[str, Any]]:
        """Names and values: text, numbers, lists of either, or the references of DIMENSION_LIST."""
        count = h5a.get_num_attrs(place)
        if count > ATTRIBUTES:
            raise Unsound(f"{where!r} has too many attributes")
        tracked = place.get_create_plist().get_attr_creation_order() & h5p.CRT_ORDER_TRACKED
        order = h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME
        for number in range(count):
            attribute = h5a.open(place, index=number, index_type=order)
            name = attribute.name.decode()
            if name in UNREAD:
                continue
            kind, space = attribute.get_type(), attribute.get_space()
            if len(attribute.shape) > 1 or math.prod(attribute.shape) > ENTRIES or not name.isprintable():
                raise Unsound(f"attribute {name!r} of {where!r} is unusual")
            if space.get_simple_extent_type() == h5s.NULL:
                yield name, ""
                continue
            found = kind.get_class()
            if found == h5t.VLEN and name == "DIMENSION_LIST":
                if kind.get_super().get_class() != h5t.REFERENCE:
                    raise Unsound(f"attribute {name!r} of {where!r} is unusual")
            elif found not in (h5t.STRING, h5t.INTEGER, h5t.FLOAT):
                raise Unsound(f"attribute {name!r} of {where!r} is neither text nor number")
            if kind.get_size() * math.prod(attribute.shape) > ATTRIBUTE_BYTES:
                raise Unsound("its attributes are too long")
            values = np.empty(attribute.shape, attribute.dtype)
            attribute.read(values)
            if found == h5t.STRING:
                texts = [bytes(one) if one is not None else b"" for one in values.flat]
                self._attribute_bytes += sum(map(len, texts))
                if self._attribute_bytes > ATTRIBUTE_BYTES:
                    raise Unsound("its attributes are too long")
                decoded = [one.decode() for one in texts]
                yield name, decoded[0] if len(decoded) == 1 else decoded
            elif found == h5t.VLEN or values.size != 1:
                yield name, values.tolist()
            else:
                yield name, values.item()

    def _dimension(self, where: str, dataset: h5d.DatasetID) -> int:
        if len(dataset.shape) != 1 or dataset.shape[0] > LENGTH:
            raise Unsound(f"dimension {where!r} has no sound length")
        return int(dataset.shape[0])

    def _dims(
        self, where: str, dataset: h5d.DatasetID, attrs: dict[str, Any], scales: dict[int, tuple[str, int]]
    ) -> tuple[str, ...]:
        """The names of a variable's dimensions, which are as long as the variable is."""
        shape, lists = dataset.shape, attrs.get("DIMENSION_LIST", [])
        if len(lists) != len(shape) or any(len(one) != 1 for one in lists):
            raise Unsound(f"variable {where!r} lacks dimensions")
        names = []
        for (reference,), size in zip(lists, shape, strict=True):
            target = h5r.dereference(reference, self._file)
            found = scales.get(h5o.get_info(target).addr) if isinstance(target, h5d.DatasetID) else None
            if found is None or found[1] != size:
                raise Unsound(f"variable {where!r} is not as long as its dimensions")
            names.append(found[0])
        if len(set(names)) != len(names):
            raise Unsound(f"variable {where!r} has a dimension twice")
        return tuple(names)

    def _plain(self, where: str, dataset: h5d.DatasetID, *, any_number: bool = False) -> type:
        """The kind of a variable that lies in this file, in sound pieces, behind filters that HDF5 itself has."""
        plan, space = dataset.get_create_plist(), dataset.get_space()
        if space.get_simple_extent_type() == h5s.NULL or len(dataset.shape) > DIMENSIONS:
            raise Unsound(f"variable {where!r} has no extent")
        if plan.get_external_count() > 0 or plan.get_layout() not in (h5d.CONTIGUOUS, h5d.CHUNKED, h5d.COMPACT):
            raise Unsound(f"the data of {where!r} lie elsewhere")
        if math.prod(dataset.shape) > 0 and space.get_simple_extent_dims(True) != dataset.shape:
            raise Unsound(f"variable {where!r} has no fixed size")
        if plan.get_nfilters() > len(FILTERS) or any(
            plan.get_filter(number)[0] not in FILTERS for number in range(plan.get_nfilters())
        ):
            raise Unsound(f"variable {where!r} is stored by an unknown filter")
        kind = _kind(dataset.get_type(), any_number)
        if kind is None:
            raise Unsound(f"variable {where!r} is neither float64, int64 nor text")
        if plan.get_layout() == h5d.CHUNKED and 8 * math.prod(plan.get_chunk()) > CHUNK_BYTES:
            raise Unsound(f"variable {where!r} is stored in pieces too large")
        return kind

    def _weigh(self, where: str, dataset: h5d.DatasetID, kind: type, *, index: bool) -> None:
        """Count what a variable needs in memory."""
        count = math.prod(dataset.shape)
        needs = count * POINTER_BYTES
        if kind is str:
            letters = self._text_letters(where, dataset)
            self._letters += letters
            needs += count * TEXT_BYTES + letters
        if index and needs > INDEX_BYTES:
            raise Unsound(f"dimension {where!r} is too long")
        self.structure.needs += needs

    def _text_letters(self, where: str, dataset: h5d.DatasetID) -> int:
        """How long all texts of a variable are, from the references to them, which are read past HDF5.

        HDF5 would read the texts themselves, and many references to one long text would fill the memory.
        """
        plan = dataset.get_create_plist()
        if plan.get_nfilters() > 0 or plan.get_layout() == h5d.COMPACT:
            raise Unsound(f"text {where!r} is stored in an unusual way")
        pieces: list[tuple[int, int]] = []
        if plan.get_layout() == h5d.CHUNKED:
            dataset.chunk_iter(lambda info: pieces.append((info.byte_offset, info.size)))
        elif (offset := dataset.get_offset()) is not None:
            pieces.append((offset, dataset.get_storage_size()))
        stored = sum(length for _, length in pieces)
        if plan.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED and stored < REFERENCE.itemsize * math.prod(
            dataset.shape
        ):  # what is not written reads as a text that h5py cannot look at without harm
            raise Unsound(f"text {where!r} is stored in an unusual way")
        letters = 0
        for start, length in pieces:
            if start + length > self._size or length % REFERENCE.itemsize:
                raise Unsound(f"text {where!r} is cut")
            for place in range(start, start + length, BLOCK_BYTES):
                block = os.pread(self._raw.fileno(), min(BLOCK_BYTES, start + length - place), place)
                lengths = np.frombuffer(block, REFERENCE)["length"]
                letters += int(lengths.sum(dtype=np.int64))
        return letters


def _kind(stored: h5t.TypeID, any_number: bool) -> type | None:
    if isinstance(stored, h5t.TypeStringID):
        return str if stored.is_variable_str() else None
    if any_number and stored.get_class() in (h5t.FLOAT, h5t.INTEGER) and stored.get_size() <= 8:
        return float
    if any(stored.equal(one) for one in (h5t.IEEE_F64LE, h5t.IEEE_F64BE)):
        return float
    return int if any(stored.equal(one) for one in (h5t.STD_I64LE, h5t.STD_I64BE)) else None
