"""Points of a sweep: what is taken out of its result is the result that the point alone would have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from flowsim.scenario.read import parse_scenario
from flowsim.scenario.sweep import Axis
from flowsim.trajectory.points import axes_of, point_label, point_of, points_of
from tests.trajectory.sweeping import SAME, side_by_side

AXES = (Axis("objective.coefficient", "coefficient", (0.7, 2, 3)), Axis("adapter.init.std", "init_std", (0.5, 1e-4)))
LABELS = [f"coefficient={c}/init_std={s}" for c in ("0.7", "2", "3") for s in ("0.5", "0.0001")]


@pytest.fixture
def alone(frobenius_run: Any) -> list[xr.DataTree]:
    """Six results that differ in every number and finding."""
    trees = [frobenius_run.tree.copy(deep=True) for _ in LABELS]
    for number, tree in enumerate(trees):
        for node in tree.subtree:
            for name, variable in node.data_vars.items():
                if variable.dtype == float and name not in SAME:
                    variable.values += number
        tree["checks"]["reason"].values[:] = f"of point {number}"
    return trees


@pytest.fixture
def swept(alone: list[xr.DataTree]) -> xr.DataTree:
    return side_by_side(alone, AXES)


def test_axes_and_labels(frobenius_run: Any, swept: xr.DataTree) -> None:
    assert axes_of(frobenius_run.tree) == [] and point_label([], []) == ""
    assert axes_of(swept) == list(AXES)
    assert [label for label, _ in points_of(swept)] == LABELS
    assert point_label(AXES, (2, 1)) == LABELS[-1]


def test_without_a_sweep_the_result_is_its_only_point(frobenius_run: Any) -> None:
    [(label, tree)] = points_of(frobenius_run.tree)
    assert label == "" and tree is frobenius_run.tree and point_of(tree, ()) is tree


def test_a_point_is_the_result_it_would_be_alone(alone: list[xr.DataTree], swept: xr.DataTree) -> None:
    for (_, point), one in zip(points_of(swept), alone, strict=True):
        assert [node.path for node in point.subtree if node.path != "/factors"] == [
            node.path for node in one.subtree if node.path != "/factors"
        ]
        for node in point.subtree:
            if node.path not in ("/", "/factors"):
                xr.testing.assert_identical(node.to_dataset(inherit=False), one[node.path].to_dataset(inherit=False))
    xr.testing.assert_identical(point_of(swept, (1, 1))["checks"].to_dataset(), alone[3]["checks"].to_dataset())


def test_the_numbers_at_the_root_are_those_of_the_point(swept: xr.DataTree) -> None:
    point = point_of(swept, (1, 1))
    assert (point.attrs["coefficient"], point.attrs["objective"], point.attrs["sweep"]) == (2.0, "frobenius", "[]")
    resolved = json.loads(point.attrs["resolved_scenario"])
    assert (resolved["objective"]["coefficient"], resolved["adapter"]["init"]["std"]) == (2, 1e-4)
    assert (point.attrs["rows"], point.attrs["columns"], point.attrs["points"]) == (6, 5, "[[6, 5]]")
    kept = {"digest", "scenario", "name", "title", "format", "versions"}
    assert all(point.attrs[name] == swept.attrs[name] for name in kept)


def test_nothing_is_read_of_a_file_before_it_is_asked_for(swept: xr.DataTree, tmp_path: Path) -> None:
    swept.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "sweep.nc", engine="h5netcdf") as lazy:
        for (_, point), (_, same) in zip(points_of(lazy), points_of(swept), strict=True):
            losses = point["trajectory"]["loss"]
            assert not losses.variable._in_memory and not point["companions"]["distance"].variable._in_memory
            xr.testing.assert_identical(losses[0, 1], same["trajectory"]["loss"][0, 1])
        assert not lazy["trajectory"]["loss"].variable._in_memory


@pytest.mark.parametrize("places", [(0, 2), (3, 0), (-1, 0), (0,), (0, 0, 0)])
def test_a_place_that_is_not_there_is_refused(swept: xr.DataTree, places: tuple[int, ...]) -> None:
    with pytest.raises(IndexError, match="no point"):
        point_of(swept, places)


def test_findings_go_to_their_point_whatever_its_value_holds(alone: list[xr.DataTree]) -> None:
    """One label may begin another, and text may hold the slash that ends a label."""
    axis = Axis("pretrained.path", "path", ("w", "w/1.npy", "w/1.npy.bak", "w/1", "w/10", "w/1/2"))
    swept = side_by_side(alone, [axis])
    for (_, point), one in zip(points_of(swept), alone, strict=True):
        xr.testing.assert_identical(point["checks"].to_dataset(), one["checks"].to_dataset())


BASE = """\
name: swept
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [8, 8], singular_values: {kind: flat, value: 1}}
adapter: {ranks: [1, 2], init: {kind: gaussian, std: 0.1}}
time: {stop: 3}
"""
SWEEPS = [
    "adapter.init.std: [0.1, 1], pretrained.singular_values.value: [1, 2, 3]",
    "objective.kind: [frobenius, trace_squared]",
    "objective.kind: [trace_squared, frobenius], objective.coefficient: [1, 2]",
    "adapter.init: [{kind: kaiming}, {kind: gaussian, std: 0.1}, {kind: orthogonal, zero: A}]",
    "adapter.init.zero: [A, none], solver.method: [adaptive, dopri5]",
    "pretrained.shape: [[8, 8], [4, 6], [10, 12]]",
    "pretrained.singular_values: [[1, 2], {kind: power, exponent: 1}, {kind: flat, value: 1, count: 3}]",
    "target: [null, {kind: gaussian, shape: [8, 8]}, {kind: shift, by: {kind: zeros}}]",
    "solver.rtol: [1e-6, 1e-7], reach: [1e-3], compute.dtype: [float64, float32]",
    "adapter.scaling: [{kind: lora, alpha: 2}, {kind: rslora, alpha: 3}]",
    "solver: [{method: adaptive}, {rtol: 1e-5, atol: 0}]",
]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_point_has_the_scenario_that_was_run(sweep: str) -> None:
    document = parse_scenario(f"{BASE}sweep: {{{sweep}}}\n", name="s.yaml", folder=Path())
    axes = [{"path": axis.path, "name": axis.name, "values": axis.values} for axis in document.axes]
    attrs = {
        "resolved_scenario": json.dumps(document.scenario.model_dump(mode="json")),
        "sweep": json.dumps(axes),
        "points": json.dumps([point.shape for point in document.points]),
    }
    tree = xr.DataTree(xr.Dataset(attrs=attrs))
    for (_, point), one in zip(points_of(tree), document.points, strict=True):
        scenario = one.scenario
        assert json.loads(point.attrs["resolved_scenario"]) == scenario.model_dump(mode="json")
        assert (point.attrs["rows"], point.attrs["columns"]) == one.shape
        numbers = (scenario.reach, scenario.solver.rtol, scenario.solver.atol, scenario.objective.coefficient)
        assert tuple(point.attrs[name] for name in ("reach", "rtol", "atol", "coefficient")) == numbers
        assert (point.attrs["objective"], point.attrs["dtype"]) == (scenario.objective.kind, scenario.compute.dtype)
