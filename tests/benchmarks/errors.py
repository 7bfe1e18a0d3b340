"""How far a solution is from the reference."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.work import Array


def product_error(A: Array, B: Array, A_ref: Array, B_ref: Array) -> float:
    """Largest ‖BA − BA_ref‖_F/‖BA_ref‖_F over all leading dimensions; no n × n matrix is formed.

    [B, B_ref] = Q_b R_b and [Aᵀ, A_refᵀ] = Q_a R_a turn the difference into one of 2r × 2r matrices.
    """
    r = B.shape[-1]
    R_b = np.linalg.qr(np.concatenate([B, B_ref], -1), mode="r")
    R_a = np.linalg.qr(np.swapaxes(np.concatenate([A, A_ref], -2), -1, -2), mode="r")
    R_a = np.swapaxes(R_a, -1, -2)
    exact = R_b[..., r:] @ R_a[..., r:, :]
    return _largest(R_b[..., :r] @ R_a[..., :r, :] - exact, exact)


def factor_error(A: Array, B: Array, A_ref: Array, B_ref: Array) -> float:
    """Largest relative error of A or of B over all leading dimensions."""
    return max(_largest(A - A_ref, A_ref), _largest(B - B_ref, B_ref))


def _largest(difference: Array, exact: Array) -> float:
    """NaN, the error of a run that did not reach the end, counts as infinite."""
    wrong, size = (np.sqrt(np.square(X).sum((-2, -1))) for X in (difference, exact))
    relative = wrong / np.where(size > 0, size, 1.0)
    return float(np.where(np.isnan(relative), np.inf, relative).max())
