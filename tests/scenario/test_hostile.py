"""Text made to do harm, and text made at random: refused quickly, two lines a mistake, never a traceback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flowsim.errors import FlowsimError, ScenarioError
from flowsim.scenario import digest_of, parse_scenario, read_scenario

Refused = Callable[..., list[str]]


def laughs(levels: int) -> str:
    """Each level repeats the one before it ten times."""
    rows = ["l0: &l0 [ha, ha]"]
    rows += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (laughs(30), "aliases repeat too much"),
        ("a: &a [*a]", "an alias stands inside its own anchor"),
        ("&a a: {b: &c {d: *c}}", "an alias stands inside its own anchor"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("[" * 4000, "nested too deeply"),
        ("{" * 4000, "nested too deeply"),
        ("- " * 4000, "nested too deeply"),
        ("name: !!python/object/apply:os.system [echo]", "the tag '!!python/object/apply:os.system' is not"),
        ("name: !!binary aGk=", "the tag '!!binary' is not allowed"),
        ("name: !!set {a}", "the tag '!!set' is not allowed"),
        ("name: !mine x", "the tag '!mine' is not allowed"),
        ("time: !!str {a: 1}", "the tag '!!str' is not allowed"),
        ("name: !!bool maybe", "the tag '!!bool' is not allowed"),
        ("name: !!int x", "'x' cannot be read as a number"),
        ("<<: {name: x}", "<<: unknown key"),
        ("name: a\n" + "\n".join(["name: b"] * 50), "the key is given twice"),
        ("time: {stop: " + "9" * 5000 + "}", "cannot be read as a number"),
        ("time: {stop: " + "9" * 400 + "}", "is too large for a number"),
        ("time: {stop: 0x" + "f" * 4000 + "}", "is too large for a number"),
        ("\x1b[31m: 1", "unacceptable character"),
        ('"\\e[31mred": 1', "\\x1b[31mred: unknown key"),
        ('"a\\nb": 1', "a\\nb: unknown key"),
        ('"": 1', "'': unknown key"),
        ('name: "\\ud800"', "name: "),
        ('"\\ud800": 1', "\\ud800: half of a surrogate pair is no text"),
        ("x" * 900 + ": 1", "unknown key"),
        ("pretrained: {kind: file, path: \"\\e]0;x\\a.npy\"}", "\\x1b]0;x\\x07.npy"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)  # fmt: skip
def test_hostile_text_is_refused(refused: Refused, text: str, what: str) -> None:
    start = time.process_time()
    lines = refused(text=text)
    assert time.process_time() - start < 5.0
    assert any(what in line for line in lines), "\n".join(lines)[:2000]
    assert all(line.isprintable() and len(line) < 1500 for line in lines)


@pytest.mark.parametrize("raw", [b"\xff\xfen\0a\0m\0e\0", b"\x80abc", b"name: \xc3\x28", bytes(range(256)), b"\0" * 50])
def test_bytes_that_are_no_text(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw)
    with pytest.raises(ScenarioError) as caught:
        read_scenario(path)
    assert caught.value.lines()[0].startswith(f"{path}:")


def test_nothing_is_left_behind(refused: Refused, tmp_path: Path) -> None:
    refused(text=laughs(30))
    refused(("points: 11", "points: 1"))
    assert list(tmp_path.iterdir()) == []


KEYS = """
    name title objective kind coefficient pretrained target shape values singular_values path by adapter ranks
    seeds init A B scaling alpha schedules update windows learning_rates inner_steps time stop points spacing
    first checks save factors reach solver compute sweep
"""
KINDS = """
    frobenius trace_squared zeros gaussian spectrum geometric power flat list file shift pissa spectral lora
    flow descent log auto text equivalence
"""
WORDS = KEYS.split() + KINDS.split()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(WORDS),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
        st.builds(lambda kind, more: {"kind": kind, **more}, SCALARS,
                  st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    ),
    max_leaves=12,
)  # fmt: skip
BASE: dict[str, Any] = {
    "name": "small",
    "objective": {"kind": "frobenius", "coefficient": 1},
    "pretrained": {"kind": "spectrum", "shape": [6, 4], "singular_values": {"kind": "flat", "value": 1}},
    "target": {"kind": "shift", "by": {"kind": "values", "values": [[1.0] * 4] * 6}},
    "adapter": {
        "ranks": [1, 2],
        "seeds": 2,
        "init": {"kind": "values", "A": [[1.0] * 4] * 2, "B": [[0, 0]] * 6},
    },
    "schedules": [{"kind": "flow"}, {"kind": "descent", "learning_rates": [0.1]}],
    "time": {"stop": 10.0, "points": 11},
    "checks": ["accuracy"],
}


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(below for step, value in steps for below in places(value, (*path, step)))]


def attempt(text: str, folder: Path = Path("/nonexistent"), overrides: tuple[str, ...] = ()) -> None:
    """Either a document, or mistakes of two printable lines each: nothing else may come out."""
    try:
        document = parse_scenario(text, name="fuzz", folder=folder, overrides=overrides)
    except ScenarioError as error:
        assert len(error.lines()) == 2 * len(error.mistakes) > 0
        assert all(line.isprintable() for line in error.lines())
    else:
        digest_of(document)


def as_yaml(data: Any) -> str:
    """JSON-like YAML, with YAML's words for what JSON has not."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{as_yaml(key)}: {as_yaml(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(as_yaml, data)) + "]"
    if isinstance(data, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(data), repr(data))
    if isinstance(data, str):
        plain = (char if char.isalnum() or char == "_" else f"\\U{ord(char):08x}" for char in data)
        return '"' + "".join(plain) + '"'
    if data is None or isinstance(data, bool):
        return {None: "null", True: "true", False: "false"}[data]
    return str(data)


FUZZ = settings(
    max_examples=int(os.environ.get("FLOWSIM_PROBLEMS", "60")), derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@FUZZ
@given(st.data())
def test_a_spoilt_scenario_never_breaks_the_reader(data: st.DataObject) -> None:
    import copy

    spoilt = copy.deepcopy(BASE)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(spoilt)[1:] or [("name",)]))
        here = spoilt
        for step in path[:-1]:
            here = here[step]
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del here[path[-1]]
        elif action == "add" and isinstance(here, dict):
            here[data.draw(st.sampled_from(WORDS))] = data.draw(VALUES)
        else:
            here[path[-1]] = data.draw(VALUES)
    attempt(as_yaml(spoilt))


@FUZZ
@given(st.text(st.sampled_from("abk:-?{}[]&*!|>%@#'\",\\ \n\t.0123e~<") | st.characters(), max_size=60))
def test_random_text_never_breaks_the_reader(text: str) -> None:
    attempt(text)
    attempt("name: " + text)


@FUZZ
@given(
    st.lists(st.sampled_from([*WORDS, "0", "1", "-1", "x", ""]), min_size=1, max_size=4),
    st.text(max_size=10) | VALUES.map(as_yaml),
)
def test_random_settings_never_break_the_reader(steps: list[str], value: str) -> None:
    attempt(as_yaml(BASE), overrides=(".".join(steps) + "=" + value, value))


@FUZZ
@given(VALUES)
def test_any_data_never_breaks_the_reader(data: Any) -> None:
    attempt(as_yaml(data))


@given(st.binary(max_size=200), st.sampled_from([".npy", ".npz", ".safetensors"]))
@FUZZ
def test_random_weight_files_never_break_the_reader(tmp_path: Path, raw: bytes, suffix: str) -> None:
    magic = {".npy": b"\x93NUMPY\x01\x00", ".npz": b"PK\x03\x04", ".safetensors": b"\x10\0\0\0\0\0\0\0{"}
    (tmp_path / f"w{suffix}").write_bytes(magic[suffix] + raw)
    text = as_yaml({**BASE, "pretrained": {"kind": "file", "path": f"w{suffix}"}})
    with pytest.raises(FlowsimError):
        parse_scenario(text, name="fuzz", folder=tmp_path)


def test_the_fuzzed_text_is_the_data_it_stands_for() -> None:
    assert YAML(typ="safe", pure=True).load(as_yaml(BASE)) == BASE
    assert parse_scenario(as_yaml(BASE), name="x", folder=Path()).shape == (6, 4)
