"""The site: it is built without a warning, and its reference speaks of everything that the code has."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.blocks import ROOT

EXTENSIONS = ROOT / "docs" / "_ext"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of `docs/_ext`, which Sphinx finds on its own."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    for path in EXTENSIONS.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    return module


def test_every_key_of_a_scenario_is_in_the_reference_with_its_meaning(part: Any) -> None:
    from flowsim.scenario.model import Scenario

    text = part("scenario_page").tables()
    schema = Scenario.model_json_schema()
    for node in (schema, *schema["$defs"].values()):
        keys = [key for key, below in node["properties"].items() if key != "kind" or "const" not in below]
        for key in keys:
            assert f"| `{key}` |" in text, key
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) >= 50
    assert not [row for row in rows if row.endswith("|  |")], "a key without a description in its class"


def test_every_variable_is_in_the_reference_along_its_dimensions(part: Any, frobenius_tree: Any) -> None:
    """Held against a result that was really made."""
    text = part("result_page").tables()
    for group in ("trajectory", "final", "baseline", "theory", "companions"):
        section = text.split(f"## Group `/{group}`")[1].split("## Group")[0]
        tables = dict(re.findall(r"^Along `([^`]*)`:\n\n(.*?)\n\n", section, re.MULTILINE | re.DOTALL))
        told = {name: dims for dims, rows in tables.items() for name in re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)}
        real = {str(name): ", ".join(map(str, one.dims)) for name, one in frobenius_tree[group].data_vars.items()}
        assert told.keys() == real.keys()
        if group != "baseline":  # its dimensions depend on the start
            assert told == real
    for name in frobenius_tree.attrs:
        assert f"| `{name}` |" in text


def test_every_check_verdict_and_outcome_is_in_the_reference(part: Any) -> None:
    from flowsim.checks import CHECKS
    from flowsim.checks.base import Verdict
    from flowsim.sweep.outcome import Outcome

    page = part("checks_page")
    assert re.findall(r"^### (\w+)$", page.checks(), re.MULTILINE) == list(CHECKS)
    assert all(f"| `{one}` | {one.meaning} |" in page.verdicts() for one in Verdict)
    assert all(f"| `{one}` | {one.meaning} |" in part("result_page").outcomes() for one in Outcome)


def test_every_public_name_is_in_the_reference(part: Any) -> None:
    import flowsim

    text = part("python_page").functions()
    assert all(f":: flowsim.{name}\n" in text for name in flowsim.__all__ if not name.startswith("_"))
    assert ":: flowsim.errors.ScenarioError\n" in part("python_page").errors()


def test_exit_codes_are_those_of_the_command_line() -> None:
    from flowsim.cli.common import PRECEDENCE

    page = (ROOT / "docs" / "reference" / "command_line.md").read_text(encoding="utf-8")
    assert tuple(map(int, re.findall(r"^\| (\d+) \|", page, re.MULTILINE))) == PRECEDENCE


def test_links_to_files_of_the_root_lead_to_their_pages(part: Any) -> None:
    relinked = part("links").relinked
    text = "[a](../CHANGELOG.md#x) [b](theory.md) [c](https://a.b/c.md) `x[0](none)` [d](../scenarios/frobenius.yaml)"
    assert relinked(text, "docs/index.md", "docs/index.md") == text.replace("../CHANGELOG.md", "site/changelog.md")
    moved = relinked("![p](docs/gallery/frobenius.png) [a](docs/theory.md)", "README.md", "docs/site/readme.md")
    assert moved == "![p](../gallery/frobenius.png) [a](../theory.md)"


class Links(HTMLParser):
    """Every address that a page of the site names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        here = dict(attrs)
        if address := here.get("href") or here.get("src"):
            self.found.append(address)
            if tag in ("script", "img", "iframe") or (tag == "link" and here.get("rel") == "stylesheet"):
                self.loaded.append(address)


@pytest.mark.slow  # half a minute: the whole site
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed; `make docs` installs it")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    done = subprocess.run([*command, "docs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert {"index.html", "reference/scenario.html", "site/changelog.html"} <= {
        str(page.relative_to(tmp_path)) for page in pages
    }
    for page in pages:
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in links.loaded if re.match(r"(https?:)?//", address)]
        for address in links.found:
            path = re.sub(r"[?#].*", "", address)
            if path and not re.match(r"([a-z]+:|//)", path):
                assert (page.parent / path).exists(), f"{page.name}: {address}"
