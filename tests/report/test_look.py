"""Size, scales, and the part of a result that is shown: nothing overlaps, nothing is cut off, the rest is refused."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.checks.view import View
from flowsim.errors import InputError
from flowsim.report.options import Options, scales_of, size_of, whole_numbers
from flowsim.report.plots import FIGURES, draw
from flowsim.report.subset import subset
from flowsim.trajectory.store import load, open_result
from tests.report.results import real_result
from tests.report.sweeps import real_sweep
from tests.report.test_plots import all_infinite, all_negative, changed, scattered, texts

NAMES = [name for name, one in FIGURES.items() if not one.of_sweep]
CHOICE = [name for name in NAMES if FIGURES[name].scales]


def boxes(figure: Any) -> dict[str, Any]:
    """Where the words outside and inside the panels are, the legend as one."""
    figure.draw_without_rendering()
    body = figure.subfigs[0]
    found = {f"{place}: {text.get_text()}": text for place, text in enumerate(figure.texts)}
    found |= {f"legend {place}": legend for place, legend in enumerate(body.legends)}
    for place, axes in enumerate(body.axes):
        if axes.get_visible():
            labels = [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
            found |= {f"panel {place}: {one.get_text()}": one for one in labels if one.get_text()}
    return {name: item.get_window_extent() for name, item in found.items()}


def overlaps(figure: Any) -> list[tuple[str, str]]:
    """Pairs of words that lie on one another, by more than half a point."""
    rim = figure.dpi / 144
    found = []
    for (one, a), (other, b) in itertools.combinations(boxes(figure).items(), 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > rim and high > rim:
            found.append((one, other))
    return found


def cut_off(figure: Any) -> list[str]:
    """Words that leave the sheet."""
    sheet = figure.bbox
    return [
        name
        for name, box in boxes(figure).items()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > sheet.x1 + 1 or box.y1 > sheet.y1 + 1
    ]


def crowded_ticks(figure: Any) -> list[tuple[str, str]]:
    """Labels of one axis that touch."""
    found = []
    for axes in figure.subfigs[0].axes:
        for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            low, high = sorted(axis.get_view_interval())
            ticks = [
                tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_text()
            ]
            ends = [(t.label1.get_window_extent(), t.label1.get_text()) for t in ticks if t.label1.get_visible()]
            ends.sort(key=lambda end: getattr(end[0], f"{side}0"))
            found += [
                (a[1], b[1])
                for a, b in itertools.pairwise(ends)
                if getattr(a[0], f"{side}1") > getattr(b[0], f"{side}0") and axes.get_visible() and axes.axison
            ]
    return found


@pytest.mark.parametrize("width", [3.25, pytest.param(5.6, marks=pytest.mark.slow), 6.5])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_overlaps_or_is_cut_off(name: str, width: float) -> None:
    tree = load(real_sweep()) if FIGURES[name].of_sweep else real_result("frobenius")
    figure = FIGURES[name].draw(tree, Options(width=width))
    assert not overlaps(figure) and not cut_off(figure) and not crowded_ticks(figure)
    assert figure.get_size_inches()[0] == width
    assert min(text.get_fontsize() for text in figure.texts) >= 6.5


def test_overlaps_and_what_is_cut_off_are_found() -> None:
    figure = FIGURES["imbalance"].draw(real_result("one"))
    figure.text(0.3, figure.texts[-1].get_position()[1], "on the footer", fontsize=20)
    figure.text(0.9, 0.5, "beyond the edge of the sheet")
    assert any("footer" in other for _, other in overlaps(figure)) and any("beyond" in name for name in cut_off(figure))
    axes = figure.subfigs[0].axes[0]
    axes.set_xticks([1.0, 1.01], ["one", "other"])
    figure.draw_without_rendering()
    assert len(crowded_ticks(figure)) == 1


def test_a_height_is_kept_or_refused(tmp_path: Path) -> None:
    tree = real_result("one")
    figure = FIGURES["loss_vs_time"].draw(tree, Options(width=5.0, height=4.0))
    assert tuple(figure.get_size_inches()) == (5.0, 4.0) and not overlaps(figure) and not cut_off(figure)
    with pytest.raises(InputError) as caught:
        draw(tree, tmp_path / "new", formats=["png"], options=Options(width=5.0, height=1.0))
    first, second = caught.value.lines()
    assert "1 inches is too low for the figure 'Final loss against rank'" in first and "at least" in second
    assert not (tmp_path / "new").exists()
    wide = load(real_sweep())
    assert FIGURES["phase_diagram"].draw(wide, Options(height=4.0)).get_size_inches()[1] == 4.0


@pytest.mark.parametrize("name", CHOICE)
@pytest.mark.parametrize("log", [(), ("x", "y"), *(pytest.param((one,), marks=pytest.mark.slow) for one in "xy")])
def test_axes_have_the_scales_that_are_asked_for(name: str, log: tuple[str, ...]) -> None:
    figure = FIGURES[name].draw(real_result("frobenius"), Options(log=log))
    for axes in figure.subfigs[0].axes:
        if axes.get_visible():
            assert (axes.get_xscale() == "log", axes.get_yscale() == "log") == ("x" in log, "y" in log)


def test_linear_points_are_where_the_file_says() -> None:
    tree = real_result("frobenius")
    upper = FIGURES["loss_vs_rank"].draw(tree, Options(log=())).subfigs[0].axes[0]
    found = [line for line in upper.get_lines() if str(line.get_label()).startswith("flow")]
    points = {float(x): float(y) for line in found for x, y in zip(*line.get_data(), strict=True)}
    median = tree["final"]["loss"].isel(schedule=0).median("seed").sortby("rank").values
    assert points == pytest.approx(dict(enumerate(median, start=1)), abs=1e-14)
    assert upper.get_ylim()[0] <= 0 < median.max() < upper.get_ylim()[1]


@pytest.mark.parametrize("change", [all_infinite, all_negative, scattered])
def test_linear_axes_take_numbers_of_every_kind(change: Any) -> None:
    tree = changed(real_result("one"), change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in CHOICE:
            FIGURES[name].draw(tree, Options(log=("x",), width=3.25)).draw_without_rendering()


def test_a_subset_has_the_numbers_of_the_whole() -> None:
    tree = real_result("frobenius")
    part = subset(tree, [3, 1], [1])
    assert part["final"]["rank"].values.tolist() == [3, 1] and part["final"]["seed"].values.tolist() == [1]
    for group in ("trajectory", "final", "theory", "companions"):
        own = tree[group].to_dataset()
        picked = own.sel({dim: kept for dim, kept in (("rank", [3, 1]), ("seed", [1])) if dim in own.dims})
        xr.testing.assert_identical(part[group].to_dataset(), picked)
    assert part.attrs["shown"] == "only ranks 1, 3 of the 3 and seed 1 of the 2" and "shown" not in tree.attrs
    for name in ("loss_vs_rank", "equivalence"):
        assert "only ranks 1, 3 of the 3" in texts(part, name).replace("\n", " ")
        assert "ranks 1, 3, seed 1, only ranks 1, 3 of the 3 and seed 1 of the 2" in FIGURES[name].caption(part)
    assert subset(tree) is tree and subset(tree, [1, 2, 3], [1, 0]) is tree
    assert texts(part, "loss_vs_time").count("r = ") == 2


def test_a_subset_of_a_file_reads_nothing_and_is_read_by_pieces() -> None:
    whole = load(real_sweep())
    with open_result(real_sweep()) as opened:
        part = subset(opened, [2], [1])
        for name in ("loss", "outcome", "reach_time"):
            assert not part["final"].dataset[name].variable._in_memory
        from flowsim.trajectory.points import point_of

        places = (1, 2)
        view, full = View(point_of(part, places)), View(point_of(whole, places))
        assert view.ranks == [2] and view.seeds == [1]
        np.testing.assert_array_equal(
            view.trajectory("loss", 0, 0), full.trajectory("loss", 0, full.ranks.index(2))[1:]
        )
        assert not part["trajectory"].dataset["loss"].variable._in_memory


@pytest.mark.parametrize(
    ("ranks", "seeds", "what", "hint"),
    [
        ([4], [], "no rank 4", "Did you mean 3? It has 3 ranks: 1, 2, 3."),
        ([1, -5], [], "no rank -5", "Did you mean 1?"),
        ([], [10**30], "no seed 1000000000000000000000000000000", "Did you mean 1? It has 2 seeds: 0, 1."),
    ],
)
def test_unknown_ranks_and_seeds(ranks: list[int], seeds: list[int], what: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        subset(real_result("frobenius"), ranks, seeds)
    assert what in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": math.nan}, {"width": math.inf}, {"width": -3.0}, {"width": 1e300}, {"height": 0.0}, {"height": 1e9},
        {"dpi": 0}, {"dpi": -200}, {"dpi": 10**9}, {"width": 30.0, "height": 60.0, "dpi": 2400}, {"log": ("z",)},
    ],
)  # fmt: skip
def test_options_that_cannot_be_drawn(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Options(**wrong)
    assert len(caught.value.lines()) == 2


def test_a_resolution_too_fine_for_the_height_that_a_figure_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too large a picture"):
        draw(real_result("one"), tmp_path / "new", ["imbalance"], options=Options(width=30.0, dpi=1500))


@pytest.mark.parametrize("text", ["", "x", "5x", "x5", "5x5x5", "nan", "infx3", "1e999", "5,5", "wide", "5 x y"])
def test_sizes_that_mean_nothing(text: str) -> None:
    with pytest.raises(InputError, match="is not a size"):
        size_of(text)


def test_words_of_sizes_scales_and_lists() -> None:
    assert size_of("6.5X4") == (6.5, 4.0) and size_of("text")[0] == 6.5 and math.isnan(size_of("7")[1])
    assert scales_of(" Y,x ") == ("y", "x") and scales_of("none") == ()
    assert whole_numbers("4, 1,4", "rank") == (4, 1)
    for text in ("", "1,", "-1", "1.5", "0x10", "１", "9" * 40, "a"):
        with pytest.raises(InputError, match="is not a rank"):
            whole_numbers(text, "rank")
    for text in ("", "x,", "none,x", "z", "x y"):
        with pytest.raises(InputError, match="is not an axis"):
            scales_of(text)


def test_figures_without_a_choice_of_scales(tmp_path: Path) -> None:
    tree = real_result("frobenius")
    with pytest.raises(InputError, match="figure 'equivalence' has no choice of scales"):
        draw(tree, tmp_path, ["loss_vs_rank", "equivalence"], options=Options(log=()))
    with pytest.raises(InputError, match="'phase_diagram' has no choice of scales"):
        draw(load(real_sweep()), tmp_path, options=Options(log=("x",)))
    with pytest.raises(InputError, match="'loss_vs_rank' has no choice of swept keys"):
        draw(tree, tmp_path, options=Options(x="std"))
