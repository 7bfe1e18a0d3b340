"""Tiles as bytes: what goes in comes out, and nothing else does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from flowsim.sweep.slabs import DamagedTile, blank, pack, unpack
from tests.properties.strategies import many

ABOUT = {"digest": "ab", "tile": [3, 0, 2, 0, 4], "stamp": {"torch": "2.13"}}


def slabs() -> dict[str, np.ndarray]:
    return {
        "trajectory/loss": np.array([[1.0, np.nan, np.inf], [-0.0, 5e-324, 1e308]]),
        "final/steps": np.array([[3, -(2**62)]]),
        "final/outcome": np.array([["reached", "größer ≥ 🙂"], ["", "nul\0 inside"]], dtype=object),
        "empty": np.zeros((0, 3)),
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].shape == other[name].shape
        if one[name].dtype == object:
            assert one[name].tolist() == other[name].tolist()
        else:
            assert one[name].tobytes() == other[name].tobytes()


def test_what_is_packed_is_unpacked() -> None:
    found, about = unpack(pack(slabs(), ABOUT))
    same(found, slabs())
    assert about == ABOUT


def test_views_are_packed_by_value() -> None:
    whole = np.arange(24.0).reshape(2, 3, 4)
    found, _ = unpack(pack({"a": whole[:, ::2].swapaxes(0, 2)}, {}))
    np.testing.assert_array_equal(found["a"], whole[:, ::2].swapaxes(0, 2))


@many
@given(st.data())
def test_any_damage_is_found(data: st.DataObject) -> None:
    content = bytearray(pack(slabs(), ABOUT))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if how == "flip":
        content[place] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del content[place:]
    elif how == "insert":
        content[place:place] = data.draw(st.binary(min_size=1, max_size=50))
    else:
        content += data.draw(st.binary(min_size=1, max_size=50))
    with pytest.raises(DamagedTile):
        unpack(bytes(content))


@many
@given(st.binary(max_size=300))
def test_other_bytes_are_no_tile(content: bytes) -> None:
    with pytest.raises(DamagedTile):
        unpack(content)
    with pytest.raises(DamagedTile):  # with a hash that is right
        unpack(hashlib.sha256(content).digest() + content)


def sealed(tensors: Any, metadata: Any) -> bytes:
    rest = save(tensors, metadata)
    return hashlib.sha256(rest).digest() + rest


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    rest = len(text).to_bytes(8, "little") + text + data
    return hashlib.sha256(rest).digest() + rest


WORDS = {"about": "{}", "words": "{}"}


HOSTILE = [
    sealed({}, None),
    sealed({}, {"about": "{}"}),
    sealed({}, {"about": "[]", "words": "{}"}),
    sealed({}, {"about": "{}", "words": "[1]"}),
    sealed({}, {"about": "{}", "words": '{"a": [1]}'}),
    sealed({}, {"about": "{}", "words": '{"a": [["x"], ["y", "z"]]}'}),
    sealed({}, {"about": "{}", "words": "[" * 100_000}),
    sealed({"a": np.zeros(2, dtype=np.float32)}, WORDS),
    sealed({"a": np.zeros(2, dtype=np.bool_)}, WORDS),
    header({"__metadata__": WORDS, "a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}),
    header({"__metadata__": WORDS, "a": {"dtype": "F64", "shape": [2**62, 8], "data_offsets": [0, 0]}}),
    header({"__metadata__": WORDS, "a": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}}, bytes(8)),
    header({"__metadata__": WORDS, "a": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
    header({"__metadata__": WORDS, "a": {"dtype": "F64", "shape": [1], "data_offsets": [4, 12]}}, bytes(12)),
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_a_hostile_tile_is_refused(place: int) -> None:
    with pytest.raises(DamagedTile):
        unpack(HOSTILE[place])


def test_what_is_not_there() -> None:
    assert np.isnan(blank((2, 3), float)).all() and (blank((2,), int) == 0).all()
    assert blank((2,), str).tolist() == ["", ""]
