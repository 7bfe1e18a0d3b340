"""The figures: each of a small real result, of every degenerate kind, with equal bytes and no warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import flowsim
from flowsim.errors import InputError, OutputError
from flowsim.report.data import Result, number, spread
from flowsim.report.modes import target_values
from flowsim.report.plots import FIGURES, draw
from tests.report.results import SCENARIOS, real_result

Results = dict[str, xr.DataTree]
OF_POINTS = {name: one for name, one in FIGURES.items() if not one.of_sweep}


@pytest.fixture(scope="session")
def results() -> Results:
    return {name: real_result(name) for name in SCENARIOS}


def texts(tree: xr.DataTree, name: str) -> str:
    """All words of a figure."""
    from matplotlib.text import Text

    figure = FIGURES[name].draw(tree)
    return "\n".join(item.get_text() for item in figure.findobj(Text))


def changed(tree: xr.DataTree, change: Callable[[str, str, np.ndarray], Any]) -> xr.DataTree:
    """A copy whose numbers of /trajectory, /final, /baseline, /theory and /companions are changed in place."""
    copy = tree.copy(deep=True)
    for group in ("trajectory", "final", "baseline", "theory", "companions"):
        for variable in copy[group].data_vars:
            values = copy[group][variable].values
            if values.dtype.kind == "f" and variable != "flow_time":
                change(group, str(variable), values)
    return copy


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_figure_that_applies_is_drawn(results: Results, name: str, tmp_path: Path) -> None:
    paths = draw(results[name], tmp_path / "new" / "figures", formats=["svg"])
    wanted = [one.name for one in FIGURES.values() if one.applies(results[name])]
    assert [path.name for path in paths] == [*(f"{one}.svg" for one in wanted), "captions.md"]
    assert all(path.stat().st_size > 5000 for path in paths[:-1])
    assert sorted(paths[0].parent.iterdir()) == sorted(paths), "nothing else is left"


def test_which_figures_apply(results: Results) -> None:
    assert {name for name, one in OF_POINTS.items() if one.applies(results["frobenius"])} == set(OF_POINTS)
    assert {name for name, one in OF_POINTS.items() if not one.applies(results["one"])} == {"equivalence"}
    silent = {name for name, one in OF_POINTS.items() if not one.applies(results["still"])}
    assert silent == {"equivalence", "relative_error_vs_rank", "singular_values"}


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_equal_results_give_equal_bytes(results: Results, tmp_path: Path, form: str) -> None:
    import matplotlib as mpl

    some = ["loss_vs_rank", "equivalence", "singular_values"][: 3 if form == "svg" else 1]
    first = draw(results["frobenius"], tmp_path / "a", some, [form])
    # The user's own settings, and what was drawn before, must not show.
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other", "lines.linewidth": 9}):
        draw(results["one"], tmp_path / "c", ["imbalance"], [form])
        second = draw(results["frobenius"], tmp_path / "b", some, [form])
        assert mpl.rcParams["font.size"] == 20
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"Matplotlib" not in first[0].read_bytes() or form == "pdf"


def test_pyplot_is_left_alone(results: Results, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    draw(results["one"], tmp_path, ["loss_vs_time"], ["svg"])
    assert plt.get_fignums() == before


def test_the_tree_is_not_changed(results: Results) -> None:
    before = results["frobenius"].copy(deep=True)
    for one in OF_POINTS.values():
        one.draw(results["frobenius"])
    assert results["frobenius"].identical(before)


def test_chosen_figures_and_formats(results: Results, tmp_path: Path) -> None:
    paths = draw(results["one"], tmp_path, ["imbalance", "imbalance"], ["pdf", "pdf"])
    assert [path.name for path in paths] == ["imbalance.pdf"]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert (paths[0].stat().st_mode & 0o777) == 0o644


@pytest.mark.parametrize(
    ("figures", "formats", "what", "hint"),
    [
        (["loss"], ["png"], "no figure 'loss'", "loss_vs_rank, loss_vs_time"),
        (["equivalence"], ["png"], "neither descent nor windows", "loss_vs_rank"),
        (["imbalance"], ["gif"], "no format 'gif'", "png, svg, pdf"),
    ],
)
def test_what_cannot_be_drawn_is_refused_first(
    results: Results, tmp_path: Path, figures: list[str], formats: list[str], what: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        draw(results["one"], tmp_path / "new", figures, formats)
    first, second = caught.value.lines()
    assert what in first
    assert hint in second
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made(results: Results, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        draw(results["one"], tmp_path / "file" / "figures")
    assert len(caught.value.lines()) == 2


def test_every_figure_is_signed(results: Results) -> None:
    tree = results["trace_squared"]
    for name, one in OF_POINTS.items():
        if one.applies(tree):
            words = texts(tree, name)
            assert one.title.split()[0] in words
            assert str(tree.attrs["digest"])[:8] in words
            assert "f(W) = 0.25" in words
            assert f"flowsim {flowsim.__version__}" in words


def test_divergence_is_told(results: Results) -> None:
    for name in ("loss_vs_rank", "loss_vs_time", "equivalence", "imbalance"):
        words = texts(results["diverged"], name)
        assert "Descent, simultaneous, η = 0.9: diverged after t = " in words, name
        assert "(ranks 1, 2; 4 of 4 runs)" in words, name


def test_the_laws_of_the_start_are_shown(results: Results) -> None:
    assert "orthonormal rows" in texts(results["trace_squared"], "relative_error_vs_rank")
    assert "(rn+2)" in texts(results["trace_squared"], "relative_error_vs_rank")
    assert "Eckart–Young" in texts(results["frobenius"], "relative_error_vs_rank")
    both = results["trace_squared"].copy(deep=True)
    resolved = str(both.attrs["resolved_scenario"])
    both.attrs["resolved_scenario"] = resolved.replace('"zero": "B"', '"zero": "none"')
    assert both.attrs["resolved_scenario"] != resolved
    assert "orthonormal rows,\nflow" in texts(both, "relative_error_vs_rank")  # the companion, as long as it is there
    both["companions"]["relative_error"].values[:] = np.nan
    assert "orthonormal" not in texts(both, "relative_error_vs_rank")


def test_measured_points_and_theory_are_where_the_file_says(results: Results) -> None:
    tree = results["frobenius"]
    upper = FIGURES["loss_vs_rank"].draw(tree).findobj(lambda item: item.__class__.__name__ == "Axes")[0]
    lines = {line.get_label(): line for line in upper.get_lines()}
    floor = tree["theory"]["loss_floor"].sortby("rank").values
    theory = lines["theory: floor of this rank"]
    np.testing.assert_array_equal(theory.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(theory.get_ydata()[:2], floor[:2])
    found = [line for label, line in lines.items() if str(label).startswith("flow, ")]
    points = {float(x): float(y) for line in found for x, y in zip(*line.get_data(), strict=True)}
    median = tree["final"]["loss"].isel(schedule=0).median("seed").sortby("rank").values
    assert points
    for rank, value in points.items():
        assert value == pytest.approx(median[int(rank) - 1], rel=1e-15)


def test_singular_values_of_the_difference_follow_from_the_floors(results: Results) -> None:
    np.testing.assert_allclose(target_values(Result.of(results["frobenius"])), [3, 2, 1], rtol=1e-7)
    assert np.isnan(target_values(Result.of(results["trace_squared"]))).all()


def all_nan(group: str, variable: str, values: np.ndarray) -> None:
    values[...] = np.nan


def all_infinite(group: str, variable: str, values: np.ndarray) -> None:
    values[...] = np.inf


def all_zero(group: str, variable: str, values: np.ndarray) -> None:
    values[...] = 0.0


def all_negative(group: str, variable: str, values: np.ndarray) -> None:
    values[...] = -1.0


def all_tiny(group: str, variable: str, values: np.ndarray) -> None:
    values[...] = 5e-324


def all_equal(group: str, variable: str, values: np.ndarray) -> None:
    values[...] = 1.0


def late_nan(group: str, variable: str, values: np.ndarray) -> None:
    """Every trajectory, the flow too, ends in huge numbers and then NaN."""
    if group == "trajectory" and values.ndim >= 4:
        values[:, :, :, 2] = 1e88
        values[:, :, :, 3] = 1e305
        values[:, :, :, 4:] = np.nan
    elif group == "final":
        values[...] = np.nan


def scattered(group: str, variable: str, values: np.ndarray) -> None:
    """NaN, zeros, infinities and numbers of all sizes in between."""
    rng = np.random.default_rng(values.size)
    values[...] = 10.0 ** rng.uniform(-300, 300, values.shape)
    for bad in (np.nan, np.inf, -np.inf, 0.0, -1.0):
        values[rng.random(values.shape) < 0.15] = bad


CHANGES = [all_nan, all_infinite, all_zero, all_negative, all_tiny, all_equal, late_nan, scattered]


@pytest.mark.parametrize(
    ("name", "change"), [("frobenius", change) for change in CHANGES] + [("one", all_nan), ("one", scattered)]
)
def test_numbers_of_every_kind_neither_warn_nor_crash(
    results: Results, name: str, change: Callable[[str, str, np.ndarray], None]
) -> None:
    tree = changed(results[name], change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in OF_POINTS.values():  # also where they would not be drawn by themselves
            one.draw(tree)
            for words in (one.caption(tree), one.alt(tree)):
                assert words.isprintable() and len(words) > 60 and "nan" not in words


def test_a_single_time_step_and_seed(results: Results) -> None:
    tree = results["frobenius"].copy(deep=True)
    parts = {
        path: group.dataset.isel({dim: [0, -1] for dim in ("time",) if dim in group.dataset.sizes})
        for path, group in tree.children.items()
        if path != "checks"
    }
    parts["/"] = tree.to_dataset()
    short = xr.DataTree.from_dict(parts)
    for one in OF_POINTS.values():
        one.draw(short)


def test_spread_knows_only_finite_numbers() -> None:
    over = spread(np.array([[3.0, np.nan, 1.0, np.inf], [np.nan] * 4, [1.7e308, 1.7e308, 1.0, 1.7e308]]))
    np.testing.assert_array_equal(over.low, [1.0, np.nan, 1.0])
    np.testing.assert_array_equal(over.middle, [2.0, np.nan, 1.7e308])
    np.testing.assert_array_equal(over.high, [3.0, np.nan, 1.7e308])


def test_numbers_for_labels() -> None:
    assert [number(x) for x in (1e-6, 0.1, 2.0, 123456.0)] == ["1e-6", "0.1", "2", "1.23e5"]


def test_a_rank_whose_work_was_lost(results: Results) -> None:
    """Nothing is known of it but that it failed; the others are drawn as ever."""
    tree = results["frobenius"].copy(deep=True)
    for group, place in (("trajectory", 1), ("final", 1), ("theory", 0), ("companions", 1)):
        for name, variable in tree[group].data_vars.items():
            if "rank" not in variable.dims or name == "parameters":
                continue
            lost = (slice(None),) * place + (0,)
            if variable.dtype.kind == "f":
                variable.values[lost] = np.nan
            elif variable.dtype.kind == "O":
                variable.values[lost] = "failed" if name == "outcome" else ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, one in OF_POINTS.items():
            assert not one.missing(tree), name
            one.draw(tree)
    assert "Flow: failed (rank 3; 2 of 6 runs)." in texts(tree, "loss_vs_rank")
