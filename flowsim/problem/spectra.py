"""The matrices of a scenario: zero, written out, Gaussian, with a chosen spectrum, or read from a file.

Every matrix is an ``(n, m)`` float64 NumPy array. A drawn one is a function of its own seed, its
purpose and its shape alone, so ``pretrained`` and ``target`` with equal seeds are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowsim.errors import InputError
from flowsim.scenario.weights import load_matrix_file

if TYPE_CHECKING:
    from flowsim.scenario.model import Matrix, SingularValues, Target

Array = NDArray[np.float64]


class Purpose(IntEnum):
    """What a random stream is for. The numbers are part of every stored result: never renumber them."""

    A = 0
    B = 1
    PRETRAINED = 2
    TARGET = 3


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """The random stream of one seed and purpose.

    Parameters
    ----------
    seed : int
        A seed of the scenario, 0 or larger.
    purpose : Purpose
        Streams of different purposes are independent, also for equal seeds.
    *key : int
        What else the stream depends on (the rank, where ranks are not nested).

    Returns
    -------
    numpy.random.Generator
        PCG64, named here so that another default of NumPy's changes nothing.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(purpose), *key))))


@dataclass(frozen=True, eq=False)
class SVD:
    """A thin singular value decomposition, M = U diag(S) Vt, with k = min(n, m).

    Attributes
    ----------
    U : ndarray
        ``(n, k)``, left singular vectors in columns.
    S : ndarray
        ``(k,)``, singular values, descending.
    Vt : ndarray
        ``(k, m)``, right singular vectors in rows.
    """

    U: Array
    S: Array
    Vt: Array

    @classmethod
    def of(cls, matrix: Array) -> SVD:
        """Decompose an ``(n, m)`` matrix by LAPACK's gesdd."""
        U, S, Vt = np.linalg.svd(matrix, full_matrices=False)
        return cls(U, S, Vt)


def haar(rng: np.random.Generator, rows: int, cols: int, scale: float = 1.0) -> Array:
    r"""Orthonormal columns, uniform (Haar) on the Stiefel manifold.

    The Q factor of a Gaussian matrix, :math:`Q\,\mathrm{diag}(\mathrm{sign}\,\mathrm{diag}\,R)`.
    Without the sign fix Q is not Haar: LAPACK's Householder convention would decide the sign of det Q.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the Gaussian draw, read column by column: fewer columns of the same stream are the
        first columns of more, up to rounding (LAPACK works in blocks).
    rows, cols : int
        Shape, ``cols <= rows``.
    scale : float
        Factor of the result.

    Returns
    -------
    ndarray
        ``(rows, cols)`` with ``Q.T @ Q = scale**2 * I``.

    Raises
    ------
    InputError
        If ``cols > rows``: so many orthonormal columns do not exist.

    References
    ----------
    F. Mezzadri, "How to generate random matrices from the classical compact groups",
    Notices of the AMS 54 (2007) 592, arXiv:math-ph/0609050.
    """
    if cols > rows:
        raise InputError(
            f"there are no {cols} orthonormal vectors of length {rows}",
            f"Ask for at most {rows}, or draw Gaussian vectors instead.",
        )
    q, upper = np.linalg.qr(rng.standard_normal((cols, rows)).T)
    signs = np.where(np.diagonal(upper) < 0.0, -1.0, 1.0)
    return np.ascontiguousarray(q * (scale * signs))


def singular_values_of(spec: SingularValues, count: int) -> Array:
    """The singular values that a ``spectrum`` matrix asks for.

    Parameters
    ----------
    spec : sequence of float or model
        A list (kept in its order, followed by zeros), or ``power`` (scale * i**-exponent),
        ``geometric`` (scale * ratio**(i-1)) for i = 1, 2, ..., or ``flat`` (``value``, everywhere or
        ``count`` times, then zeros).
    count : int
        How many the matrix has, min(n, m).

    Returns
    -------
    ndarray
        ``(count,)``, in the unit of the matrix.

    Raises
    ------
    InputError
        If more values are asked for than the matrix has, or one is negative or beyond float64.
    """
    index = np.arange(1, count + 1, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        if isinstance(spec, (list, tuple)):
            values = np.asarray(spec, dtype=np.float64)
        elif spec.kind == "power":
            values = spec.scale * index**-spec.exponent
        elif spec.kind == "geometric":
            values = spec.scale * spec.ratio ** (index - 1.0)
        else:
            values = np.full(count if spec.count is None else spec.count, spec.value, dtype=np.float64)
    if values.size > count:
        raise InputError(
            f"{values.size} singular values are given for a matrix that has {count}",
            "Give at most min(n, m) of them, or enlarge the shape.",
        )
    if not np.all(np.isfinite(values)) or np.any(values < 0.0):
        raise InputError(
            "the singular values are not all finite and at least 0",
            "Change the scale, exponent or ratio of the spectrum.",
        )
    return np.concatenate([values, np.zeros(count - values.size)])


def refuse_nonfinite(array: Array, what: str) -> None:
    """Raise InputError if an array, called `what` in the message, has entries beyond float64."""
    if not np.all(np.isfinite(array)):
        raise InputError(f"{what} has entries that are not finite", "Check the values and scales it is made of.")


def build_matrix(spec: Matrix, shape: tuple[int, int], folder: Path, purpose: Purpose = Purpose.PRETRAINED) -> Array:
    """Build the matrix that a scenario describes.

    Parameters
    ----------
    spec : model
        A matrix of the scenario: ``zeros``, ``values``, ``gaussian``, ``spectrum`` or ``file``.
    shape : tuple of int
        The (n, m) that the whole scenario agrees on.
    folder : Path
        What a relative path of a weight file starts from: the scenario's folder.
    purpose : Purpose
        Whose random stream a drawn matrix reads.

    Returns
    -------
    ndarray
        ``(n, m)`` float64, C-contiguous.

    Raises
    ------
    InputError
        If the matrix is not of this shape, not finite, or its file cannot be read.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if spec.kind == "zeros":
            matrix = np.zeros(shape)
        elif spec.kind == "values":
            matrix = np.array(spec.values, dtype=np.float64)
        elif spec.kind == "gaussian":
            matrix = spec.std * stream(spec.seed, purpose).standard_normal(shape)
        elif spec.kind == "spectrum":
            values = singular_values_of(spec.singular_values, min(shape))
            matrix = _with_spectrum(values, shape, spec.symmetric, stream(spec.seed, purpose))
        else:
            matrix = load_matrix_file(spec, folder)[0]
    if matrix.shape != tuple(shape):
        raise InputError(
            f"a {spec.kind} matrix has shape {matrix.shape}, but {tuple(shape)} is needed",
            "Give pretrained and target the same shape.",
        )
    refuse_nonfinite(matrix, f"a {spec.kind} matrix")
    return np.ascontiguousarray(matrix, dtype=np.float64)


def target_matrix(spec: Target, pretrained: Array, folder: Path) -> Array:
    """Build W*, which may be given as a shift of W0.

    Parameters
    ----------
    spec : model
        A matrix, or ``shift`` with the matrix ``by``: W* = W0 + by.
    pretrained : ndarray
        ``(n, m)``, W0.
    folder : Path
        What a relative path of a weight file starts from.

    Returns
    -------
    ndarray
        ``(n, m)`` float64, a new array.

    Raises
    ------
    InputError
        As `build_matrix`.
    """
    n, m = pretrained.shape
    if spec.kind == "shift":
        by = build_matrix(spec.by, (n, m), folder, Purpose.TARGET)
        with np.errstate(over="ignore"):
            target: Array = pretrained + by
        refuse_nonfinite(target, "the shifted target")
        return target
    return build_matrix(spec, (n, m), folder, Purpose.TARGET)


def _with_spectrum(values: Array, shape: tuple[int, int], symmetric: bool, rng: np.random.Generator) -> Array:
    """U diag(values) V^T with Haar U and V, or U diag(values) U^T, exactly symmetric."""
    n, m = shape
    # Only vectors with a nonzero value enter the product: a low-rank matrix costs only its rank.
    used = int(np.max(np.nonzero(values)[0], initial=-1)) + 1
    values = values[:used]
    left = haar(rng, n, used)
    if not symmetric:
        return (left * values) @ haar(rng, m, used).T
    if n != m:
        raise InputError(
            f"a symmetric matrix cannot have shape {(n, m)}",
            "Make it square, or set symmetric: false.",
        )
    product = (left * values) @ left.T
    return 0.5 * (product + product.T)
