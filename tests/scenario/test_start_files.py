"""Start files: the two forms, seeds by number, and every way in which a file can be bad."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from flowsim.errors import InputError
from flowsim.scenario import Document, digest_of, load_start_file, weight_files
from flowsim.scenario.adapter import FileInit
from tests.scenario.test_weights import Bomb, npy_header, write_safetensors

Read = Callable[..., Document]
Refused = Callable[..., list[str]]

# The small scenario: 6 x 4, ranks 1 and 2, seeds 0 and 1.
A, B = np.arange(3 * 2 * 4).reshape(3, 2, 4) / 7, np.arange(3 * 6 * 2).reshape(3, 6, 2) / 9
INFINITE = B.copy()
INFINITE[1, 2, 0] = np.inf
INIT = "{kind: gaussian, std: 0.1}"
OWN = (INIT, "{kind: file, path: s.npz}")


def write(folder: Path, **arrays: Any) -> None:
    np.savez(folder / "s.npz", **arrays)


def load(folder: Path, path: str = "s.npz", **more: Any) -> Any:
    return load_start_file(FileInit(kind="file", path=path, **more), folder)[0]


def message(folder: Path, path: str = "s.npz", **more: Any) -> str:
    """The first of the two lines that a user reads."""
    with pytest.raises(InputError) as caught:
        load(folder, path, **more)
    assert caught.value.exit_code == 2
    first, second = caught.value.lines()
    assert second.strip()
    return first


@pytest.mark.parametrize("seeds_of", ["AB", "A", "B", ""])
def test_a_rank_takes_the_first_rows_and_columns_of_its_seed(tmp_path: Path, seeds_of: str) -> None:
    write(tmp_path, A=A if "A" in seeds_of else A[2], B=B if "B" in seeds_of else B[2], note=np.array(["not read"]))
    start = load(tmp_path)
    assert start.deterministic is (seeds_of == "")
    for rank in (1, 2):
        assert start.form.seeds(rank) == (3 if seeds_of else None)
        for seed in (2, 0):
            first, second = start.at(rank, seed)
            assert np.array_equal(first, A[seed if "A" in seeds_of else 2, :rank])
            assert np.array_equal(second, B[seed if "B" in seeds_of else 2, :, :rank])
    with pytest.raises(InputError, match="rank 3 is too large"):
        start.at(3, 0)
    if seeds_of:
        with pytest.raises(InputError, match=r"no start for seed 3: .* holds 3, the seeds 0 to 2"):
            start.at(1, 3)


def test_ranks_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, A_1=A[:, :1], B_1=B[..., 1:], A_10=np.ones((10, 4)), B_10=np.ones((6, 10)))
    start = load(tmp_path)
    assert not start.deterministic
    assert np.array_equal(start.at(1, 2)[1], B[2, :, 1:])
    assert start.at(10, 10**18)[0].shape == (10, 4)  # without an axis of seeds every seed is the same
    with pytest.raises(InputError, match=r"no start of rank 2: .* has ranks 1, 10$"):
        start.at(2, 0)
    with pytest.raises(InputError, match=r"no start of rank 1 for seed 3: .* holds 3"):
        start.at(1, 3)


@pytest.mark.parametrize("dtype", [">f8", "<f4", "<f2", np.longdouble])
def test_floats_are_widened_exactly(tmp_path: Path, dtype: Any) -> None:
    wanted = A.astype(dtype)
    write(tmp_path, A=np.asfortranarray(wanted), B=B)
    first, _ = load(tmp_path).at(2, 1)
    assert first.dtype == np.float64 and np.array_equal(first, wanted[1].astype(np.float64))


def test_safetensors(tmp_path: Path) -> None:
    save_file({"A": A, "B": B.astype(np.float16)}, tmp_path / "s.safetensors")
    first, second = load(tmp_path, "s.safetensors").at(2, 2)
    assert np.array_equal(first, A[2]) and np.array_equal(second, B[2].astype(np.float16))
    upper = (A.astype("<f4").view(np.uint32) >> 16).astype("<u2")
    header = {
        "B": {"dtype": "F64", "shape": [6, 2], "data_offsets": [48, 144]},
        "A": {"dtype": "BF16", "shape": [3, 2, 4], "data_offsets": [0, 48]},
    }
    write_safetensors(tmp_path / "b.safetensors", header, upper.tobytes() + B[0].tobytes())
    first, second = load(tmp_path, "b.safetensors").at(2, 1)
    assert np.array_equal(first, (upper[1].astype(np.uint32) << 16).view(np.float32))
    assert np.array_equal(second, B[0])


def test_a_file_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site" / "tiny_starts_for_test-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-starts-for-test\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny_starts/s.npz,,\n")
    (tmp_path / "site" / "tiny_starts").mkdir()
    write(tmp_path / "site" / "tiny_starts", A=A, B=B)
    monkeypatch.syspath_prepend(tmp_path / "site")
    start = load(tmp_path / "elsewhere", package="tiny-starts-for-test")
    assert np.array_equal(start.at(2, 1)[0], A[1])
    assert "leaves the package" in message(tmp_path, "../s.npz", package="tiny-starts-for-test")


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({}, "s.npz has no A and B"),
        ({"a": A, "b": B}, "s.npz has no A and B"),
        ({"A": A}, "s.npz has A, but no B"),
        ({"B": B, "AA": A}, "s.npz has B, but no A (did you mean AA?)"),
        ({"A_2": A, "B_1": B[..., :1]}, "s.npz has A_2, but no B_2"),
        ({"A_02": A, "B_02": B}, "s.npz has no A and B"),
        ({"A": A, "B": B, "A_2": A}, "s.npz holds A, B and A_2 too"),
        ({"A": A[:, :1], "B": B}, "B of s.npz has 2 columns, but A has 1 rows"),
        ({"A_2": A[:, :1], "B_2": B}, "A_2 of s.npz has 1 rows, but it is for rank 2"),
        ({"A_2": A, "B_2": B[..., :1]}, "B_2 of s.npz has 1 columns, but it is for rank 2"),
        ({"A": A, "B": B[:2]}, "A of s.npz has 3 seeds, but B of s.npz has 2"),
        ({"A": A[0, 0], "B": B}, "A of s.npz has shape (4,), not two dimensions, or three with an axis of seeds"),
        ({"A": A, "B": B[None]}, "B of s.npz has shape (1, 3, 6, 2), not two dimensions, or three with an axis of"),
        ({"A": A[:, :0], "B": B[..., :0]}, "A of s.npz is empty: shape (3, 0, 4)"),
        ({"A": A[:0], "B": B[:0]}, "A of s.npz is empty: shape (0, 2, 4)"),
        ({"A": A, "B": INFINITE}, "B of s.npz is not finite: 1 of its entries, the first "
         "at [1, 2, 0]"),
        ({"A": A * np.nan, "B": B}, "A of s.npz is not finite: 24 of its entries, the first at [0, 0, 0]"),
        ({"A": np.ones((2, 4), dtype=int), "B": B}, "A of s.npz holds int64, not floating-point numbers"),
        ({"A": A + 0j, "B": B}, "A of s.npz holds complex128, not floating-point numbers"),
        ({"A": A > 0, "B": B}, "A of s.npz holds bool, not floating-point numbers"),
        ({"A": A.astype(str), "B": B}, "A of s.npz holds <U"),
        ({"A": A.astype(object), "B": B}, "A of s.npz holds Python objects (a pickle), which are never read"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_start(tmp_path: Path, arrays: dict[str, Any], what: str) -> None:
    write(tmp_path, **arrays)
    assert message(tmp_path).startswith(what)


def test_files_that_are_no_start(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", A[0])
    assert message(tmp_path, "s.npy") == "s.npy holds a single array, but a start has two, A and B"
    (tmp_path / "folder.npz").mkdir()
    assert message(tmp_path, "folder.npz").endswith("is a folder, not a file")
    os.mkfifo(tmp_path / "pipe.npz")
    assert message(tmp_path, "pipe.npz").endswith("is not a regular file")
    write(tmp_path, A=A, B=B)
    assert message(tmp_path, "t.npz").endswith("(did you mean s.npz?)")
    assert "NUL" in message(tmp_path, "s\0.npz")
    assert message(tmp_path, package="no-such-package-here").startswith("the package no-such-package-here is not inst")
    assert "has sha256" in message(tmp_path, sha256="0" * 64)
    whole = (tmp_path / "s.npz").read_bytes()
    for cut in (0, 30, len(whole) // 2, len(whole) - 30):
        (tmp_path / "s.npz").write_bytes(whole[:cut])
        assert message(tmp_path).startswith("s.npz is not a .npz file that can be read")
    (tmp_path / "s.pt").write_bytes(whole)
    assert message(tmp_path, "s.pt") == "s.pt is not a .npy, .npz or .safetensors file"
    save_file({"A": A, "B": B}, tmp_path / "s.safetensors")
    (tmp_path / "s.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:-8])
    assert message(tmp_path, "s.safetensors").startswith("s.safetensors is not a safetensors file that can be read")


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    write(tmp_path, A=np.array([[Bomb(trap)]], dtype=object), B=B)
    assert "pickle" in message(tmp_path)
    assert not trap.exists()


def test_what_is_larger_than_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for shape in ("(1000000000, 1000000000)", "(1000000, 1000000, 1000000)"):
        with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
            for name in "AB":
                archive.writestr(f"{name}.npy", npy_header(shape))
        assert "more memory than is free" in message(tmp_path)


@settings(max_examples=60)
@given(st.binary(max_size=40), st.integers(0, 1500), st.sampled_from([".npz", ".safetensors"]))
def test_damage_never_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, piece: bytes, place: int, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"s{suffix}"
    if suffix == ".npz":
        np.savez(path, A=A, B=B)
    else:
        save_file({"A": A, "B": B}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + piece + whole[place + len(piece) :])
    try:
        start = load(path.parent, path.name)
    except InputError as error:
        assert len(error.lines()) == 2
    else:  # where nothing that matters was hit
        assert np.isfinite(start.at(1, 0)[0]).all()


@pytest.mark.parametrize(
    ("arrays", "changes", "expected"),
    [
        ({"A": A, "B": B[:, :5]}, (), "8:28: adapter.init.path: B of s.npz has 5 rows, but the weight has 6"),
        ({"A": A[..., :3], "B": B}, (), "8:28: adapter.init.path: A of s.npz has 3 columns, but the weight has 4"),
        ({"A": A[:, :1], "B": B[..., :1]}, (), "6:14: adapter.ranks.1: rank 2 is too large: s.npz has 1 rows of A"),
        ({"A_1": A[:, :1], "B_1": B[..., :1]}, (), "6:14: adapter.ranks.1: there is no start of rank 2: s.npz has ra"),
        ({"A": A[:1], "B": B[:1]}, (), "7:10: adapter.seeds: there is no start for seed 1: s.npz holds 1, the seed 0"),
        ({"A": A, "B": B}, (("seeds: 2", "seeds: [2, 7]"),), "7:10: adapter.seeds: there is no start for seed 7: s.n"),
        ({"A": A}, (), "8:28: adapter.init.path: s.npz has A, but no B"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(
    refused: Refused, tmp_path: Path, arrays: dict[str, Any], changes: tuple[tuple[str, str], ...], expected: str
) -> None:
    write(tmp_path, **arrays)
    lines = refused(OWN, *changes)
    assert lines[0].startswith("s.yaml:" + expected) and len(lines) == 2, "\n".join(lines)


def test_all_mistakes_are_told_at_once(refused: Refused, tmp_path: Path) -> None:
    write(tmp_path, A=A[:1, :1], B=B[:1, :5, :1])
    lines = refused(OWN, ("stop: 10.0", "stop: -1"))
    assert [line.split(": ")[1] for line in lines[::2]] == [
        "adapter.ranks.1",
        "adapter.seeds",
        "adapter.init.path",
        "time.stop",
    ]
    assert len(refused((INIT, "{kind: file, path: s.npz, sha256: '" + "0" * 64 + "'}"))) == 2


def test_it_is_a_weight_file_of_the_document(read: Read, tmp_path: Path) -> None:
    found = []
    for number in (1.0, 2.0, 1.0):
        write(tmp_path, A=A, B=number * B)
        document = read(OWN)
        (file,) = document.weights
        assert (file.where, file.path, file.size) == ("adapter.init", tmp_path / "s.npz", A.nbytes + B.nbytes)
        assert read((INIT, "{kind: file, path: s.npz, sha256: '" + file.sha256 + "'}")).weights == document.weights
        found.append(digest_of(document))
    assert found[0] == found[2] != found[1]
    assert document.warnings == ()


def test_equal_seeds_are_warned_of(read: Read, tmp_path: Path) -> None:
    write(tmp_path, A=A[0], B=B[0])
    assert read(OWN).warnings == ("adapter.seeds: s.npz has no axis of seeds, so all 2 seeds are the same run",)
    assert read(OWN, ("seeds: 2", "seeds: [5]")).warnings == ()
    write(tmp_path, A=np.ones((7, 4)), B=np.ones((6, 7)))
    (warning,) = read(OWN, ("seeds: 2", "seeds: 1"), ("ranks: [1, 2]", "ranks: [7]")).warnings
    assert warning.startswith("adapter.ranks: 7 above min(n, m) = 4")


def test_a_sweep_reads_it_once_and_tells_a_mistake_at_its_value(
    read: Read, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, A=A, B=B)
    np.savez(tmp_path / "short.npz", A=A[:, :1], B=B[..., :1])
    paths: list[str] = []
    original = weight_files.load_start_file

    def counted(spec: FileInit, folder: Path) -> Any:
        paths.append(spec.path)
        return original(spec, folder)

    monkeypatch.setattr(weight_files, "load_start_file", counted)
    sweep = "sweep: {{solver.rtol: [1e-6, 1e-8], adapter.init: [{{kind: kaiming}}, {{kind: file, path: {}}}]}}"
    document = read(("points: 11}", "points: 11}\n" + sweep.format("s.npz")))
    assert paths == ["s.npz"]
    assert [len(point.weights) for point in document.points] == [0, 1, 0, 1]
    assert [file.where for file in document.weights] == ["adapter.init"]
    for name, expected in [
        ("no.npz", "14:87: sweep.adapter.init.1.path: there is no file"),
        ("short.npz", "14:68: sweep.adapter.init.1: with this value, adapter.ranks.1: rank 2 is too large"),
    ]:
        lines = refused(("points: 11}", "points: 11}\n" + sweep.format(name)))
        assert lines[0].startswith("s.yaml:" + expected) and len(lines) == 2, "\n".join(lines)


def test_its_size_counts_as_memory(
    read: Read, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, A=np.zeros((3000, 2, 4)), B=np.zeros((3000, 6, 2)))
    size = 8 * 3000 * (8 + 12)
    monkeypatch.setattr("flowsim.scenario.fit.available_memory", lambda: size)
    assert read()
    assert "the scenario needs at least" in refused(OWN)[0]
