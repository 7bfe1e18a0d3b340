"""How a figure is to look: its size, resolution and scales, and which part of a result it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flowsim.errors import InputError

SIZES = {"column": 3.25, "text": 6.5}  # inches: widths of a column and of a page's text
NARROWEST, WIDEST, LOWEST, TALLEST = 2.5, 30.0, 1.0, 60.0
COARSEST, FINEST = 30, 2400
PIXELS = 10**8  # of one picture, 400 MB while it is drawn
ROOM = 5.6  # inches from which on legends stand beside panels, and panels side by side
AXES = ("x", "y")


@dataclass(frozen=True)
class Options:
    """What a figure is drawn by; the defaults suit the text of a page.

    Parameters
    ----------
    width : float
        Inches.
    height : float
        Inches; NaN: what the figure needs.
    dpi : int
        Dots per inch of PNG, and of what is an image inside SVG and PDF.
    log : tuple of str, optional
        Which of the axes `x` and `y` are logarithmic, the other being linear; None: as suits the data.
    x, y : str
        Swept keys along which a phase diagram is drawn; empty: the first ones.
    ranks, seeds : tuple of int
        Of those in the result; empty: all.

    Raises
    ------
    InputError
        A size or resolution that cannot be drawn, or an axis that does not exist.
    """

    width: float = SIZES["text"]
    height: float = math.nan
    dpi: int = 200
    log: tuple[str, ...] | None = None
    x: str = ""
    y: str = ""
    ranks: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not NARROWEST <= self.width <= WIDEST:
            raise InputError(
                f"a figure cannot be {self.width:g} inches wide", f"Take {NARROWEST:g} to {WIDEST:g} inches."
            )
        if not math.isnan(self.height) and not LOWEST <= self.height <= TALLEST:
            raise InputError(
                f"a figure cannot be {self.height:g} inches high", f"Take {LOWEST:g} to {TALLEST:g} inches."
            )
        if not COARSEST <= self.dpi <= FINEST:
            raise InputError(
                f"a resolution of {self.dpi} dots per inch is not possible", f"Take {COARSEST} to {FINEST}."
            )
        self.check_pixels(self.height)
        for axis in self.log or ():
            if axis not in AXES:
                raise InputError(f"there is no axis {axis!r}", f"The axes are: {', '.join(AXES)}.")

    def check_pixels(self, height: float) -> None:
        """Refuse a picture that memory would not hold.

        Raises
        ------
        InputError
            If a picture of this height, in inches, has too many dots.
        """
        if self.width * height * self.dpi**2 > PIXELS:
            finest = int(math.sqrt(PIXELS / (self.width * height)))
            raise InputError(
                f"{self.width:g} by {height:.3g} inches at {self.dpi} dots per inch is too large a picture",
                f"At this size take at most --dpi {finest}.",
            )

    @property
    def roomy(self) -> bool:
        """Whether there is room for legends beside panels, and panels side by side."""
        return self.width >= ROOM

    def is_log(self, axis: str, suits: bool = True) -> bool:
        """Whether an axis is logarithmic: as asked for, else as `suits` it."""
        return suits if self.log is None else axis in self.log


DEFAULT = Options()


def size_of(text: str) -> tuple[float, float]:
    """Width and height, in inches, of `WIDTHxHEIGHT`, `WIDTH`, `column` or `text`; NaN for a height that is not given.

    Raises
    ------
    InputError
        If the text is none of these.

    Examples
    --------
    >>> size_of("column"), size_of("5x3.5")
    ((3.25, nan), (5.0, 3.5))
    """
    if text in SIZES:
        return SIZES[text], math.nan
    parts = text.lower().replace("×", "x").split("x")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(math.isfinite(number) for number in numbers):
        raise InputError(
            f"{text[:40]!r} is not a size", f"Write WIDTHxHEIGHT in inches, such as 6.5x4, or {', '.join(SIZES)}."
        )
    return numbers[0], numbers[1] if len(numbers) == 2 else math.nan


def whole_numbers(text: str, what: str) -> tuple[int, ...]:
    """Numbers with commas between them, each once.

    Raises
    ------
    InputError
        If one is not a whole number.
    """
    numbers: list[int] = []
    for part in text.split(","):
        digits = part.strip()
        if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            raise InputError(f"{digits[:40]!r} is not a {what}", f"Write {what}s as in 1,2,4.")
        numbers.append(int(digits))
    return tuple(dict.fromkeys(numbers))


def scales_of(text: str) -> tuple[str, ...]:
    """The logarithmic axes: `x`, `y`, `x,y`, or `none`.

    Raises
    ------
    InputError
        If a word is no axis.
    """
    names: Sequence[str] = [part.strip().lower() for part in text.split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in AXES:
            raise InputError(f"{name[:40]!r} is not an axis", "Write --log x, --log y, --log x,y or --log none.")
    return tuple(dict.fromkeys(names))
