"""Words that figures, captions and alternative texts share: lists, long texts, texts of a user."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

MOST_LISTED = 8  # numbers of a list that are all said


def shortened(text: str, most: int) -> str:
    """A long text by its beginning and end.

    Examples
    --------
    >>> shortened("weights/layer_0/query.safetensors", 17)
    'weights/…fetensors'
    """
    return text if len(text) <= most + 1 else f"{text[: most // 2]}…{text[-(most - most // 2) :]}"


def printable(text: str) -> str:
    r"""A user's text on one line, without what no file of text may hold: controls, surrogates, turns of direction.

    Examples
    --------
    >>> printable("two\n lines\x1b[31m")
    'two lines□[31m'
    """
    joined = " ".join(text.split())
    return "".join("□" if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Cn") else letter for letter in joined)


def listed(numbers: Sequence[int]) -> str:
    """Whole numbers as one would say them: runs by their ends, long lists by their first and last.

    Examples
    --------
    >>> listed([1, 2, 3, 4, 5]), listed([1, 2, 4, 8]), listed(range(0, 60, 2))
    ('1–5', '1, 2, 4, 8', '0, 2, 4, …, 58 (30)')
    """
    values = list(numbers)
    if len(values) > 2 and values == list(range(values[0], values[0] + len(values))):
        return f"{values[0]}–{values[-1]}"
    if len(values) <= MOST_LISTED:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[:3]))}, …, {values[-1]} ({len(values)})"


def counted(count: int, word: str, plural: str = "") -> str:
    """`1 rank`, `3 ranks`."""
    return f"{count} {word if count == 1 else plural or word + 's'}"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")
