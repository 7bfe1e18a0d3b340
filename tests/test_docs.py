"""docs/theory.md names code and tests: each name must exist."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import flowsim

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
PARTS = {module.name for module in pkgutil.iter_modules(flowsim.__path__)}
CODE = sorted({m for m in re.findall(r"`([a-z_]+(?:\.\w+)+)`", TEXT) if m.split(".")[0] in PARTS and m[-3:] != ".py"})


def named_tests() -> list[tuple[str, str]]:
    """(file, function): `file::name`, and `::name` for the file named last."""
    found, file = [], ""
    for first, name in re.findall(r"`([\w/]+\.py)?(?:::(\w+))?`", TEXT):
        file = first or file
        found += [(file, name)] if name else []
    return sorted(set(found))


def test_the_page_names_many() -> None:
    assert len(CODE) > 50 and len(named_tests()) > 80


@pytest.mark.parametrize("name", CODE)
def test_code_exists(name: str) -> None:
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["flowsim", *parts[:split]]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[split:]:
            # A dataclass field without a default is in the annotations alone.
            known = hasattr(found, attribute) or attribute in getattr(found, "__annotations__", {})
            assert known, f"{name}: {found.__name__} has no {attribute}"
            found = getattr(found, attribute, None)
        return
    raise AssertionError(f"{name}: no such module")


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_tests_exist(file: str, name: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"
