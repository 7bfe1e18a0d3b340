"""Frobenius objective: when a state that hardly moves will move again. No closed form is needed.

Every critical point of ½‖Σ − BCᵀ‖² that is no minimum is a strict saddle (Baldi & Hornik 1989). There the rows of a
mode i that is not yet learnt obey (B_i, C_i)' = (B_i, C_i)·[[−K_a, σ_iI], [σ_iI, −K_b]], K_a = CᵀC, K_b = BᵀB: what
they have in the growing directions grows like e^{μt} until it is of the size √σ_i. A small gradient thus says nothing;
the amplitude in the growing directions says how long a plateau lasts, and whether it ends by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.theory.frobenius import landscape_of, leading


@dataclass(frozen=True)
class Plateau:
    """What each state (S,) is waiting for.

    Attributes
    ----------
    mode : Tensor
        The leading mode (1 is the strongest) that will be learnt next; 0 where none is missing.
    leaving : Tensor
        Canonical time until it is learnt: ln(√σ/amplitude)/μ; infinite where nothing of it is there above rounding,
        NaN where no mode is missing.
    """

    mode: Tensor
    leaving: Tensor


def plateau(problem: Canonical, B: Tensor, C: Tensor, members: Sequence[int] | None = None) -> Plateau:
    """The plateau that states (S, q, r) are on; states that are not finite, or not among `members`, wait for nothing.

    Costs one 2r × 2r eigendecomposition for every leading mode that is not yet learnt.
    """
    sigma = landscape_of(problem).sigma
    batch, rank = B.shape[0], B.shape[-1]
    mode, leaving = B.new_zeros(batch, dtype=torch.int64), B.new_full((batch,), torch.nan)
    finite = torch.isfinite(B).flatten(1).all(-1) & torch.isfinite(C).flatten(1).all(-1)
    eye = torch.eye(rank, dtype=B.dtype, device=B.device)
    for member in range(batch) if members is None else members:
        if not bool(finite[member]):
            continue
        b, c = B[member], C[member]
        gram_a, gram_b = c.mT @ c, b.mT @ b
        noise = torch.finfo(B.dtype).eps * len(sigma) * float(torch.hypot(b.norm(), c.norm()))
        for i in leading(problem):
            if bool((sigma[i] - b[i] @ c[i]).abs() <= 0.5 * sigma[i]):
                continue
            block = torch.cat([torch.cat([-gram_a, sigma[i] * eye], -1), torch.cat([sigma[i] * eye, -gram_b], -1)])
            rates, vectors = torch.linalg.eigh(block)
            amplitude = (torch.cat([b[i], c[i]]) @ vectors).abs()
            usable = (rates > 0) & (amplitude > noise)
            time = torch.log(sigma[i].sqrt() / amplitude[usable]).clamp_min(0.0) / rates[usable]
            soonest = time.min() if len(time) else time.new_tensor(torch.inf)
            if not bool(leaving[member] <= soonest):
                mode[member], leaving[member] = i + 1, soonest
    return Plateau(mode, leaving)
