"""Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells may hold Markdown of one line."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


def code(text: str) -> str:
    """Text as code, or nothing."""
    return f"`{text}`" if text else ""


def plain(text: str) -> str:
    """Text whose signs mean themselves and no Markdown, but for code between backticks."""
    return re.sub(r"([\\*_{}\[\]<>#$])", r"\\\1", text)
