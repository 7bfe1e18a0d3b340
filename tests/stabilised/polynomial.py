"""Stability polynomials with the longest damped real interval for a degree and an order, by linear programming."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from scipy.optimize import linprog

GAP = 1.0  # |R(z)| is damped for z ≤ −GAP
GRID = 600
HALVINGS = 26


def _best(degree: int, order: int, length: float) -> tuple[float, np.ndarray | None]:
    """Smallest max |R| on [−length, −GAP], R(z) = Σ b_k T_k(1 + 2z/length) = 1 + z + … + z^order/order! + …, and b."""
    equal, right = [], []
    for i in range(order + 1):
        unit = np.eye(degree + 1)
        row = [chebyshev.chebval(1.0, chebyshev.chebder(unit[k], i)) if i <= k else 0.0 for k in range(degree + 1)]
        row = np.array(row) * (2 / length) ** i
        equal.append(np.r_[row, 0.0] / abs(row).max())
        right.append(1 / abs(row).max())
    x = np.cos(np.linspace(0, np.pi, GRID))
    x = x[(x - 1) * length / 2 <= -GAP]
    V, ones = chebyshev.chebvander(x, degree), np.ones((len(x), 1))
    result = linprog(
        np.r_[np.zeros(degree + 1), 1.0], A_ub=np.block([[V, -ones], [-V, -ones]]), b_ub=np.zeros(2 * len(x)),
        A_eq=np.array(equal), b_eq=right, bounds=[(None, None)] * (degree + 2), method="highs",
    )  # fmt: skip
    return (result.fun, result.x[:-1]) if result.status == 0 else (np.inf, None)


@cache
def longest(degree: int, order: int, damping: float) -> tuple[float, tuple[float, ...]]:
    """Length of the interval and coefficients of R by powers of z, by bisection of the length."""
    low, high, best = 0.05 * degree**2, 0.6 * degree**2, None
    for _ in range(HALVINGS):
        length = (low + high) / 2
        value, b = _best(degree, order, length)
        if value <= damping:
            low, best = length, b
        else:
            high = length
    if best is None:
        raise ValueError(f"no polynomial of degree {degree} and order {order} has damping {damping}")
    powers = Polynomial(chebyshev.cheb2poly(best))(Polynomial([1.0, 2 / low]))
    return low, tuple(powers.coef.tolist())
