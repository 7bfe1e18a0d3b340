"""CONTRIBUTING.md names files, tables and tests: each must exist, and the house must be the one that imports keep."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
PATHS = sorted(
    {word for word in CODE if re.fullmatch(r"(flowsim|tests|docs|scenarios)/[\w./]*", word)}
    - {"flowsim/report/NAME.py"}
)
TESTS = sorted({word for word in CODE if "::" in word})
#: `NAME` of `file.py`, and the like.
NAMES = sorted(set(re.findall(r"`(\w+)`(?:,)? (?:of|in) `(flowsim/[\w/]+\.py)`", " ".join(TEXT.split()))))


def test_the_page_names_much() -> None:
    assert len(PATHS) > 30 and len(TESTS) >= 5 and len(NAMES) >= 8


@pytest.mark.parametrize("path", PATHS)
def test_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("test", TESTS)
def test_tests_exist(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("name", "file"), NAMES)
def test_names_stand_where_it_says(name: str, file: str) -> None:
    assert re.search(rf"^(class |def |    def )?{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_house_is_the_one_that_imports_keep() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = config["tool"]["importlinter"]["contracts"]
    rows = re.findall(r"^\| `flowsim/(\w+)(?:\.py|/)` \|", TEXT, re.MULTILINE)
    assert rows == contract["layers"][::-1]


def test_every_target_that_it_names_is_one() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:\$ |`)make ([a-z-]+)\b", TEXT))
    assert {"test", "slow", "docs", "dist"} <= named <= known
