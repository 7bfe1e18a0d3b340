"""Choosing one point of a sweep on the command line: ``--at std=0.01 --at exponent=2``."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from flowsim.cli.completion import point_settings
from flowsim.errors import InputError

if TYPE_CHECKING:
    from flowsim.scenario import Axis

LONGEST = 80  # letters of a folder's name
MOST_LISTED = 12  # values in a message

at_option = click.option(
    "--at",
    "at",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=point_settings,
    help="Of a sweep this point, as in --at std=0.01; once for each swept key.",
)


def places_at(axes: Sequence[Axis], settings: Sequence[str]) -> tuple[int, ...]:
    """The point that ``KEY=VALUE`` settings name.

    Parameters
    ----------
    axes : sequence of Axis
        What is swept.
    settings : sequence of str
        Keys by name or by whole path; values as in the scenario, however they are written.

    Returns
    -------
    tuple of int
        The place along each axis. A key with a single value need not be named.

    Raises
    ------
    InputError
        Where a setting names no key or no value, or the point is not fixed.

    Examples
    --------
    >>> from flowsim.scenario.sweep import Axis
    >>> axes = [Axis("adapter.init.std", "std", (0.01, 1)), Axis("reach", "reach", (1e-6,))]
    >>> places_at(axes, ["adapter.init.std=1.0"])
    (1, 0)
    """
    if not axes:
        raise InputError(f"--at {settings[0]}: nothing is swept here", "Leave --at out.")
    chosen: dict[str, int] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        axis = _axis(axes, key.strip(), setting)
        if not equals:
            raise InputError(
                f"--at {setting}: is not of the form KEY=VALUE", f"Write --at {axis.name}={axis.texts[0]}."
            )
        place = _place(axis, value.strip(), setting)
        if chosen.setdefault(axis.name, place) != place:
            raise InputError(f"--at {setting}: {axis.name} is given another value before", "Name each key once.")
    for axis in axes:
        if axis.name not in chosen and len(axis.values) > 1:
            raise InputError(
                f"--at leaves {axis.path} open: a point has a value for each swept key",
                f"Add --at {axis.name}=…, one of {_listed(axis.texts)}.",
            )
    return tuple(chosen.get(axis.name, 0) for axis in axes)


def example(axes: Sequence[Axis]) -> str:
    """Options that name the first point, as one would type them."""
    settings = [f"{axis.name}={axis.texts[0]}" for axis in axes if len(axis.values) > 1] or [
        f"{axes[0].name}={axes[0].texts[0]}"
    ]
    return " ".join(f"--at {_quoted(setting)}" for setting in settings)


def said(axes: Sequence[Axis], places: Sequence[int]) -> str:
    """A point for a reader: `std = 0.01, exponent = 2`."""
    return ", ".join(f"{axis.name} = {axis.texts[place]}" for axis, place in zip(axes, places, strict=True))


def values_of(axes: Sequence[Axis], places: Sequence[int]) -> dict[str, Any]:
    """A point as key paths and values."""
    return {axis.path: axis.values[place] for axis, place in zip(axes, places, strict=True)}


def folder_of(axes: Sequence[Axis], places: Sequence[int]) -> str:
    """A folder's name for a point, safe everywhere and different for different points.

    Examples
    --------
    >>> from flowsim.scenario.sweep import Axis
    >>> folder_of([Axis("adapter.init.std", "std", (0.01, 1)), Axis("reach", "reach", (1e-6,))], (0, 0))
    'std=0.01_reach=1e-06'
    >>> folder_of([Axis("pretrained.path", "path", ("a/b.npy",))], (0,))
    'path=a-b.npy-062df7'
    """
    words = "_".join(f"{axis.name}={axis.texts[place]}" for axis, place in zip(axes, places, strict=True))
    safe = re.sub(r"[^\w.=+-]+", "-", unicodedata.normalize("NFC", words))[:LONGEST].rstrip(".-")
    if safe == words:
        return safe
    return f"{safe}-{hashlib.sha256(words.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def _axis(axes: Sequence[Axis], key: str, setting: str) -> Axis:
    names = {name: axis for axis in axes for name in (axis.path, axis.name)}
    if key in names:
        return names[key]
    close = get_close_matches(key, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    swept = ", ".join(f"{axis.name} ({axis.path})" if axis.name != axis.path else axis.name for axis in axes)
    raise InputError(f"--at {setting}: {key!r} is not swept here", f"{guess}The swept keys are: {swept}.")


def _place(axis: Axis, text: str, setting: str) -> int:
    """The place of a value: by its text, else by what it means in YAML."""
    if text in axis.texts:
        return axis.texts.index(text)
    meant = _meaning(text)
    for place, value in enumerate(axis.values):
        if meant is not None and meant == value and isinstance(meant, bool) == isinstance(value, bool):
            return place
    close = _nearest(axis, meant, text)
    guess = f"Did you mean {close}? " if close else ""
    raise InputError(
        f"--at {setting}: there is no such value of {axis.path}", f"{guess}It takes {_listed(axis.texts)}."
    )


def _meaning(text: str) -> Any:
    """The value that a text stands for in a scenario; None where it is no YAML."""
    from flowsim.scenario.text import parse_tree

    tree = parse_tree(text, "--at")
    return None if tree.mistakes else tree.data


def _nearest(axis: Axis, meant: Any, text: str) -> str:
    """The value there that is most like the one that is not; empty if none is."""
    wanted, numbers = _number(meant), [_number(value) for value in axis.values]
    gaps = [(abs(one - wanted), place) for place, one in enumerate(numbers) if one is not None and wanted is not None]
    if gaps:
        return axis.texts[min(gaps)[1]]
    return next(iter(get_close_matches(text, axis.texts, n=1, cutoff=0.4)), "")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _listed(texts: Sequence[str]) -> str:
    if len(texts) <= MOST_LISTED:
        return ", ".join(texts)
    return f"{', '.join(texts[: MOST_LISTED - 2])}, … {texts[-1]} ({len(texts)} values)"


def _quoted(setting: str) -> str:
    """A setting as a shell takes it."""
    return setting if re.fullmatch(r"[\w.=+/-]+", setting) else "'" + setting.replace("'", "'\\''") + "'"
