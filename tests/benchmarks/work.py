"""The problems that are timed: a specification, and the arrays it stands for, the same in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from scipy.fft import dct, idct

Array = np.ndarray
SIZES = {"small": 1e-2, "middle": 0.15, "large": 1.0}


@dataclass(frozen=True)
class Work:
    """One or several trajectories from time 0 to `horizon` on one n × n objective.

    Attributes
    ----------
    kind : str
        `frobenius` (σ_i = 1/i, W0 = 0) or `trace_squared` (W0 Gaussian with entries of variance 1/n).
    start : str
        `small`, `middle`, `large`: A and B Gaussian with standard deviation 1e-2/√n, 0.15/√n, 1/√n; `kaiming`: A
        uniform in ±1/√n, B = 0.
    times : str
        `even`: `saves` equal intervals; `growing`: geometric from horizon/1000.
    """

    n: int
    ranks: tuple[int, ...]
    horizon: float
    seeds: int = 1
    saves: int = 50
    kind: str = "frobenius"
    start: str = "small"
    times: str = "even"

    @cached_property
    def grid(self) -> Array:
        """Wanted times (T,), all positive: at time 0 every engine knows the answer."""
        if self.times == "growing":
            return np.geomspace(self.horizon / 1000, self.horizon, self.saves)
        return np.linspace(0, self.horizon, self.saves + 1)[1:]

    @property
    def digest(self) -> str:
        """Name of this specification."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def sigma(self) -> Array:
        """σ_i = 1/i, (n,)."""
        return 1.0 / np.arange(1, self.n + 1)

    @cached_property
    def left(self) -> Basis:
        """Left singular vectors of the difference."""
        return Basis(self.n, 1)

    @cached_property
    def right(self) -> Basis:
        """Right singular vectors of the difference."""
        return Basis(self.n, 2)

    @cached_property
    def pretrained(self) -> Array:
        """W0, (n, n)."""
        if self.kind == "frobenius":
            return np.zeros((self.n, self.n))
        return np.random.default_rng([self.n, 3]).standard_normal((self.n, self.n)) / np.sqrt(self.n)

    @cached_property
    def target(self) -> Array:
        """W* = Δ of the Frobenius objective as a dense matrix, (n, n)."""
        return np.ascontiguousarray(self.left.out(self.right.out(np.diag(self.sigma)).T))

    def factors(self, rank: int) -> tuple[Array, Array]:
        """A (seeds, rank, n) and B (seeds, n, rank) at time 0; the seeds of every rank are its own."""
        rng = np.random.default_rng([self.n, rank, 4])
        A_shape, B_shape = (self.seeds, rank, self.n), (self.seeds, self.n, rank)
        if self.start == "kaiming":
            return rng.uniform(-1, 1, A_shape) / np.sqrt(self.n), np.zeros(B_shape)
        size = SIZES[self.start] / np.sqrt(self.n)
        return size * rng.standard_normal(A_shape), size * rng.standard_normal(B_shape)


@dataclass(frozen=True)
class Basis:
    """An orthogonal n × n matrix without zeros, known by its action: cosine transforms between random signs."""

    n: int
    seed: int

    @cached_property
    def _signs(self) -> Array:
        return np.random.default_rng([self.n, self.seed]).choice([-1.0, 1.0], (2, self.n, 1))

    def out(self, X: Array) -> Array:
        """U·X for X (..., n, k): from singular coordinates to the user's."""
        return _along(dct, self._signs[1] * _along(dct, self._signs[0] * X))

    def into(self, X: Array) -> Array:
        """Uᵀ·X for X (..., n, k)."""
        return self._signs[0] * _along(idct, self._signs[1] * _along(idct, X))


def _along(transform: Callable[..., Array], X: Array) -> Array:
    return transform(X, norm="ortho", axis=-2)
