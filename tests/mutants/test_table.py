"""The mutants' table is not stale: old texts are where it says, the tests it names exist; slowly, none survives."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from flowsim.checks import CHECKS
from tests.mutants.__main__ import ROOT, main, run
from tests.mutants.table import MUTANTS, Mutant

each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@cache
def functions(file: str) -> set[str]:
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


@each
def test_the_old_text_is_there_once_and_the_new_one_is_python(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    changed = mutant.applied(text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))


@each
def test_its_tests_exist(mutant: Mutant) -> None:
    for test in mutant.tests:
        file, name = test.partition("[")[0].split("::")
        assert name in functions(file)
    run_name, _, check = mutant.verdict.partition("-")
    assert not mutant.verdict or (check in CHECKS and run_name in ("frobenius_run", "trace_run"))


def test_names_are_unique_and_a_stale_entry_is_refused() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for text in ("", 2 * MUTANTS[0].old):
        with pytest.raises(ValueError, match="the old text occurs"):
            MUTANTS[0].applied(text)


@pytest.mark.slow  # minutes: one pytest run for each mutant
def test_no_mutant_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, capsys.readouterr().out


@pytest.mark.slow  # two pytest runs
def test_a_harmless_change_is_a_survivor() -> None:
    test = "dynamics/test_rounds.py::test_ties_go_to_the_earlier_round"
    harmless = Mutant("harmless", "+1 − 1", "flowsim/dynamics/rounds.py", "position - 0.5", "position + 1 - 1.5", test)
    crash = Mutant("crash", "no such name", "flowsim/dynamics/rounds.py", "position - 0.5", "places - 0.5", test)
    unchanged, survivor, broken = run([harmless, crash], jobs=1)
    assert unchanged.wrong == ""
    assert survivor.wrong.startswith(f"tests/{test}: passes")
    assert "NameError in call" in broken.wrong  # an error is not a test that noticed
