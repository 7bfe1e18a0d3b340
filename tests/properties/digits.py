"""Closed forms in many digits for numbers exactly as they are drawn, by other algebra than the package's.

A mode of the Frobenius flow is the matrix S = [[λ/2, σ], [σ, −λ/2]] with S² = ω²I; its spectral projectors ½(I ± S/ω)
take the place of angles. The trace flow is the quotient of the two solutions of one linear equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from tests.oracles.reference import Array

Exact = np.ndarray  # of mpf
exact = np.vectorize(mpf, otypes=[object])
KICKS = 5
LONGEST = 1600  # Dt beyond which e^{−Dt} is nothing in any double, nor is its root

Kick = Callable[[Any], Any]


def evolved(sigma: Array, value: Array, B: Array, C: Array, t: float) -> tuple[Exact, Exact, list[Exact]]:
    """e^{St}Z as B and C, (q, r) each, and ZᵀΦZ of every row, Φ = ∫_0^t e^{2Ss}ds; λ is given for every row."""
    t, rows_b, rows_c, grams = mpf(t), [], [], []
    for s, v, *z in zip(exact(sigma), exact(value), exact(B), exact(C), strict=True):
        b, c = z
        omega = mpmath.sqrt(s**2 + v**2 / 4)
        unit_s, unit_v = (s / omega, v / omega / 2) if omega else (mpf(0), mpf(0))
        turned_b, turned_c = unit_v * b + unit_s * c, unit_s * b - unit_v * c
        up, down = mpmath.exp(omega * t), mpmath.exp(-omega * t)
        rising, falling = ((up**2 - 1) / omega / 2, (1 - down**2) / omega / 2) if omega else (2 * t, 2 * t)
        plus, minus = ((b + turned_b) / 2, (c + turned_c) / 2), ((b - turned_b) / 2, (c - turned_c) / 2)
        rows_b.append(up * plus[0] + down * minus[0])
        rows_c.append(up * plus[1] + down * minus[1])
        grams.append(sum(rising * np.outer(x, x) for x in plus) + sum(falling * np.outer(x, x) for x in minus))
    return np.array(rows_b), np.array(rows_c), grams


def inverse(N: Exact) -> Exact:
    """By Gauss and Jordan; N is positive definite, hence needs no pivoting."""
    N, M = N.copy(), exact(np.eye(len(N)))
    for k in range(len(N)):
        pivot = N[k, k]
        N[k], M[k] = N[k] / pivot, M[k] / pivot
        for i in range(len(N)):
            if i != k:
                M[i], N[i] = M[i] - N[i, k] * M[k], N[i] - N[i, k] * N[k]
    return M


def balanced_product(sigma: Array, value: float, B: Array, C: Array, t: float) -> Array:
    """BCᵀ of the λ-balanced flow: e^{St}Z(I + ZᵀΦZ)⁻¹Zᵀe^{St}, whose inverse cancels up to e^{4ωt}."""
    exponent = float(np.hypot(sigma.max(), value / 2)) * t
    with mpmath.workdps(60 + int(4 * exponent / np.log(10))):
        left, right, grams = evolved(sigma, np.full(len(sigma), value), B, C, t)
        return np.array(left @ inverse(exact(np.eye(B.shape[1])) + sum(grams)) @ right.T, dtype=float)


def rank_one(sigma: Array, B: Array, C: Array, t: float) -> tuple[Array, Array]:
    """B and C of the flow from any two columns (q, 1): one λ and one denominator."""
    with mpmath.workdps(300):
        value = np.sum(exact(B) ** 2) - np.sum(exact(C) ** 2)
        left, right, grams = evolved(sigma, np.full(len(sigma), value), B, C, t)
        root = mpmath.sqrt(1 + sum(grams)[0, 0])
        return np.array(left / root, dtype=float), np.array(right / root, dtype=float)


def aligned(sigma: Array, b: Array, a: Array, t: float) -> tuple[Array, Array]:
    """Amplitudes b and a (q,) of modes that each have their own λ and their own denominator."""
    with mpmath.workdps(300):
        value = exact(b) ** 2 - exact(a) ** 2
        left, right, grams = evolved(sigma, value, b[:, None], a[:, None], t)
        roots = np.array([mpmath.sqrt(1 + gram[0, 0]) for gram in grams])
        return np.array(left[:, 0] / roots, dtype=float), np.array(right[:, 0] / roots, dtype=float)


def trace_squared(w: float, U: mpf, V: mpf, t: float) -> tuple[mpf, mpf, mpf]:
    """u/u0, v/v0 and τ at time t: x = p/q, where (p, q) starts at (1, 1) and obeys one linear equation.

    p' = wp + ½Uq, q' = ½Vp − wq, whose matrix has the square ¼D²I; all over the common factor e^{Dt/2}.
    """
    w, t = mpf(w), mpf(t)
    D = mpmath.sqrt(4 * w**2 + U * V)
    if D == 0:
        p, q = 1 + U * t / 2, 1 + V * t / 2
    else:
        z = mpmath.exp(-D * t) if D * t < LONGEST else mpf(0)
        c, s = (1 + z) / 2, (1 - z) / D
        p, q = c + s * (w + U / 2), c + s * (V / 2 - w)
    shrink, grow = (mpmath.sqrt(q / p) if U else mpf(0)), (mpmath.sqrt(p / q) if V else mpf(0))
    return shrink, grow, w + (U * shrink**2 - V * grow**2) / 4


def spread(run: Callable[[Kick], Array], noise: float) -> tuple[Array, float]:
    """A result, and how far it moves if its inputs move by a relative `noise`, the worst of a few directions.

    A method that is stable in the mixed sense, as a closed form can be at best, stays within that.
    """
    rng = np.random.default_rng(0)

    def kick(x: Any) -> Any:
        # Two standard deviations: no direction is missed for chance, as with mere signs.
        size = 2 * rng.standard_normal(np.shape(x))
        return x * (1 + noise * (size if np.shape(x) else float(size)))

    base = run(lambda x: x)
    return base, max(float(np.linalg.norm(run(kick) - base)) for _ in range(KICKS))
