"""A scenario with a sweep: what is swept, each point a scenario of its own, and every mistake told once."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsim.errors import ScenarioError
from flowsim.scenario import Document, digest_of, parse_scenario, weight_files
from tests.scenario.conftest import SMALL
from tests.scenario.test_hostile import FUZZ, VALUES, WORDS, as_yaml, attempt

Read = Callable[..., Document]
Refused = Callable[..., list[str]]

SPECTRUM = "{kind: spectrum, shape: [6, 4], singular_values: [3, 2, 1, 1]}"
WITH_SPECTRUM = ("{kind: gaussian, shape: [6, 4], std: 1.0, seed: 0}", SPECTRUM)


def swept(section: str) -> tuple[str, str]:
    """The change that adds a sweep to the small scenario."""
    return "points: 11}", "points: 11}\nsweep:\n" + "\n".join("  " + line for line in section.splitlines())


def written(values: list[Any]) -> str:
    return "[" + ", ".join(map(str, values)) + "]"


def test_without_a_sweep_the_scenario_is_its_only_point(read: Read) -> None:
    for document in (read(), read(("points: 11}", "points: 11}\nsweep: null"))):
        assert document.axes == () and document.points == (document,)
        assert document.scenario.sweep is None


def test_points_are_the_product_with_the_last_axis_fastest(read: Read, tmp_path: Path) -> None:
    document = read(swept("adapter.init.std: [1e-3, 0.1]\nsolver.rtol: [1e-6, 1e-8, 1e-9]"))
    assert [(axis.path, axis.name, axis.values) for axis in document.axes] == [
        ("adapter.init.std", "std", (1e-3, 0.1)),
        ("solver.rtol", "rtol", (1e-6, 1e-8, 1e-9)),
    ]
    found = [(one.scenario.adapter.init.std, one.scenario.solver.rtol) for one in document.points]  # type: ignore[union-attr]
    assert found == [(std, rtol) for std in (1e-3, 0.1) for rtol in (1e-6, 1e-8, 1e-9)]
    for point in document.points:
        assert point.text == "" and point.axes == () and point.points == (point,)
        assert point.folder == tmp_path and point.shape == (6, 4) and point.scenario.sweep is None
    first = document.points[0].scenario
    assert document.scenario == first.model_copy(
        update={"sweep": {"adapter.init.std": [1e-3, 0.1], "solver.rtol": [1e-6, 1e-8, 1e-9]}}
    )


@pytest.mark.parametrize(
    "section",
    [
        "adapter: {init: {std: [1, 2]}}\nsolver.rtol: [1e-3]",
        "adapter.init: {std: [1, 2]}\nsolver: {rtol: [1e-3]}",
        "adapter:\n  init.std: [1, 2]\nsolver:\n  rtol:\n    - 1e-3",
    ],
)
def test_sections_may_stand_for_the_dots_of_a_path(read: Read, section: str) -> None:
    assert read(swept(section)).axes == read(swept("adapter.init.std: [1, 2]\nsolver.rtol: [1e-3]")).axes


def test_what_the_sweep_overwrites_need_not_be_there_or_valid(read: Read) -> None:
    for old, new in [(", std: 0.1", ""), ("std: 0.1", "std: -7"), ("std: 0.1", "std: {a: [b]}")]:
        points = read((old, new), swept("adapter.init.std: [1, 2]")).points
        assert [one.scenario.adapter.init.std for one in points] == [1, 2]  # type: ignore[union-attr]
    points = read(("objective: {kind: frobenius}\n", ""), swept("objective.kind: [frobenius]")).points
    assert points[0].scenario.objective.kind == "frobenius"
    points = read(
        ("target: {kind: zeros}", "target: null"), swept("target: {kind: [gaussian], shape: [[6, 4]]}")
    ).points
    assert points[0].scenario.target.kind == "gaussian"  # type: ignore[union-attr]


def test_values_may_be_sections_lists_and_entries_of_lists(read: Read) -> None:
    inits = "adapter.init: [{kind: kaiming}, {kind: gaussian, std: 0.5}, {kind: spectral, of: pretrained}]"
    document = read(swept(inits))
    assert [one.scenario.adapter.init.kind for one in document.points] == ["kaiming", "gaussian", "spectral"]
    assert document.axes[0].texts[1] == "{kind: gaussian, std: 0.5}"
    document = read(WITH_SPECTRUM, swept("pretrained.singular_values.1: [2, 1.5]"))
    assert document.axes[0].name == "singular_values_1"
    found = [one.scenario.pretrained.singular_values for one in document.points]  # type: ignore[union-attr]
    assert found == [(3, 2, 1, 1), (3, 1.5, 1, 1)]


def test_shapes_may_be_swept(read: Read) -> None:
    document = read(swept("pretrained.shape: [[6, 4], [5, 5]]"))
    assert [one.shape for one in document.points] == [(6, 4), (5, 5)]
    assert [one.scenario.target.shape for one in document.points] == [(6, 4), (5, 5)]  # type: ignore[union-attr]
    assert document.shape == (6, 4)
    # What one shape fixes is not written into the scenario of all.
    assert document.scenario.target.shape is None  # type: ignore[union-attr]


def test_a_resolved_sweep_can_be_run_again(read: Read, tmp_path: Path) -> None:
    import json

    for section in ("pretrained.shape: [[6, 4], [5, 5]]", "adapter.init.std: [1, 2]\nsolver.method: [auto, dopri5]"):
        document = read(swept(section))
        text = json.dumps(document.scenario.model_dump(mode="json"))
        again = parse_scenario(text, name="again", folder=tmp_path)
        assert again.scenario == document.scenario and digest_of(again) == digest_of(document)
        assert [one.scenario for one in again.points] == [one.scenario for one in document.points]


POOL: dict[str, list[str]] = {
    "objective.coefficient": ["0.5", "2", "1e-3"],
    "pretrained.std": ["1", "0", "2.5"],
    "pretrained.seed": ["0", "3"],
    "pretrained.shape": ["[6, 4]", "[4, 4]", "[3, 9]"],
    "target": ["null", "{kind: zeros}", "{kind: shift, by: {kind: zeros}}"],
    "adapter.init.std": ["null", "0.1", "1e-4"],
    "adapter.init.zero": ["A", "B", "none"],
    "adapter.scaling": ["{kind: lora, alpha: 2}", "{kind: constant}"],
    "solver.rtol": ["1e-3", "1e-17"],
    "solver.method": ["auto", "dopri5"],
    "reach": ["1e-6", "0.1"],
    "compute.dtype": ["float32", "float64"],
}


@FUZZ
@given(st.data())
def test_a_point_is_what_the_same_settings_make_of_the_scenario(data: st.DataObject) -> None:
    paths = data.draw(st.lists(st.sampled_from(sorted(POOL)), min_size=1, max_size=3, unique=True))
    chosen = {
        path: data.draw(st.lists(st.sampled_from(POOL[path]), min_size=1, max_size=3, unique=True)) for path in paths
    }
    section = "".join(f"  {path}: [{', '.join(values)}]\n" for path, values in chosen.items())
    document = parse_scenario(SMALL + "sweep:\n" + section, name="x", folder=Path())
    assert len(document.points) == np.prod([len(values) for values in chosen.values()])
    alone = []
    for number, point in enumerate(document.points):
        places = np.unravel_index(number, [len(values) for values in chosen.values()])
        settings = [f"{path}={values[i]}" for (path, values), i in zip(chosen.items(), places, strict=True)]
        one = parse_scenario(SMALL, name="x", folder=Path(), overrides=settings)
        assert (point.scenario, point.shape, point.warnings) == (one.scenario, one.shape, one.warnings)
        assert digest_of(point) == digest_of(one)
        alone += one.warnings
    assert document.warnings == tuple(dict.fromkeys(alone))


MISTAKES = [
    ("adapter.init.std: [1, -1]", "15:25: sweep.adapter.init.std.1: must be at least 0, not -1"),
    ("adapter.init.std: [x]", "15:22: sweep.adapter.init.std.0: should be a number, not the text 'x'"),
    ("adapter.init.std: [1, .nan]", "15:25: sweep.adapter.init.std.1: must be finite, not nan"),
    ("adapter.init.std: [1, 2001-01-01]", "15:25: sweep.adapter.init.std.1: '2001-01-01' is read as a date"),
    ("adapter.init.std: []", "15:21: sweep.adapter.init.std: must not be empty"),
    ("adapter.init.std:", "15:3: sweep.adapter.init.std: should be a list of values, not nothing"),
    ("adapter.init.std: 3", "15:21: sweep.adapter.init.std: should be a list of values, not 3"),
    ("adapter: {init: {}}", "15:19: sweep.adapter.init: should be a list of values, not a section of keys"),
    ("adapter.init.std: [2, 1, 2.0]", "15:28: sweep.adapter.init.std.2: 2.0 is given twice, as entry 0 already"),
    ("adapter.init: [{kind: kaiming}, {kind: kaiming}]", "15:35: sweep.adapter.init.1: {'kind': 'kaiming'} is given"),
    ("adapter.init.sdt: [1, 2]", "15:3: sweep.adapter.init.sdt: unknown key (did you mean std?)"),
    ("adapter.std: [1, 2]", "15:3: sweep.adapter.std: unknown key (did you mean adapter.init.std?)"),
    ("adaptr.init.std: [1, 2]", "15:3: sweep.adaptr.init.std: adaptr: unknown key (did you mean adapter?)"),
    ("adapter: {inti: {std: [1]}}", "15:20: sweep.adapter.inti.std: adapter.inti: unknown key (did you mean init?)"),
    ("adapter.scaling.value: [1, 2]", "15:3: sweep.adapter.scaling.value: adapter.scaling.kind: is required, but mis"),
    ("name.x: [1]", "15:3: sweep.name.x: cannot be swept: name does not concern the numbers"),
    ("reach.x: [1]", "15:3: sweep.reach.x: reach: should be a number, not a section of keys"),
    ("objective.kind.x: [1]", "15:3: sweep.objective.kind.x: objective.kind is 'frobenius', which has no keys"),
    ("a..b: [1]", "15:3: sweep.a..b: is not the path of a key"),
    ("'': [1]", "15:3: sweep.'': is not the path of a key"),
    ("x.x.x.x.x.x.x.x.x.x.x.x.x.x: [1]", "15:3: sweep.x.x.x.x.x.x.x.x.x.x.x.x.x.x: unknown key: no key lies so deep"),
    ("name: [a, b]", "15:3: sweep.name: cannot be swept: name does not concern the numbers"),
    ("title: [a, b]", "15:3: sweep.title: cannot be swept: title does not concern the numbers"),
    ("adapter.ranks: [1, 2]", "15:3: sweep.adapter.ranks: cannot be swept: adapter.ranks is a list already"),
    ("adapter.ranks.0: [1, 2]", "15:3: sweep.adapter.ranks.0: cannot be swept: adapter.ranks is a list already"),
    ("adapter: {seeds: [1, 2]}", "15:13: sweep.adapter.seeds: cannot be swept: adapter.seeds is a list already"),
    ("schedules.1.windows: [[1]]", "15:3: sweep.schedules.1.windows: cannot be swept: schedules is a list already"),
    ("time.stop: [1, 2]", "15:3: sweep.time.stop: cannot be swept: time is the same at every point"),
    ("checks: [auto]", "15:3: sweep.checks: cannot be swept: checks does not concern the numbers"),
    ("save.factors: [none, all]", "15:3: sweep.save.factors: cannot be swept: save is the same at every point"),
    ("compute.device: [cpu]", "15:3: sweep.compute.device: cannot be swept: compute.device does not concern the num"),
    ("compute.threads: [1, 2]", "15:3: sweep.compute.threads: cannot be swept: compute.threads does not concern the"),
    ("sweep: {reach: [0.1]}", "15:11: sweep.sweep.reach: a sweep holds no other"),
    ("adapter: [{ranks: [1]}]", "15:3: sweep.adapter: cannot be swept as a whole: it holds adapter.ranks"),
    ("compute: [{dtype: float32}]", "15:3: sweep.compute: cannot be swept as a whole: it holds compute.device"),
    ("adapter.init: [{kind: kaiming}]\nadapter.init.std: [1]", "15:3: sweep.adapter.init: cannot be swept together"),
    ("adapter.init.std: [1]\nadapter: {init: {std: [2]}}", "16:20: sweep.adapter.init.std: the key is given twice"),
    ("adapter.scaling.kind: [constant, lora]", "15:36: sweep.adapter.scaling.kind.1: with this value, adapter.scal"),
    ("adapter.init.kind: [gaussian, orthogonal]", "15:33: sweep.adapter.init.kind.1: with this value, adapter.init."),
    ("adapter.init: [{kind: kaiming}, {kind: pissa, std: 1}]", "15:49: sweep.adapter.init.1.std: unknown key"),
    ("adapter.init: [{kind: kaiming}, {std: 1}]", "15:35: sweep.adapter.init.1.kind: is required, but missing"),
    ("adapter.init: [{kind: kaiming}, {kind: gaus}]", "15:42: sweep.adapter.init.1.kind: 'gaus' is not known here"),
    ("pretrained.shape: [[6, 4], [1, 1]]\nadapter.init: [{kind: pissa}]", "15:30: sweep.pretrained.shape.1: with "),
    ("target.shape: [[6, 4], [6, 5]]", "15:26: sweep.target.shape.1: is 6 x 5, but pretrained is 6 x 4"),
    ("target: [{kind: zeros}, {kind: gaussian, shape: [6, 5]}]", "15:27: sweep.target.1: is 6 x 5, but pretrained"),
    ("target: [{kind: zeros}, {kind: file, path: no.npy}]", "15:46: sweep.target.1.path: there is no file"),
    ("objective.kind: [frobenius, trace_squared]", "15:31: sweep.objective.kind.1: with this value, target: trace_s"),
]  # fmt: skip


@pytest.mark.parametrize(("section", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_place(refused: Refused, section: str, expected: str) -> None:
    lines = refused(swept(section))
    assert any(line.startswith("s.yaml:" + expected) for line in lines), "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sweep: 3", "14:8: sweep: should be a section of keys, not 3"),
        ("sweep: [adapter.init.std]", "14:8: sweep: should be a section of keys, not a list"),
        ("sweep: {}", "14:8: sweep: must not be empty"),
        ("swep: {}", "14:1: swep: unknown key (did you mean sweep?)"),
    ],
)
def test_what_is_not_a_sweep_is_refused(refused: Refused, text: str, expected: str) -> None:
    lines = refused(("points: 11}", "points: 11}\n" + text))
    assert lines[0] == "s.yaml:" + expected and len(lines) == 2


def test_all_mistakes_are_told_at_once(refused: Refused) -> None:
    lines = refused(
        ("stop: 10.0", "stop: -1"),
        swept("adapter.init.std: [1, -1, x]\nreach: [0.1, 2]\nsolver.rtlo: [1]\ntime.stop: [1]\nsolver.atol: []"),
    )
    assert [line.split(": ")[1] for line in lines[::2]] == [
        "time.stop",
        "sweep.adapter.init.std.1",
        "sweep.adapter.init.std.2",
        "sweep.reach.1",
        "sweep.solver.rtlo",
        "sweep.time.stop",
        "sweep.solver.atol",
    ]


def test_a_mistake_is_told_once_however_many_points_repeat_it(refused: Refused) -> None:
    wrong = [
        (("stop: 10.0", "stop: -1"), "13:14: time.stop"),
        (("ranks: [1, 2]", "ranks: [1, 1]"), "6:14: adapter.ranks.1"),
        (("{kind: zeros}", "{kind: file, path: no.npy}"), "4:28: target.path"),
        (("windows: [0.2", "windows: [20.0"), "11:45: schedules.1.windows.0"),
    ]
    for change, where in wrong:
        lines = refused(change, swept("adapter.init.std: [1, 2, 3]\nreach: [0.1, 0.2]\nadapter.init.zero: [A, B]"))
        assert len(lines) == 2 and lines[0].startswith("s.yaml:" + where)


def test_a_combination_that_is_wrong_is_named(refused: Refused) -> None:
    flat = "{kind: spectrum, shape: [6, 4], singular_values: {kind: flat, value: 1, count: 2}}"
    lines = refused(
        (WITH_SPECTRUM[0], flat),
        swept(
            "pretrained.singular_values.count: [2, 4, 3]\npretrained.shape: [[6, 4], [6, 3], [6, 2]]\nreach: [.1, .2]"
        ),
    )
    assert lines[::2] == [
        "s.yaml:15:41: sweep.pretrained.singular_values.count.1: 4 singular values, but a matrix of this shape has 3 "
        "(at count=4/shape=[6, 3]/reach=0.1)",
        "s.yaml:15:41: sweep.pretrained.singular_values.count.1: 4 singular values, but a matrix of this shape has 2 "
        "(at count=4/shape=[6, 2]/reach=0.1)",
        "s.yaml:15:44: sweep.pretrained.singular_values.count.2: 3 singular values, but a matrix of this shape has 2 "
        "(at count=3/shape=[6, 2]/reach=0.1)",
    ]


def test_of_many_wrong_values_the_first_are_told(refused: Refused) -> None:
    lines = refused(swept(f"adapter.init.std: {written(list(range(-5000, 0)))}"))
    assert 30 < len(lines) < 60
    assert lines[0].endswith("20 of its values are wrong, and those after them were not looked at")
    lines = refused(swept(f"adapter.init.std: {written([1] * 500)}"))
    assert len(lines) == 40


def test_factors_of_several_shapes_cannot_be_stored(read: Read, refused: Refused) -> None:
    shapes = "pretrained.shape: [[6, 4], [5, 5]]"
    lines = refused(("kind: zeros}", "kind: zeros}\nsave: {factors: ends}"), swept(shapes))
    assert lines[0] == "s.yaml:5:17: save.factors: factors of different shapes cannot be stored in one result"
    assert len(lines) == 2
    assert read(("kind: zeros}", "kind: zeros}\nsave: {factors: ends}"), swept("pretrained.shape: [[6, 4]]")).points
    assert read(("kind: zeros}", "kind: zeros}\nsave: {factors: none}"), swept(shapes)).points


def test_the_number_of_points_is_bounded(refused: Refused) -> None:
    hundreds = written(list(range(1, 102)))
    lines = refused(swept(f"adapter.init.std: {hundreds}\npretrained.std: {hundreds}"))
    assert lines[0] == "s.yaml:15:3: sweep: asks for 10201 points, at most 10000 are allowed"
    axes = "\n".join(f"pretrained.singular_values.{i}: {hundreds}" for i in range(300))
    lines = refused(swept(axes))
    assert lines[0] == "s.yaml:15:3: sweep: asks for more than 10^15 points, at most 10000 are allowed"


def test_a_sweep_inside_a_large_matrix_is_refused(refused: Refused) -> None:
    rows = "{kind: values, values: " + written([[1] * 60] * 60) + "}"
    start = time.process_time()
    lines = refused((WITH_SPECTRUM[0], rows), swept(f"pretrained.values.0.0: {written(list(range(5000)))}"))
    assert time.process_time() - start < 5.0
    assert lines[0].startswith("s.yaml:15:3: sweep.pretrained.values.0.0: makes 5000 copies of pretrained with up to ")


@pytest.mark.slow  # ten thousand points twice, pickled and back
def test_ten_thousand_points_are_read_in_seconds(read: Read) -> None:
    hundred = written([i / 7 for i in range(1, 101)])
    for section in (
        f"adapter.init.std: {hundred}\npretrained.std: {hundred}",
        f"adapter.init.std: {hundred}\nadapter.scaling: {{kind: [constant], value: {hundred}}}",
    ):
        start = time.process_time()
        document = read(swept(section))
        # Measured 0.8 and 1.3 s.
        assert time.process_time() - start < 15.0
        assert len(document.points) == 10_000
        # Measured 200 and 340 bytes a point: they share what they have in common.
        packed = pickle.dumps(document)
        assert len(packed) < 800 * 10_000
        assert pickle.loads(packed).points[4321] == document.points[4321]
        assert len(pickle.dumps(document.points[4321])) < 10_000


def test_a_weight_file_is_read_once(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.full((6, 4), ord(name)))
    read_files: list[str] = []
    original = weight_files.load_matrix_file

    def counted(spec: Any, folder: Path) -> Any:
        read_files.append(spec.path)
        return original(spec, folder)

    monkeypatch.setattr(weight_files, "load_matrix_file", counted)
    document = read(
        ("{kind: zeros}", "{kind: file, path: a.npy}"),
        swept("target.path: [a.npy, b.npy]\nadapter.init.std: [1, 2, 3]\npretrained: [{kind: file, path: a.npy}]"),
    )
    assert sorted(read_files) == ["a.npy", "b.npy"]
    assert [(file.where, file.path.name) for file in document.weights] == [
        ("pretrained", "a.npy"),
        ("target", "a.npy"),
        ("target", "b.npy"),
    ]
    assert [file.path.name for file in document.points[-1].weights] == ["a.npy", "b.npy"]


def test_a_warning_is_given_once(read: Read) -> None:
    document = read(
        ("ranks: [1, 2]", "ranks: [1, 7]"), swept("adapter.init.std: [1, 2, 3]\nsolver.rtol: [1e-6, 1e-17]")
    )
    assert [warning.split(":")[0] for warning in document.warnings] == ["adapter.ranks", "solver.rtol"]
    assert [len(point.warnings) for point in document.points] == [1, 2] * 3


def test_a_setting_changes_the_sweep(read: Read) -> None:
    def axes(section: str, *settings: str) -> dict[str, tuple[Any, ...]]:
        return {axis.path: axis.values for axis in read(swept(section), overrides=settings).axes}

    for section in ("adapter.init.std: [1, 2]\nreach: [0.1]", "adapter: {init: {std: [1, 2]}}\nreach: [0.1]"):
        both = {"adapter.init.std": (1, 2), "reach": (0.1,)}
        assert axes(section) == both
        assert axes(section, "sweep.adapter.init.std=[3]") == {**both, "adapter.init.std": (3,)}
        assert list(axes(section, "sweep.adapter.init.std=[3]")) == list(both)
        assert axes(section, "sweep.adapter.init.std.1=7") == {**both, "adapter.init.std": (1, 7)}
        assert axes(section, "sweep.solver={rtol: [1e-3]}") == {**both, "solver.rtol": (1e-3,)}
        assert axes(section, "sweep.adapter={init: {zero: [A]}}") == {"adapter.init.zero": ("A",), "reach": (0.1,)}
        assert axes(section, "sweep.adapter.init=[{kind: pissa}]") == {
            "adapter.init": ({"kind": "pissa"},),
            "reach": (0.1,),
        }
        assert axes(section, "sweep={solver: {rtol: [1e-3]}}") == {"solver.rtol": (1e-3,)}
        assert axes(section, "sweep=null") == {}
    assert axes("adapter.init.std: [1]", "adapter.ranks=[3]") == {"adapter.init.std": (1,)}
    document = read(overrides=("sweep.adapter.init.std=[1, 2]",))
    assert len(document.points) == 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "sweep.adapter.init.std=[1, -1]",
            "--set sweep.adapter.init.std: sweep.adapter.init.std.1: must be at least 0",
        ),
        ("sweep.adapter.init.std=3", "--set sweep.adapter.init.std: should be a list of values, not 3"),
        ("sweep.reach.1=3", "--set sweep.reach.1: sweep.reach is a list of 1, and has no entry '1'"),
        ("sweep.adapter={ranks: [1]}", "--set sweep.adapter: sweep.adapter.ranks: cannot be swept"),
        ("sweep.adapter.init.sdt=[1]", "--set sweep.adapter.init.sdt: unknown key (did you mean std?)"),
        ("sweep=[1]", "--set sweep: should be a section of keys, not a list"),
        ("sweep..x=[1]", "--set sweep..x=[1]: is not of the form key.path=value"),
    ],
)
def test_a_mistake_in_a_setting_is_located_there(refused: Refused, setting: str, expected: str) -> None:
    lines = refused(swept("reach: [0.1]"), overrides=(setting,))
    assert any(line.startswith(expected) for line in lines), "\n".join(lines)


def test_a_setting_that_the_sweep_overwrites_is_warned_of(read: Read) -> None:
    section = swept("adapter.init: [{kind: pissa}]\nreach: [0.1]")
    document = read(section, overrides=("adapter.init.std=3", "reach=0.5", "solver.rtol=1e-6"))
    assert document.warnings[:2] == (
        "--set adapter.init.std: the sweep of adapter.init overwrites it",
        "--set reach: the sweep of reach overwrites it",
    )
    assert not any("solver.rtol" in warning for warning in document.warnings)


def test_hostile_sweeps(refused: Refused) -> None:
    deep = "[" * 40 + "]" * 40
    for section, what in [
        (f"adapter.init: [{deep}]", "should be a section of keys"),
        ('"\\e[31m.x": [1]', "\\x1b[31m.x"),
        ('"a\\nb": [1]', "a\\nb: unknown key"),
        ("? " + "x" * 100_000 + "\n: [1]", "unknown key"),
        ("? " + ".".join("x" * 50_000) + "\n: [1]", "unknown key: no key lies so deep"),
        ("adapter.init.std: [" + "9" * 400 + "]", "is too large for a number"),
        ("adapter.init.std: [.inf, -.inf, .nan]", "must be finite, not inf"),
        ("a: &a {b: *a}", "an alias stands inside its own anchor"),
        ("adapter.init: [!!python/none x]", "the tag"),
        ("? [a]\n: [1]", "a key must be a word"),
    ]:
        start = time.process_time()
        lines = refused(swept(section))
        assert time.process_time() - start < 5.0
        assert any(what in line for line in lines), "\n".join(lines)[:2000]
        assert all(line.isprintable() and len(line) < 1500 for line in lines)


BASE_TEXT = SMALL + "sweep: "
STEPS = st.lists(st.sampled_from([*WORDS, "0", "1", "x", "", "sweep"]), min_size=1, max_size=4).map(".".join)
TRUE_PATHS = st.sampled_from(sorted(POOL))
SECTIONS = st.dictionaries(
    STEPS | TRUE_PATHS,
    st.lists(VALUES, max_size=3) | VALUES | st.dictionaries(STEPS, st.lists(VALUES, max_size=2), max_size=2),
    max_size=3,
)


@FUZZ
@given(SECTIONS | VALUES)
def test_a_random_sweep_never_breaks_the_reader(section: Any) -> None:
    attempt(BASE_TEXT + as_yaml(section))


@settings(FUZZ, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(STEPS | TRUE_PATHS, VALUES | st.lists(VALUES, max_size=2)), min_size=1, max_size=3))
def test_random_settings_of_a_sweep_never_break_the_reader(changes: list[tuple[str, Any]]) -> None:
    text = BASE_TEXT + "{adapter: {init: {std: [1, 2]}}, reach: [0.1]}"
    attempt(text, overrides=tuple(f"sweep.{path}={as_yaml(value)}" for path, value in changes))


def test_a_refused_sweep_is_a_scenario_error(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError):
        parse_scenario(BASE_TEXT + "{time.stop: [1]}", name="x", folder=tmp_path)
