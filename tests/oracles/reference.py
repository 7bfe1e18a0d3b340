"""Plain NumPy and SciPy versions of what flowsim computes, in the user's own coordinates.

Nothing here is shared with the package: full n × m weights, the two gradients as they stand in a textbook, no
canonical coordinates, no singular basis, no closed form with stable terms. W = W0 + s·B·A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mpmath
import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm

Array = np.ndarray
Factors = tuple[Array, Array]
EPS = float(np.finfo(np.float64).eps)
UPDATES = ("simultaneous", "a_first", "b_first")


@dataclass(frozen=True)
class Loss:
    """f(W) = c‖W − W*‖² with a target, f(W) = c(tr W)² without; W = W0 + s·B·A."""

    W0: Array
    target: Array | None
    c: float = 0.5
    s: float = 1.0

    def weight(self, A: Array, B: Array) -> Array:
        return self.W0 + self.s * (B @ A)

    def value(self, A: Array, B: Array) -> float:
        W = self.weight(A, B)
        return float(self.c * (np.trace(W) ** 2 if self.target is None else np.sum((W - self.target) ** 2)))

    def gradient(self, A: Array, B: Array) -> Array:
        """∇f at W."""
        W = self.weight(A, B)
        if self.target is None:
            return 2 * self.c * np.trace(W) * np.eye(len(W))
        return 2 * self.c * (W - self.target)

    def slopes(self, A: Array, B: Array) -> Factors:
        """−∂f/∂A and −∂f/∂B."""
        G = self.gradient(A, B)
        return -self.s * B.T @ G, -self.s * G @ A.T


def pack(A: Array, B: Array) -> Array:
    return np.concatenate([A.ravel(), B.ravel()])


def unpack(y: Array, A0: Array, B0: Array) -> Factors:
    return y[: A0.size].reshape(A0.shape), y[A0.size :].reshape(B0.shape)


def flow(loss: Loss, A0: Array, B0: Array, times: Sequence[float] | Array, rtol: float = 1e-12) -> Factors:
    """A (T, r, m) and B (T, n, r) of the gradient flow by DOP853; every time is the end of a step."""

    def field(_: float, y: Array) -> Array:
        return pack(*loss.slopes(*unpack(y, A0, B0)))

    y, clock, states = pack(A0, B0), 0.0, []
    size = max(float(np.linalg.norm(y)), 1e-3)
    for time in times:
        if time > clock:
            solved = solve_ivp(field, (clock, time), y, method="DOP853", rtol=rtol, atol=rtol * 1e-2 * size)
            assert solved.success, solved.message
            y, clock = solved.y[:, -1], float(time)
        states.append(unpack(y, A0, B0))
    return np.stack([A for A, _ in states]), np.stack([B for _, B in states])


def descent(
    loss: Loss, A: Array, B: Array, rate: float, rounds: int, update: str = "simultaneous", inner: int = 1
) -> Factors:
    """A (rounds + 1, r, m) and B of gradient descent, one plain loop; overflow gives inf and NaN in silence."""
    kept = [(A, B)]
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            A, B = one_round(loss, A, B, rate, update, inner)
            kept.append((A, B))
    return np.stack([a for a, _ in kept]), np.stack([b for _, b in kept])


def one_round(loss: Loss, A: Array, B: Array, rate: float, update: str, inner: int) -> Factors:
    if update == "simultaneous":
        for _ in range(inner):
            dA, dB = loss.slopes(A, B)
            A, B = A + rate * dA, B + rate * dB
        return A, B
    for which in "AB" if update == "a_first" else "BA":
        for _ in range(inner):
            dA, dB = loss.slopes(A, B)
            A, B = (A + rate * dA, B) if which == "A" else (A, B + rate * dB)
    return A, B


def relax(loss: Loss, A: Array, B: Array, which: str, h: float) -> Factors:
    """The flow of one factor alone for a time h: a linear equation, solved by a dense matrix exponential."""
    moving = A if which == "A" else B

    def slope(flat: Array) -> Array:
        X = flat.reshape(moving.shape)
        return loss.slopes(X, B)[0].ravel() if which == "A" else loss.slopes(A, X)[1].ravel()

    size = moving.size
    offset = slope(np.zeros(size))
    matrix = np.stack([slope(e) - offset for e in np.eye(size)], axis=1)
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size], whole[:size, -1] = matrix, offset
    moved = (expm(h * whole) @ np.append(moving.ravel(), 1.0))[:size].reshape(moving.shape)
    return (moved, B) if which == "A" else (A, moved)


def window(loss: Loss, A: Array, B: Array, update: str, h: float) -> Factors:
    """One window of the sequential flow."""
    sequence = {"a_first": ("A", "B"), "b_first": ("B", "A"), "symmetric": ("A", "B", "A")}[update]
    for which in sequence:
        share = h / 2 if update == "symmetric" and which == "A" else h
        A, B = relax(loss, A, B, which, share)
    return A, B


def windows(loss: Loss, A: Array, B: Array, update: str, h: float, count: int) -> Factors:
    kept = [(A, B)]
    for _ in range(count):
        A, B = window(loss, A, B, update, h)
        kept.append((A, B))
    return np.stack([a for a, _ in kept]), np.stack([b for _, b in kept])


def imbalance(A: Array, B: Array) -> Array:
    return np.swapaxes(B, -1, -2) @ B - A @ np.swapaxes(A, -1, -2)


def amplification(run: Callable[[Array, Array], Factors], A0: Array, B0: Array, seed: int = 0) -> float:
    """How much a run enlarges a small change of its start, the worst of four directions, at least 1.

    The rounding errors of n operations, each of relative size ε, then leave at most about n·ε times this.
    """
    rng, base = np.random.default_rng(seed), run(A0, B0)
    size = 1e-7 * float(np.hypot(np.linalg.norm(A0), np.linalg.norm(B0)))
    worst = 1.0
    for _ in range(4):
        kick = rng.standard_normal(A0.size + B0.size)
        dA, dB = unpack(kick * size / np.linalg.norm(kick), A0, B0)
        moved = run(A0 + dA, B0 + dB)
        change = np.sqrt(sum(((x - y) ** 2).sum((-2, -1)) for x, y in zip(moved, base, strict=True)))
        worst = max(worst, float(change.max()) / size)
    return worst


# Closed forms in many digits, by other algebra than the package's.


def balanced_product(delta: Array, A0: Array, B0: Array, value: float, t: float, digits: int = 60) -> Array:
    """BA at time t of the λ-balanced flow of ½‖Δ − BA‖², from the Hamiltonian form of its Riccati equation.

    P = ZZᵀ obeys P' = SP + PS − P²; with X' = −SX + Y, Y' = SY, X(0) = I, Y(0) = P0 one has P = YX⁻¹.
    """
    n, m = delta.shape
    with mpmath.workdps(digits):
        S = mpmath.zeros(n + m)
        for i in range(n + m):
            S[i, i] = mpmath.mpf(value) / 2 * (1 if i < n else -1)
        for i in range(n):
            for j in range(m):
                S[i, n + j] = S[n + j, i] = mpmath.mpf(float(delta[i, j]))
        Z = mpmath.matrix(np.concatenate([B0, A0.T]).tolist())
        size = n + m
        whole = mpmath.zeros(2 * size)
        whole[:size, :size], whole[size:, size:] = -S, S
        for i in range(size):
            whole[i, size + i] = 1
        start = mpmath.zeros(2 * size, size)
        start[:size, :], start[size:, :] = mpmath.eye(size), Z * Z.T
        end = mpmath.expm(whole * mpmath.mpf(t)) * start
        P = end[size:, :] * mpmath.inverse(end[:size, :])
        return np.array([[float(P[i, n + j]) for j in range(m)] for i in range(n)])


def trace_of(w: float, A0: Array, B0: Array, kappa: float, t: float, digits: int = 60) -> float:
    """τ(t) of the trace-squared flow for ‖u0‖, ‖v0‖ > 0, by partial fractions of x' = (κ/2)(U + 4wx − Vx²)."""
    with mpmath.workdps(digits):
        U = mpmath.fsum(mpmath.mpf(x) ** 2 for x in (B0 + A0.T).ravel().tolist())
        V = mpmath.fsum(mpmath.mpf(x) ** 2 for x in (B0 - A0.T).ravel().tolist())
        w = mpmath.mpf(w)
        D = mpmath.sqrt(4 * w * w + U * V)
        high, low = (2 * w + D) / V, (2 * w - D) / V
        ratio = (1 - high) / (1 - low) * mpmath.exp(-mpmath.mpf(kappa) * D * mpmath.mpf(t))
        x = (high - low * ratio) / (1 - ratio)
        return float(w + (U / x - V * x) / 4)


# Starts.


def haar(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Orthonormal columns, uniformly distributed."""
    Q, R = np.linalg.qr(rng.standard_normal((rows, columns)))
    return Q * np.sign(np.diag(R))


def balanced_start(rng: np.random.Generator, n: int, m: int, r: int, value: float, size: float = 0.6) -> Factors:
    """Both factors nonzero with BᵀB − AAᵀ = value·I to rounding, of the largest rank that exists."""
    if value < 0:
        B, A = balanced_start(rng, m, n, r, -value, size)
        return A.T, B.T
    if value == 0:
        k = min(n, m, r)
        values = size * (0.5 + rng.random(k))
        gauge = haar(rng, r, k)
        return (gauge * values) @ haar(rng, m, k).T, (haar(rng, n, k) * values) @ gauge.T
    A = size * rng.standard_normal((r, m)) / np.sqrt(m)
    squares, vectors = np.linalg.eigh(A @ A.T + value * np.eye(r))
    return A, haar(rng, n, r) @ ((vectors * np.sqrt(squares)) @ vectors.T)


def starts(rng: np.random.Generator, delta: Array, r: int) -> dict[str, Factors]:
    """One start of every kind that exists at this shape and rank, by name."""
    n, m = delta.shape
    A, B = 0.7 * rng.standard_normal((r, m)), 0.7 * rng.standard_normal((n, r))
    found = {
        "gaussian": (A, B),
        "B=0": (A, np.zeros_like(B)),
        "A=0": (np.zeros_like(A), B),
        "balanced": balanced_start(rng, n, m, r, 0.0),
        "rank one": (A[:1].repeat(r, 0), B[:, :1].repeat(r, 1)),
    }
    if r <= m:
        found["orthogonal"] = 0.8 * haar(rng, m, r).T, np.zeros_like(B)
        found["balanced<0"] = balanced_start(rng, n, m, r, -0.5)
    if r <= n:
        found["orthogonal, A=0"] = np.zeros_like(A), 0.8 * haar(rng, n, r)
        found["balanced>0"] = balanced_start(rng, n, m, r, 0.5)
    if r <= min(n, m):
        U, values, Vt = np.linalg.svd(delta)
        root = np.sqrt(values[:r])
        found["spectral"] = 0.5 * root[:, None] * Vt[:r], 0.2 * U[:, :r] * root
    return found


def stack(many: dict[str, Factors]) -> Factors:
    """All starts as one batch."""
    return np.stack([A for A, _ in many.values()]), np.stack([B for _, B in many.values()])
