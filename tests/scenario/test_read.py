"""Reading a scenario: what is accepted, and every refusal with its place and its suggestion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowsim.errors import InputError, ScenarioError
from flowsim.scenario import Document, parse_scenario, read_scenario

Read = Callable[..., Document]
Refused = Callable[..., list[str]]


def test_a_valid_scenario_is_read(read: Read, small: str, tmp_path: Path) -> None:
    document = read()
    assert document.scenario.name == "small"
    assert document.shape == (6, 4)
    assert document.text == small
    assert document.path is None
    assert document.folder == tmp_path
    assert document.warnings == () and document.weights == () and document.overrides == ()


def test_a_file_and_its_text_say_the_same(read: Read, small: str, tmp_path: Path) -> None:
    path = tmp_path / "any name.yaml"
    path.write_text("\ufeff" + small, encoding="utf-8")
    document = read_scenario(path)
    assert document.scenario == read().scenario
    assert document.path == path and document.folder == tmp_path
    assert read_scenario(str(path)).scenario == document.scenario


def test_defaults_that_depend_on_the_shape_are_filled_in(read: Read) -> None:
    for target in ("target: {kind: zeros}\n", ""):
        filled = read(("target: {kind: zeros}\n", target)).scenario.target
        assert filled is not None and filled.kind == "zeros" and filled.shape == (6, 4)
    shifted = read(("{kind: zeros}", "{kind: shift, by: {kind: zeros}}")).scenario.target
    assert shifted is not None and shifted.kind == "shift" and shifted.by.kind == "zeros"
    assert shifted.by.shape == (6, 4)
    flat = "{kind: spectrum, shape: [6, 4], singular_values: {kind: flat, value: 2}}"
    spectrum = read(("{kind: gaussian, shape: [6, 4], std: 1.0, seed: 0}", flat)).scenario.pretrained
    assert spectrum.kind == "spectrum" and spectrum.singular_values.count == 4  # type: ignore[union-attr]


def test_a_resolved_scenario_can_be_run_again(read: Read, tmp_path: Path) -> None:
    import json

    scenario = read().scenario
    text = json.dumps(scenario.model_dump(mode="json"))
    assert parse_scenario(text, name="again", folder=tmp_path).scenario == scenario


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "0.001", ".001", "1.0e-03"])
def test_numbers_are_those_of_yaml_1_2(read: Read, number: str) -> None:
    assert read(("std: 0.1", f"std: {number}")).scenario.adapter.init.std == 1e-3  # type: ignore[union-attr]


def test_no_is_a_word(read: Read, refused: Refused) -> None:
    assert read(("name: small", "name: no")).scenario.name == "no"
    lines = refused(("std: 0.1", "std: 0.1, nested: no"))
    assert lines[0] == "s.yaml:8:44: adapter.init.nested: should be true or false, not the text 'no'"


def test_aliases_are_fine_in_reason(read: Read) -> None:
    document = read(("windows: [0.2, 0.1]", "windows: &h [0.2, 0.1]"), ("rates: [0.1, 0.05]", "rates: *h"))
    assert document.scenario.schedules[2].learning_rates == (0.2, 0.1)  # type: ignore[union-attr]


# Each: what is replaced, by what, and the first line that the user reads.
MISTAKES = [
    ("name: small", "name: Small one", "1:7: name: 'Small one' must begin with a-z or 0-9 and contain only"),
    ("name: small", "name: 3", "1:7: name: should be text, not 3"),
    ("name: small", "name: small\ntitel: x", "2:1: titel: unknown key (did you mean title?)"),
    ("name: small", 'name: small\ntitle: "a\\nb"', "2:8: title: must be one line"),
    ("name: small", "name: small\nseeds: 3", "2:1: seeds: unknown key (did you mean adapter.seeds?)"),
    ("name: small", "name: small\nname: again", "2:1: name: the key is given twice, first in line 1"),
    ("name: small", "nam: small", "1:1: name: is required, but missing"),
    ("kind: frobenius", "kind: frobenus", "2:19: objective.kind: 'frobenus' is not known here (did you mean"),
    ("kind: frobenius", "", "2:1: objective.kind: is required, but missing"),
    ("kind: frobenius", "kind: frobenius, coefficient: 0", "2:43: objective.coefficient: must be greater th"),
    ("kind: frobenius", "kind: frobenius, coefficient: -.inf", "2:43: objective.coefficient: must be finite"),
    ("kind: frobenius", "kind: frobenius, coefficient: true", "2:43: objective.coefficient: should be a num"),
    ("kind: gaussian, shape", "kind: gausian, shape", "3:20: pretrained.kind: 'gausian' is not known here ("),
    ("kind: gaussian, shape", "shape", "3:1: pretrained.kind: is required, but missing"),
    ("shape: [6, 4]", "shape: [6]", "3:37: pretrained.shape: has too few entries, 2 are wanted"),
    ("shape: [6, 4]", "shape: [6, 4, 2]", "3:37: pretrained.shape: has 3 entries, 2 are wanted"),
    ("shape: [6, 4]", "shape: [6, 0]", "3:41: pretrained.shape.1: must be at least 1, not 0"),
    ("shape: [6, 4]", "shape: 6", "3:37: pretrained.shape: should be a list, not 6"),
    ("shape: [6, 4]", "shap: [6, 4]", "3:1: pretrained.shape: is required, but missing"),
    ("std: 1.0", "std: -1.0", "3:50: pretrained.std: must be at least 0, not -1.0"),
    ("std: 1.0", "std: .nan", "3:50: pretrained.std: must be finite, not nan"),
    ("std: 1.0", "std: 1e999", "3:50: pretrained.std: must be finite, not inf"),
    ("std: 1.0", f"std: 1{'0' * 400}", "3:50: pretrained.std: is too large for a number"),
    ("seed: 0", "seed: -1", "3:61: pretrained.seed: must be at least 0, not -1"),
    ("seed: 0", f"seed: {2**64}", "3:61: pretrained.seed: must be at most"),
    ("seed: 0", "seed: 1.5", "3:61: pretrained.seed: should be a whole number, not 1.5"),
    ("target: {kind: zeros}", "target: 0", "4:9: target: should be a section of keys, not 0"),
    ("target: {kind: zeros}", "target: {kind: shift}", "4:1: target.by: is required, but missing"),
    ("ranks: [1, 2]", "ranks: []", "6:10: adapter.ranks: must not be empty"),
    ("ranks: [1, 2]", "ranks: [1, 0]", "6:14: adapter.ranks.1: must be at least 1, not 0"),
    ("ranks: [1, 2]", "ranks: [0]", "6:11: adapter.ranks.0: must be at least 1, not 0"),
    ("ranks: [1, 2]", "ranks: [1, 2, 1]", "6:17: adapter.ranks.2: rank 1 is given twice"),
    ("ranks: [1, 2]", "ranks: [1, two]", "6:14: adapter.ranks.1: should be a whole number, not the text 'tw"),
    ("ranks: [1, 2]", "ranks: [1, 2.0]", "6:14: adapter.ranks.1: should be a whole number, not 2.0"),
    ("ranks: [1, 2]", "ranks: 2", "6:10: adapter.ranks: should be a list, not 2"),
    ("ranks: [1, 2]", "rank: [1, 2]", "5:1: adapter.ranks: is required, but missing"),
    ("seeds: 2", "seeds: 0", "7:10: adapter.seeds: must be at least 1 seed"),
    ("seeds: 2", "seeds: []", "7:10: adapter.seeds: must not be empty"),
    ("seeds: 2", "seeds: [3, 3]", "7:14: adapter.seeds.1: seed 3 is given twice"),
    ("seeds: 2", "seeds: 1.5", "7:10: adapter.seeds: should be a whole number or a list of seeds, not 1.5"),
    ("seeds: 2", "seeds: true", "7:10: adapter.seeds: should be a whole number or a list of seeds, not true"),
    ("seeds: 2", "seeds: 1000000000", "7:10: adapter.seeds: must be at most 1000000 seeds"),
    ("std: 0.1", "std: -0.1", "8:31: adapter.init.std: must be at least 0, not -0.1"),
    ("std: 0.1", 'std: "0.1"', "8:31: adapter.init.std: should be a number, not the text '0.1'"),
    ("std: 0.1", "zero: C", "8:32: adapter.init.zero: 'C' is not known here"),
    ("kind: gaussian, std: 0.1", "kind: gausian", "8:16: adapter.init.kind: 'gausian' is not known here (di"),
    ("kind: gaussian, std: 0.1", "kind: spectral, of: pretrained, power: 1", "8:49: adapter.init.power: mus"),
    ("kind: gaussian, std: 0.1", "kind: pissa, std: 1", "8:23: adapter.init.std: unknown key"),
    ("kind: gaussian, std: 0.1", "kind: [gaussian]", "8:16: adapter.init.kind: should be a word, not a list"),
    ("seeds: 2", "scaling: {kind: lora}", "7:3: adapter.scaling.alpha: is required, but missing"),
    ("seeds: 2", "scaling: {kind: lora, alpha: 0}", "7:32: adapter.scaling.alpha: must be greater than 0"),
    ("seeds: 2", "scaling: {kind: constant, value: 0}", "7:36: adapter.scaling.value: must be greater than "),
    ("- {kind: flow}", "- {kind: flow, windows: [1]}", "10:27: schedules.0.windows: the simultaneous flow h"),
    ("- {kind: flow}", "- {kind: flow, update: symmetric}", "10:5: schedules.0: a flow with update symmetri"),
    ("- {kind: flow}", "- {kind: flwo}", "10:12: schedules.0.kind: 'flwo' is not known here (did you mean f"),
    ("- {kind: flow}", "- flow", "10:5: schedules.0: should be a section of keys, not the text 'flow'"),
    ("a_first", "a_frist", "11:26: schedules.1.update: 'a_frist' is not known here (did you mean a_first?)"),
    ("[0.2, 0.1]", "[]", "11:44: schedules.1.windows: must not be empty"),
    ("[0.2, 0.1]", "[0.2, 0]", "11:50: schedules.1.windows.1: must be greater than 0, not 0"),
    ("[0.2, 0.1]", "[0.2, 2e-1]", "11:50: schedules.1.windows.1: window 0.2 is given twice"),
    ("[0.1, 0.05]", "[0.1, -0.05]", "12:43: schedules.2.learning_rates.1: must be greater than 0"),
    ("[0.1, 0.05]", "[0.1, 0.1]", "12:43: schedules.2.learning_rates.1: learning rate 0.1 is given twice"),
    ("learning_rates: [0.1, 0.05]", "update: symmetric", "12:5: schedules.2.learning_rates: is required, bu"),
    ("learning_rates", "learning_rate", "12:21: schedules.2.learning_rate: unknown key (did you mean learni"),
    ("stop: 10.0", "stop: 0", "13:14: time.stop: must be greater than 0, not 0"),
    ("stop: 10.0", "stop: 10 s", "13:14: time.stop: should be a number, not the text '10 s'"),
    ("stop: 10.0", "stop: ", "13:8: time.stop: should be a number, not nothing"),
    ("stop: 10.0", "stop: 2001-01-01", "13:14: time.stop: '2001-01-01' is read as a date"),
    ("stop: 10.0", "stop: 10.0, stpo: 3", "13:20: time.stpo: unknown key (did you mean stop?)"),
    ("points: 11", "points: 1", "13:28: time.points: must be at least 2, not 1"),
    ("points: 11", "spacing: log", "13:7: time: log spacing needs first"),
    ("points: 11", "first: 1e-3", "13:27: time.first: linear spacing has no first"),
    ("points: 11", "spacing: log, first: 10", "13:41: time.first: first (10) must be smaller than stop (10)"),
    ("points: 11", "spacing: log, first: 1, points: 2", "13:52: time.points: log spacing needs 3 points or "),
    ("stop: 10.0", "stop: 1e-322", "13:30: time.points: 11 times this close together are not distinct numbe"),
    ("points: 11}", "points: 11}\nreach: 0", "14:8: reach: must be greater than 0"),
    ("points: 11}", "points: 11}\nreach: 1", "14:8: reach: must be less than 1"),
    ("points: 11}", "points: 11}\nsolver: {method: dopri8th}", "14:18: solver.method: 'dopri8th' is not kno"),
    ("points: 11}", "points: 11}\nsolver: {rtol: 0}", "14:16: solver.rtol: must be greater than 0"),
    ("points: 11}", "points: 11}\nsolver: {atol: -1}", "14:16: solver.atol: must be at least 0"),
    ("points: 11}", "points: 11}\ncompute: {device: gpu}", "14:19: compute.device: 'gpu' is not known here"),
    ("points: 11}", "points: 11}\ncompute: {dtype: float16}", "14:18: compute.dtype: 'float16' is not known"),
    ("points: 11}", "points: 11}\ncompute: {threads: 0}", "14:20: compute.threads: must be at least 1"),
    ("points: 11}", "points: 11}\nchecks: [equivalance]", "14:10: checks.0: 'equivalance' is not known here"),
    ("points: 11}", "points: 11}\nchecks: []", "14:9: checks: must not be empty"),
    ("points: 11}", "points: 11}\nchecks: all", "14:9: checks: 'all' is not known here"),
    ("points: 11}", "points: 11}\nchecks: 3", "14:9: checks: should be auto or a list of names, not 3"),
    ("points: 11}", "points: 11}\nchecks: [accuracy, accuracy]", "14:20: checks.1: check accuracy is given "),
    ("points: 11}", "points: 11}\nsave:\n\n", "14:1: save: should be a section of keys, not nothing"),
    ("points: 11}", "points: 11}\nsave: all", "14:7: save: should be a section of keys, not the text 'all'"),
    ("points: 11}", "points: 11}\nsave: {factors: some}", "14:17: save.factors: 'some' is not known here"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_place(refused: Refused, old: str, new: str, expected: str) -> None:
    lines = refused((old, new))
    assert any(line.startswith("s.yaml:" + expected) for line in lines), "\n".join(lines)


def test_a_missing_section_is_told_once(refused: Refused) -> None:
    lines = refused(("time: {stop: 10.0, points: 11}\n", ""))
    assert lines[0] == "s.yaml:1:1: time: is required, but missing"
    assert len(lines) == 2


def test_one_mistake_is_told_once(refused: Refused) -> None:
    for change in [
        ("std: 1.0", "sdt: 1.0"),
        ("stop: 10.0", "stop: 2001-01-01"),
        ("[0.2, 0.1]", "[0.2, 0.2]"),
    ]:
        assert len(refused(change)) == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_text(refused: Refused) -> None:
    lines = refused(
        ("name: small", "name: small\nname: twice\ntitel: x"),
        ("kind: frobenius", "kind: trace_squared, coefficient: .nan"),
        ("target: {kind: zeros}", "target: {kind: gaussian, shape: [6, 5], colour: red}"),
        ("ranks: [1, 2]", "ranks: [1, 2, 2, 0]"),
        ("std: 0.1", "std: -1"),
        ("windows: [0.2, 0.1]", "windows: [0.2, 100.0]"),
        ("{stop: 10.0, points: 11}", "{stop: 10.0, points: 1}"),
    )
    assert [line.rpartition(": ")[0] for line in lines[::2]] == [
        "s.yaml:2:1: name",
        "s.yaml:3:1: titel",
        "s.yaml:4:47: objective.coefficient",
        "s.yaml:6:1: target",
        "s.yaml:6:33: target.shape",
        "s.yaml:6:41: target.colour",
        "s.yaml:8:17: adapter.ranks.2",
        "s.yaml:8:20: adapter.ranks.3",
        "s.yaml:10:31: adapter.init.std",
        "s.yaml:13:50: schedules.1.windows.1",
        "s.yaml:15:28: time.points",
    ]


def test_an_unknown_key_does_not_hide_what_else_is_wrong(refused: Refused) -> None:
    lines = refused(("stop: 10.0", "stop: 10.0, stpo: 1"), ("windows: [0.2", "windows: [20.0"))
    assert [line.split(": ")[1] for line in lines[::2]] == ["schedules.1.windows.0", "time.stpo"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1:1: the scenario is empty"),
        ("# nothing\n", "1:1: the scenario is empty"),
        ("null", "1:1: the scenario is empty"),
        ("- 1\n- 2\n", "1:1: a scenario is a mapping of keys to values"),
        ("hello", "1:1: a scenario is a mapping of keys to values"),
        ("a: b: c", "1:5: not YAML: mapping values are not allowed here"),
        ("a: [1, 2", "1:9: not YAML: "),
        ("a: 'x", "1:6: not YAML: "),
        ("a:\n\t- 1", "2:1: not YAML: "),
        ("a: *b", "1:4: not YAML: found undefined alias"),
        ("---\na: 1\n---\nb: 1", "3:1: not YAML: but found another document"),
        ("a: \x00", "1:4: not YAML: unacceptable character"),
        ("x: 1\na: \x07", "2:4: not YAML: unacceptable character"),
        ("%YAML 1.1\n---\na: no", "1:1: YAML '1.1' is not read"),
        ("1: 2", "1:1: 1: unknown key"),
        ("? [a, b]\n: 1", "1:3: a key must be a word"),
    ],
)
def test_what_is_not_a_scenario_is_refused(refused: Refused, text: str, what: str) -> None:
    lines = refused(text=text)
    assert any(line.startswith("s.yaml:" + what) for line in lines), "\n".join(lines)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_scenario(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_scenario(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_scenario(tmp_path / ("x" * 5000))
    with pytest.raises(InputError, match="not a file name"):
        read_scenario("a\0b")
    large = tmp_path / "large.yaml"
    with large.open("wb") as stream:
        stream.truncate(9 * 2**20)
    with pytest.raises(InputError, match="larger than 8 MiB"):
        read_scenario(large)
    text = tmp_path / "latin.yaml"
    text.write_bytes(b"name: small\ntitle: caf\xe9\n")
    with pytest.raises(ScenarioError) as caught:
        read_scenario(text)
    assert caught.value.lines()[0] == f"{text}:2:11: this is not UTF-8 text"
    for error in (caught.value,):
        assert error.exit_code == 2 and len(error.lines()) == 2


def test_importing_is_quick_and_light() -> None:
    program = (
        "import sys, time; start = time.process_time(); import flowsim.scenario\n"
        "heavy = {'torch', 'xarray', 'matplotlib', 'scipy', 'pandas', 'safetensors'} & set(sys.modules)\n"
        "print(time.process_time() - start, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split(maxsplit=1)
    assert heavy.strip() == "set()"
    # Measured 0.2 s; the bound only notices something heavy under another name.
    assert float(seconds) < 1.0
