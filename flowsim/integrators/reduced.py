"""A flow from a dense Δ without its SVD: in the block Krylov spaces of its start, with a certificate (`reduction`).

The states miss the true ones by about e(t) = ‖Z(t)‖·∫₀ᵗ leak/‖Z‖, the leak being what the true velocity has outside
the spaces (`reduction`): an error that grows as the state itself does, which is so in the linear start, and that never
decays, which is too cautious later. No proof bounds the growth between saddles. Measured on random problems (1/i, 1/√i,
2^-i, flat, clusters, ties; Kaiming, small, zero A, both drawn, orthogonal; ranks 1 to 8, n ≠ m, times to 1e5), e(t) was
above the true error at every one of some 8,000 states of spaces of four blocks and more, 1.6 times at least and 30 as a
rule; with one to three blocks, which do not even hold the leading values, it may be too small. It is not used there:
spaces grow until the leading values are those of Δ, and until e(T) can be expected to take a share of the tolerance:
late states leak what the balanced factors of Δ̃_r leak. Only then the flow is solved, and e(t) computed from its states.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.reduction import PROBES, Ritz, Spaces, scaled_start
from flowsim.integrators.base import Solution
from flowsim.problem.objectives import Adapter, Frobenius

Solve = Callable[[Canonical, Tensor], Solution]

SHARE = 0.1  # of rtol that the certificate may take
CAUTION = 2.0  # the certificate is up to this many times what the end leaks, where two blocks start
RATIO = 2.0  # of one look at the states to the next; the larger of the two leaks counts for all between
LEAST_BLOCKS = 4  # before the spaces are looked at for the first time
USUAL_BLOCKS, MIXED_BLOCKS = 8, 13  # that σ_i = 1/i, or a faster decay, needs to 1e-6 from one factor, from both
ATTEMPTS = 3  # solves before the SVD is taken after all
SMALLEST = 256  # min(n, m) below which an SVD is cheaper whatever the rank (measured on a CPU)
MOST = 0.6  # of min(n, m): more rows than this save too little


def pays(n: int, m: int, columns: int, *, mixed: bool = False) -> bool:
    """Whether a reduction is cheaper than the SVD of an n × m difference where the spectrum decays.

    Measured on one busy core (σ_i = 1/i, B = 0, rtol 1e-6; SVD against reduction): n = 256: 22 and 14 ms at rank 4,
    no reduction at rank 16; n = 384: 70 and 59 ms at rank 16; n = 512: 180 and 23 ms (4), 187 and 71 ms (16);
    n = 1024: 680 and 25 ms (4), 670 and 108 ms (16).

    Parameters
    ----------
    columns : int
        Columns of all members of a batch, S·r: their spaces are shared.
    mixed : bool
        Whether neither factor is zero: each then has a space of its own.
    """
    side = min(n, m)
    blocks = MIXED_BLOCKS if mixed else USUAL_BLOCKS
    return side >= SMALLEST and blocks * (columns + PROBES) <= MOST * side


def solve_reduced(
    objective: Frobenius, adapter: Adapter, times: Tensor, *, solve: Solve, rtol: float, forced: bool = False
) -> tuple[Canonical, Solution] | None:
    """Solve the flow in spaces that hold it to a share of rtol.

    Parameters
    ----------
    objective : Frobenius
        Its SVD is not computed.
    adapter : Adapter
        With or without a batch dimension.
    times : Tensor, (T,)
        Flow times, increasing.
    solve : callable
        (problem, times) → Solution with the states at all of its times: a few more than those that were asked for.
    rtol : float
        Relative tolerance of the states.
    forced : bool
        Try even where it does not pay.

    Returns
    -------
    (Canonical, Solution) or None
        As from `canonical` and `solve`, with fewer rows; `rounding` also bounds what the spaces miss of BCᵀ,
        ‖Z‖²·∫leak/‖Z‖. None where it does not pay, or where more than `MOST` of all directions would be
        needed: take the SVD.
    """
    adapter.fits(objective)
    n, m = objective.shape
    start_b, start_c = scaled_start(adapter)
    mixed = bool(start_b.any()) and bool(start_c.any())
    if not (forced or pays(n, m, start_b.shape[0] * adapter.rank, mixed=mixed)):
        return None
    delta = objective.target - objective.pretrained
    spaces = Spaces.of(delta, start_b, start_c)
    width = spaces.rows
    for _ in range(LEAST_BLOCKS - 1):
        spaces.grow()
    wanted = times.to(torch.float64)
    horizon = adapter.scale * objective.curvature * float(wanted[-1])
    goal = SHARE * rtol
    for _ in range(ATTEMPTS):
        leak = goal / (CAUTION * max(horizon, torch.finfo(torch.float64).tiny))
        ritz = _grown(objective, adapter, spaces, leak, width)
        if ritz is None:
            return None
        problem = ritz.canonical(objective, adapter.scale, spaces)
        looks = _looks(wanted, ritz, problem.clock)
        solution = solve(problem, looks)
        missed = _missed(ritz, solution, looks * problem.clock)
        worst = float(missed.nan_to_num(nan=0.0).max())
        if worst <= SHARE * rtol or spaces.closed:
            return problem, _picked(solution, missed, torch.searchsorted(looks, wanted))
        goal *= 0.5 * SHARE * rtol / worst
        spaces.grow()
    return None


def _grown(objective: Frobenius, adapter: Adapter, spaces: Spaces, goal: float, width: int) -> Ritz | None:
    """Grow spaces, by blocks of `width` rows, until their end leaks no more than `goal` and the leading values hold."""
    most = int(MOST * min(objective.shape))
    before: tuple[int, float] | None = None
    while spaces.rows <= most or spaces.closed:
        ritz = Ritz.of(objective, adapter, spaces)
        leak = ritz.end_leak()
        if ritz.copies and not spaces.whole:
            width += ritz.copies
            spaces.probe(ritz.copies)
            spaces.grow()
            before = None
            continue
        if spaces.closed or (leak <= goal and ritz.trusted(objective.shape)):
            return ritz
        blocks = 1
        if before is not None and before[1] > leak > goal:
            # The leak falls ever faster, and may rise where another value comes into sight: half of what its fall so
            # far asks for is needed at least.
            fall = math.log(before[1] / leak) / (spaces.rows - before[0])
            rows = math.log(leak / goal) / (2 * fall)
            if spaces.rows + rows > most:
                return None
            blocks = max(1, int(rows / width))
        before = spaces.rows, leak
        for _ in range(blocks):
            spaces.grow()
    return None


def _looks(times: Tensor, ritz: Ritz, clock: float) -> Tensor:
    """Flow times at which the leak is looked at: those wanted, and more where they are far apart."""
    size = float((ritz.B.square().sum((-2, -1)) + ritz.C.square().sum((-2, -1))).max())
    speed = clock * (float(ritz.s[0]) + size)
    stop = float(times[-1])
    if stop * speed <= 1:
        return times
    count = math.ceil(math.log(stop * speed) / math.log(RATIO))
    extra = RATIO ** torch.arange(count, dtype=times.dtype, device=times.device) / speed
    after = torch.searchsorted(times, extra).clamp_max(len(times) - 1)
    before = torch.where(after > 0, times[(after - 1).clamp_min(0)], torch.zeros_like(extra))
    lonely = times[after] > RATIO * before
    return torch.unique(torch.cat([times, extra[lonely]]))


def _missed(ritz: Ritz, solution: Solution, clock: Tensor) -> Tensor:
    """∫₀ᵗ leak/‖Z‖ at canonical times (T,), (T, S): between two looks, the larger of them."""
    size = torch.hypot(torch.linalg.matrix_norm(solution.B), torch.linalg.matrix_norm(solution.C))
    share = ritz.leak(solution.B, solution.C) / torch.where(size > 0, size, torch.ones_like(size))
    initial = torch.hypot(torch.linalg.matrix_norm(ritz.B), torch.linalg.matrix_norm(ritz.C))
    first = ritz.leak(ritz.B, ritz.C) / torch.where(initial > 0, initial, torch.ones_like(initial))
    both = torch.cat([first[None], share])
    length = torch.diff(clock, prepend=clock.new_zeros(1)).to(share)
    return (torch.maximum(both[1:], both[:-1]) * length[:, None]).cumsum(0)


def _picked(solution: Solution, missed: Tensor, places: Tensor) -> Solution:
    """The solution at some of its times, with what the spaces miss added to its bound."""
    squares = solution.B.square().sum((-2, -1)) + solution.C.square().sum((-2, -1))
    bound = solution.rounding + missed * squares
    excess = None if solution.excess is None else solution.excess[places]
    return replace(solution, B=solution.B[places], C=solution.C[places], rounding=bound[places], excess=excess)
