"""Weight files: the three formats, packages, and every way in which a file can be bad."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from flowsim.errors import InputError
from flowsim.scenario import load_matrix_file
from flowsim.scenario.model import FileMatrix

MATRIX = np.arange(6, dtype=np.float64).reshape(3, 2) / 7


def file(path: str, **more: Any) -> FileMatrix:
    return FileMatrix(kind="file", path=path, **more)


def message(spec: FileMatrix, folder: Path) -> str:
    """The first of the two lines that a user reads."""
    with pytest.raises(InputError) as caught:
        load_matrix_file(spec, folder)
    assert caught.value.exit_code == 2
    first, second = caught.value.lines()
    assert second.strip()
    return first


def write_safetensors(path: Path, header: Any, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i8", "u1", "<u4"])
def test_npy(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.asarray(MATRIX * 7, dtype=dtype, order=order)
    np.save(tmp_path / "w.npy", array)
    matrix, sha256 = load_matrix_file(file("w.npy"), tmp_path)
    assert matrix.dtype == np.float64 and matrix.flags.c_contiguous
    assert np.array_equal(matrix, MATRIX * 7)
    assert sha256 == hashlib.sha256((tmp_path / "w.npy").read_bytes()).hexdigest()
    assert load_matrix_file(file("w.npy", sha256=sha256.upper()), tmp_path)[1] == sha256


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", w=MATRIX)
    np.savez_compressed(tmp_path / "two.npz", **{"layer.w": MATRIX, "other": np.ones(3)})
    assert np.array_equal(load_matrix_file(file("one.npz"), tmp_path)[0], MATRIX)
    assert np.array_equal(load_matrix_file(file("two.npz", tensor="layer.w"), tmp_path)[0], MATRIX)
    assert message(file("two.npz"), tmp_path) == "two.npz holds 2 tensors, and tensor does not say which"
    wanted = message(file("two.npz", tensor="layer.v"), tmp_path)
    assert wanted == "two.npz has no tensor layer.v (did you mean layer.w?)"
    assert "not two dimensions" in message(file("two.npz", tensor="other"), tmp_path)


def test_safetensors(tmp_path: Path) -> None:
    tensors = {"query": MATRIX, "half": MATRIX.astype(np.float16), "count": np.ones((2, 2), dtype=np.int32)}
    save_file(tensors, tmp_path / "w.safetensors")
    for name, tensor in tensors.items():
        matrix, _ = load_matrix_file(file("w.safetensors", tensor=name), tmp_path)
        assert matrix.dtype == np.float64 and np.array_equal(matrix, tensor.astype(np.float64))
    assert message(file("w.safetensors", tensor="querry"), tmp_path).endswith("(did you mean query?)")
    save_file({"only": MATRIX}, tmp_path / "one.safetensors")
    assert np.array_equal(load_matrix_file(file("one.safetensors"), tmp_path)[0], MATRIX)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5], [3.140625, 1e-30]], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    header = {"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}
    write_safetensors(tmp_path / "w.safetensors", header, upper.tobytes())
    matrix, _ = load_matrix_file(file("w.safetensors"), tmp_path)
    assert np.array_equal(matrix, (upper.astype(np.uint32) << 16).view(np.float32))
    assert matrix[0].tolist() == [1.0, -2.5] and matrix[1, 0] == 3.140625


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (
            np.array([[1.0, np.nan], [np.inf, 0.0]]),
            "w.npy is not finite: 2 of its entries, the first at [0, 1]",
        ),
        (np.zeros(3), "w.npy has shape (3,), not two dimensions"),
        (np.zeros((1, 2, 3)), "w.npy has shape (1, 2, 3), not two dimensions"),
        (np.float64(1.0), "w.npy has shape (), not two dimensions"),
        (np.zeros((0, 3)), "w.npy is empty: shape (0, 3)"),
        (np.zeros((2, 2), dtype=complex), "w.npy holds complex128, not real numbers"),
        (np.zeros((2, 2), dtype=bool), "w.npy holds bool, not real numbers"),
        (np.array([["a"]]), "w.npy holds <U1, not real numbers"),
    ],
)
def test_arrays_that_are_no_matrix(tmp_path: Path, array: Any, what: str) -> None:
    np.save(tmp_path / "w.npy", array)
    assert message(file("w.npy"), tmp_path) == what


class Bomb:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    objects = np.array([[Bomb(trap)]], dtype=object)
    np.save(tmp_path / "object.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "object.npz", w=objects)
    raw = pickle.dumps(Bomb(trap))
    for name in ("raw.npy", "raw.npz", "raw.safetensors", "raw.pt", "raw.pkl", "raw.bin", "raw"):
        (tmp_path / name).write_bytes(raw)
    assert "pickle" in message(file("object.npy"), tmp_path)
    assert "pickle" in message(file("object.npz"), tmp_path)
    assert message(file("raw.npy"), tmp_path).startswith("raw.npy is not a .npy file that can be read")
    assert message(file("raw.npz"), tmp_path).startswith("raw.npz is not a .npz file that can be read")
    assert message(file("raw.safetensors"), tmp_path).startswith("raw.safetensors is not a safetensors file")
    for name in ("raw.pt", "raw.pkl", "raw.bin", "raw"):
        assert message(file(name), tmp_path) == f"{name} is not a .npy, .npz or .safetensors file"
    assert not trap.exists()


def npy_header(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00aaaaaaaa",
        b"PK\x03\x04",
        npy_header("(2, 2)"),
        npy_header("(-2, 2)"),
        npy_header("(2, 2"),
        npy_header("('a', 2)"),
        npy_header("__import__('os')"),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"w{suffix}").write_bytes(content)
    assert "that can be read" in message(file(f"w{suffix}"), tmp_path)


def test_a_header_that_asks_for_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.npy").write_bytes(npy_header("(1000000000, 1000000000)"))
    assert "more memory than is free" in message(file("w.npy"), tmp_path)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", npy_header("(1000000000, 1000000000)"))
    assert "more memory than is free" in message(file("w.npz"), tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"w": 3}',
        {"w": {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 32]}},
        {"w": {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "X9", "shape": [1, 1], "data_offsets": [0, 0]}},
    ],
)
def test_damaged_safetensors(tmp_path: Path, header: Any) -> None:
    write_safetensors(tmp_path / "w.safetensors", header)
    assert "is not a safetensors file that can be read" in message(file("w.safetensors"), tmp_path)


def test_safetensors_without_a_matrix(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "none.safetensors", {})
    assert message(file("none.safetensors"), tmp_path) == "none.safetensors holds no tensor"
    header = {"w": {"dtype": "BOOL", "shape": [1, 2], "data_offsets": [0, 2]}}
    write_safetensors(tmp_path / "bool.safetensors", header, b"\0\1")
    assert "holds BOOL, not real numbers" in message(file("bool.safetensors"), tmp_path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    np.save(tmp_path / "weight.npy", MATRIX)
    assert message(file("folder.npy"), tmp_path).endswith("is a folder, not a file")
    assert message(file("wieght.npy"), tmp_path).endswith("(did you mean weight.npy?)")
    assert "there is no file" in message(file("none/w.npy"), tmp_path)
    assert "NUL" in message(file("w\0.npy"), tmp_path)
    assert message(file("x" * 5000 + ".npy"), tmp_path)
    os.mkfifo(tmp_path / "pipe.npy")
    assert message(file("pipe.npy"), tmp_path).endswith("is not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", MATRIX)
    (tmp_path / "w.npy").chmod(0)
    assert "cannot be read" in message(file("w.npy"), tmp_path)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed distribution with weights, whose import would fail."""
    site = tmp_path / "site"
    inside = site / "tiny_weights_for_test"
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("raise RuntimeError('imported')")
    save_file({"w": MATRIX, "v": MATRIX + 1}, inside / "model.safetensors")
    for folder in ("a", "b"):
        (inside / folder).mkdir()
        np.save(inside / folder / "same.npy", MATRIX)
    info = site / "tiny_weights_for_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights-for-test\nVersion: 1.0\n")
    names = ["__init__.py", "model.safetensors", "a/same.npy", "b/same.npy", "gone.npy"]
    record = [f"tiny_weights_for_test/{name},," for name in names] + ["../secret.npy,,"]
    (info / "RECORD").write_text("\n".join(record) + "\n")
    np.save(tmp_path / "secret.npy", MATRIX)
    monkeypatch.syspath_prepend(site)
    return "tiny-weights-for-test"


@pytest.mark.parametrize("path", ["tiny_weights_for_test/model.safetensors", "model.safetensors"])
def test_a_file_of_a_package_is_found_without_importing_it(package: str, tmp_path: Path, path: str) -> None:
    matrix, _ = load_matrix_file(file(path, package=package, tensor="w"), tmp_path / "elsewhere")
    assert np.array_equal(matrix, MATRIX)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("../secret.npy", "the path ../secret.npy leaves the package"),
        ("tiny_weights_for_test/../../secret.npy", "leaves the package"),
        ("/etc/passwd", "the path /etc/passwd leaves the package"),
        ("..\\secret.npy", "leaves the package"),
        ("same.npy", "has 2 files same.npy"),
        ("gone.npy", "no file"),  # in its list, not on disk: some versions of importlib leave it out
        ("secret.npy", "has no file secret.npy"),
        (
            "tiny_weights_for_test/modell.safetensors",
            "(did you mean tiny_weights_for_test/model.safetensors?)",
        ),
    ],
)
def test_paths_that_are_not_in_the_package(package: str, tmp_path: Path, path: str, what: str) -> None:
    assert what in message(file(path, package=package), tmp_path)


@pytest.mark.parametrize("name", ["tiny-wieghts-for-test", "no-such-package-here", "../site", "a/b", " "])
def test_packages_that_are_not_installed(package: str, tmp_path: Path, name: str) -> None:
    text = message(file("w.npy", package=name), tmp_path)
    assert text.startswith(f"the package {name} is not installed")
    if "wieghts" in name:
        assert text.endswith("(did you mean tiny-weights-for-test?)")


def test_an_archive_with_a_strange_member(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, MATRIX)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("../../out.npy", buffer.getvalue())
        archive.writestr("readme.txt", "text")
    assert np.array_equal(load_matrix_file(file("w.npz"), tmp_path)[0], MATRIX)
    assert not (tmp_path.parent.parent / "out.npy").exists()
