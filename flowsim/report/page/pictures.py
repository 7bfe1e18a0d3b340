"""Figures inside the page: vector graphics whose names do not collide, with words for those who cannot see them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import xarray as xr
from markupsafe import Markup

from flowsim.report.canvas import house_style
from flowsim.report.plots import FIGURES, Drawing

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERENCE = re.compile(r"url\(#")


@dataclass(frozen=True)
class Picture:
    """One figure of the page."""

    name: str
    title: str
    caption: str
    svg: Markup


def pictures_of(tree: xr.DataTree, drawn: Path | None = None) -> list[Picture]:
    """All figures that a result has something for.

    Parameters
    ----------
    tree : DataTree
        A result, or one point of a sweep.
    drawn : Path, optional
        A folder that holds them as SVG; what is not there is drawn.
    """
    return [_picture(one, tree, drawn) for one in FIGURES.values() if one.applies(tree)]


def _picture(drawing: Drawing, tree: xr.DataTree, drawn: Path | None) -> Picture:
    file = drawn / f"{drawing.name}.svg" if drawn else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else _svg(drawing, tree)
    svg = inline(text, drawing.name, drawing.title, drawing.alt(tree))
    return Picture(drawing.name, drawing.title, drawing.caption(tree), Markup(svg))


def _svg(drawing: Drawing, tree: xr.DataTree) -> str:
    stream = io.StringIO()
    figure = drawing.draw(tree)
    with house_style():
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def inline(text: str, name: str, title: str, alt: str) -> str:
    """A drawn figure as an element of a page.

    Parameters
    ----------
    text : str
        An SVG file as matplotlib writes it.
    name : str
        Goes before every id, so that those of several figures differ.
    title, alt : str
        What a screen reader says.

    Returns
    -------
    str
        An `svg` element that takes the width it is given.
    """
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(text)
    for tag in ("metadata", "title", "desc"):  # the page says these itself
        for extra in root.findall(f"{{{SVG}}}{tag}"):
            root.remove(extra)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, REFERENCE.sub(f"url(#{name}-", value))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-alt")
    for place, (tag, said) in enumerate((("title", title), ("desc", alt))):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{'alt' if tag == 'desc' else tag}"})
        element.text = said
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")
