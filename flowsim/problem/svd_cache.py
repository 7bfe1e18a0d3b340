"""Singular value decompositions on disk, by content: a large difference is decomposed once, not once a run.

An entry's name is the SHA-256 of the matrix and of all that its decomposition's last bits may depend on, so that a run
gives the same result with and without it. Nothing that is read is believed: names, types and sizes must be those of
this matrix, and the factors must decompose it, which random vectors tell at the cost of a few products. Whatever is
wrong with the folder or an entry, the matrix is decomposed as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import shutil
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from flowsim.problem.objectives import thin_svd

FORMAT = "flowsim-svd-1"
SMALLEST = 512  # min(n, m) from which the SVD takes longer than reading it (70 ms here, 0.4 s at 1024)
MOST_BYTES = 2 * 2**30  # of all entries together: eight of n = m = 4096
STALE_SECONDS = 3600.0  # after which an unfinished file belongs to no writer
NAMES = ("U", "values", "Vh")
HEADER_BYTES = 4096  # more than an entry has besides its numbers
TRIALS = 4  # random vectors that an entry is tried on


@dataclass(frozen=True)
class SvdCache:
    """`objectives.thin_svd` with a memory.

    Attributes
    ----------
    folder : Path
        Made when first needed; may be removed at any time.
    """

    folder: Path

    def __call__(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U (n, p), singular values (p,) and Vᵀ (p, m)."""
        if min(matrix.shape) < SMALLEST:
            return thin_svd(matrix)
        path = self.folder / f"{_digest(matrix)}.npz"
        found = _read(path, matrix)
        if found is None:
            found = thin_svd(matrix)
            with contextlib.suppress(OSError):
                self._write(path, found)
        else:
            with contextlib.suppress(OSError):
                os.utime(path)  # the entries used last are the last to go
        return found

    def _write(self, path: Path, parts: tuple[Tensor, Tensor, Tensor]) -> None:
        size = sum(part.numel() * part.element_size() for part in parts) + HEADER_BYTES
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        if size > MOST_BYTES or 2 * size > shutil.disk_usage(self.folder).free:
            return
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                U, values, Vh = (part.cpu().numpy() for part in parts)
                np.savez(file, U=U, values=values, Vh=Vh)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove what was used longest ago, and unfinished files that no one writes any more."""
        now = time.time()
        for part in self.folder.glob(".*.part"):
            if now - part.stat().st_mtime > STALE_SECONDS:
                part.unlink(missing_ok=True)
        entries = sorted((entry.stat().st_mtime, entry.stat().st_size, entry) for entry in self.folder.glob("*.npz"))
        total = sum(entry[1] for entry in entries) + size
        for _, bytes_, entry in entries:
            if total <= MOST_BYTES:
                return
            entry.unlink(missing_ok=True)
            total -= bytes_


def _digest(matrix: Tensor) -> str:
    """The name of a matrix's entry: its numbers, and the library and machine that would decompose it."""
    device = torch.cuda.get_device_name(matrix.device) if matrix.is_cuda else matrix.device.type
    about = (
        FORMAT, torch.__version__, device, platform.machine(), torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(), str(matrix.dtype), tuple(matrix.shape),
    )  # fmt: skip
    found = hashlib.sha256(repr(about).encode())
    found.update(matrix.contiguous().cpu().numpy().reshape(-1).data)
    return found.hexdigest()


def _read(path: Path, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """An entry that decomposes the matrix; None where there is none."""
    n, m = matrix.shape
    p = min(n, m)
    dtype = np.dtype(str(matrix.dtype).removeprefix("torch."))
    parts: list[np.ndarray] = []
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sorted(one.filename for one in entries) != sorted(f"{name}.npy" for name in NAMES):
                return None
            if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
                return None
            for name, shape in zip(NAMES, ((n, p), (p,), (p, m)), strict=True):
                with archive.open(f"{name}.npy") as file:
                    part = _array(file, shape, dtype)
                if part is None:
                    return None
                parts.append(part)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    # Memory of torch's own: how an array is aligned decides how its products are rounded.
    U, values, Vh = (torch.from_numpy(part).clone().to(matrix.device) for part in parts)
    return (U, values, Vh) if _decomposes(U, values, Vh, matrix) else None


def _array(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """The array of an .npy stream that begins as one of that shape and type does: no header is interpreted."""
    orders = {_header(shape, dtype, fortran): fortran for fortran in (False, True)}
    fortran = orders.get(file.read(max(map(len, orders))))
    size = int(np.prod(shape)) * dtype.itemsize
    # One more is asked for: a stream that goes on is not this array, and the check sum is compared at its end only.
    content = bytearray(file.read(size + 1)) if fortran is not None else b""
    if len(content) != size:
        return None
    flat = np.frombuffer(content, dtype=dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _header(shape: tuple[int, ...], dtype: np.dtype, fortran: bool) -> bytes:
    """How an .npy file begins (its length is a multiple of 64, the same for both orders)."""
    header = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()


def _decomposes(U: Tensor, values: Tensor, Vh: Tensor, matrix: Tensor) -> bool:
    """Whether UᵀU = VᵀV = I, M = U·diag(values)·Vᵀ and values fall, on random vectors, as far as an SVD is exact."""
    n, m = matrix.shape
    if not bool(torch.isfinite(values).all() & (values[:-1] >= values[1:]).all() & (values[-1] >= 0)):
        return False
    noise = torch.finfo(matrix.dtype).eps * (n + m)
    x = torch.randn(m, TRIALS, dtype=matrix.dtype, device=matrix.device)
    y = torch.randn(len(values), TRIALS, dtype=matrix.dtype, device=matrix.device)
    pairs = (
        (matrix @ x, U @ (values[:, None] * (Vh @ x)), values[0] * torch.linalg.matrix_norm(x)),
        (U.mT @ (U @ y), y, torch.linalg.matrix_norm(y)),
        (Vh @ (Vh.mT @ y), y, torch.linalg.matrix_norm(y)),
    )
    return all(bool(torch.linalg.matrix_norm(first - second) <= noise * size) for first, second, size in pairs)
