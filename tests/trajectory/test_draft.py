"""Writing a result in slabs: as xarray would write it, the same bytes every time, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsim.errors import OutputError
from flowsim.trajectory import disk
from flowsim.trajectory import draft as module
from flowsim.trajectory.draft import CHUNK_BYTES, SMALL_BYTES, Writer, draft
from flowsim.trajectory.files import remove_stale
from flowsim.trajectory.store import load
from tests.trajectory.examples import save, small, texts

SWEEP: dict[str, list[Any]] = {"std": [1e-4, 0.01, 1.0], "init": ["gaussian", "{kind: spectral, power: 1}"]}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is in the file


@pytest.mark.parametrize("axes", [None, SWEEP], ids=["point", "sweep"])
def test_a_file_reads_as_the_one_that_xarray_writes(tmp_path: Path, axes: Any) -> None:
    tree = small(axes)
    save(tree, tmp_path / "ours.nc")
    tree.to_netcdf(tmp_path / "xarray.nc", engine="h5netcdf")
    opened = [xr.open_datatree(tmp_path / name, engine="h5netcdf").load() for name in ("ours.nc", "xarray.nc")]
    xr.testing.assert_identical(opened[0], opened[1])
    xr.testing.assert_identical(opened[0], tree)
    for node in opened[0].subtree:
        other = opened[1][node.path].dataset
        assert list(node.dataset.data_vars) == list(other.data_vars) and list(node.attrs) == list(other.attrs)
        assert {name: one.dtype for name, one in node.dataset.variables.items()} == {
            name: one.dtype for name, one in other.variables.items()
        }


def test_unusual_groups(tmp_path: Path) -> None:
    """No entries along a dimension, no dimension at all, coordinates beside no variable, groups in groups."""
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"list": ["a", "σ"], "numbers": [1, 2], "half": 0.5, "empty": ""}),
            "/none": xr.Dataset({"a": ("x", np.zeros(0)), "b": ("x", np.array([], dtype=object))}),
            "/scalar": xr.Dataset({"a": 1.5, "b": 3, "c": xr.Variable((), "ß")}, attrs={"of": "group"}),
            "/beside": xr.Dataset(coords={"x": [1, 2], "kind": texts("x", "a", "b"), "y": texts("y", "c")}),
            "/deep/er": xr.Dataset({"a": (("x", "y"), np.arange(6).reshape(2, 3))}, {"x": ["p", "q"]}),
        }
    )
    save(tree, tmp_path / "a.nc")
    xr.testing.assert_identical(xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf").load(), tree)


def declare(writer: Writer) -> None:
    writer.attributes({"title": "a title", "number": 3})
    schedule = {"schedule": texts("schedule", "flow", "descent"), "kind": texts("schedule", "flow", "descent")}
    writer.group("trajectory", {"std": 4, "schedule": 2, "seed": 50, "time": 40}, schedule)
    dims = ("std", "schedule", "seed", "time")
    writer.declare("trajectory", "loss", dims, float, {"units": "1"}, {"std": 1})
    writer.declare("trajectory", "reason", dims, str, {"units": ""}, {"std": 1})
    writer.declare("trajectory", "steps", dims, int, {"units": "1"}, {"std": 1, "seed": 7})
    writer.declare("trajectory", "few", ("schedule",), float, {"units": "1"}, {"schedule": 1})
    writer.declare("trajectory", "count", ("schedule",), int, {})
    writer.declare("trajectory", "word", ("schedule",), str, {})


def slab(std: int) -> np.ndarray:
    return np.random.default_rng(std).standard_normal((2, 50, 40))


def fill(writer: Writer, std: int) -> None:
    writer.put("trajectory", "loss", (std,), slab(std))
    for schedule in range(2):
        words = np.array([[f"{std}.{seed}" for _ in range(40)] for seed in range(50)], dtype=object)
        writer.put("trajectory", "reason", (std, schedule), words)
        rest = slice(10, 50)
        writer.put("trajectory", "steps", (std, schedule, rest, slice(None, None, 2)), np.full((40, 20), std + 1))


def test_slabs_written_one_by_one_and_read_in_between(tmp_path: Path) -> None:
    with draft(tmp_path / "a.nc") as out:
        with out.writing() as writer:
            declare(writer)
            fill(writer, 2)
        with out.reading() as tree:
            group = tree["trajectory"]
            np.testing.assert_array_equal(group["loss"][2].values, slab(2))
            assert np.isnan(group["loss"][0].values).all() and (group["reason"][3].values == "").all()
        with out.writing() as writer:
            fill(writer, 0)
            writer.put("trajectory", "few", (1,), np.array(7.0))
            writer.dataset("checks", xr.Dataset({"verdict": ("check", np.array(["pass"], dtype=object))}))
        assert files(tmp_path)[0].startswith(".a.nc.") and len(files(tmp_path)) == 1
    tree = xr.open_datatree(tmp_path / "a.nc", engine="h5netcdf").load()
    assert files(tmp_path) == ["a.nc"] and (tmp_path / "a.nc").stat().st_mode & 0o777 == 0o644
    group = tree["trajectory"]
    assert tree.attrs == {"title": "a title", "number": 3} and list(group.coords) == ["schedule", "kind"]
    np.testing.assert_array_equal(group["loss"][0], slab(0))
    assert np.isnan(group["loss"][1].values).all() and np.isnan(group["loss"][3].values).all()
    assert group["reason"][0, 1, 49, 3] == "0.49" and (group["reason"][1].values == "").all()
    np.testing.assert_array_equal(np.unique(group["steps"].values), [0, 1, 3])
    assert int((group["steps"].values > 0).sum()) == 2 * 2 * 40 * 20
    np.testing.assert_array_equal(group["few"], [np.nan, 7.0])
    assert group["count"].values.tolist() == [0, 0] and group["word"].values.tolist() == ["", ""]
    assert group["steps"].dtype == np.int64 and tree["checks"]["verdict"].values.tolist() == ["pass"]


def test_what_is_never_written_takes_no_room(tmp_path: Path) -> None:
    with draft(tmp_path / "a.nc") as out:
        with out.writing() as writer:
            writer.group("g", {"point": 10_000, "time": 2000}, {})
            for name, kind in (("loss", float), ("word", str), ("steps", int)):
                writer.declare("g", name, ("point", "time"), kind, {}, {"point": 1})
            writer.put("g", "loss", (5000,), np.arange(2000.0))
            writer.put("g", "word", (5000, 3), np.array("here", dtype=object))
        with out.reading() as tree:
            np.testing.assert_array_equal(tree["g"]["loss"][5000], np.arange(2000.0))
            assert np.isnan(tree["g"]["loss"][4999].values).all() and int(tree["g"]["steps"][1, 1]) == 0
            assert tree["g"]["word"][5000, 2:5].values.tolist() == ["", "here", ""]
            assert tree["g"]["word"][1, 1].item() == ""
    assert (tmp_path / "a.nc").stat().st_size < 400_000


def test_large_numbers_are_compressed_in_pieces_and_small_ones_are_not(tmp_path: Path) -> None:
    with draft(tmp_path / "a.nc") as out, out.writing() as writer:
        writer.group("g", {"x": 3, "y": 2000, "z": 500}, {})
        writer.declare("g", "large", ("x", "y", "z"), float, {}, {"x": 1})
        writer.declare("g", "whole", ("y", "z"), int, {})
        writer.declare("g", "words", ("x", "y"), str, {}, {"x": 1})
        writer.declare("g", "small", ("x", "z"), float, {}, {"x": 1})
        writer.put("g", "small", (), np.zeros((3, 500)))
    with h5py.File(tmp_path / "a.nc") as file:
        group = file["g"]
        assert group["large"].chunks == (1, 262, 500) and group["whole"].chunks == (262, 500)
        assert (group["large"].compression, group["large"].compression_opts, group["large"].shuffle) == (
            "gzip",
            4,
            True,
        )
        assert group["words"].chunks == (1, 2000) and group["words"].compression is None
        assert group["small"].chunks == (1, 500)  # 12,000 bytes are not small
    with draft(tmp_path / "b.nc") as out, out.writing() as writer:
        writer.group("g", {"x": SMALL_BYTES // 8, "y": 1}, {})
        writer.declare("g", "a", ("x", "y"), float, {}, {"x": 1})
    with h5py.File(tmp_path / "b.nc") as file:
        assert file["g/a"].chunks is None


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 6000)), min_size=1, max_size=6).filter(
        lambda pairs: np.prod([float(size) for size, _ in pairs]) < 2**50
    )
)
@settings(derandomize=True, database=None)
def test_pieces_are_never_too_large(pairs: list[tuple[int, int]]) -> None:
    shape, wanted = tuple(size for size, _ in pairs), [one for _, one in pairs]
    pieces = module._pieces(shape, wanted)
    if pieces is None:
        assert 8 * np.prod(shape, dtype=float) <= SMALL_BYTES
        return
    assert 8 * np.prod(pieces) <= CHUNK_BYTES
    assert all(1 <= piece <= size for piece, size in zip(pieces, shape, strict=True))
    # Cut only where it must be: what stands behind the first dimension that was cut is as it was asked for.
    asked = [max(1, min(one, size)) for one, size in zip(wanted, shape, strict=True)]
    for place, (piece, one) in enumerate(zip(pieces, asked, strict=True)):
        if piece < one:
            assert 8 * (piece + 1) * np.prod(asked[place + 1 :], dtype=float) > CHUNK_BYTES


def test_the_rules_of_netcdf4(tmp_path: Path) -> None:
    """h5netcdf finds dimensions and coordinates; netCDF programs may add to the file, which takes a kept order."""
    save(small(SWEEP), tmp_path / "a.nc")
    with h5netcdf.File(tmp_path / "a.nc", "r") as file:
        loss = file["trajectory/loss"]
        assert loss.dimensions == ("std", "init", "schedule", "rank", "seed", "time") and np.isnan(
            loss.attrs["_FillValue"]
        )
        assert loss.attrs["coordinates"] == "inner_steps kind learning_rate update window"
        assert dict(file["checks"].dimensions.items())["check"].size == 3 and "check" not in file["checks"].variables
    numbers = []
    with h5py.File(tmp_path / "a.nc") as file:
        assert file.attrs["_NCProperties"].startswith(b"version=2,flowsim=")

        def look(name: str, item: Any) -> None:
            plan = item.id.get_create_plist()
            tracked = h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED
            assert plan.get_attr_creation_order() == tracked, name
            if isinstance(item, h5py.Group):
                assert plan.get_link_creation_order() == tracked, name
            elif item.is_scale:
                numbers.append(int(item.attrs["_Netcdf4Dimid"]))

        look("/", file["/"])
        file.visititems(look)
    assert sorted(numbers) == list(range(len(numbers))) and len(numbers) > 20


# The same bytes

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.trajectory.examples import save, small
save(small(), Path(sys.argv[2]))
"""


def test_the_same_calls_give_the_same_bytes(tmp_path: Path, sha256: Callable[[Path], str]) -> None:
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / "a.nc", tmp_path / "deep" / "another name.nc", tmp_path / "c.nc"]
    for path in paths[:2]:
        save(small(), path)
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    here = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", PROGRAM, here, str(paths[2])], check=True, env=environment)
    assert len({sha256(path) for path in paths}) == 1


def test_the_seal_covers_everything_before_it(tmp_path: Path) -> None:
    save(small(), tmp_path / "a.nc")
    content = (tmp_path / "a.nc").read_bytes()
    rest, found, mark = content[:-48], content[-48:-16], content[-16:]
    assert mark == b"\nflowsim sha256\n" and hashlib.sha256(rest).digest() == found


# Mistakes of the caller


@pytest.mark.parametrize(
    ("put", "says"),
    [
        (lambda out: out.put("trajectory", "loss", (0,), np.zeros((2, 50, 1))), "values of shape"),
        (lambda out: out.put("trajectory", "loss", (0, 0), np.float64(1.0)), "values of shape"),
        (lambda out: out.put("trajectory", "loss", (0, 0, slice(45, 60)), np.zeros((15, 40))), "values of shape"),
        (lambda out: out.put("trajectory", "few", (0, 0), np.array(1.0)), "2 indices for 1 dimensions"),
        (lambda out: out.put("trajectory", "count", (), np.array([1.0, 2.0])), "kind float64, int64 wanted"),
        (lambda out: out.put("trajectory", "few", (), np.array(["a", "b"], dtype=object)), "kind object"),
        (lambda out: out.put("trajectory", "word", (), np.array([1.0, 2.0])), "object wanted"),
        (lambda out: out.attributes({"a": True}), "neither text nor numbers"),
        (lambda out: out.group("h", {"x": 2}, {"x": xr.Variable(("x",), [1, 2, 3])}), "own dimension"),
        (lambda out: out.dataset("h", xr.Dataset({"a": ("x", np.array([True]))})), "bool is not stored"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, put: Callable[[Writer], None], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says), draft(tmp_path / "a.nc") as out, out.writing() as writer:
        declare(writer)
        put(writer)
    assert files(tmp_path) == []


# Whole or not at all


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt(), ValueError("other")])
@pytest.mark.parametrize("where", ["before", "writing", "reading", "after"])
def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, error: BaseException, where: str) -> None:
    (tmp_path / "a.nc").write_text("old")

    def stop(here: str) -> None:
        if here == where:
            raise error

    with pytest.raises(type(error)), draft(tmp_path / "a.nc") as out:
        stop("before")
        with out.writing() as writer:
            declare(writer)
            stop("writing")
        with out.reading():
            stop("reading")
        stop("after")
    assert files(tmp_path) == ["a.nc"] and (tmp_path / "a.nc").read_text() == "old"


def write_much(path: Path) -> None:
    with draft(path) as out:
        with out.writing() as writer:
            declare(writer)
            fill(writer, 2)
        with out.writing() as writer:
            fill(writer, 1)
            fill(writer, 0)


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, BaseException], list[int]]]:
    """Let the n-th write to the file fail, and all that follow; returns a list that counts them."""
    whole = os.pwrite

    def arrange(number: int, error: BaseException) -> list[int]:
        count = [0]

        def pwrite(handle: int, data: memoryview, place: int) -> int:
            count[0] += 1
            if count[0] < number:
                return whole(handle, data, place)
            raise error

        monkeypatch.setattr(disk.os, "pwrite", pwrite)
        return count

    yield arrange
    monkeypatch.undo()


def test_a_disk_that_fills_up_at_any_moment(tmp_path: Path, fail_at: Any) -> None:
    count = fail_at(10**9, OSError())
    write_much(tmp_path / "a.nc")
    total = count[0]
    (tmp_path / "a.nc").unlink()
    assert total > 20
    full = OSError(errno.ENOSPC, "No space left on device")
    for number in range(1, total + 1):
        fail_at(number, full)
        with pytest.raises(OutputError) as caught:
            write_much(tmp_path / "a.nc")
        assert caught.value.lines()[0] == f"{tmp_path / 'a.nc'}: cannot be written: No space left on device"
        assert len(caught.value.lines()) == 2 and caught.value.exit_code == 4
        assert files(tmp_path) == []
    fail_at(10**9, full)
    write_much(tmp_path / "a.nc")
    assert files(tmp_path) == ["a.nc"]


def test_an_interrupt_at_any_moment(tmp_path: Path, fail_at: Any) -> None:
    """It comes while HDF5 writes, which must not learn of it, and goes on once HDF5 is done."""
    count = fail_at(10**9, KeyboardInterrupt())
    write_much(tmp_path / "a.nc")
    (tmp_path / "a.nc").unlink()
    for number in range(1, count[0] + 1, 3):
        fail_at(number, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write_much(tmp_path / "a.nc")
        assert files(tmp_path) == []


def test_a_write_that_is_taken_up_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small(), tmp_path / "a.nc")
    whole = os.pwrite
    monkeypatch.setattr(disk.os, "pwrite", lambda handle, data, place: whole(handle, data[:100], place))
    save(small(), tmp_path / "b.nc")
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


def test_a_disk_that_is_full_for_the_seal(tmp_path: Path) -> None:
    """A limit on the size of files, as the system enforces it: HDF5 fits below it, the seal does not."""
    save(small(), tmp_path / "a.nc")
    size = (tmp_path / "a.nc").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (size - 1, size - 48, size // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OutputError) as caught:
                save(small(), tmp_path / "b.nc")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "cannot be written: File too large" in caught.value.lines()[0]
        assert files(tmp_path) == ["a.nc"]
    save(small(), tmp_path / "b.nc")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_in_earnest(small_disk: Path) -> None:
    with pytest.raises(OutputError) as caught:
        save(small(SWEEP), small_disk / "a.nc")
    assert "No space left on device" in caught.value.lines()[0] and files(small_disk) == []
    with draft(small_disk / "a.nc") as out, out.writing() as writer:  # what fits is written afterwards
        writer.attributes({"a": "b"})
    assert files(small_disk) == ["a.nc"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "a.nc", tmp_path / "file" / "a.nc"):
        with pytest.raises(OutputError) as caught, draft(path):
            raise AssertionError("not reached")
        assert len(caught.value.lines()) == 2


def test_stale_temporaries_are_removed_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from flowsim.trajectory.draft import draft\n"
        "with draft(Path(sys.argv[2])) as out:\n"
        "    os._exit(9)\n"
    )
    here = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", program, here, str(tmp_path / "a.nc")], check=False)
    assert done.returncode == 9 and len(files(tmp_path)) == 1
    kept = [".hidden", ".a.nc", "a.nc", "b.nc.txt", ".a.txt.12.txt"]
    for name in kept:
        (tmp_path / name).write_text("")
    remove_stale(tmp_path)
    assert files(tmp_path) == sorted(kept)


def test_it_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    for axes in (None, SWEEP):
        save(small(axes), tmp_path / "a.nc")
        xr.testing.assert_identical(load(tmp_path / "a.nc"), small(axes))
