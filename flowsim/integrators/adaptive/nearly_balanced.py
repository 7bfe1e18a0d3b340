"""Which starts are nearly balanced, so that the splitting around the exact flow suits them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsim.dynamics.invariants import imbalance
from flowsim.integrators.exact.balanced import imbalance_value, rotated_modes

#: ‖E‖/σ_1 for each column, and the most of it, at which the splitting costs as much as a stabilised or plain
#: Runge–Kutta pair with errors of 1e-6 (ranks 4 to 64, σ_i = 1/i): these take more steps the larger the rank.
UNEVEN, MOST_UNEVEN = 6e-5, 5e-3
ROUNDING_SHARE = 0.1  # of rtol: what rounding may do to a step


def turned(start: Tensor) -> tuple[Tensor, Tensor]:
    """The start (S, 2, q, r) in the columns in which BᵀB − CᵀC is diagonal, and the turn O (S, r, r): start·O."""
    Q = imbalance(start[:, 0], start[:, 1])
    value = Q.diagonal(dim1=-2, dim2=-1).mean(-1)
    eye = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    turn = torch.linalg.eigh(Q - value[:, None, None] * eye).eigenvectors
    return start @ turn[:, None], turn


def applicable(sigma: Tensor, start: Tensor, *, rtol: float, even: bool = True) -> list[str]:
    """For each start of (S, 2, q, r) why this method does not suit it, or an empty string; read by the host.

    The error and the number of steps grow with ‖E‖/σ_1. The exact flow squares the condition number of the r leading
    rows (of length 1 each), so that the rounding of a step is ε·cond². A leading row that is zero, because a mode of
    Δ is absent from the start or B and A cancel in it, has no graph. Without `even` any imbalance is taken: it costs
    steps, nothing else.
    """
    rank, rows = start.shape[-1], start.shape[-2]
    if rank > rows:
        return ["more columns than rows"] * len(start)
    limit = min(UNEVEN * rank, MOST_UNEVEN) if even else math.inf
    most = (ROUNDING_SHARE * rtol / torch.finfo(start.dtype).eps) ** 0.5
    return [_reason(sigma, one, limit, most) for one in start]


def _reason(sigma: Tensor, one: Tensor, limit: float, most: float) -> str:
    if not bool(torch.isfinite(one).all()):
        return "the start is not finite"
    if not bool(sigma[0] > 0):
        return "no singular value"
    (y,), _ = turned(one[None])
    value = imbalance_value(y[:1], y[1:])
    own = imbalance(y[0], y[1]).diagonal(dim1=-2, dim2=-1)
    uneven = float((own - value).abs().max() / sigma[0])
    if uneven > limit:
        return f"imbalance: ‖Λ − λI‖/σ_1 = {uneven:.1e} is above {limit:.1e}"
    length, (values,) = _leading(sigma, y[None], value)
    if bool((length <= torch.finfo(y.dtype).eps * sum(y.shape) * torch.linalg.vector_norm(y)).any()):
        return "a leading mode is absent"
    if not bool(values[0] <= most * values[-1]):
        return f"dependent leading rows: condition {float(values[0] / values[-1]):.1e} is above {most:.1e}"
    return ""


def leading_condition(sigma: Tensor, start: Tensor) -> Tensor:
    """Condition number of the r leading rows, scaled to length 1, of each start (S, 2, q, r), (S,)."""
    y, _ = turned(start)
    _, values = _leading(sigma, y, imbalance_value(y[:, 0], y[:, 1]))
    return values[:, 0] / values[:, -1]


def _leading(sigma: Tensor, y: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (S, r, 1) of the r leading rows, and singular values (S, r) of these rows scaled to length 1."""
    _, cos, sin = rotated_modes(sigma, value)
    rank = y.shape[-1]
    lead = (cos[..., None] * y[:, 0] + sin[..., None] * y[:, 1])[:, :rank]
    length = torch.linalg.vector_norm(lead, dim=-1, keepdim=True)
    return length, torch.linalg.svdvals(lead / torch.where(length > 0, length, 1.0))
