"""Rounds: how sequential windows and gradient descent fall on the clock of the flow.

One round of descent is k steps on both factors and advances flow time by k·η; one window of the sequential flow
advances it by h. A state wanted at time t is the one of the nearest round, ties to the earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def nearest_rounds(times: Sequence[float] | np.ndarray, duration: float) -> np.ndarray:
    """Index of the round nearest to each time, ties to the earlier, (T,) int64."""
    position = np.asarray(times, dtype=np.float64) / duration
    # A time that is a tie, or a whole round, in exact arithmetic must stay one after the division.
    slack = 4 * np.finfo(np.float64).eps * np.maximum(position, 1.0)
    return np.maximum(np.ceil(position - 0.5 - slack), 0).astype(np.int64)


def iterate(step: Step, B: Tensor, C: Tensor, rounds: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
    """Apply `step` round after round and keep the states after the given rounds.

    Parameters
    ----------
    step : callable
        (B, C) → (B, C), one round.
    B, C : Tensor, (S, q, r)
    rounds : sequence of int, (T,)
        Non-decreasing; repeated entries are allowed.

    Returns
    -------
    B, C : Tensor, (T, S, q, r)
        From the first state that is not finite on, a member's states are NaN; finite states are kept however
        large. Nothing is read back to the host while iterating.
    """
    kept_b = B.new_empty(len(rounds), *B.shape)
    kept_c = C.new_empty(len(rounds), *C.shape)
    done = 0
    for index, target in enumerate(rounds):
        for _ in range(int(target) - done):
            B, C = step(B, C)
        done = int(target)
        kept_b[index], kept_c[index] = B, C
    finite = torch.isfinite(kept_b).all(-1).all(-1) & torch.isfinite(kept_c).all(-1).all(-1)
    alive = finite.to(torch.int64).cumprod(0).to(torch.bool)[..., None, None]
    nan = torch.full((), torch.nan, dtype=B.dtype, device=B.device)
    return torch.where(alive, kept_b, nan), torch.where(alive, kept_c, nan)
