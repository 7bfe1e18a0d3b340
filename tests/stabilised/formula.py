"""What is demanded of a pair (conditions) and what is made small (goals), as functions of its coefficients.

A pair is one vector: the strictly lower triangle of A (s × s) by rows, the weights b, and the s + 1 weights e of the
error estimate, the last of which belongs to the slope at the new state. All functions take leading dimensions and
complex numbers, so that derivatives are exact to rounding (complex step).
"""

from __future__ import annotations

import math

import numpy as np

from tests.stabilised.polynomial import longest
from tests.stabilised.trees import Series

Array = np.ndarray

ORDER = 5
DAMPING = 0.95
LEAD = 0.12 / math.factorial(ORDER)  # coefficient of z^5 in the estimate: fixes its size
NODES = 20  # of the interval, where functions of z are made small
# Sizes that count as one: errors of order 6, functions of the interval, stage polynomials, what becomes of an error in
# a stage, coefficients.
ERROR, ZD, ESTIMATE, STAGES, STAGE_D, INTERNAL, COEFFICIENT = 2e-4, 0.1, 1.0, 5.0, 2.0, 30.0, 10.0


class Formula:
    """Conditions and goals of pairs with s stages.

    The polynomial is the longest there is, or the one that is given as (length of the interval, powers).
    """

    def __init__(self, stages: int, polynomial: tuple[float, tuple[float, ...]] | None = None) -> None:
        self.stages = stages
        self.series = Series(ORDER + 1)
        self.interval, self.powers = polynomial or longest(stages, ORDER, DAMPING)
        self.target = np.array(self.powers)
        self.lower = np.tril_indices(stages, -1)
        self.size = len(self.lower[0]) + 2 * stages + 1
        self.z = -self.interval * np.sin(np.linspace(0.06, 1, NODES) * np.pi / 2) ** 2

    def split(self, x: Array) -> tuple[Array, Array, Array]:
        """A, b, e."""
        s, triangle = self.stages, len(self.lower[0])
        A = np.zeros((*x.shape[:-1], s, s), x.dtype)
        A[..., self.lower[0], self.lower[1]] = x[..., :triangle]
        return A, x[..., triangle : triangle + s], x[..., triangle + s :]

    def join(self, A: Array, b: Array, e: Array) -> Array:
        return np.concatenate([A[self.lower], b, e])

    def conditions(self, x: Array) -> Array:
        """Zero for a pair: orders 5 and 4, the stability polynomial, the size of the estimate."""
        y, estimate = self._series(x)
        order, density = self.series.order, self.series.density
        solution = (y * density - 1)[..., order <= ORDER]
        embedded = (estimate * density)[..., order < ORDER]
        lead = estimate[..., self.series.tall(ORDER), None] / LEAD - 1
        polynomial = self.stability(x)[..., ORDER:] / self.target[ORDER + 1 :] - 1
        return np.concatenate([solution, polynomial, 2.5 * embedded, lead], axis=-1)

    def goals(self, x: Array) -> Array:
        """The residuals whose sum of squares is minimised."""
        y, _ = self._series(x)
        top = self.series.order > ORDER
        error = ((y - 1 / self.series.density) / self.series.symmetry)[..., top]
        V, bV, eV = self._interval_functions(x)
        lead = x.shape[:-1]
        return np.concatenate(
            [
                error / ERROR,
                (self.z[:, None] * bV[..., 1:] / ZD).reshape(*lead, -1),
                (self.z[:, None] * eV / ESTIMATE).reshape(*lead, -1),
                V[..., 0].reshape(*lead, -1) / STAGES,
                V[..., 1].reshape(*lead, -1) / STAGE_D,
                self._internal(x).reshape(*lead, -1) / INTERNAL,
                x / COEFFICIENT,
            ],
            axis=-1,
        )

    def stability(self, x: Array) -> Array:
        """Coefficients of z, …, z^s in the stability function, bᵀA^{k−1}1."""
        A, b, _ = self.split(x)
        v, found = np.ones_like(b), []
        for _ in range(self.stages):
            found.append((b * v).sum(-1))
            v = np.einsum("...ij,...j->...i", A, v)
        return np.stack(found, axis=-1)

    def _series(self, x: Array) -> tuple[Array, Array]:
        """Series of the solution and of the estimate."""
        A, b, e = self.split(x)
        s = self.stages
        K = np.zeros((*x.shape[:-1], s, len(self.series.trees)), x.dtype)
        for i in range(s):
            K[..., i, :] = self.series.slope(np.einsum("...j,...jn->...n", A[..., i, :i], K[..., :i, :]))
        y = np.einsum("...j,...jn->...n", b, K)
        estimate = np.einsum("...j,...jn->...n", e[..., :s], K) + e[..., s, None] * self.series.slope(y)
        return y, estimate

    def _interval_functions(self, x: Array) -> tuple[Array, Array, Array]:
        """V = (I − zA)⁻¹(1, r_2, r_3), bᵀV and the same of the estimate (without r_3); r_j = c^j/j! − Ac^{j−1}/(j−1)!.

        z·bᵀV are R(z) − 1 and the order-reduction functions zD_2, zD_3.
        """
        A, b, e = self.split(x)
        s, z = self.stages, self.z
        c = A.sum(-1)
        r2 = c**2 / 2 - np.einsum("...ij,...j->...i", A, c)
        r3 = c**3 / 6 - np.einsum("...ij,...j->...i", A, c**2) / 2
        right = np.stack([np.ones_like(c), r2, r3], axis=-1)
        V = np.zeros((*c.shape, len(z), 3), x.dtype)
        for i in range(s):
            V[..., i, :, :] = right[..., i, None, :]
            V[..., i, :, :] += z[:, None] * np.einsum("...j,...jzk->...zk", A[..., i, :i], V[..., :i, :, :])
        bV = np.einsum("...i,...izk->...zk", b, V)
        eV = np.einsum("...i,...izk->...zk", e[..., :s], V[..., :2])
        last = np.stack([1 + z * bV[..., 0], z * bV[..., 1]], axis=-1)
        return V, bV, eV + e[..., s, None, None] * last

    def _internal(self, x: Array) -> Array:
        """z·bᵀ(I − zA)⁻¹, (..., s, nodes): what a step makes of an error in a stage."""
        A, b, _ = self.split(x)
        s, z = self.stages, self.z
        U = np.zeros((*b.shape, len(z)), x.dtype)
        for i in reversed(range(s)):
            U[..., i, :] = b[..., i, None] + z * np.einsum("...j,...jz->...z", A[..., i + 1 :, i], U[..., i + 1 :, :])
        return z * U


def jacobian(function, x: Array) -> Array:
    """Derivative of a residual at x by the complex step."""
    step = 1e-30
    return function(x + 1j * step * np.eye(len(x))).imag.T / step
