"""Pieces of variables: which are read, which are kept, and that no verdict depends on either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.checks import check, slabs
from flowsim.checks.slabs import Slabs
from flowsim.trajectory.points import points_of
from flowsim.trajectory.variables import COMPANIONS, TRAJECTORY
from tests.trajectory.sweeping import side_by_side
from tests.trajectory.test_points import AXES, LABELS

Reads = list[tuple[tuple[object, ...], int]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """What is read, and how many numbers: filled while a test goes on."""
    kept, list_ = Slabs._keep, []

    def noted(self: Slabs, key: tuple[object, ...], values: np.ndarray) -> None:
        list_.append((key, values.size))
        kept(self, key, values)

    monkeypatch.setattr(Slabs, "_keep", noted)
    return list_


@pytest.fixture
def lazy(frobenius_run: Any, tmp_path: Path) -> Iterator[xr.DataTree]:
    file = next(frobenius_run.folder.glob("*.nc"))
    with xr.open_datatree(file, engine="h5netcdf") as tree:
        yield tree


def test_a_small_variable_is_read_once_and_whole(lazy: xr.DataTree, reads: Reads) -> None:
    stored = lazy["trajectory"]["loss"].copy().values
    source = Slabs(lazy)
    for _ in range(2):
        for places in np.ndindex(stored.shape[:2]):
            np.testing.assert_array_equal(source.read("trajectory", "loss", *places), stored[places])
    assert reads == [(("trajectory", "loss"), stored.size)]


def test_of_a_large_one_the_slab_is_read_and_the_latest_are_kept(
    lazy: xr.DataTree, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = lazy["trajectory"]["loss"].copy().values
    slab = stored[0, 0]
    monkeypatch.setattr(slabs, "WHOLE", stored.nbytes - 1)
    monkeypatch.setattr(slabs, "KEPT", 2 * slab.nbytes)
    source = Slabs(lazy)
    for places in [(0, 0), (0, 1), (0, 0), (1, 1), (0, 0), (0, 1)]:
        np.testing.assert_array_equal(source.read("trajectory", "loss", *places), stored[places])
    read = [(key[2:], size) for key, size in reads]
    assert read == [((0, 0), slab.size), ((0, 1), slab.size), ((1, 1), slab.size), ((0, 1), slab.size)]
    assert not lazy["trajectory"]["loss"].variable._in_memory


def test_a_check_reads_nothing_twice(lazy: xr.DataTree, reads: Reads) -> None:
    check(lazy)
    keys = [key for key, _ in reads]
    assert len(keys) == len(set(keys)) > 50
    variables = [lazy[group].variables[name] for group, name in keys]
    assert not any(one._in_memory for one in variables if one.ndim > 1)


@pytest.mark.parametrize("which", ["frobenius_run", "trace_run"])
def test_no_verdict_depends_on_what_is_kept(
    which: str, request: pytest.FixtureRequest, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = request.getfixturevalue(which).tree
    usual = check(tree)
    reads.clear()
    monkeypatch.setattr(slabs, "WHOLE", 0)
    monkeypatch.setattr(slabs, "KEPT", 0)
    xr.testing.assert_identical(check(tree), usual)
    one_slab = tree["trajectory"]["alignment"][0, 0].size  # (seed, time, side), the largest that a check asks for
    sizes = [size for (_, name, *_), size in reads if name in {*TRAJECTORY, *COMPANIONS}]
    assert one_slab / 2 <= max(sizes) <= one_slab


def test_of_a_sweep_one_point_is_read_at_a_time(
    frobenius_run: Any, reads: Reads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = side_by_side([frobenius_run.tree] * len(LABELS), AXES)
    swept.to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    usual = check(swept)
    reads.clear()
    with xr.open_datatree(tmp_path / "sweep.nc", engine="h5netcdf") as lazy:
        assert len(list(points_of(lazy))) == len(LABELS)
        xr.testing.assert_identical(check(lazy), usual)
    largest = frobenius_run.tree["trajectory"]["singular_value"].size
    assert 0 < max(size for _, size in reads) <= largest
