"""Parts of pages that are made from the code when the site is built, so that they cannot disagree with it.

`<!-- generated: NAME -->` on a page is replaced by what `PARTS[NAME]` writes. A code host shows nothing there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import checks_page
import command_line_page
import python_page
import result_page
import scenario_page
from links import ROOT, ROOT_FILES, relinked, root_file
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

_MARK = re.compile(r"^<!-- generated: ([a-z ]+) -->$", re.MULTILINE)


def contents() -> str:
    """The order of the pages in the sidebar: by Diátaxis, tutorial, how-to, reference, explanation."""
    parts = {
        "Start": ["tutorial", "gallery"],
        "How to": ["howto/*"],
        "Reference": ["reference/scenario", "reference/result", "reference/checks", "reference/command_line",
                      "reference/python"],
        "Explanation": ["theory", "solvers", "sweeps"],
        "Project": ["Readme <site/readme>", "site/changelog", "site/contributing"],
    }  # fmt: skip
    docs = ROOT / "docs"
    blocks = []
    for caption, pages in parts.items():
        there = [page for page in pages if "*" in page or (docs / f"{page}.md").is_file() or "<" in page]
        lines = ["```{toctree}", ":hidden:", f":caption: {caption}", *([":glob:"] if "*" in "".join(there) else []), ""]
        blocks.append("\n".join([*lines, *there, "```"]))
    return "\n\n".join(blocks)


PARTS: dict[str, Callable[[], str]] = {
    "contents": contents,
    "command line": command_line_page.commands,
    "python": python_page.functions,
    "errors": python_page.errors,
    "scenario": scenario_page.tables,
    "result": result_page.tables,
    "outcomes": result_page.outcomes,
    "checks": checks_page.checks,
    "verdicts": checks_page.verdicts,
} | {Path(page).stem: partial(root_file, name) for name, page in ROOT_FILES.items()}


def _fill(_app: Sphinx, docname: str, source: list[str]) -> None:
    def part(match: re.Match[str]) -> str:
        if match[1] not in PARTS:
            raise ExtensionError(f"{docname}: nothing generates {match[1]!r}; there are {', '.join(PARTS)}")
        return PARTS[match[1]]()

    source[0] = _MARK.sub(part, relinked(source[0], f"docs/{docname}.md", f"docs/{docname}.md"))


def _made_from_code(_app: Sphinx, env: BuildEnvironment, *_: object) -> list[str]:
    """Pages with generated parts are read anew by every build: what they are made from is not theirs to watch."""
    return [name for name in env.found_docs if _MARK.search(Path(env.doc2path(name)).read_text(encoding="utf-8"))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the parts in before a page is parsed."""
    app.connect("source-read", _fill)
    app.connect("env-get-outdated", _made_from_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
