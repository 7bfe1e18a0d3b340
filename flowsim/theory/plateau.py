"""Frobenius objective: when a state that hardly moves will move again. No closed form is needed.

Every critical point of ½‖Σ − BCᵀ‖² that is no minimum is a strict saddle (Baldi & Hornik 1989). There the rows of a
mode i that is not yet learnt obey (B_i, C_i)' = (B_i, C_i)·[[−K_a, σ_iI], [σ_iI, −K_b]], K_a = CᵀC, K_b = BᵀB: what
they have in the growing directions grows like e^{μt} until it is of the size √σ_i. A small gradient thus says nothing;
the amplitude in the growing directions says how long a plateau lasts, and whether it ends by rounding only. A state is
near a saddle if its excess loss is that of the modes it lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.theory.frobenius import landscape_of, leading

NEAR = 0.1  # a saddle's excess loss must be met to this part of itself


@dataclass(frozen=True)
class Plateau:
    """What each state (S,) is waiting for.

    Attributes
    ----------
    mode : Tensor
        The leading mode (1 is the strongest) that will be learnt next; 0 where none is missing.
    leaving : Tensor
        Canonical time until it is learnt: ln(√σ/amplitude)/μ; infinite where nothing of the missing modes is there
        above rounding, NaN where none is missing or the state is not near a saddle.
    last : Tensor
        The same of the missing mode that takes longest; what is not there does not count.
    excess : Tensor
        Canonical excess loss of the modes that are missing, less what others learnt in their place save.
    """

    mode: Tensor
    leaving: Tensor
    last: Tensor
    excess: Tensor


def plateau(problem: Canonical, B: Tensor, C: Tensor, members: Sequence[int] | None = None) -> Plateau:
    """The plateau that states (S, q, r) are on; states that are not finite, or not among `members`, wait for nothing.

    Costs one 2r × 2r eigendecomposition for every leading mode that is not yet learnt, near a saddle only.
    """
    batch = B.shape[0]
    found = Plateau(B.new_zeros(batch, dtype=torch.int64), *(B.new_full((batch,), torch.nan) for _ in range(3)))
    for member in range(batch) if members is None else members:
        b, c = B[member], C[member]
        if not bool(torch.isfinite(b).all() & torch.isfinite(c).all()):
            continue
        missing = missing_rows(problem, b, c)
        saddle = _saddle(problem, b, c, [mode for mode, _, _ in missing])
        found.excess[member] = saddle
        excess = landscape_of(problem).excess(b, c)
        if not missing or bool((excess - saddle).abs() > NEAR * saddle):
            continue
        times = [_time(landscape_of(problem).sigma[mode], x, y, b, c) for mode, x, y in missing]
        soonest = min(range(len(times)), key=times.__getitem__)
        found.mode[member] = missing[soonest][0] + 1
        if times[soonest] > 0:  # an amplitude beyond √σ belongs to a state that is unbalanced, not to a plateau
            found.leaving[member] = times[soonest]
            known = [time for time in times if time < float("inf")]
            found.last[member] = max(known, default=float("inf"))
    return found


def missing_rows(problem: Canonical, B: Tensor, C: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Leading modes that one state (q, r) has not learnt, each with its rows of B and C.

    Learnt: more than half of σ is there. Within a tie any directions will do: the rows are turned to those in which
    the state is largest, and as many must be learnt as the rank leaves room for.
    """
    sigma, wanted = landscape_of(problem).sigma, leading(problem)
    learnt = (sigma - (B * C).sum(-1)).abs() <= 0.5 * sigma
    if bool(learnt[wanted].all()):
        return []
    missing = []
    for value in dict.fromkeys(sigma[wanted].tolist()):
        rows = torch.nonzero(sigma == value).flatten()
        X, Y = B[rows], C[rows]
        if len(rows) > 1:
            basis = torch.linalg.svd(X + Y, full_matrices=True)[0]
            X, Y = basis.mT @ X, basis.mT @ Y
        places = [place for place in wanted if float(sigma[place]) == value]
        open_ = [i for i in range(len(rows)) if bool((value - X[i] @ Y[i]).abs() > 0.5 * value)]
        lacking = len(places) - (len(rows) - len(open_))
        missing += [(place, X[i], Y[i]) for place, i in zip(places[::-1], open_[: max(lacking, 0)], strict=False)]
    return missing


def _saddle(problem: Canonical, B: Tensor, C: Tensor, missing: list[int]) -> Tensor:
    """Canonical excess loss of the saddle that a state (q, r) is close to, if it is to any."""
    sigma, wanted = landscape_of(problem).sigma, leading(problem)
    tied = torch.isin(sigma, sigma[wanted])
    instead = ~tied & (sigma > 0) & ((B * C).sum(-1) > 0.5 * sigma)
    return 0.5 * (sigma[missing].square().sum() - sigma[instead].square().sum())


def _time(sigma: Tensor, x: Tensor, y: Tensor, B: Tensor, C: Tensor) -> float:
    """Time until the mode with rows x and y is learnt: 0 if its amplitude is beyond √σ, ∞ if it is rounding."""
    eye = sigma * torch.eye(len(x), dtype=x.dtype, device=x.device)
    block = torch.cat([torch.cat([-C.mT @ C, eye], -1), torch.cat([eye, -B.mT @ B], -1)])
    rates, vectors = torch.linalg.eigh(block)
    amplitude = (torch.cat([x, y]) @ vectors).abs()
    noise = torch.finfo(x.dtype).eps * len(B) * torch.hypot(B.norm(), C.norm())
    usable = (rates > 0) & (amplitude > noise)
    time = torch.log(sigma.sqrt() / amplitude[usable]).clamp_min(0.0) / rates[usable]
    return float(time.min()) if len(time) else float("inf")
