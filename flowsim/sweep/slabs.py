"""What one tile leaves: arrays by `group/variable`, in memory and as bytes that betray any damage.

The bytes are the sha256 of the rest, then a safetensors file: numbers as tensors, words as JSON in its header, beside
what the tile is. Nothing that is read is believed before its hash holds; nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

Slabs = dict[str, np.ndarray]
About = dict[str, Any]

HASH_BYTES = 32
LENGTH_BYTES = 8  # of the header, as safetensors writes it
NUMBERS = (np.dtype(np.float64), np.dtype(np.int64))


class DamagedTile(Exception):
    """Bytes that are not a whole tile; the message says why."""


def pack(slabs: Slabs, about: About) -> bytes:
    """Arrays of float64, int64 or words (object), and a JSON description, as bytes."""
    numbers = {name: np.ascontiguousarray(values) for name, values in slabs.items() if values.dtype in NUMBERS}
    words = {name: values.tolist() for name, values in slabs.items() if name not in numbers}
    rest = save(numbers, {"about": json.dumps(about, sort_keys=True), "words": json.dumps(words, sort_keys=True)})
    return hashlib.sha256(rest).digest() + rest


def unpack(content: bytes) -> tuple[Slabs, About]:
    """What `pack` was given.

    Raises
    ------
    DamagedTile
        If the bytes are cut, changed or something else.
    """
    rest = memoryview(content)[HASH_BYTES:]
    if hashlib.sha256(rest).digest() != content[:HASH_BYTES]:
        raise DamagedTile("it is cut, changed or no tile")
    try:
        slabs: Slabs = dict(load(bytes(rest)))
        length = int.from_bytes(rest[:LENGTH_BYTES], "little")
        header = json.loads(bytes(rest[LENGTH_BYTES : LENGTH_BYTES + length]))["__metadata__"]
        about, words = json.loads(header["about"]), json.loads(header["words"])
        for name, values in words.items():
            slabs[name] = _words(values)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedTile(f"it is no tile: {str(error) or type(error).__name__}") from error
    if not isinstance(about, dict) or any(one.dtype not in (*NUMBERS, np.dtype(object)) for one in slabs.values()):
        raise DamagedTile("it is no tile")
    return slabs, about


def _words(values: Any) -> np.ndarray:
    """Nested lists of text as an object array."""
    found = np.array(values, dtype=object)
    if not all(isinstance(one, str) for one in found.flat):
        raise ValueError("words are not text")
    return found


def blank(shape: tuple[int, ...], kind: type) -> np.ndarray:
    """Numbers that are not there (NaN, 0 for counts) or words that are empty."""
    if kind is str:
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=np.int64) if kind is int else np.full(shape, math.nan)
