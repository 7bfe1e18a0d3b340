"""The report of a result as one page: no network, no server, everything that it shows is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from flowsim.report.page.facts import Facts
from flowsim.report.page.pictures import Picture
from flowsim.report.page.texts import amount, formula, printable, shown, words
from flowsim.report.page.touch import touchable

if TYPE_CHECKING:
    from jinja2 import Environment

HEAD = 4096  # bytes of a page


def page_of(tree: xr.DataTree, file: Path, pictures: Sequence[Picture] = (), point: str = "") -> str:
    """The text of the page; the same result gives the same bytes.

    Parameters
    ----------
    tree : DataTree
        A result, or one point of a sweep, in memory or opened lazily.
    file : Path
        Where it is stored.
    pictures : sequence of Picture
        Figures to show.
    point : str
        Which point of a sweep it is, for a reader.

    Returns
    -------
    str
        HTML.
    """
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    touch, left = touchable(tree)
    return (
        _environment()
        .get_template("report.html")
        .render(facts=Facts(tree, file.name, sha256, point), pictures=pictures, touch=touch, touch_left=left)
    )


def has_pictures(page: Path) -> bool:
    """Whether a page that was written earlier holds figures; it says so in its first lines."""
    with page.open("rb") as file:
        return b'<meta name="figures" content="drawn">' in file.read(HEAD)


@cache
def _environment() -> Environment:
    """Templates whose every inserted text is escaped and printable: what a result says is anybody's text."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters |= {"shown": shown, "amount": amount, "formula": formula, "words": words}
    return environment


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
