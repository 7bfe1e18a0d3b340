"""The fenced blocks of a Markdown page, and what the HTML comments before each say of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {"python", "console", "yaml", "bash", "math"}
DIRECTIVES = {"file", "exit", "slow", "text", "output", "in"}

_LEXER = RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)\n?"))
_COMMENTS = re.compile(r"(?:<!--[^\n]*?-->\s*)+\Z")
_COMMENT = re.compile(r"<!--\s*([a-z]+)(?::\s*(.*?))?\s*-->")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes
    ----------
    said : dict
        What the comments right before it say: `<!-- exit: 2 -->` is {"exit": "2"}.
    """

    language: str
    source: str
    line: int
    offset: int = 0
    said: dict[str, str] = field(default_factory=dict)

    @property
    def slow(self) -> bool:
        return "slow" in self.said

    @property
    def declared(self) -> bool:
        """Whether a comment says what it is in place of a test: a picture, a citation, a format."""
        return "text" in self.said

    @property
    def of_the_site(self) -> bool:
        """Whether Sphinx reads it and nothing else: a directive, or mathematics."""
        return self.language.startswith("{") or self.language == "math"

    @property
    def fault(self) -> str | None:
        """Why nothing would check it, or None."""
        if unknown := sorted(set(self.said) - DIRECTIVES):
            return f"no such comment: {', '.join(unknown)}"
        if self.declared:
            return None if self.said["text"] else "text: says nothing"
        if self.of_the_site or "output" in self.said or self.language in KNOWN:
            return None
        wanted = "needs <!-- text: what it is --> or <!-- output: COMMAND -->"
        return f"{self.language or 'a block without a language'} {wanted}"


def pages() -> list[Path]:
    """Every page of the repository that people read, in a fixed order."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [path for path in found if path.is_file()] + sorted((ROOT / "docs").rglob("*.md"))


def blocks(document: Document) -> Iterator[Block]:
    """The blocks of a page from top to bottom."""
    for region in sorted(_LEXER(document), key=lambda region: region.start):
        before = _COMMENTS.search(document.text[: region.start])
        said = {name: text for name, text in _COMMENT.findall(before.group())} if before else {}
        line = document.text.count("\n", 0, region.start) + 1
        source = region.lexemes["source"]
        yield Block(region.lexemes["language"].strip(), str(source), line, source.offset, said)
