"""The SVD cache: the same bits with and without it, and nothing believed that a file says."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from flowsim.problem import svd_cache
from flowsim.problem.objectives import Frobenius, thin_svd
from flowsim.problem.svd_cache import SvdCache

SHAPE = (9, 7)


@pytest.fixture(autouse=True)
def small_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svd_cache, "SMALLEST", 4)


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the matrices that were decomposed."""
    shapes: list[tuple[int, ...]] = []

    def counted(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shapes.append(tuple(matrix.shape))
        return thin_svd(matrix)

    monkeypatch.setattr(svd_cache, "thin_svd", counted)
    return shapes


def matrix(seed: int = 0, shape: tuple[int, int] = SHAPE, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def only_entry(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


@pytest.mark.parametrize("shape", [(9, 7), (7, 9), (8, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_read_is_what_was_computed(
    tmp_path: Path, decomposed: list[tuple[int, ...]], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    cache, M = SvdCache(tmp_path / "made" / "here"), matrix(shape=shape, dtype=dtype)
    cache(M)
    for got, want in zip(cache(M), thin_svd(M), strict=True):
        assert torch.equal(got, want) and got.dtype == dtype
        assert got.stride() == want.stride()  # the layout decides how a product is rounded
    assert decomposed == [shape]
    assert [entry.suffix for entry in (tmp_path / "made" / "here").iterdir()] == [".npz"]


def test_another_matrix_type_or_thread_count_is_another_entry(
    tmp_path: Path, decomposed: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, M = SvdCache(tmp_path), matrix()
    nudged = M.clone()
    nudged[3, 2] = np.nextafter(float(M[3, 2]), 9.0)
    for one in (M, nudged, M.to(torch.float32), M.T.contiguous()):
        cache(one)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    cache(M)
    monkeypatch.setattr(torch, "__version__", "9.9")
    cache(M)
    assert len(decomposed) == 6 == len(list(tmp_path.iterdir()))


def test_small_matrices_leave_nothing(tmp_path: Path, decomposed: list[tuple[int, ...]]) -> None:
    SvdCache(tmp_path)(matrix(shape=(3, 9)))
    assert decomposed and not list(tmp_path.iterdir())


def rewritten(entry: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    with np.load(entry) as stored:
        parts = {name: stored[name] for name in stored.files}
    np.savez(entry, **change(parts))  # type: ignore[arg-type]


def spoil_number(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts["U"] = parts["U"].copy()
    parts["U"][2, 1] += 1e-9
    return parts


def of_another(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    U, values, Vh = (part.numpy() for part in thin_svd(matrix(seed=5)))
    return {"U": U, "values": values, "Vh": Vh}


SPOILT = {
    "empty": lambda entry: entry.write_bytes(b""),
    "not a zip": lambda entry: entry.write_bytes(b"PK\x03\x04 nonsense" * 40),
    "truncated": lambda entry: entry.write_bytes(entry.read_bytes()[:-200]),
    "one number": lambda entry: rewritten(entry, spoil_number),
    "another matrix": lambda entry: rewritten(entry, of_another),
    "turned about": lambda entry: rewritten(entry, lambda parts: parts | {"values": parts["values"][::-1]}),
    "a sign": lambda entry: rewritten(entry, lambda parts: parts | {"Vh": -parts["Vh"]}),
    "not a number": lambda entry: rewritten(entry, lambda parts: parts | {"values": parts["values"] * np.nan}),
    "other type": lambda entry: rewritten(entry, lambda parts: parts | {"U": parts["U"].astype(np.float32)}),
    "other shape": lambda entry: rewritten(entry, lambda parts: parts | {"U": parts["U"][:, :-1]}),
    "a part missing": lambda entry: rewritten(entry, lambda parts: {"U": parts["U"]}),
    "a part too many": lambda entry: rewritten(entry, lambda parts: parts | {"more": parts["U"]}),
    "compressed": lambda entry: np.savez_compressed(entry, **np.load(entry)),
    "pickled objects": lambda entry: rewritten(entry, lambda parts: parts | {"U": np.array([{}], dtype=object)}),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_entry_is_computed_again_and_replaced(
    tmp_path: Path, decomposed: list[tuple[int, ...]], how: str
) -> None:
    cache, M = SvdCache(tmp_path), matrix()
    want = cache(M)
    SPOILT[how](only_entry(tmp_path))
    for _ in range(2):
        assert all(torch.equal(got, right) for got, right in zip(cache(M), want, strict=True))
    assert len(decomposed) == 2  # the second reading finds what the first has put in its place


def test_flipped_bits_are_noticed(tmp_path: Path, decomposed: list[tuple[int, ...]]) -> None:
    cache, M = SvdCache(tmp_path), matrix()
    cache(M)
    entry = only_entry(tmp_path)
    content = bytearray(entry.read_bytes())
    content[len(content) // 3] ^= 1
    entry.write_bytes(content)
    cache(M)
    assert len(decomposed) == 2


def test_a_header_that_promises_too_much_sizes_nothing(tmp_path: Path, decomposed: list[tuple[int, ...]]) -> None:
    cache, M = SvdCache(tmp_path), matrix()
    cache(M)
    entry = only_entry(tmp_path)
    with zipfile.ZipFile(entry) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    promise = parts["U.npy"].replace(b"(9, 7), }         ", b"(9, 700000000), } ")
    assert promise != parts["U.npy"] and len(promise) == len(parts["U.npy"])
    parts["U.npy"] = promise
    with zipfile.ZipFile(entry, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    cache(M)
    assert len(decomposed) == 2


def test_a_folder_that_cannot_be_used_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    M = matrix()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    for got, want in zip(SvdCache(in_the_way)(M), thin_svd(M), strict=True):
        assert torch.equal(got, want)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    SvdCache(tmp_path / "full")(M)
    assert not list((tmp_path / "full").iterdir())  # no part of a file is left


def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SvdCache(tmp_path)
    cache(matrix(0))
    first = only_entry(tmp_path)
    monkeypatch.setattr(svd_cache, "MOST_BYTES", 3 * first.stat().st_size + svd_cache.HEADER_BYTES)
    os.utime(first, (1, 1))
    for seed in range(1, 8):
        cache(matrix(seed))
    entries = list(tmp_path.glob("*.npz"))
    assert 1 <= len(entries) <= 3 and first not in entries


def test_the_objective_uses_it(tmp_path: Path, decomposed: list[tuple[int, ...]]) -> None:
    M = matrix()
    plain = Frobenius(torch.zeros_like(M), M).singular_system
    for _ in range(2):
        kept = Frobenius(torch.zeros_like(M), M, decompose=SvdCache(tmp_path)).singular_system
        assert all(torch.equal(getattr(kept, name), getattr(plain, name)) for name in ("U", "values", "V"))
    assert len(decomposed) == 1
