"""The pictures of the page: drawn by flowsim, kept small, each with the digest of the scenario it shows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.gallery.page import COMMAND, PAGE
from tests.gallery.section import PICTURES
from tests.gallery.table import ENTRIES, Entry

if TYPE_CHECKING:
    import xarray as xr

FOLDER = PAGE.parent / PICTURES
COLOURS = 128  # a palette is a third of the size of full colour, and looks the same
DIGEST = "Digest"


def draw_picture(entry: Entry, tree: xr.DataTree, folder: Path = FOLDER) -> Path:
    """Draw the figure of one scenario as a PNG with a palette; the text in its metadata stays, the digest is added."""
    from PIL import Image, PngImagePlugin

    from flowsim.report.plots import draw

    target = folder / f"{entry.name}.png"
    with tempfile.TemporaryDirectory() as scratch:
        [path] = draw(tree, Path(scratch), figures=[entry.figure], formats=["png"])
        with Image.open(path) as image:
            texts = PngImagePlugin.PngInfo()
            for key, value in {**image.text, DIGEST: str(tree.attrs["digest"])}.items():
                texts.add_itxt(key, value)
            small = image.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            folder.mkdir(parents=True, exist_ok=True)
            small.save(target, optimize=True, pnginfo=texts, dpi=image.info["dpi"])
    return target


def stale_picture(path: Path, digest: str) -> str:
    """Why a picture is not that of this scenario, with what to do; empty if it is."""
    from PIL import Image

    if not path.is_file():
        why = "is missing"
    else:
        with Image.open(path) as image:
            found = str(image.text.get(DIGEST, ""))  # of a PNG: its text chunks
        why = "" if found == digest else f"shows another scenario, {found[:8] or 'without a digest'}, not {digest[:8]}"
    return f"docs/{PICTURES}/{path.name} {why}\n  draw it again: {COMMAND}" if why else ""


def orphans(folder: Path = FOLDER) -> list[str]:
    """Names of the files that belong to no scenario of the page."""
    return sorted(path.name for path in folder.iterdir() if path.name not in {f"{name}.png" for name in ENTRIES})
