"""Numbers, words and formulas as the page shows them."""

from __future__ import annotations

import math
import re

from markupsafe import Markup

BAR = re.compile("<mo>(&#x02016;|&#x0007C;)</mo>")  # bars of a norm keep their size, with an exponent too


def shown(value: float | int | str | None, digits: int = 4) -> str:
    """A number for a reader; what is not known is a dash.

    Examples
    --------
    >>> shown(0.123456), shown(float("nan")), shown(-3), shown(1e-7)
    ('0.1235', '–', '−3', '1e−7')
    """
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, float) and math.isnan(value):
        return "–"
    lead, _, power = f"{value:.{digits}g}".partition("e")
    return (f"{lead}e{int(power)}" if power else lead).replace("-", "−")


def amount(count: int, noun: str) -> str:
    """A count with its noun.

    Examples
    --------
    >>> amount(1, "seed"), amount(12, "seed"), amount(2, "trajectory")
    ('1 seed', '12 seeds', '2 trajectories')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{count} {noun}s"


def words(name: str) -> str:
    """A stored word for a reader: `not_reached` is `not reached`."""
    return name.replace("_", " ")


def printable(text: str) -> str:
    """A text in which nothing is invisible or reorders what stands beside it."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def formula(latex: str) -> Markup:
    """A formula as MathML, which browsers show and readers speak; at a quad it may go on in a new line."""
    from latex2mathml.converter import convert

    # Our own formulas, never a result's text.
    return Markup(" ").join(Markup(BAR.sub(r'<mo stretchy="false">\1</mo>', convert(p))) for p in latex.split(r"\quad"))
