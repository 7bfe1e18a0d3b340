"""The commands of flowsim, from click: examples in their help keep their columns, and signs mean themselves."""

from __future__ import annotations

import re

import click
from sphinx.application import Sphinx

_BAR = "| "  # what sphinx-click puts before the lines of a paragraph that is not to be wrapped


def commands() -> str:
    """Every command with its options."""
    return "```{eval-rst}\n.. click:: flowsim.cli:main\n   :prog: flowsim\n   :nested: full\n```\n"


def _help(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Turn paragraphs that are not wrapped into literal blocks, and escape the signs of reStructuredText elsewhere."""
    out: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(_BAR):
            out += [] if inside else ["::", ""]
            out.append("   " + line.removeprefix(_BAR))
        else:
            out += [""] if inside else []
            out.append(re.sub(r"([*`|_])", r"\\\1", line))
        inside = line.startswith(_BAR)
    lines[:] = [*out, ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to sphinx-click, which has to be loaded before."""
    app.connect("sphinx-click-process-description", _help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
