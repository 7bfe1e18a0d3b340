"""One style: told apart without colour, and by readers without full colour vision; fonts inside; stated resolution."""

from __future__ import annotations

import itertools
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.report import canvas
from flowsim.report.canvas import RANK_MARKERS, UPDATE_LOOK, rank_looks
from flowsim.report.loss_time import DASHES, FEW_LINES, TICKS
from flowsim.report.options import Options
from flowsim.report.phase_diagram import LOOKS
from flowsim.report.plots import FIGURES, draw
from flowsim.trajectory.store import load
from tests.report.results import real_result
from tests.report.sweeps import real_sweep
from tests.report.vision import VISIONS, closest, lab, noticeable

NAMES = [name for name, one in FIGURES.items() if not one.of_sweep]
LINES = [getattr(canvas, name) for name in ("BLACK", "ORANGE", "SKY", "GREEN", "BLUE", "VERMILLION", "PURPLE", "GREY")]
MARK = 4.5  # points: the size of most marks


def without_colour(handle: Any) -> tuple[Any, ...]:
    """What is left of an entry of a legend in black and white."""
    from matplotlib.lines import Line2D

    if isinstance(handle, Line2D):
        face = str(handle.get_markerfacecolor())
        hollow = face in ("none", "white")
        return ("line", handle.get_linestyle(), str(handle._unscaled_dash_pattern), str(handle.get_marker()),
                handle.get_fillstyle(), hollow)  # fmt: skip
    return (type(handle).__name__,)


def twins(figure: Any) -> list[tuple[str, str]]:
    """Entries of one legend that differ in colour alone."""
    found = []
    for legend in figure.subfigs[0].legends:
        entries = [(without_colour(h), t.get_text()) for h, t in zip(legend.legend_handles, legend.texts, strict=True)]
        found += [(a[1], b[1]) for a, b in itertools.combinations(entries, 2) if a[0] == b[0]]
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("result", ["frobenius", pytest.param("trace_squared", marks=pytest.mark.slow)])
def test_entries_of_a_legend_differ_in_more_than_colour(name: str, result: str) -> None:
    tree = real_result(result)
    if FIGURES[name].applies(tree):
        assert not twins(FIGURES[name].draw(tree))


def test_entries_that_differ_in_colour_alone_are_found() -> None:
    figure = FIGURES["loss_vs_time"].draw(real_result("one"))
    legend = figure.subfigs[0].legends[0]
    legend.legend_handles.append(legend.legend_handles[0])
    legend.texts.append(legend.texts[0])
    assert twins(figure)


def test_every_rank_schedule_and_outcome_has_a_mark_of_its_own() -> None:
    looks = rank_looks(range(1, 61))
    assert len({marker for _, marker in looks}) == 60 and len(set(RANK_MARKERS)) == len(RANK_MARKERS)
    assert len(DASHES) * len(TICKS) >= FEW_LINES
    assert len({look[1] for look in LOOKS.values()}) == len(LOOKS)
    assert len({marker for _, marker in UPDATE_LOOK.values()}) == len(UPDATE_LOOK)


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_are_told_apart(vision: str) -> None:
    """By at least one noticeable difference at the size of a mark, also without full colour vision."""
    for palette in (LINES, [colour for colour, _ in UPDATE_LOOK.values()], [look[0] for look in LOOKS.values()]):
        apart, which = closest(palette, vision, MARK)
        assert apart >= 1.0, which


def test_a_palette_of_red_and_green_is_not_told_apart() -> None:
    assert closest(["#d62728", "#2ca02c"], "full", MARK)[0] > 3
    assert closest(["#8c6d31", "#637939"], "deuteranopia", MARK)[0] < 1
    np.testing.assert_allclose(lab(["white", "black"]), [[100, 0, 0], [0, 0, 0]], atol=0.02)
    np.testing.assert_allclose(noticeable(1e9), [0.5 * 10.16, 0.5 * 10.68, 0.5 * 10.7], rtol=0.01)


@pytest.mark.parametrize("vision", VISIONS)
def test_shades_of_ranks_and_numbers_go_from_dark_to_light(vision: str) -> None:
    """Ordered colours are read by their lightness: it never turns back."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    for name, way in (("viridis", 1), ("magma_r", -1)):
        lightness = lab([to_hex(colormaps[name](x)) for x in np.linspace(0, 1, 30)], vision)[:, 0]
        assert (way * np.diff(lightness) > 0).all()
    assert (np.diff(lab([to_hex(c) for c, _ in rank_looks(range(1, 9))], vision)[:, 0]) > 0).all()


def test_words_have_the_contrast_of_readable_text() -> None:
    """At least 4.5 : 1 on white (WCAG 2.1, success criterion 1.4.3)."""
    for colour in (canvas.GREY, canvas.BLACK):
        lightness = lab([colour])[0, 0]
        luminance = ((lightness + 16) / 116) ** 3
        assert 1.05 / (luminance + 0.05) >= 4.5


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A figure with formulas and a map, in every format."""
    folder = tmp_path_factory.mktemp("drawn")
    formats = ("png", "svg", "pdf")
    draw(real_result("trace_squared"), folder, ["relative_error_vs_rank"], formats)
    draw(load(real_sweep()), folder, formats=formats, options=Options(dpi=100))
    return folder


def test_pdf_files_carry_their_fonts(drawn: Path) -> None:
    """Every font has its file in the document, TrueType and not Type 3, which journals refuse."""
    for path in drawn.glob("*.pdf"):
        data = path.read_bytes()
        assert b"/Type3" not in data and b"/Subtype /Type3" not in data, path
        fonts = re.findall(rb"/FontName /([\w+-]+)", data)
        files = re.findall(rb"/FontFile2 (\d+) 0 R", data)
        assert fonts and len(fonts) == len(files), path
        for number in files:
            start = re.search(rb"(?m)^" + number + rb" 0 obj", data)
            assert start
            begin = data.index(b"stream\n", start.end()) + len(b"stream\n")
            assert zlib.decompressobj().decompress(data[begin:])[:4] == b"\x00\x01\x00\x00", "a TrueType font"


def test_svg_text_is_drawn_as_paths(drawn: Path) -> None:
    for path in drawn.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "<text" not in text and text.count("<path") > 50, path


def test_png_pictures_have_the_stated_resolution(drawn: Path) -> None:
    from PIL import Image

    for path in drawn.glob("*.png"):
        dpi = 100 if path.stem == "phase_diagram" else 200
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)
            assert image.size[0] == int(6.5 * dpi)


def test_many_ranks_keep_a_legend_inside_the_figure() -> None:
    tree = real_result("one")
    groups: dict[str, xr.Dataset] = {}
    for node in tree.subtree:
        own = node.to_dataset(inherit=False)
        groups[node.path] = own.isel(rank=[0] * 30).assign_coords(rank=range(1, 31)) if "rank" in own.dims else own
    wide = xr.DataTree.from_dict(groups)
    wide.attrs = tree.attrs
    for width in (3.25, 6.5):
        figure = FIGURES["loss_vs_time"].draw(wide, Options(width=width))
        figure.draw_without_rendering()
        box = figure.subfigs[0].legends[0].get_window_extent()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1 and box.x1 <= figure.bbox.x1
