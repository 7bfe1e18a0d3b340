"""Functions of the state that a solve keeps where the states themselves are not wanted, in canonical units."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.invariants import imbalance
from flowsim.dynamics.landscape import Landscape

Functions = dict[str, Tensor]


def pull_norm(landscape: Landscape, B: Tensor, C: Tensor) -> Tensor:
    """√(‖pull on B‖² + ‖pull on C‖²), (...)."""
    return torch.hypot(*(torch.linalg.matrix_norm(pull) for pull in (landscape.pull(B, C), landscape.pull(C, B))))


def imbalance_drift(B: Tensor, C: Tensor, start: Tensor) -> Tensor:
    """‖Q − Q0‖, (...), from factors (..., S, q, r) and Q0 (S, r, r)."""
    return torch.linalg.matrix_norm(imbalance(B, C) - start)


def functions_of(landscape: Landscape, B: Tensor, C: Tensor, start: Tensor, excess: Tensor | None = None) -> Functions:
    """Excess, pull norm and imbalance drift of factors (T, S, q, r), (T, S) each.

    Parameters
    ----------
    start : Tensor, (S, r, r)
        Q0.
    excess : Tensor, (T, S), optional
        The excess loss where it is known better than the states say.
    """
    return {
        "excess": landscape.excess(B, C) if excess is None else excess,
        "pull_norm": pull_norm(landscape, B, C),
        "imbalance_drift": imbalance_drift(B, C, start),
    }
