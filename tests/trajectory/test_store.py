"""The result file: written whole or not at all, and what is not one is refused in two lines."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.errors import OutputError, ResultError
from flowsim.trajectory.store import ATTRIBUTES, CONTENT, FORMAT, load, replacing, result_file, save, write_text


def small(**attrs: Any) -> xr.DataTree:
    groups: dict[str, xr.Dataset] = {
        f"/{group}": xr.Dataset({name: ("time", np.arange(3.0)) for name in ("x", *names)})
        for group, names in CONTENT.items()
    }
    groups["/"] = xr.Dataset(attrs=dict.fromkeys(ATTRIBUTES, "1") | {"digest": "ab", "format": FORMAT} | attrs)
    groups["/final"]["word"] = ("seed", np.array(["reached", "groß"], dtype=object))
    return xr.DataTree.from_dict(groups)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tree = small(title="a title")
    save(tree, tmp_path / "a.nc")
    assert files(tmp_path) == ["a.nc"]
    again = load(tmp_path / "a.nc")
    xr.testing.assert_identical(again, tree)
    assert (tmp_path / "a.nc").stat().st_mode & 0o777 == 0o644
    xr.testing.assert_identical(load(tmp_path), again)
    xr.testing.assert_identical(load(str(tmp_path / "a.nc")), again)


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    save(small(), tmp_path / "a.nc")
    save(small(), tmp_path / "b.nc")
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


def test_the_loaded_tree_does_not_hold_the_file(tmp_path: Path) -> None:
    save(small(), tmp_path / "a.nc")
    tree = load(tmp_path / "a.nc")
    (tmp_path / "a.nc").unlink()
    np.testing.assert_array_equal(tree["final"]["x"].values, np.arange(3.0))


def test_no_space_left_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError) as caught:
        save(small(), tmp_path / "a.nc")
    assert caught.value.exit_code == 4
    assert caught.value.lines()[0] == f"{tmp_path / 'a.nc'}: cannot be written: No space left on device"
    assert len(caught.value.lines()) == 2
    assert files(tmp_path) == []


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
        assert temporary.parent == tmp_path
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "σ₁ ≥ σ₂\n")
    assert (tmp_path / "a.txt").read_bytes() == "σ₁ ≥ σ₂\n".encode()


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "a.nc", tmp_path / "file" / "a.nc"):
        with pytest.raises(OutputError) as caught:
            save(small(), path)
        assert len(caught.value.lines()) == 2


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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nothing, "no such file or folder"),
        (empty, "is not a readable netCDF-4 result"),
        (text, "is not a readable netCDF-4 result"),
        (truncated, "is not a readable netCDF-4 result"),
        (nearly_whole, "is not a readable netCDF-4 result"),
        (classic, "is not a readable netCDF-4 result"),
        (other, "is not a flowsim result: it carries no digest"),
        (without_group, "is not a flowsim result: it lacks the group 'companions'"),
        (without_digest, "is not a flowsim result: it carries no digest"),
        (of_another_format, f"has result format {FORMAT + 1}, this flowsim reads {FORMAT}"),
        (without_format, f"has result format None, this flowsim reads {FORMAT}"),
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf closes it once more
def test_a_damaged_block_is_refused(frobenius_run: Any, tmp_path: Path) -> None:
    """Bytes wiped out near the beginning, where the groups are described."""
    path = tmp_path / "a.nc"
    shutil.copy(next(frobenius_run.folder.glob("*.nc")), path)
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    path.write_bytes(bytes(content))
    with pytest.raises(ResultError):
        load(path)


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_must_hold_one_result(tmp_path: Path, count: int) -> None:
    for index in range(count):
        (tmp_path / f"{index}.nc").write_bytes(b"")
    with pytest.raises(ResultError) as caught:
        result_file(tmp_path)
    assert caught.value.lines()[0] == f"{tmp_path}: holds {count} result files, one wanted"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda tree: tree.attrs.pop("resolved_scenario"), "the attribute 'resolved_scenario'"),
        (lambda tree: tree.__delitem__("checks"), "the group 'checks'"),
        (lambda tree: tree["trajectory"].__delitem__("excess_loss"), "the variable trajectory/excess_loss"),
    ],
    ids=["attribute", "group", "variable"],
)
def test_a_result_with_something_missing_is_refused(tmp_path: Path, spoil: Any, says: str) -> None:
    tree = small()
    spoil(tree)
    save(tree, tmp_path / "a.nc")
    with pytest.raises(ResultError) as caught:
        load(tmp_path / "a.nc")
    assert says in caught.value.lines()[0] and caught.value.exit_code == 2
