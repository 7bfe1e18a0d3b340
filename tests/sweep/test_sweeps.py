"""A sweep is its points: each equals the scenario run alone, whatever is swept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.checks import check
from flowsim.trajectory.points import axes_of, point_of, points_of
from flowsim.trajectory.store import load, open_result

BASE = """\
name: swept
objective: {kind: frobenius, coefficient: 0.7}
pretrained: {kind: spectrum, shape: [6, 5], singular_values: {kind: power, exponent: 1}, seed: 3}
adapter: {ranks: [1, 3], seeds: 2, init: {kind: gaussian, std: 0.4}}
schedules: [{kind: flow}, {kind: descent, learning_rates: [0.1, 0.05]}]
time: {stop: 4.0, points: 5}
solver: {rtol: 1e-5, atol: 1e-9}
"""
SETTINGS: dict[str, tuple[str, list[tuple[str, ...]]]] = {
    "two numbers": (
        "sweep: {adapter.init.std: [0.2, 0.6], pretrained.singular_values.exponent: [0.5, 1, 2]}",
        [
            (f"adapter.init.std={a}", f"pretrained.singular_values.exponent={b}")
            for a in (0.2, 0.6)
            for b in (0.5, 1, 2)
        ],
    ),
    "sections": (
        "sweep: {adapter.init: [{kind: kaiming}, {kind: gaussian, std: 0.3, zero: none}, {kind: orthogonal}]}",
        [
            ("adapter.init={kind: kaiming}",),
            ("adapter.init={kind: gaussian, std: 0.3, zero: none}",),
            ("adapter.init={kind: orthogonal}",),
        ],
    ),
    "objective": (
        "sweep: {objective.coefficient: [1, 2.5]}",
        [("objective.coefficient=1",), ("objective.coefficient=2.5",)],
    ),
    "solver and precision": (
        "sweep: {compute.dtype: [float64, float32], solver.rtol: [1e-4, 1e-5]}",
        [(f"compute.dtype={a}", f"solver.rtol={b}") for a in ("float64", "float32") for b in (1e-4, 1e-5)],
    ),
    "shape": (
        "sweep: {pretrained.shape: [[6, 5], [4, 7]]}",
        [("pretrained.shape=[6, 5]",), ("pretrained.shape=[4, 7]",)],
    ),
    "method": (
        "sweep: {solver.method: [auto, tsit5]}",
        [("solver.method=auto",), ("solver.method=tsit5",)],
    ),
}  # fmt: skip
# A whole start of one kind shares a baseline over ranks and seeds; points of which one does not, share none.
SHARED_BASELINE = {"two numbers", "objective", "solver and precision", "shape", "method"}


#: One number for all points, or a choice that the others make as well.
SIMPLER = ("objective", "method", "solver and precision")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow if what in SIMPLER else ()) for what in SETTINGS]
)
def test_every_point_is_the_scenario_run_alone(what: str, run_text: Callable[..., Any], tmp_path: Path) -> None:
    from flowsim.pipeline import execute
    from flowsim.scenario.read import parse_scenario

    sweep, settings = SETTINGS[what]
    tree = run_text(f"{BASE}{sweep}\n").tree
    axes = axes_of(tree)
    points = list(points_of(tree))
    assert len(points) == len(settings)
    for number, (setting, (label, point)) in enumerate(zip(settings, points, strict=True)):
        alone = execute(
            parse_scenario(BASE, name="s.yaml", folder=".", overrides=setting), out=tmp_path / str(number), plots=False
        ).tree
        places = np.unravel_index(number, [len(axis.values) for axis in axes])
        xr.testing.assert_identical(point_of(tree, [int(place) for place in places]), point)
        for group in ("trajectory", "final", "theory", "companions", "checks"):
            _same(point[group].dataset, alone[group].dataset, f"{label}: {group}")
        if what in SHARED_BASELINE:
            _same(point["baseline"].dataset, alone["baseline"].dataset, label)
        for name in ("coefficient", "objective", "rtol", "dtype", "rows", "columns", "resolved_scenario"):
            assert point.attrs[name] == alone.attrs[name], name


def _same(one: xr.Dataset, other: xr.Dataset, where: str) -> None:
    assert set(one.variables) == set(other.variables), where
    for name in one.variables:
        assert one[name].dims == other[name].dims, f"{where}/{name}"
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=f"{where}/{name}")
        assert one[name].attrs == other[name].attrs, f"{where}/{name}"


def test_its_dimensions_are_named_and_come_first(run_text: Callable[..., Any]) -> None:
    done = run_text(BASE + "sweep: {adapter.init.std: [0.2, 0.6], pretrained.singular_values.exponent: [0.5, 1, 2]}\n")
    with xr.open_datatree(done.file, engine="h5netcdf") as tree:
        loss = tree["trajectory"]["loss"]
        assert loss.dims == ("std", "exponent", "schedule", "rank", "seed", "time") and loss.shape == (2, 3, 3, 2, 2, 5)
        assert tree["final"]["outcome"].dims == ("std", "exponent", "schedule", "rank", "seed")
        assert tree["theory"]["loss_floor"].dims == ("std", "exponent", "rank")
        assert tree["companions"]["distance"].dims[:3] == ("std", "exponent", "companion")
        assert tree["baseline"]["loss"].dims == ("std", "exponent", "time")
        assert tree["trajectory"]["step"].dims == ("schedule", "time")
        assert tree["trajectory"]["std"].values.tolist() == [0.2, 0.6]
        assert tree["trajectory"]["std"].attrs["key"] == "adapter.init.std"
        assert tree["final"]["loss"].sel(std=0.6, exponent=2, schedule="flow").dims == ("rank", "seed")
        subjects = tree["checks"]["subject"].values.tolist()
    assert subjects[0].startswith("std=0.2/exponent=0.5/") and subjects[-1].startswith("std=0.6/exponent=2/")


def test_stored_factors_have_the_dimensions_too(run_text: Callable[..., Any]) -> None:
    tree = run_text(BASE + "sweep: {adapter.init.std: [0.2, 0.6]}\nsave: {factors: ends}\n").tree
    factors = tree["factors/rank_3"]
    assert factors["A"].dims == ("std", "schedule", "seed", "time", "factor", "column")
    assert factors["B"].shape == (2, 3, 2, 2, 6, 3)
    start = factors["A"].sel(schedule="flow").isel(time=0)
    np.testing.assert_allclose(start.sel(std=0.6).values, 3 * start.sel(std=0.2).values, atol=1e-15)


def test_a_sweep_is_judged_again_from_its_file(run_text: Callable[..., Any]) -> None:
    done = run_text(BASE + "sweep: {adapter.init.std: [0.2, 0.6]}\n")
    with open_result(done.file) as tree:
        xr.testing.assert_identical(check(tree), tree["checks"].to_dataset().load())


def test_many_seeds_make_several_tiles_and_one_result(run_text: Callable[..., Any], tmp_path: Path) -> None:
    """40 seeds are two tiles a rank: each seed is where it belongs, and has companions of its own block."""
    text = BASE.replace("seeds: 2", "seeds: 40").replace(
        "schedules: [{kind: flow}, {kind: descent, learning_rates: [0.1, 0.05]}]\n", ""
    )
    tree = run_text(text).tree
    start = tree["trajectory"]["factor_norm"].sel(schedule="flow").isel(time=0)
    some = run_text(text.replace("seeds: 40", "seeds: [0, 31, 32, 39]"), out=tmp_path / "some").tree
    np.testing.assert_allclose(
        start.sel(seed=[0, 31, 32, 39]).values,
        some["trajectory"]["factor_norm"].sel(schedule="flow").isel(time=0).values, rtol=1e-14,
    )  # fmt: skip
    np.testing.assert_allclose(
        tree["final"]["loss"].sel(seed=[0, 31, 32, 39], schedule="flow").values,
        some["final"]["loss"].sel(schedule="flow").values, rtol=1e-6,
    )  # fmt: skip
    tight = tree["companions"]["method"].sel(companion="tight", rank=3).values
    assert [int(place) for place in np.flatnonzero(tight != "")] == [0, 32]
    assert tree["trajectory"]["loss"].notnull().all()


def test_reach_time_is_when_the_goal_was_met(run_text: Callable[..., Any]) -> None:
    """A single mode decays exponentially late: interpolated in ln excess, the time is that of a fine grid."""
    text = """
    name: reach
    objective: {kind: frobenius}
    pretrained: {kind: values, values: [[2, 0], [0, 1]]}
    adapter: {ranks: [2], seeds: 3, init: {kind: orthogonal, scale: 0.5}}
    time: {stop: 12, points: 25}
    reach: 1e-3
    """
    coarse = load(run_text(text).file)["final"]["reach_time"].values
    fine = load(run_text(text.replace("points: 25", "points: 2401")).file)["final"]["reach_time"].values
    assert np.isfinite(fine).all() and (fine > 1).all()
    np.testing.assert_allclose(coarse, fine, rtol=2e-3)
    short = run_text(text.replace("stop: 12", "stop: 1")).tree
    assert short["final"]["reach_time"].isnull().all() and (short["final"]["outcome"] == "not_yet").all()
