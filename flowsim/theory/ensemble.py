"""Trace-squared objective: the relative error of whole kinds of random starts, one factor zero, t = ∞.

For B0 = 0 (or A0 = 0) e² = n/r_eff − 1, r_eff = ‖A0‖⁴/‖A0A0ᵀ‖². Orthonormal rows have r_eff = r, for every draw.
For Gaussian rows mean and variance of e² are exact at every n and r. Squares are averaged, never e itself: the mean
of e lies below √E[e²].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNIFORM_KURTOSIS = -1.2  # excess kurtosis of the uniform distribution


@dataclass(frozen=True)
class Law:
    """Mean and variance of e² over the draws of one kind of start, at ranks (k,).

    Attributes
    ----------
    name : str
    mean : ndarray, (k,)
        E[e²].
    variance : ndarray (k,) or None
        Of one draw; None where no formula is known.
    bias : ndarray, (k,)
        Bound on the error of the mean: zero where it is exact.
    """

    name: str
    mean: Array
    variance: Array | None
    bias: Array


def orthonormal_law(n: int, ranks: Array) -> Law:
    """e² = n/r − 1 for orthogonal rows of one length: no draw has less, for r_eff ≤ r."""
    mean = np.clip(n / np.asarray(ranks, dtype=float) - 1, 0.0, None)
    return Law("orthonormal", mean, np.zeros_like(mean), np.zeros_like(mean))


def gaussian_law(n: int, ranks: Array) -> Law:
    """E[e²] = (n−1)(n+2)/(rn+2) and its variance, for independent normal entries.

    Examples
    --------
    >>> law = gaussian_law(10, np.array([1.0, 4.0]))
    >>> law.mean.round(4).tolist(), law.variance.round(4).tolist()
    ([9.0, 2.5714], [0.0, 0.2178])
    """
    r = np.asarray(ranks, dtype=float)
    rn = r * n
    mean = (n - 1) * (n + 2) / (rn + 2)
    variance = 4 * n**2 * (n - 1) * (n + 2) * (r - 1) * (r + 2) / ((rn + 2) ** 2 * (rn + 4) * (rn + 6))
    return Law("Gaussian", mean, variance, np.zeros_like(mean))


def uniform_law(n: int, ranks: Array) -> Law:
    """E[e²] ≈ n(n+r+1+γ)/(nr+2+γ) − 1 for uniform entries (Kaiming), γ = −1.2, up to O(1/(n²r)) relative."""
    r = np.asarray(ranks, dtype=float)
    mean = n * (n + r + 1 + UNIFORM_KURTOSIS) / (n * r + 2 + UNIFORM_KURTOSIS) - 1
    # Simulated for n = 3 … 20, r = 2 … 5: the mean of e² + 1 is off by 0.4 to 0.9 of 1/(n²r), relative.
    return Law("uniform (Kaiming)", np.clip(mean, 0.0, None), None, (mean + 1) * 2 / (n**2 * r))


def slope_weights(ranks: Array) -> Array:
    """a_i with Σa_i·y_i the least-squares slope of y against ln r, (k,)."""
    x = np.log(ranks) - np.log(ranks).mean()
    weights: Array = x / (x @ x)
    return weights


def power_law(ranks: Array, squares: Array) -> tuple[float, float]:
    """Slope p and constant K of the least-squares line e = K·r^p through e² (k,) on a logarithmic scale.

    Examples
    --------
    >>> slope, constant = power_law(np.array([1.0, 4.0, 16.0]), np.array([9.0, 9.0 / 4, 9.0 / 16]))
    >>> round(slope, 12), round(constant, 12)
    (-0.5, 3.0)
    """
    y = 0.5 * np.log(squares)
    slope = float(slope_weights(ranks) @ y)
    return slope, float(np.exp(y.mean() - slope * np.log(ranks).mean()))
