"""Whether the output that a page shows is the output that a command gives."""

from __future__ import annotations

import doctest
import re

_CHECKER = doctest.OutputChecker()
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?\Z")
NOISE = 1e-5  # errors of solvers and of rounding, which differ from processor to processor: their size is compared


def same_output(shown: str, got: str) -> bool:
    """Whether a shown output holds, with `...` for anything and without regard to the width of gaps."""
    return _CHECKER.check_output(shown, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def in_output(shown: str, got: str) -> bool:
    """Whether the lines shown stand in an output one after the other: words alike, numbers to the digits shown."""
    wanted, lines = _tokens(shown), _tokens(got)
    size = len(wanted)
    return size > 0 and any(_alike(wanted, lines[at : at + size]) for at in range(len(lines) - size + 1))


def _tokens(text: str) -> list[list[str]]:
    return [re.sub("─+", "─", line).split() for line in text.splitlines() if line.strip()]


def _alike(shown: list[list[str]], got: list[list[str]]) -> bool:
    return all(
        len(a) == len(b) and all(same_word(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(shown, got, strict=True)
    )


def same_word(shown: str, got: str) -> bool:
    """Whether two words are alike, or two numbers up to one unit of the last digit shown (below `NOISE`: factor 10)."""
    if shown == got:
        return True
    if not (_NUMBER.match(shown) and _NUMBER.match(got)):
        return False
    a, b = float(shown), float(got)
    if 0 < abs(a) < NOISE:
        return 0.1 <= b / a <= 10
    return abs(a - b) <= _unit(shown) * (1 + 1e-9)


def _unit(number: str) -> float:
    """One unit of the last digit of a written number; an integer has to be right."""
    mantissa, _, exponent = number.partition("e")
    places = len(mantissa.partition(".")[2])
    return 0.0 if not places and not exponent else 10.0 ** (int(exponent or 0) - places)
