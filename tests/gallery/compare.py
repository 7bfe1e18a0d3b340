"""Whether two texts say the same: words exactly, numbers to the digits shown."""

from __future__ import annotations

import math
import re
from itertools import zip_longest

_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
#: Below this a number is a solver's error or rounding: these differ between processors, but not by orders.
SMALL = 1e-5
DECADE = 10.0
ROUNDING = 1e-12  # below it 0 on one processor may be 1e-17 on another


def difference(there: str, now: str) -> str:
    """The first line that differs, both ways; empty if the texts say the same."""
    for place, (old, new) in enumerate(zip_longest(there.splitlines(), now.splitlines()), start=1):
        if old is None or new is None or not same(old, new):
            return f"line {place}\n  there: {old}\n  now:   {new}"
    return ""


def same(there: str, now: str) -> bool:
    """Whether two lines have equal words and, one by one, equal numbers."""
    if there == now:
        return True
    if _NUMBER.split(there) != _NUMBER.split(now):
        return False
    return all(equal(a, b) for a, b in zip(_NUMBER.findall(there), _NUMBER.findall(now), strict=True))


def equal(there: str, now: str) -> bool:
    """Whole numbers exactly; others within one unit of the last digit shown, very small ones by their order."""
    a, b = (float(text.replace("−", "-")) for text in (there, now))
    if there == now or max(abs(a), abs(b)) < ROUNDING:
        return True
    if not (all(re.search(r"[.e]", text) for text in (there, now)) and math.isfinite(a) and math.isfinite(b)):
        return False
    if 0 < abs(a) < SMALL and 0 < abs(b) < SMALL:
        return a * b > 0 and 1 / DECADE <= a / b <= DECADE
    # One unit, and the rounding of the two decimal numbers themselves.
    return abs(a - b) <= 1.001 * max(unit(there), unit(now))


def unit(text: str) -> float:
    """The value of one unit in the last digit of a number as it is written."""
    mantissa, _, exponent = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    return float(10.0 ** (int(exponent or 0) - digits))
