"""What the flow conserves: the imbalance Q = BᵀB − AAᵀ (Du, Hu & Lee 2018; Tarmoun et al. 2021).

Conservation of Q bounds the factors: ‖BᵀB + AAᵀ‖² = ‖Q0‖² + 4‖BA‖² (the identity ‖H‖² − ‖Q‖² = 4⟨BᵀB, AAᵀ⟩ with
Q = Q0), so any loss whose sublevel sets bound W bounds A and B along the flow.
"""

from __future__ import annotations

import torch
from torch import Tensor


def imbalance(B: Tensor, C: Tensor) -> Tensor:
    """Q = BᵀB − CᵀC, (..., r, r)."""
    return B.mT @ B - C.mT @ C


def gram_sum_norm(B: Tensor, C: Tensor) -> Tensor:
    """‖BᵀB + CᵀC‖_F, (...)."""
    return torch.linalg.matrix_norm(B.mT @ B + C.mT @ C)


def balance(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """λ = tr Q/r and whether Q = λI to rounding, both (...).

    Rounding of Q is at most ε·(q + r)·(‖B‖² + ‖C‖²): two Gram sums of q terms each.
    """
    Q = imbalance(B, C)
    rank, rows = B.shape[-1], B.shape[-2]
    value = Q.diagonal(dim1=-2, dim2=-1).sum(-1) / rank
    eye = torch.eye(rank, dtype=B.dtype, device=B.device)
    rest = torch.linalg.matrix_norm(Q - value[..., None, None] * eye)
    size = B.square().sum((-2, -1)) + C.square().sum((-2, -1))
    return value, rest <= torch.finfo(B.dtype).eps * (rows + rank) * size
