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


SWEEP = "sweep:\n  adapter.init.std: [1e-3, 0.1]\n  solver.rtol: [1e-6, 1e-8]\n"


def test_without_a_sweep_nothing_has_changed(small: str) -> None:
    root = Path(__file__).parents[2]
    assert digest_of(read_scenario(root / "scenarios/frobenius.yaml")).startswith("466bc879")
    assert digest(small + "sweep: null\n") == digest(small)
    assert digest(small + "sweep: {adapter.init.std: [0.1]}\n") != digest(small)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("adapter.init.std: [1e-3, 0.1]", "adapter: {init: {std: [0.001, 1e-1]}}"),
        ("std: 0.1}", "std: 7}"),
        (", std: 0.1}", "}"),
        ("points: 11}", "points: 11}\ncompute: {device: cpu}"),
        ("points: 11}", "points: 11}\nsolver: {rtol: 0.5}"),
    ],
)
def test_what_a_sweep_overwrites_and_how_it_is_written_do_not_matter(small: str, old: str, new: str) -> None:
    assert (small + SWEEP).count(old) == 1
    assert digest((small + SWEEP).replace(old, new)) == digest(small + SWEEP)


def test_values_count_as_what_they_mean(small: str) -> None:
    one = small + "sweep: {adapter.init: [{kind: kaiming}, {kind: gaussian, std: 1}], objective.coefficient: [1, 4]}\n"
    other = one.replace("{kind: kaiming}", "{zero: B, kind: kaiming, nested: true}").replace("[1, 4]", "[1.0, 4e0]")
    assert digest(one) == digest(other) != digest(one.replace("[1, 4]", "[1, 3]"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[1e-3, 0.1]", "[0.1, 1e-3]"),
        ("[1e-3, 0.1]", "[1e-3]"),
        ("[1e-6, 1e-8]", "[1e-6, 1e-9]"),
        (SWEEP, "sweep:\n  solver.rtol: [1e-6, 1e-8]\n  adapter.init.std: [1e-3, 0.1]\n"),
        ("solver.rtol", "solver.atol"),
        ("name: small", "name: smaller"),
        ("zero: A", "zero: B"),
    ],
)
def test_values_and_the_order_of_a_sweep_matter(small: str, old: str, new: str) -> None:
    text = small.replace("{kind: gaussian, std: 0.1}", "{kind: gaussian, std: 0.1, zero: A}") + SWEEP
    assert text.count(old) == 1
    assert digest(text.replace(old, new)) != digest(text)


def test_swept_weight_files_count_by_their_bytes(small: str, tmp_path: Path) -> None:
    text = small.replace("{kind: zeros}", "{kind: file}") + "sweep: {target.path: [a.npy, b.npy]}\n"
    found = []
    for value in (1.0, 2.0, 1.0):
        np.save(tmp_path / "a.npy", np.zeros((6, 4)))
        np.save(tmp_path / "b.npy", np.full((6, 4), value))
        found.append(digest(text, tmp_path))
    assert found[0] == found[2] != found[1]
