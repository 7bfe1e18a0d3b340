"""Where a state stands: its excess loss, the error that it may have, and whether it has arrived."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowsim.integrators.adaptive.stepper import norm

REST = 0.5  # of the tolerance: the whole way left of a state that has arrived


class Standing(NamedTuple):
    """What a state says of itself.

    Attributes
    ----------
    gram : Tensor, (S, 2, r, r)
        Grams of B and C.
    excess : Tensor, (S,)
        f̂ − ½Σ_{i>r}σ_i².
    rest : Tensor, (S,)
        The time for which the state does not move: the largest number if it has arrived, else 0.
    allowed, slack : Tensor, (S,)
        The error allowed in what is judged, and what that is in BCᵀ.
    """

    gram: Tensor
    excess: Tensor
    rest: Tensor
    allowed: Tensor
    slack: Tensor


def standing(
    sigma: Tensor, y: Tensor, curvature: Tensor, *, rtol: float, atol: float, factors: bool
) -> Standing:  # fmt: skip
    """Judge states (S, 2, q, r) on ½‖Σ − BCᵀ‖².

    Parameters
    ----------
    curvature : Tensor, (S,)
        Half the least eigenvalue, apart from the gauge's zeros, of the Hessian of f̂ at its minimum.
    factors : bool
        Whether B and C themselves are judged, ‖e‖ ≤ atol·√N + rtol·‖Z‖, or BCᵀ, ‖e‖ ≤ atol·q + rtol·‖BCᵀ‖.

    Notes
    -----
    As in `FrobeniusLandscape.excess`, no term of the size of the floor enters the excess; near a tie of σ_r and
    σ_{r+1} terms of the size of σ_r² may, and cancel.

    A product of rank r has 2·excess ≥ (1 − σ_{r+1}/σ_r)·‖BCᵀ − Δ_r‖², with equality for a direction turned from mode
    r to mode r + 1, and the loss never rises: that bounds every later BCᵀ. For B and C, with ‖∇f̂‖² ≥ 2μ·excess the
    whole way left is at most √(2·excess/μ) (Łojasiewicz 1963); near the minimum that holds for half of its Hessian's
    least eigenvalue, since the Hessian changes by 3‖Z‖ per distance at most.
    """
    rank, rows = y.shape[-1], y.shape[-2]
    lead, others = y[:, :, :rank], y[:, :, rank:]
    near, far = lead.mT @ lead, others.mT @ others
    gram = near + far
    miss = torch.diag(sigma[:rank]) - torch.bmm(lead[:, 0], lead[:, 1].mT)
    # ‖B1C2ᵀ‖² + ‖B2C1ᵀ‖² + ‖B2C2ᵀ‖²
    cross = (near[:, 0] * far[:, 1] + far[:, 0] * gram[:, 1]).sum((-2, -1))
    whole = 0.5 * (miss.square().sum((-2, -1)) + cross)
    tail = (others[:, 0] * others[:, 1]).sum(-1) @ sigma[rank:]
    excess, eps = whole - tail, torch.finfo(y.dtype).eps * (rows + rank)
    # The largest that the excess may be: its sums are known to a relative ε, and `miss` to ε·σ_1.
    above = excess.clamp_min(0.0) + eps * (whole + tail.abs() + eps * sigma[0].square())
    if factors:
        size = norm(y)
        allowed = atol * y[0].numel() ** 0.5 + rtol * size
        way = REST * allowed
        arrived = (2 * above <= curvature * way.square()) & (3 * size * way <= curvature)
        slack = allowed * size
    else:
        product = (gram[:, 0] * gram[:, 1]).sum((-2, -1)).clamp_min(0.0).sqrt()
        slack = allowed = atol * rows + rtol * product
        arrived = 8 * above <= _gap(sigma, rank) * (REST * allowed).square()
    # A number, since what is carried has to be finite.
    forever = torch.full_like(allowed, torch.finfo(y.dtype).max)
    return Standing(gram, excess, torch.where(arrived, forever, 0.0), allowed, slack)


def _gap(sigma: Tensor, rank: int) -> Tensor:
    """1 − σ_{r+1}/σ_r; 1 where there is nothing beyond σ_r."""
    first, second = sigma[rank - 1], sigma[rank : rank + 1].sum()
    return torch.where(second > 0, 1 - second / first, 1.0)
