"""Tight references: SciPy's DOP853 in coordinates in which the flow is cheap, sharing no code with flowsim.

Frobenius in the singular basis, which the problem knows by construction: Ċ and Ḃ are ΣB − C(BᵀB) and ΣC − B(CᵀC)
with C = Aᵀ. Trace-squared as it stands. Every wanted time is the end of a step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

from tests.benchmarks.work import Array, Work

RTOL, ATOL = 1e-11, 1e-15
#: The slowest mode of a generic start dies like e^{−(σ_r − σ_{r+1})t} once the r-th is found, which takes less time
#: than that: after 2·36 time constants, e^−36 < ε, the state stands.
SETTLED = 2 * 36.0


def reference(work: Work, rank: int, folder: Path, members: int | None = None) -> tuple[Array, Array]:
    """A (T, S, r, n) and B (T, S, n, r) of the flow at `work.grid`, from the disk where it was solved before."""
    A0, B0 = (X[:members] for X in work.factors(rank))
    B, C = B0, np.swapaxes(A0, -1, -2)
    spectral = work.kind == "frobenius"
    if spectral:
        B, C = work.left.into(B), work.right.into(C)
    known = hashlib.sha256(Path(__file__).read_bytes())
    for part in (work.sigma, work.pretrained.trace(), work.grid, B, C):
        known.update(np.ascontiguousarray(part).tobytes())
    file = folder / f"{work.kind}-{known.hexdigest()[:24]}.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        B, C = integrated(work.sigma, B, C, work.grid) if spectral else _trace_squared(work, B, C)
        unfinished = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, B=B, C=C)
        unfinished.rename(file)
    with np.load(file) as saved:
        B, C = saved["B"], saved["C"]
    if spectral:
        B, C = work.left.out(B), work.right.out(C)
    return np.swapaxes(C, -1, -2), B


def _trace_squared(work: Work, B: Array, C: Array) -> tuple[Array, Array]:
    trace = work.pretrained.trace()

    def slopes(B: Array, C: Array) -> tuple[Array, Array]:
        tau = trace + (B * C).sum((-2, -1), keepdims=True)
        return -tau * C, -tau * B

    return _stepped(slopes, B, C, work.grid, np.inf)


def integrated(sigma: Array, B: Array, C: Array, times: Array) -> tuple[Array, Array]:
    """B and C, (T, S, q, r) each, of the Frobenius flow in the singular basis from factors (S, q, r)."""
    column, rank = sigma[:, None], B.shape[-1]

    def slopes(B: Array, C: Array) -> tuple[Array, Array]:
        return column * C - B @ (np.swapaxes(C, -1, -2) @ C), column * B - C @ (np.swapaxes(B, -1, -2) @ B)

    gap = sigma[rank - 1] - (sigma[rank] if rank < len(sigma) else 0.0)
    return _stepped(slopes, B, C, times, SETTLED / gap if gap > 0 else np.inf)


def _stepped(
    slopes: Callable[[Array, Array], tuple[Array, Array]], B: Array, C: Array, times: Array, last: float
) -> tuple[Array, Array]:
    """States at `times`; what comes after time `last` is the state there."""
    shape = (2, *B.shape)

    def field(_: float, y: Array) -> Array:
        return np.stack(slopes(*y.reshape(shape))).ravel()

    y, clock, states = np.stack([B, C]).ravel(), 0.0, []
    for time in np.minimum(times, last):
        if time > clock:
            solved = solve_ivp(field, (clock, time), y, method="DOP853", rtol=RTOL, atol=ATOL, t_eval=[time])
            if not solved.success:
                raise ArithmeticError(f"the reference failed: {solved.message}")
            y, clock = solved.y[:, -1], time
        states.append(y.reshape(shape))
    B, C = np.stack(states, axis=1)
    return B, C
