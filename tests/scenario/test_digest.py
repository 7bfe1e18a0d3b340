"""The digest: equal for what is the same, different for what is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowsim.scenario import Document, digest_of, parse_scenario, read_scenario

Read = Callable[..., Document]


def digest(text: str, folder: Path = Path(), **more: tuple[str, ...]) -> str:
    return digest_of(parse_scenario(text, name="x", folder=folder, **more))


def test_it_is_a_sha256(read: Read) -> None:
    assert re.fullmatch("[0-9a-f]{64}", digest_of(read()))


def test_layout_comments_and_order_do_not_matter(small: str, tmp_path: Path) -> None:
    expected = digest(small)
    assert digest("# a comment\n\n" + small.replace("\n", "  # more\n")) == expected
    lines = small.splitlines(keepends=True)
    assert digest("".join(lines[4:] + lines[:4])) == expected
    assert digest(small.replace("{stop: 10.0, points: 11}", "\n  points: 11\n  stop: 1e1")) == expected
    assert digest(small.replace("stop: 10.0", "stop: 10")) == expected
    (tmp_path / "other name.yaml").write_text(small)
    assert digest_of(read_scenario(tmp_path / "other name.yaml")) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small", "name: small\ntitle: null"),
        ("seeds: 2", "seeds: [0, 1]"),
        ("{kind: zeros}", "{kind: zeros, shape: [6, 4]}"),
        ("target: {kind: zeros}\n", ""),
        ("{kind: flow}", "{kind: flow, update: simultaneous}"),
        ("std: 0.1", "std: 0.1, nested: true, zero: B"),
        ("points: 11}", "points: 11, spacing: linear}\nreach: 1e-6\nsave: {factors: none}\nchecks: auto"),
        ("points: 11}", "points: 11}\ncompute: {device: cpu}"),
    ],
)
def test_defaults_written_out_and_the_device_do_not_matter(small: str, old: str, new: str) -> None:
    assert digest(small.replace(old, new)) == digest(small)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small", "name: smaller"),
        ("name: small", "name: small\ntitle: x"),
        ("seeds: 2", "seeds: [1, 0]"),
        ("std: 0.1", "std: 0.1000000001"),
        ("std: 0.1", "std: 0.1, nested: false"),
        ("points: 11}", "points: 12}"),
        ("points: 11}", "points: 11}\ncompute: {dtype: float32}"),
        ("points: 11}", "points: 11}\nsolver: {rtol: 1e-8}"),
    ],
)
def test_everything_else_matters(small: str, old: str, new: str) -> None:
    assert digest(small.replace(old, new)) != digest(small)


def test_an_override_counts_like_the_text(small: str) -> None:
    assert digest(small, overrides=("time.stop=20",)) == digest(small.replace("10.0", "20.0"))


def test_weight_files_count_by_their_bytes(small: str, tmp_path: Path) -> None:
    text = small.replace("{kind: zeros}", "{kind: file, path: w.npy}")
    found = []
    for value in (0.0, 1.0, 0.0):
        np.save(tmp_path / "w.npy", np.full((6, 4), value))
        found.append(digest(text, tmp_path))
    assert found[0] == found[2] != found[1]
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "elsewhere" / "w.npy", np.zeros((6, 4)))
    assert digest(text, tmp_path / "elsewhere") == found[0]
