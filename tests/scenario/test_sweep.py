"""The axes of a sweep: their names, and how their values are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flowsim.scenario.sweep import TAKEN, Axis, axis_names
from flowsim.trajectory import variables


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["adapter.init.std"], ["std"]),
        (["adapter.init.std", "pretrained.std"], ["init_std", "pretrained_std"]),
        (["target.std", "target.by.std", "pretrained.std"], ["target_std", "by_std", "pretrained_std"]),
        (["solver.method", "adapter.init.kind", "pretrained.seed"], ["solver_method", "init_kind", "pretrained_seed"]),
        (["pretrained.singular_values.0", "pretrained.singular_values.1"], ["singular_values_0", "singular_values_1"]),
        (["reach", "target"], ["reach", "target"]),
    ],
)
def test_a_name_is_the_end_of_its_path(paths: list[str], names: list[str]) -> None:
    assert axis_names(paths) == names


def test_no_axis_is_called_like_a_variable() -> None:
    tables = [getattr(variables, name) for name in dir(variables) if name.isupper()]
    stored = {name for table in tables if isinstance(table, dict) for name in table}
    assert {"loss", "outcome", "distance", "missing_modes", "reach_time"} <= stored <= TAKEN


KEYS = ["adapter", "init", "std", "scale", "seed", "0", "1", "pretrained", "target", "by", "kind"]


@given(st.lists(st.lists(st.sampled_from(KEYS), min_size=2, max_size=5).map(".".join), unique=True, max_size=6))
def test_names_are_distinct_ends(paths: list[str]) -> None:
    paths = [path for path in paths if not any(other.startswith(path + ".") for other in paths)]
    names = axis_names(paths)
    for path, name in zip(paths, names, strict=True):
        assert path.replace(".", "_").endswith(name)
    shorter = [name for path, name in zip(paths, names, strict=True) if name != path.replace(".", "_")]
    assert len(set(shorter)) == len(shorter) and not TAKEN & set(shorter)


@pytest.mark.parametrize(
    ("values", "texts", "coordinate"),
    [
        ((1e-4, 0.01, 1), ("0.0001", "0.01", "1"), [1e-4, 0.01, 1.0]),
        ((1, 2, 30), ("1", "2", "30"), [1, 2, 30]),
        ((2**63 - 1, 0), ("9223372036854775807", "0"), [2**63 - 1, 0]),
        ((10**20, 1), ("1e+20", "1"), [1e20, 1.0]),
        (("gaussian", "a/b.npy", "1"), ("gaussian", "a/b.npy", '"1"'), ["gaussian", "a/b.npy", '"1"']),
        ((None, 1.5), ("null", "1.5"), ["null", "1.5"]),
        ((True, False), ("true", "false"), ["true", "false"]),
        ((True, 1), ("true", "1"), ["true", "1"]),
        (([6, 4], [5, 5]), ("[6, 4]", "[5, 5]"), ["[6, 4]", "[5, 5]"]),
        (({"kind": "flat", "value": 2.0},), ("{kind: flat, value: 2}",), ["{kind: flat, value: 2}"]),
        (("a\nb\x7f",), ('"a\\nb\\U0000007f"',), ['"a\\nb\\U0000007f"']),
    ],
)
def test_values_as_texts_and_as_a_coordinate(values: tuple[Any, ...], texts: tuple[str, ...], coordinate: Any) -> None:
    axis = Axis("a.b", "b", values)
    assert axis.texts == texts
    assert axis.coordinate == coordinate
    assert [type(one) for one in axis.coordinate] == [type(one) for one in coordinate]


SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["null", "True", "1e3", "- a", "a: b", "~"])
PLAIN = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(bool), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_a_text_is_one_printable_line_that_reads_as_the_value(value: Any) -> None:
    (text,) = Axis("a", "a", (value,)).texts
    assert text.isprintable()
    read = YAML(typ="safe", pure=True).load("[" + text + "]")[0]
    assert read == value and isinstance(read, bool) == isinstance(value, bool)
