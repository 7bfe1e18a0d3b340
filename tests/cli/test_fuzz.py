"""Any scenario and any setting, however broken: refused in lines that help, or read; never a traceback, never a hang.

Some tens of cases by default; `make fuzz` tries thousands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsim.scenario.read import read_scenario
from flowsim.scenario.text import parse_tree
from tests.cli.conftest import Call
from tests.properties.strategies import many

SWEEP = """\
name: swept
objective: {kind: frobenius, coefficient: 0.5}
pretrained: {kind: spectrum, shape: [6, 5], singular_values: {kind: power, exponent: 1}, seed: 3}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5}}
schedules: [{kind: flow}, {kind: descent, learning_rates: [0.1]}]
time: {stop: 4.0, points: 5}
sweep:
  adapter.init.std: [0.1, 0.5]
  pretrained.singular_values.exponent: [0.5, 1, 2]
"""

words = st.sampled_from(
    [
        "sweep",
        "adapter.init.std",
        "adapter.init",
        "adapter.ranks",
        "sweep.adapter.init.std.0",
        "objective.kind",
        "pretrained.shape",
        "pretrained.singular_values.exponent",
        "time.stop",
        "time.points",
        "solver.rtol",
        "solver.method",
        "compute.dtype",
        "name",
        "seeds",
        "sweep.adapter",
        "sweep.sweep",
        "schedules",
        "schedules.1.learning_rates",
        "save.factors",
        "checks",
        "target",
        ".",
        "..",
        "a.b",
        "adapter.seeds.0",
    ]
)
values = st.sampled_from(
    [
        "1",
        "0",
        "-1",
        "1e400",
        ".nan",
        ".inf",
        "-.inf",
        "1e-3",
        "[]",
        "{}",
        "[1]",
        "[1,2]",
        "[[1,2],[3]]",
        "[1,1]",
        "null",
        "~",
        "true",
        "no",
        "yes",
        '"x"',
        "'y'",
        "[.nan]",
        "[1e999]",
        "{kind:",
        "gaussian}",
        "[{kind:",
        "kaiming},{kind:",
        "gaussian,std:",
        "1}]",
        "99999999999999999999",
        "[99999999]",
        "!!python/object:os.system",
        "&a",
        "[*a]",
        "*b",
        '"\\ud800"',
        "[[[[[[[[[[]]]]]]]]]]",
        "{a:",
        "b}",
        "0x10",
        "1_000",
        "2001-01-01",
        "frobenius",
        "trace_squared",
    ]
) | st.text(max_size=12)
settings_given = st.lists(st.builds("{}={}".format, words | st.text(max_size=12), values), max_size=3)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The scenario with a few pieces cut out, doubled, swapped for others, or replaced by anything."""
    text = SWEEP
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 30)))
        piece = draw(st.sampled_from(["", text[start:end] * 2]) | values | words | st.text(max_size=8))
        text = text[:start] + piece + text[end:]
    return text


# The runner and the folder may serve all examples.
shared = settings(
    many, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def told(result: Any) -> None:
    """Exit 0 or 2; nothing unexpected; two lines a mistake."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 2), result.output
    assert "unexpected error" not in result.stderr and "Traceback" not in result.output
    if result.exit_code == 2:
        assert [line for line in result.stderr.splitlines() if line.startswith("  ")], result.stderr


@shared
@given(text=texts(), given_settings=settings_given)
def test_any_scenario_is_read_or_refused(text: str, given_settings: list[str], call: Call, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    arguments = [part for setting in given_settings for part in ("--set", setting)]
    checked = call("validate", path)
    told(checked)
    run = call("run", path, "--out", tmp_path / "out", "--dry-run", *arguments)
    told(run)
    if not given_settings:
        assert run.exit_code == checked.exit_code or "does not fit" in run.stderr or "more than" in run.stderr
    assert not (tmp_path / "out").exists()


@shared
@given(setting=st.builds("{}={}".format, words, values))
def test_a_setting_is_applied_or_refused(setting: str, call: Call, tmp_path: Path) -> None:
    """What is accepted is what was asked for: no setting is dropped without a word."""
    path = tmp_path / "s.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    result = call("run", path, "--dry-run", "--set", setting)
    told(result)
    if result.exit_code == 0:
        before, after = read_scenario(path), read_scenario(path, (setting,))
        same = before.scenario == after.scenario and before.points == after.points
        restated = any(
            setting.startswith(f"{path}=") for path in ("name", "objective.kind", "sweep.adapter.init.std.0")
        )
        assert not same or restated or "warning" in result.stderr or _says_the_same(setting, before)


def _says_the_same(setting: str, document: Any) -> bool:
    """Whether a setting repeats what the scenario says, or asks for the default by saying nothing."""
    path, _, value = setting.partition("=")
    here: Any = document.scenario
    for step in path.split("."):
        here = here[int(step)] if isinstance(here, tuple) else getattr(here, step, None)
    given = parse_tree(value, "value").data
    return given is None or given == (list(here) if isinstance(here, tuple) else here)


@pytest.mark.parametrize("name", ["a\nb", "x" * 5000, "\x00", "..", "-", "ü.yaml"])
def test_any_file_name_is_told_in_two_lines(name: str, call: Call) -> None:
    for command in ("run", "validate", "show", "check", "plot"):
        result = call(command, "--", name) if name.startswith("-") else call(command, name)
        assert result.exit_code in (0, 2), (command, result.output)
        assert "unexpected" not in result.output
