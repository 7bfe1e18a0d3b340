"""Reading a result file: what was written comes back, in parts or whole, and what is none is refused in two lines."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from flowsim.errors import OutputError, ResultError
from flowsim.trajectory import store
from flowsim.trajectory.content import ATTRIBUTES, CONTENT, FORMAT
from flowsim.trajectory.draft import draft
from flowsim.trajectory.store import load, open_result, replacing, result_file, write_text
from tests.trajectory.examples import save, seal_again, small, unseal

SWEEP: dict[str, list[Any]] = {"std": [1e-4, 0.01, 1.0], "init": ["gaussian", "{kind: spectral, power: 1}"]}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What was written comes back


@pytest.mark.parametrize("axes", [None, SWEEP], ids=["point", "sweep"])
def test_what_is_saved_is_loaded(tmp_path: Path, axes: Any) -> None:
    tree = small(axes)
    save(tree, tmp_path / "a.nc")
    assert files(tmp_path) == ["a.nc"]
    again = load(tmp_path / "a.nc")
    xr.testing.assert_identical(again, tree)
    for node in again.subtree:
        for name, one in node.dataset.variables.items():
            other = tree[node.path].dataset.variables[name]
            assert type(one) is type(other) and one.dims == other.dims, name
            if name not in node.dataset.indexes:
                assert one.dtype == other.dtype, name
    xr.testing.assert_identical(load(tmp_path), again)
    xr.testing.assert_identical(load(str(tmp_path / "a.nc")), again)


def test_the_loaded_tree_does_not_hold_the_file(tmp_path: Path) -> None:
    save(small(), tmp_path / "a.nc")
    tree = load(tmp_path / "a.nc")
    (tmp_path / "a.nc").unlink()
    np.testing.assert_array_equal(tree["trajectory"]["loss"].values, small()["trajectory"]["loss"].values)
    tree["trajectory"]["loss"][0] = 0.0


def test_an_open_result_is_read_slab_by_slab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small(SWEEP), tmp_path / "a.nc")
    whole, read = small(SWEEP)["trajectory"]["loss"], []
    asked = h5py.Dataset.__getitem__

    def getitem(self: h5py.Dataset, key: Any, **options: Any) -> Any:
        values = asked(self, key, **options)
        read.append((self.name, np.size(values)))
        return values

    with open_result(tmp_path) as tree:
        monkeypatch.setattr(h5py.Dataset, "__getitem__", getitem)
        loss = tree["trajectory"]["loss"]
        picks: list[Callable[[xr.DataArray], Any]] = [
            lambda one: one[1, 0, 1, 0],
            lambda one: one.isel(std=2, time=slice(None, None, -1)),
            lambda one: one.isel(seed=[2, 0], rank=[1, 0], time=[3, 1, 1]),
            lambda one: one.sel(std=0.01, schedule="flow", rank=4, seed=1),
            lambda one: one[-1, :, -1, :, 1:2, -3:],
            lambda one: one[0, 0, 0, 0, 0, 0],
            lambda one: one.isel(time=one["time"].values > 0.5),
        ]
        for pick in picks:
            read.clear()
            np.testing.assert_array_equal(pick(loss).values, pick(whole).values)
            assert {name for name, _ in read} == {"/trajectory/loss"}
            assert sum(size for _, size in read) <= 3 * pick(whole).size
        read.clear()
        for _ in range(3):  # nothing is kept
            assert loss[0, 0].values.size == 2 * 2 * 3 * 4
        assert read == [("/trajectory/loss", 48)] * 3
        words = tree["final"]["outcome"][1, 1]
        assert words.dtype == object and words.values.tolist() == small(SWEEP)["final"]["outcome"][1, 1].values.tolist()
        assert copy.deepcopy(tree)["trajectory"]["loss"][0, 0, 0, 0, 0, 1].values == whole[0, 0, 0, 0, 0, 1].values
    with pytest.raises(ValueError, match="trajectory/loss: read after its file was closed"):
        _ = loss[0].values


def test_an_open_result_stays_the_same_while_another_takes_its_place(tmp_path: Path) -> None:
    save(small(title="old"), tmp_path / "a.nc")
    with open_result(tmp_path / "a.nc") as tree:
        save(small(SWEEP, title="new"), tmp_path / "a.nc")
        assert tree.attrs["title"] == "old"
        np.testing.assert_array_equal(tree["trajectory"]["loss"], small()["trajectory"]["loss"])
    assert load(tmp_path / "a.nc").attrs["title"] == "new"


def test_a_result_larger_than_memory_is_opened_and_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = small()
    with draft(tmp_path / "a.nc") as out, out.writing() as writer:
        for node in tree.subtree:
            if node.path != "/":
                writer.dataset(node.path, node.to_dataset(inherit=False))
        writer.attributes(tree.attrs)
        writer.group("more", {"x": 2**20, "y": 2**20}, {})
        writer.declare("more", "a", ("x", "y"), float, {}, {"x": 1})
        writer.put("more", "a", (5, slice(3)), np.arange(3.0))
    with open_result(tmp_path / "a.nc") as opened:
        np.testing.assert_array_equal(opened["more"]["a"][5, :4], [0.0, 1.0, 2.0, np.nan])
    with pytest.raises(ResultError) as caught:
        load(tmp_path / "a.nc")
    assert "needs 8.0 TiB of memory" in caught.value.lines()[0] and "xarray.open_datatree" in caught.value.lines()[1]
    save(tree, tmp_path / "b.nc")
    monkeypatch.setattr(store, "available_memory", lambda: 10_000)
    with pytest.raises(ResultError, match=r"9\.8 KiB are free"):
        load(tmp_path / "b.nc")


# Files of other programs


def test_a_result_saved_again_by_xarray_is_accepted(tmp_path: Path) -> None:
    for axes in (None, SWEEP):
        save(small(axes), tmp_path / "a.nc")
        again = xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf").load()
        again.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
        xr.testing.assert_identical(load(tmp_path / "b.nc"), small(axes))


def test_a_note_may_be_added(tmp_path: Path) -> None:
    """Another program that writes to the file cuts the seal off."""
    save(small(), tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc", "r+") as file:
        file.attrs["note"] = "seen"
    assert load(tmp_path / "a.nc").attrs.pop("note") == "seen"


def test_a_file_that_was_changed_is_refused_before_hdf5_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nc"
    save(small(), path)
    content = bytearray(path.read_bytes())
    content[content.index(b"gro\xc3\x9f")] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(store.h5py, "File", None)
    with pytest.raises(ResultError) as caught:
        load(path)
    assert caught.value.lines() == [
        f"{path}: was changed or damaged since it was written", "  Run the scenario again with --force."
    ]  # fmt: skip


def test_data_damaged_in_an_unsealed_file_are_named_when_they_are_read(tmp_path: Path) -> None:
    tree = small({"std": [float(i) for i in range(100)]})
    save(tree, tmp_path / "a.nc")
    unseal(tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        place = file["trajectory/loss"].id.get_chunk_info(0)
    with (tmp_path / "a.nc").open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(bytes(place.size))
    with open_result(tmp_path / "a.nc") as opened:
        np.testing.assert_array_equal(opened["trajectory"]["excess_loss"][0], tree["trajectory"]["excess_loss"][0])
        with pytest.raises(ResultError) as caught:
            _ = opened["trajectory"]["loss"][0].values
    assert caught.value.lines()[0].startswith(f"{tmp_path / 'a.nc'}: trajectory/loss: cannot be read: ")
    with pytest.raises(ResultError, match="trajectory/loss"):
        load(tmp_path / "a.nc")


# What is no result


def nothing(path: Path) -> None:
    """Leave no file."""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("name: not a result\n")


def truncated(path: Path) -> None:
    save(small(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def nearly_whole(path: Path) -> None:
    save(small(), path)
    path.write_bytes(path.read_bytes()[:-100])


def without_a_part_of_the_seal(path: Path) -> None:
    save(small(), path)
    path.write_bytes(path.read_bytes()[:-20])


def grown(path: Path) -> None:
    save(small(), path)
    path.write_bytes(path.read_bytes() + b"\n")


def sealed_text(path: Path) -> None:
    text(path)
    seal_again(path)


def classic(path: Path) -> None:
    """A netCDF-3 file: its magic number."""
    path.write_bytes(b"CDF\x01" + bytes(60))


def other(path: Path) -> None:
    xr.Dataset({"temperature": ("x", np.arange(3.0))}).to_netcdf(path, engine="h5netcdf")


def without_group(path: Path) -> None:
    tree = small()
    del tree["companions"]
    save(tree, path)


def without_digest(path: Path) -> None:
    tree = small()
    del tree.attrs["digest"]
    save(tree, path)


def of_another_format(path: Path) -> None:
    save(small(format=FORMAT + 1), path)


def without_format(path: Path) -> None:
    tree = small()
    del tree.attrs["format"]
    save(tree, path)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nothing, "no such file or folder"),
        (empty, "is not a readable netCDF-4 result"),
        (text, "is not a readable netCDF-4 result"),
        (truncated, "is not a readable netCDF-4 result"),
        (nearly_whole, "is not a readable netCDF-4 result"),
        (without_a_part_of_the_seal, "is not a readable netCDF-4 result: it is cut or has grown"),
        (grown, "is not a readable netCDF-4 result: it is cut or has grown"),
        (sealed_text, "is not a readable netCDF-4 result: it is no HDF5 file"),
        (classic, "is not a readable netCDF-4 result: it is no HDF5 file"),
        (other, "is not a flowsim result: it carries no digest"),
        (without_group, "is not a flowsim result: it lacks the group 'companions'"),
        (without_digest, "is not a flowsim result: it carries no digest"),
        (of_another_format, f"has result format {FORMAT + 1}, this flowsim reads {FORMAT}"),
        (without_format, f"has result format None, this flowsim reads {FORMAT}"),
        (a_folder, "holds 0 result files, one wanted"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "a.nc"
    make(path)
    with pytest.raises(ResultError) as caught:
        load(path)
    lines = caught.value.lines()
    assert len(lines) == 2 and all("\n" not in line for line in lines)
    assert lines[0].startswith(f"{path}: ") and says in lines[0]
    assert caught.value.exit_code == 2


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small(), tmp_path / "a.nc")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store, "Source", refuse)
    with pytest.raises(ResultError, match="Permission denied"):
        load(tmp_path / "a.nc")


@pytest.mark.parametrize("name", [*ATTRIBUTES, *(f"{group}/{name}" for group in CONTENT for name in CONTENT[group])])
def test_everything_that_a_result_holds_is_wanted(tmp_path: Path, sound: Path, name: str) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(sound.read_bytes())
    with h5py.File(path, "r+") as file:
        if "/" in name:
            del file[name]
        else:
            del file.attrs[name]
    with pytest.raises(ResultError) as caught:
        load(path)
    assert caught.value.exit_code == 2 and len(caught.value.lines()) == 2
    if name not in ("digest", "format"):
        what = f"the variable {name}" if "/" in name else f"the attribute {name!r}"
        assert caught.value.lines()[0] == f"{path}: is not a flowsim result: it lacks {what}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.nc"
    save(small(), path)
    return path


# Where a result is


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_must_hold_one_result(tmp_path: Path, count: int) -> None:
    for index in range(count):
        (tmp_path / f"{index}.nc").write_bytes(b"")
    with pytest.raises(ResultError) as caught:
        result_file(tmp_path)
    assert caught.value.lines()[0] == f"{tmp_path}: holds {count} result files, one wanted"


def test_hidden_files_are_no_results(tmp_path: Path) -> None:
    for name in ("a.nc", ".a.nc.12ab34cd.nc", ".b.nc"):
        (tmp_path / name).write_bytes(b"")
    assert result_file(tmp_path) == tmp_path / "a.nc"
    (tmp_path / "a.nc").unlink()
    with pytest.raises(ResultError, match="holds 0 result files"):
        result_file(tmp_path)


# Files written whole or not at all


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    for error in (OSError(errno.EIO, "broken"), KeyboardInterrupt(), ValueError("other")):
        with pytest.raises((OutputError, KeyboardInterrupt, ValueError)), replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
            raise error
        assert (tmp_path / "a.txt").read_text() == "old"
        assert files(tmp_path) == ["a.txt"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        assert (tmp_path / "a.txt").read_text() == "old"
        assert temporary.parent == tmp_path and temporary.name.startswith(".a.txt.") and temporary.suffix == ".txt"
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new" and files(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_put_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="Invalid cross-device link"):
        write_text(tmp_path / "a.txt", "new")
    with pytest.raises(OutputError, match="Invalid cross-device link"):
        save(small(), tmp_path / "a.nc")
    assert files(tmp_path) == []


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "σ₁ ≥ σ₂\n")
    assert (tmp_path / "a.txt").read_bytes() == "σ₁ ≥ σ₂\n".encode()


def test_unfinished_work_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "000000.tile").touch()
    with pytest.raises(ResultError) as caught:
        result_file(tmp_path)
    assert "is not finished" in caught.value.lines()[0] and "flowsim run" in caught.value.lines()[1]


def test_a_folder_that_is_gone_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_text(tmp_path / "gone" / "a.txt", "x")
    assert caught.value.lines()[0].endswith("cannot be written: its folder is gone")
