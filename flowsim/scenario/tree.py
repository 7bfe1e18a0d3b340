"""Plain data in which every place knows where it stands in the text, and the mistakes found in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from flowsim.errors import Mistake
from flowsim.scenario.types import Path, shown

__all__ = ["Tree", "dotted"]

# Of a message: what a file repeats endlessly is not repeated to the user.
MAX_TEXT = 500


def dotted(path: Path) -> str:
    """A path as written in messages and after ``--set``: ``schedules.0.windows``."""
    return ".".join(step if isinstance(step, str) and 0 < len(step) <= 60 else shown(step) for step in path)


@dataclass
class Tree:
    """Plain data, where each part of it stands, and the mistakes found so far.

    Attributes
    ----------
    name : str
        Of the file, for messages.
    data : Any
        Dicts, lists, str, int, float, bool, None.
    places : dict
        Path -> (line, column) of a value, counted from 1; or the text of a ``--set``.
    keys : dict
        Path -> the same of the key.
    mistakes : list of (line, column, Mistake)
        In the order found.
    refused : set
        Paths whose value could not be read; nothing more is said of them.
    """

    name: str
    data: Any = None
    places: dict[Path, tuple[int, int] | str] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int] | str] = field(default_factory=dict)
    mistakes: list[tuple[tuple[float, float], Mistake]] = field(default_factory=list)
    refused: set[Path] = field(default_factory=set)

    def add(self, path: Path, what: str, hint: str, *, key: bool = False) -> None:
        """Note a mistake at `path`, or at the nearest place above it that stands in the text.

        Parameters
        ----------
        path : tuple
            Keys and indices from the top.
        what, hint : str
            What is wrong; what to do.
        key : bool
            Whether the key is meant, and not its value.
        """
        if not key and any(path[:end] in self.refused for end in range(1, len(path) + 1)):
            return
        if path in self.places:
            place = self.keys.get(path, self.places[path]) if key else self.places[path]
        else:  # something missing: the key of the section it is missing from
            above = next((path[:end] for end in range(len(path) - 1, -1, -1) if path[:end] in self.places), ())
            place = self.keys.get(above, self.places.get(above, (1, 1)))
        self.add_at(place, path, what, hint)

    def add_at(self, place: tuple[int, int] | str, path: Path, what: str, hint: str) -> None:
        """Note a mistake at a line and column, or in the text of a ``--set``."""
        name, what, hint = _printable(dotted(path)), _printable(what), _printable(hint)
        if isinstance(place, str):
            place = _printable(place)
            where = f"--set {place}" + ("" if name in ("", place) else f": {name}")
            self.mistakes.append(((math.inf, 0.0), Mistake(where, what, hint)))
        else:
            where = f"{self.name}:{place[0]}:{place[1]}" + (f": {name}" if name else "")
            self.mistakes.append((place, Mistake(where, what, hint)))

    def sorted_mistakes(self) -> list[Mistake]:
        """The mistakes in the order of the text, then those of ``--set``; each once."""
        ranked = sorted(self.mistakes, key=lambda item: item[0])
        return list(dict.fromkeys(mistake for _, mistake in ranked))


def _printable(text: str) -> str:
    """A message without characters that break lines or steer a terminal; a scenario may contain any."""
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + " ..."
    plain = (char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return text if text.isprintable() else "".join(plain)
