"""Weight files as float64 matrices: one matrix of a .npy, .npz or .safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flowsim.scenario.array_files import WeightError, as_float64, listed, not_real, read_arrays, suggestion

if TYPE_CHECKING:
    from flowsim.scenario.matrices import FileMatrix

__all__ = ["load_matrix_file"]

Array = npt.NDArray[np.float64]


def load_matrix_file(spec: FileMatrix, folder: Path) -> tuple[Array, str]:
    """Read the matrix that a scenario's ``file`` names.

    Parameters
    ----------
    spec : FileMatrix
        Path, and optionally tensor, package and sha256.
    folder : Path
        What a relative path starts from (the scenario's folder); ignored with `package`.

    Returns
    -------
    matrix : ndarray
        ``(n, m)`` float64, C-contiguous, finite; float16 and bfloat16 are widened exactly.
    sha256 : str
        Of the whole file, 64 hexadecimal digits.

    Raises
    ------
    InputError
        If the file or package is missing or unreadable, has another sha256, is not of the three formats,
        lacks the tensor, or the tensor is not a finite 2-D array of real numbers.
    """

    def choose(names: Sequence[str] | None, file: str) -> Sequence[str]:
        return _chosen(names, spec.tensor, file)

    arrays, digest = read_arrays(spec, folder, choose, _two_dimensions)
    (array,) = arrays.values()
    file = Path(spec.path).name
    name = file if spec.tensor is None else f"{spec.tensor} of {file}"
    if array.dtype.kind not in "fiu":
        raise not_real(name, array.dtype)
    return as_float64(array, name), digest


def _chosen(names: Sequence[str] | None, tensor: str | None, file: str) -> Sequence[str]:
    """The tensor to read of a file that holds `names`."""
    if names is None:
        if tensor is not None:
            raise WeightError(f"{file} holds a single matrix, without a name", "Remove tensor.", "tensor")
        return ()
    if not names:
        raise WeightError(f"{file} holds no tensor", "Name a file that holds a matrix.")
    if tensor is None:
        if len(names) == 1:
            return names
        raise WeightError(
            f"{file} holds {len(names)} tensors, and tensor does not say which",
            f"Set tensor: {listed(names)}",
            "tensor",
        )
    if tensor not in names:
        raise WeightError(
            f"{file} has no tensor {tensor}{suggestion(tensor, names)}",
            f"It holds: {listed(names)}",
            "tensor",
        )
    return (tensor,)


def _two_dimensions(shape: Sequence[int], name: str) -> None:
    if len(shape) != 2:
        raise WeightError(f"{name} has shape {tuple(shape)}, not two dimensions", "Name a matrix: rows and columns.")
