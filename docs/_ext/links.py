"""Links that work on a code host, made to work on the site, where the Markdown files of the root are pages too."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Pages of the site that are files of the root.
ROOT_FILES = {
    "README.md": "docs/site/readme.md",
    "CHANGELOG.md": "docs/site/changelog.md",
    "CONTRIBUTING.md": "docs/site/contributing.md",
}
_TARGET = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")


def relinked(text: str, source: str, page: str) -> str:
    """The text of the file `source` with its relative links as they lead from `page`.

    Both are paths in the repository. What is no file of it is left alone.
    """

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if not (ROOT / target).exists():
            return match[1]
        return posixpath.relpath(ROOT_FILES.get(target, target), posixpath.dirname(page))

    return _TARGET.sub(moved, text)


def root_file(name: str) -> str:
    """A Markdown file of the root as the text of its page."""
    return relinked((ROOT / name).read_text(encoding="utf-8"), name, ROOT_FILES[name])
