"""What a scenario file says about itself: the comment at its head, cut into its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

WRONG = "What a naive tool gets wrong"
LOOK = "What to look for"
_ITEM = re.compile(r"(\S(?:.*?\S)?) {2,}(\S.*)")  # a name, two blanks or more, what it shows


class NotesError(ValueError):
    """A comment that is not laid out as the gallery reads it."""


@dataclass(frozen=True)
class Notes:
    """The comment of a scenario.

    Attributes
    ----------
    intro : tuple of str
        Paragraphs, the first one says what the scenario is.
    wrong : str
        What a naive tool gets wrong; empty where the file says nothing of it.
    looks : tuple of (str, str)
        Where to look, and what is seen there.
    """

    intro: tuple[str, ...]
    wrong: str
    looks: tuple[tuple[str, str], ...]


def read_notes(path: Path) -> Notes:
    """The parts of the comment at the head of a scenario.

    Raises
    ------
    NotesError
        If there is no introduction, no list of what to look for, or an item without a name.
    """
    intro: list[str] = []
    wrong, looks = "", None
    for paragraph in _paragraphs(path):
        first, text = paragraph[0], " ".join(line.strip() for line in paragraph)
        if looks is not None:
            raise NotesError(f"{path}: a paragraph follows {LOOK!r}\n  move it above that list")
        if first.startswith(WRONG):
            wrong = _capital(text.removeprefix(WRONG).lstrip(": "))
        elif first.strip() == LOOK:
            looks = _items(path, paragraph[1:])
        else:
            intro.append(text)
    if not intro or not looks:
        raise NotesError(
            f"{path}: its comment lacks {LOOK if intro else 'an introduction'!r}\n  see the other scenarios"
        )
    return Notes(tuple(intro), wrong, looks)


def _paragraphs(path: Path) -> list[list[str]]:
    """Lines of the leading comment without their sign, in paragraphs; the line for editors is left out."""
    found: list[list[str]] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "yaml-language-server" in line:
            continue
        text = line.removeprefix("#").removeprefix(" ").rstrip()
        if text:
            found[-1].append(text)
        else:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _items(path: Path, lines: list[str]) -> tuple[tuple[str, str], ...]:
    """Each `name  what it shows`; a line that is indented further goes on with the one above."""
    items: list[tuple[str, str]] = []
    margin = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    for line in lines:
        if len(line) - len(line.lstrip()) > margin and items:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
        elif match := _ITEM.fullmatch(line.strip()):
            items.append((match[1], match[2]))
        else:
            raise NotesError(f"{path}: {line.strip()!r} has no name\n  write: name, two blanks, what is seen there")
    return tuple(items)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
