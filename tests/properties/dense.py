"""DOP853 in the user's coordinates, its own error, and what rounding of the start may become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.oracles import reference as ref
from tests.oracles.reference import EPS, Array, Factors


def flow(loss: ref.Loss, A: Array, B: Array, times: Sequence[float], rtol: float, pieces: int = 1) -> Factors:
    """`ref.flow` in units in which the start has a norm near 1, so that a tiny start is resolved as well.

    A, B → A/k, B/k with Δ → Δ/k² and t → tk² is a symmetry of both flows; powers of two do it without rounding.
    The way to each time is cut into `pieces`, each one step at least.
    """
    k = 2.0 ** np.round(np.log2(np.hypot(np.linalg.norm(A), np.linalg.norm(B)) or 1.0))
    target = None if loss.target is None else loss.target / k**2
    unit = ref.Loss(loss.W0 / k**2, target, loss.c, loss.s)
    with np.errstate(all="ignore"):  # a trial step that overflows is rejected
        shares = np.arange(1, pieces + 1) / pieces
        ways = [a + (b - a) * shares for a, b in zip([0.0, *times], times, strict=False)]
        moved_a, moved_b = ref.flow(unit, A / k, B / k, k**2 * np.concatenate(ways), rtol)
    return k * moved_a[pieces - 1 :: pieces], k * moved_b[pieces - 1 :: pieces]


def length(A: Array, B: Array) -> Array:
    """‖[A; B]‖ of each state."""
    return np.sqrt((A**2).sum((-2, -1)) + (B**2).sum((-2, -1)))


def size_of(A: Array, B: Array) -> Array:
    """The same for a divisor: never zero."""
    return np.maximum(length(A, B), np.finfo(np.float64).tiny)


def rounding(loss: ref.Loss, A0: Array, B0: Array, times: Sequence[float], size: Array, off: float = 0.0) -> Array:
    """What rounding of the start, and of the weights for all the time, may do to √s·[A; B] of norms `size`, (T,).

    Each of the n + m + r terms of a sum gives one ε; the start may be `off` besides. What an error of the start
    becomes is the measured amplification.
    """
    start = np.sqrt(loss.s) * float(np.hypot(np.linalg.norm(A0), np.linalg.norm(B0)))
    grown = ref.amplification(lambda X, Y: flow(loss, X, Y, times, 1e-9), A0, B0) if start else 1.0
    turns = 1 + weights(loss) * np.asarray(times)
    return (off + EPS * (sum(A0.shape) + len(B0)) * turns) * (grown * start + np.maximum.accumulate(size))


@dataclass(frozen=True)
class Judged:
    """√s·A and √s·B (T, ...) by DOP853, their norm (T,), and what a right answer may differ by, (T,) each."""

    A: Array
    B: Array
    size: Array
    factors: Array
    product: Array

    def errors(self, A: Array, B: Array) -> tuple[Array, Array]:
        """Distances of √s·A and √s·B from the flow's, and of their products, (T,) each."""
        return length(A - self.A, B - self.B), np.linalg.norm(B @ A - self.B @ self.A, axis=(-2, -1))


def judge(loss: ref.Loss, A0: Array, B0: Array, times: Sequence[float]) -> Judged:
    """DOP853 may be off by its tolerance in each piece, as if the start were, and by what ten times as much changes.

    The estimate of one step can be fooled, at both tolerances alike: in pieces twice as long its error is 2⁸ times it.
    """
    rtol, pieces = 1e-12, 16
    right, looser = (flow(loss, A0, B0, times, x * rtol, k) for x, k in ((1, pieces), (10, pieces // 2)))
    (A, B), (C, D) = ((np.sqrt(loss.s) * X for X in pair) for pair in (right, looser))
    size = size_of(A, B)
    off = rounding(loss, A0, B0, times, size, pieces * rtol)
    return Judged(A, B, size, length(A - C, B - D) + off, np.linalg.norm(B @ A - D @ C, axis=(-2, -1)) + 2 * size * off)


def weights(loss: ref.Loss) -> float:
    """The size of the given weights as a rate: their rounding acts for all the time."""
    size = np.abs(np.diag(loss.W0)).sum() if loss.target is None else np.linalg.norm([loss.W0, loss.target])
    return 2 * loss.s * loss.c * float(size)


@dataclass(frozen=True)
class Beginning:
    """The first instants of s·BA: its derivative, a bound on its second one, and a rate below which both are good.

    With R = −∇f/κ the canonical P' = RCCᵀ + BBᵀR, and ‖P''‖ ≤ ‖R‖‖Z‖⁴ + 2‖R‖²‖Z‖².
    """

    slope: Array
    bend: float
    rate: float
    size: float

    @classmethod
    def of(cls, loss: ref.Loss, A: Array, B: Array) -> Beginning:
        dA, dB = loss.slopes(A, B)
        clock, size = 2 * loss.s * loss.c, loss.s * float((A**2).sum() + (B**2).sum())
        residual = float(np.linalg.norm(loss.gradient(A, B))) / (2 * loss.c)
        bend = clock**2 * (residual * size**2 + 2 * residual**2 * size)
        rate = clock * (residual + size) + weights(loss)
        return cls(loss.s * (dB @ A + B @ dA), bend, rate or 1.0, size)

    def check(self, change: Array, t: float, rounding: float) -> None:
        """s·BA moved by t times its derivative: the second derivative is above its bound by (1 + rate·t)² at most."""
        allowed = self.bend * t**2 / 2 * (1 + self.rate * t) ** 4 + rounding
        assert np.linalg.norm(change - t * self.slope) <= allowed, (np.linalg.norm(change - t * self.slope), allowed)
