"""The phase diagram: every number where the file says, every cell marked, and nothing that it cannot draw."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from flowsim.errors import InputError
from flowsim.report.cells import Direction, round_ticks
from flowsim.report.data import Result
from flowsim.report.ends import WORDS, flow_ends
from flowsim.report.phase_diagram import LOOKS, most_frequent
from flowsim.report.phase_layout import lay_out
from flowsim.report.plots import FIGURES, draw
from flowsim.report.shades import Shades
from flowsim.trajectory.points import axes_of, point_of
from flowsim.trajectory.store import load, open_result
from tests.report.sweeps import EXPONENT, STD, painted, real_sweep

FIGURE = FIGURES["phase_diagram"]


@pytest.fixture(scope="module")
def sweep() -> xr.DataTree:
    return load(real_sweep())


@pytest.fixture(scope="module")
def point(sweep: xr.DataTree) -> xr.DataTree:
    """A result of ranks 2 and 1 and two seeds that is no sweep."""
    return point_of(sweep, (0, 0))


def panels(tree: xr.DataTree) -> list[Any]:
    """The axes below the bars: loss, time, outcome of every row."""
    figure = FIGURE.draw(tree)
    return [axes for axes in figure.subfigs[0].axes if axes.get_subplotspec().rowspan.start > 0]


def colours(axes: Any) -> np.ndarray:
    """(y, x) what the colours of a panel stand for."""
    return np.ma.filled(axes.collections[0].get_array().astype(float), np.nan)


def words(tree: xr.DataTree) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in FIGURE.draw(tree).findobj(Text))


def marked(axes: Any) -> dict[str, set[tuple[float, float]]]:
    """Places of the marks of a panel, by marker."""
    found: dict[str, set[tuple[float, float]]] = {}
    for line in axes.get_lines():
        found.setdefault(str(line.get_marker()), set()).update(zip(*line.get_data(), strict=True))
    return found


def constant(loss: float, time: float, word: str) -> Any:
    return lambda *args: (args[-1] * 0 + loss, args[-1] * 0 + time, np.full(args[-1].shape, word, dtype=object))


def test_a_sweep_has_this_figure_alone(sweep: xr.DataTree, point: xr.DataTree, tmp_path: Path) -> None:
    assert [one.name for one in FIGURES.values() if one.applies(sweep)] == ["phase_diagram"]
    assert FIGURE.missing(point) == "the scenario has no sweep"
    with pytest.raises(InputError, match="shows one point, and this result is a sweep"):
        draw(sweep, tmp_path, ["loss_vs_rank"])


def test_every_number_stands_where_the_file_says(sweep: xr.DataTree) -> None:
    """Rows of panels by rank, std to the right by size, exponent upwards."""
    final = sweep["final"].to_dataset().isel(schedule=0).sortby(["rank", "std", "exponent"])
    loss = final["loss"].median("seed").transpose("rank", "exponent", "std").values
    times = final["reach_time"].fillna(np.inf).median("seed").transpose("rank", "exponent", "std").values
    outcomes = final["outcome"].transpose("rank", "exponent", "std", "seed").values
    drawn = panels(sweep)
    assert len(drawn) == 6
    for rank in (0, 1):
        losses, reached, outcome = drawn[3 * rank : 3 * rank + 3]
        assert losses.get_title(loc="left") == f"r = {rank + 1}"
        np.testing.assert_allclose(colours(losses), np.log10(loss[rank]), rtol=1e-12)
        expected = np.where(np.isfinite(times[rank]), times[rank], np.nan)
        np.testing.assert_allclose(colours(reached), expected, rtol=1e-12)
        for place in np.ndindex(2, 3):
            y, x = place[::-1]
            shown = list(LOOKS)[int(colours(outcome)[y, x])]
            assert (outcomes[rank, y, x] == shown).sum() * 2 >= 2  # the most frequent of two
    assert [text.get_text() for text in drawn[3].get_xticklabels()] == ["0.01", "1"]
    assert [text.get_text() for text in drawn[3].get_yticklabels()] == ["0.5", "1", "2"]


def test_a_sweep_is_drawn_alike_from_file_and_memory(sweep: xr.DataTree, tmp_path: Path) -> None:
    first = draw(sweep, tmp_path / "a", formats=["png", "svg"])
    with open_result(real_sweep()) as opened:
        second = draw(opened, tmp_path / "b", formats=["png", "svg"])
    assert [path.name for path in first] == ["phase_diagram.png", "phase_diagram.svg", "captions.md"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("counts", [(2, 2), (40, 40)])
def test_every_cell_has_a_mark(point: xr.DataTree, counts: tuple[int, int]) -> None:
    """One colour and one mark for each outcome, one cross for each cell that is not reached."""

    def paint(i: int, j: int, ranks: np.ndarray, seeds: np.ndarray) -> tuple[Any, Any, Any]:
        word = WORDS[(i + j) % 9]
        return ranks * 0 + 10.0**-i, ranks * 0 + (5.0 if word == "reached" else np.nan), np.full(ranks.shape, word)

    values = [list(np.geomspace(1e-4, 1, counts[0])), list(np.linspace(0.5, 2, counts[1]))]
    tree = painted(point, {STD: values[0], EXPONENT: values[1]}, paint)
    _, times, outcomes, *_ = panels(tree)
    marks = marked(outcomes)
    assert sum(map(len, marks.values())) == counts[0] * counts[1]
    assert set(marks) <= {look[1] for look in LOOKS.values()} and len(marks) == min(9, sum(counts) - 1)
    reached = sum((i + j) % 9 == 0 for i in range(counts[0]) for j in range(counts[1]))
    assert len(marked(times)["x"]) == counts[0] * counts[1] - reached


def test_tiny_cells_carry_a_mark_here_and_there(point: xr.DataTree) -> None:
    values = list(np.linspace(1, 2, 90))
    tree = painted(point, {STD: values, EXPONENT: values}, constant(1.0, 2.0, "reached"))
    outcomes = panels(tree)[2]
    assert 100 < len(marked(outcomes)["o"]) < 4000
    assert "only some carry their mark" in words(tree)


@pytest.mark.parametrize("wide", [True, False])
def test_seeds_that_disagree_are_counted(point: xr.DataTree, wide: bool) -> None:
    """In words where there is room, else by hollow marks; of equals the worse outcome is shown."""

    def paint(i: int, j: int, ranks: np.ndarray, seeds: np.ndarray) -> tuple[Any, Any, Any]:
        split = seeds == i % 2
        return ranks + 1.0, np.where(split, 3.0, np.nan), np.where(split, "reached", "diverged")

    count = 3 if wide else 30
    tree = painted(point, {STD: list(range(1, count + 1)), EXPONENT: list(range(count))}, paint)
    assert ("1/2" in words(tree)) == wide
    assert ("Hollow marks: seeds disagree." in words(tree)) != wide
    layout = lay_out(Result.of(tree), axes_of(tree))
    shown, how_many = most_frequent(layout)
    assert (shown == list(LOOKS).index("diverged")).all() and (how_many == 1).all()
    times = panels(tree)[1]
    assert np.isnan(colours(times)).all(), "half of the seeds is not most of them"


NUMBERS = {
    "nothing": constant(np.nan, np.nan, "failed"),
    "infinite": constant(np.inf, np.inf, "diverged"),
    "zero": constant(0.0, 0.0, "reached"),
    "negative": constant(-1.0, -1.0, "reached"),
    "tiny": constant(5e-324, 5e-324, "reached"),
    "huge": constant(1.7e308, 1.7e308, "reached"),
    "a word to come": constant(1.0, 1.0, "splendid"),
    "no word": constant(1.0, 1.0, ""),
    "all sizes": lambda i, j, r, s: (r * 0 + 10.0 ** (100 * (i - j)), r * 0 + 10.0 ** (90 * i), s * 0 + i),
    "one failed": lambda i, j, r, s: (
        (r * np.nan, r * np.nan, np.full(r.shape, "failed")) if i == j == 0 else (r + 1.0, r + 2.0, r.astype(str))
    ),
}
SWEEPS: dict[str, dict[str, list[Any]]] = {
    "two": {STD: [1e-4, 1.0], EXPONENT: [0.5, 2]},
    "one point": {STD: [1.0], EXPONENT: [3]},
    "uneven": {STD: [1e-12, 1, 1.5, 40], EXPONENT: [0, -1, 1e300]},
    "texts": {STD: ["a $ b", "\x1b[31m", "漢字 " * 20, "_^{\\frac"], EXPONENT: ["x" * 300, "y" * 300 + "z"]},
}


@pytest.mark.parametrize(
    ("axes", "paint"),
    [(SWEEPS["two"], paint) for paint in NUMBERS.values()]
    + [
        pytest.param(axes, NUMBERS[name], marks=pytest.mark.slow)  # the same numbers on sheets of other shapes
        for axes in list(SWEEPS.values())[1:]
        for name in ("nothing", "all sizes")
    ],
)
def test_numbers_of_every_kind_neither_warn_nor_crash(
    point: xr.DataTree, axes: dict[str, list[Any]], paint: Any, tmp_path: Path
) -> None:
    tree = painted(point, axes, paint)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path, _ = draw(tree, tmp_path, formats=["png"])
        for said in (FIGURE.caption(tree), FIGURE.alt(tree)):
            assert said.isprintable() and "nan" not in said
    assert path.stat().st_size > 10_000


def test_what_is_missing_is_said(point: xr.DataTree) -> None:
    tree = painted(point, SWEEPS["two"], NUMBERS["nothing"])
    assert "no finite loss" in words(tree) and "reached by no seed" in words(tree) and "failed" in words(tree)
    assert "Final losses of zero, or below the bar" in words(painted(point, SWEEPS["two"], NUMBERS["all sizes"]))


def test_one_key_stands_against_the_rank(point: xr.DataTree) -> None:
    def paint(i: int, ranks: np.ndarray, seeds: np.ndarray) -> tuple[Any, Any, Any]:
        return 10.0 * i + np.array([2, 1])[ranks], ranks * np.nan, np.full(ranks.shape, "not_yet")

    losses, *_ = panels(painted(point, {STD: [3, 1, 2]}, paint))
    np.testing.assert_allclose(10 ** colours(losses), [[11, 21, 1], [12, 22, 2]])
    turned, *_ = panels(painted(point, {STD: ["b", "a", "c"]}, paint))  # texts from top to bottom, ranks to the right
    np.testing.assert_allclose(10 ** colours(turned), [[1, 2], [11, 12], [21, 22]])
    assert turned.get_ylim()[0] > turned.get_ylim()[1]


def test_further_keys_are_rows_or_at_their_first_value(point: xr.DataTree) -> None:
    def paint(i: int, j: int, k: int, last: int, ranks: np.ndarray, seeds: np.ndarray) -> tuple[Any, Any, Any]:
        return ranks * 0 + 10.0 ** (k - 5 * last), ranks * np.nan, np.full(ranks.shape, "not_yet")

    few = painted(point, {STD: [1, 2], EXPONENT: [1, 2], "reach": [0.1, 0.2], "solver.rtol": [1e-3, 1e-4]}, paint)
    drawn = panels(few)
    assert [axes.get_title(loc="left") for axes in drawn[::3]] == ["reach = 0.1", "reach = 0.2"]
    np.testing.assert_allclose([colours(axes)[0, 0] for axes in drawn[::3]], [0, 1])
    text = words(few).replace("\n   ", " ")
    assert "Flow of rank 2, the largest of 2 ranks." in text
    assert "Other keys at their first value: solver.rtol = 0.001 (of 2)." in text
    many = painted(point, {STD: [1, 2], EXPONENT: [1, 2], "x.y": [1, 2, 3, 4], "reach": [0.1]}, paint)
    assert len(panels(many)) == 3
    assert "x.y = 1 (of 4)" in words(many) and "reach" not in words(many).replace("to reach", "").replace("reached", "")


def test_the_footer_says_only_what_all_points_share(sweep: xr.DataTree, point: xr.DataTree) -> None:
    assert "6 points" in words(sweep) and "f(W) = 0.5" in words(sweep) and "4 × 3" in words(sweep)
    other = painted(point, {"objective.coefficient": [1, 2], "pretrained.shape": [[4, 3], [9, 9]]}, NUMBERS["zero"])
    other.attrs["points"] = "[[4, 3], [9, 9], [4, 3], [9, 9]]"
    assert "f(W) = c" in words(other) and "4 × 3" not in words(other)


def test_mappings_say_once_what_they_share(point: xr.DataTree) -> None:
    starts = [{"kind": "gaussian", "zero": "B", "std": std} for std in (0.5, 0.25)]
    text = words(painted(point, {"adapter.init": starts, EXPONENT: [1, 2]}, NUMBERS["zero"]))
    assert "adapter.init (kind: gaussian, zero: B)" in text.replace("\n", " ") and "\nstd: 0.25\n" in text


@pytest.mark.parametrize(
    "values",
    [
        [1e-4, 1e-2, 1],
        pytest.param(list(np.geomspace(1e-7, 3e5, 31)), marks=pytest.mark.slow),
        list(np.linspace(0, 1, 40)),
        [1, 2, 5, 10, 1000],
        [0.123456789, 0.5, 0.987654321, 1.23456],
        [1e-300, 1, 1e300],
        pytest.param(list(np.geomspace(1.0, 1.6, 12)), marks=pytest.mark.slow),
        [f"some text number {i}" for i in range(30)],
        ["kaiming", "gaussian", "orthogonal"],
    ],
    ids=str,
)
def test_labels_do_not_overlap(point: xr.DataTree, values: list[Any]) -> None:
    numbers = list(range(1, len(values) + 1))
    for sweep in ({STD: values, EXPONENT: numbers}, {EXPONENT: numbers, STD: values}):
        figure = FIGURE.draw(painted(point, sweep, NUMBERS["zero"]))
        figure.draw_without_rendering()
        for axes in figure.subfigs[0].axes:
            for axis, shown in ((axes.xaxis, "x"), (axes.yaxis, "y")):
                boxes = [
                    label.get_window_extent()
                    for label in axis.get_ticklabels()
                    if label.get_visible() and label.get_text() and axes.axison
                ]
                sides = sorted((getattr(box, f"{shown}0"), getattr(box, f"{shown}1")) for box in boxes)
                assert all(one[1] <= other[0] for one, other in itertools.pairwise(sides)), sides


def test_scales_suit_the_values() -> None:
    def scale(values: list[float]) -> str:
        return Direction.of("", values, [str(value) for value in values]).scale

    assert scale([1, 1e-2, 1e-4]) == scale([1, 3, 10, 30]) == "log"
    assert scale([-1, 0, 1]) == scale([1, 2, 3, 4]) == "linear"
    assert scale([0, 1e-3, 1]) == scale([1e-12, 1, 1.5, 40]) == scale([5, 1]) == scale([1e300, 2e300, 0]) == "equal"
    direction = Direction.of("", [1.0, 1e-4, 1e-2], ["1", "0.0001", "0.01"])
    assert direction.order == [1, 2, 0] and direction.texts == ["0.0001", "0.01", "1"]
    np.testing.assert_allclose(direction.centres, [-4, -2, 0], atol=1e-12)
    np.testing.assert_allclose(direction.edges, [-5, -3, -1, 1], atol=1e-12)


def test_round_ticks_lie_within_their_ends() -> None:
    for low, high in ((-4.0, 0.0), (0.1, 0.3), (-0.2, 0.9), (2.0, 2.0), (-200.0, 30.0), (0.301, 0.302)):
        for log in (True, False):
            places, labels, minor = round_ticks(low, high, 5, log=log)
            assert 1 <= len(places) == len(labels) <= 7, (low, high, log, labels)
            assert low - 1e-6 <= places.min() and places.max() <= high + 1e-6
            assert not minor.size or (low - 1e-6 <= minor.min() and minor.max() <= high + 1e-6)


def test_bars_hold_their_numbers() -> None:
    wide = Shades.of(np.array([1e-3, 1e4, 0.0, -1.0, np.nan, np.inf]), "viridis")
    assert wide.log and (wide.low, wide.high) == pytest.approx((-3, 4))
    assert wide.below(np.array([0.0])) and not wide.below(np.array([1e-3, np.nan]))
    np.testing.assert_allclose(wide.places(np.array([1.0, 0.0, np.nan, 1e4])), [0, -3, np.nan, 4])
    deep = Shades.of(np.array([1e-90, 1.0]), "viridis")
    assert deep.low == -20 and deep.below(np.array([1e-90]))
    narrow = Shades.of(np.array([2.0, 3.0]), "viridis")
    assert not narrow.log and (narrow.low, narrow.high) == (2, 3)
    seen = Shades.of(np.array([0.042521, 0.042524]), "viridis")
    assert seen.alike and Shades.of(np.array([4.0, 4.0]), "viridis").alike, "labels would all say the same"
    assert abs(np.diff(seen.norm([0.042521, 0.042524])))[0] < 0.01, "and colours differ as little"
    assert not Shades.of(np.array([0.0424, 0.0426]), "viridis").alike
    assert narrow.dark(2.0) and not narrow.dark(3.0) and not narrow.dark(np.nan)


class _Counted(BackendArray):
    """An array that knows the largest piece that was read of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.largest = values, values.shape, values.dtype, 0

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        piece = self.values[key]
        self.largest = max(self.largest, piece.size)
        return piece


def test_ends_are_medians_read_by_slabs() -> None:
    """What is not reached is later than all else; a variable need not depend on every axis."""
    rng = np.random.default_rng(0)
    loss = rng.uniform(size=(7, 3, 2, 1, 4))
    times = np.array([[1.0, 2.0, 4.0, np.nan], [np.nan, 8.0, 9.0, np.nan], [np.nan, np.nan, np.nan, 1.0]])
    outcome = np.array(["reached", "not_yet", "reached", "unheard of"], dtype=object)
    arrays = {
        "loss": (("a", "b", "schedule", "rank", "seed"), _Counted(loss)),
        "reach_time": (("b", "schedule", "rank", "seed"), _Counted(times[:, None, None] * np.ones((3, 2, 1, 1)))),
        "outcome": (("schedule", "rank", "seed"), _Counted(np.broadcast_to(outcome, (2, 1, 4)))),
    }
    final = xr.Dataset(
        {name: (dims, indexing.LazilyIndexedArray(array)) for name, (dims, array) in arrays.items()},
        {"schedule": ["flow", "other"], "rank": [1], "seed": [0, 1, 2, 3]},
    )
    tree = xr.DataTree.from_dict({"/final": final})
    tree.attrs["sweep"] = (
        '[{"path": "a", "name": "a", "values": [1,2,3,4,5,6,7]}, {"path": "b", "name": "b", "values": [1,2,3]}]'
    )
    axes = axes_of(tree)
    ends = flow_ends(tree, axes, 0)
    np.testing.assert_allclose(ends.loss, np.median(loss[:, :, 0, 0], axis=-1), rtol=1e-15)
    np.testing.assert_array_equal(ends.reach_time, [[3.0, np.nan, np.nan]] * 7)
    np.testing.assert_array_equal(ends.arrived, [[3, 2, 1]] * 7)
    assert ends.counts.shape == (7, 3, len(WORDS)) and (ends.counts.sum(-1) == 4).all()
    assert (ends.counts[..., [WORDS.index("reached"), WORDS.index("not_yet"), -1]] == [2, 1, 1]).all()
    assert arrays["loss"][1].largest == 3 * 4
    fixed = flow_ends(tree, axes[1:], 0, {"a": 5})
    np.testing.assert_allclose(fixed.loss, ends.loss[5])
    np.testing.assert_allclose(flow_ends(tree, [], 0, {"a": 5, "b": 1}).loss, ends.loss[5, 1])
