"""Stability of gradient descent at a minimum: multipliers of one linearised round, gauge directions removed.

Frobenius, at BA = Δ_r with K_a = AAᵀ (eigenvalues α), K_b = BᵀB (eigenvalues β). Simultaneous: 1 − η·λ over the
Hessian's spectrum: α_i + β_j, the blocks [[K_a, −σI], [−σI, K_b]] of the singular values σ beyond rank r, and α_i
(β_i) for directions that only B (only A) has. A then B: (1 − ηβ_i)(1 − ηα_j), the eigenvalues of
[[I − ηK_b, ησI], [ησ(I − ηK_b), I − ηK_a + η²σ²I]], and 1 − ηα_i (1 − ηβ_i); B then A with the roles swapped.
Trace-squared, at τ = 0: 1 − η(a + b), or (1 − ηa)(1 − ηb), with a = ‖A‖², b = ‖B‖². A minimum is stable while no
multiplier exceeds 1 in size. The sequential Jacobian is not symmetric: growth over one round says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape


def round_multiplier(problem: Canonical, B: Tensor, C: Tensor, update: str, step: float) -> Tensor:
    """Largest size of a multiplier of one round with k = 1 at minima (S, q, r), canonical step, (S,)."""
    landscape = problem.landscape
    if not isinstance(landscape, FrobeniusLandscape):
        a, b = C.square().sum((-2, -1)), B.square().sum((-2, -1))
        one = 1 - step * (a + b) if update == "simultaneous" else (1 - step * a) * (1 - step * b)
        return one.abs()
    gram_a, gram_b = C.mT @ C, B.mT @ B
    if update == "b_first":
        gram_a, gram_b = gram_b, gram_a
    alpha, beta = torch.linalg.eigvalsh(gram_a), torch.linalg.eigvalsh(gram_b)
    pairs = alpha[..., :, None] + beta[..., None, :]
    if update != "simultaneous":
        pairs = pairs - step * alpha[..., :, None] * beta[..., None, :]
    sizes = [(1 - step * pairs).abs().flatten(1).amax(-1)]
    for sigma in torch.unique(landscape.sigma[problem.rank : landscape.pairs]).tolist():
        sizes.append(_beyond(gram_a, gram_b, sigma, step, update))
    if len(landscape.sigma) > landscape.pairs:
        # Rows past p belong to one side: to B if n > m, whose decay is by K_a, to A otherwise.
        lone = problem.B[:, landscape.pairs :].any() == (update != "b_first")
        sizes.append((1 - step * (alpha if bool(lone) else beta)).abs().amax(-1))
    return torch.stack(sizes).amax(0)


def _beyond(gram_a: Tensor, gram_b: Tensor, sigma: float, step: float, update: str) -> Tensor:
    """Largest multiplier of the directions of one singular value beyond rank r, (S,)."""
    eye = torch.eye(gram_a.shape[-1], dtype=gram_a.dtype, device=gram_a.device).expand_as(gram_a)
    if update == "simultaneous":
        hessian = torch.cat(
            [torch.cat([gram_a, -sigma * eye], dim=-1), torch.cat([-sigma * eye, gram_b], dim=-1)], dim=-2
        )
        return (1 - step * torch.linalg.eigvalsh(hessian)).abs().amax(-1)
    moved = eye - step * gram_b
    jacobian = torch.cat(
        [
            torch.cat([moved, step * sigma * eye], dim=-1),
            torch.cat([step * sigma * moved, eye - step * gram_a + (step * sigma) ** 2 * eye], dim=-1),
        ],
        dim=-2,
    )
    return torch.linalg.eigvals(jacobian).abs().amax(-1)
