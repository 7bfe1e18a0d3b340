"""Closed form of the λ-balanced Frobenius flow (BᵀB − AAᵀ = λI), any shape, any rank, rank-deficient included.

P = ZZᵀ with Z = [B; C] solves a matrix Riccati equation whose linear part is diagonal in the rotated rows
X = cos θ·B + sin θ·C (rate +ω), Y = cos θ·C − sin θ·B (rate −ω), ω_i = √(σ_i² + λ²/4) (Fukumizu 1998; Braun et
al. 2022; Dominé et al. 2024, arXiv 2409.14623). With coefficients c = [X; Y] and e = [ω; −ω], over a time h,

    c⁺ = e^{eh}c·M,   M·Mᵀ = N⁻¹,   N = I + Σ_j φ(e_j)c_jc_jᵀ,   φ(e) = (e^{2eh} − 1)/(2e).

The product BCᵀ does not depend on which root M is taken. The factors themselves need M = N^{−½}O, where the
rotation O' = KO, O(0) = I, is skew-driven (`_rotation`). Rank 1 is always balanced, and there O = 1.
Sub-steps with ωh ≤ cap keep the rounding below ε·e^{cap} each; a long time is passed in one step (`one_shot`) as soon
as that has the smaller bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.base import Solution, Status, rotated_bound
from flowsim.integrators.exact.grams import shifted_root, surely_independent
from flowsim.integrators.exact.one_moving import Rows
from flowsim.integrators.exact.one_shot import Rates, jump, pivots_of

CAP = 4.0  # ω·h of one sub-step: rounding e^4 ≈ 55 ε
BLOCK = 32  # sub-steps after which one step for all the rest is tried
JUMP_ROUNDING = 16.0  # rounding of one step, in units of ε times the condition number of its pivots
MOST_STEPS = 200_000  # sub-steps of one solve
ROTATION_STEP = 1.0 / 32  # ω·h of one sixth-order Magnus step: error of A and B about 1e-13


def rotated_modes(sigma: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ω, cos θ, sin θ of each row, (S, q), for singular values (q,) and λ: one for each member (S,) or row (S, q).

    No difference of nearly equal numbers is formed; for λ = 0 both are √½ exactly, so that an anti-aligned start
    keeps its exact zeros. Rows with σ = 0 are never mixed.
    """
    value = value if value.ndim == 2 else value[:, None]
    half = value.abs() / 2
    omega = torch.hypot(sigma.expand(len(value), -1), half.expand(-1, len(sigma)))
    safe = torch.where(omega > 0, omega, torch.ones_like(omega))
    big = (0.5 * (1 + half / safe)).sqrt()
    small = torch.where(half == 0, big, sigma / (2 * safe * big))
    big = torch.where(sigma > 0, big, torch.ones_like(big))
    small = torch.where(sigma > 0, small, torch.zeros_like(small))
    positive = value >= 0
    return omega, torch.where(positive, big, small), torch.where(positive, small, big)


def imbalance_value(B: Tensor, C: Tensor) -> Tensor:
    """λ (S,), with values that are zero to rounding set to zero."""
    b, c = torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C)
    value = (b - c) * (b + c) / B.shape[-1]
    noise = torch.finfo(B.dtype).eps * (B.shape[-2] + B.shape[-1]) * (b.square() + c.square())
    return torch.where(value.abs() <= noise, torch.zeros_like(value), value)


def solve(
    landscape: FrobeniusLandscape, B0: Tensor, C0: Tensor, times: Tensor, *, factors: bool = False, jumps: bool = True
) -> Solution:
    """States at canonical `times` (T,) from λ-balanced factors (S, q, r).

    With `factors` the states are the flow's own B and C; without, they are right up to one orthogonal r × r
    matrix per state, which no product, loss, gradient norm or imbalance sees. Without `jumps` long times are passed
    in sub-steps too.
    """
    batch, rows = B0.shape[0], B0.shape[-2]
    value = imbalance_value(B0, C0)
    omega, cos, sin = rotated_modes(landscape.sigma, value)
    rates = Rates.of(landscape.sigma, omega, value[:, None])
    turn = factors and B0.shape[-1] > 1
    fastest = float(omega.max())
    longest = float(torch.diff(times, prepend=times.new_zeros(1)).max())
    # One step for a long time has pivots of its own for every member; sub-steps are the same for all.
    alone = jumps and fastest * longest > BLOCK * CAP
    if not turn and not alone and _one_moves(B0, C0, value):
        first = (value >= 0)[:, None, None]  # B moves, or C
        start = Rows.of(torch.where(first, B0, C0), cos, sin)
        runs = [_run(start.X, rates, times.tolist(), partial(start.step, rates), turn=False, jumps=False)]
        moving, other = start.factors(runs[0].states, omega, times)
        B, C = torch.where(first, moving, other), torch.where(first, other, moving)
        lost = start.lost
    else:
        cos, sin = cos[..., None], sin[..., None]
        state, turned = _without_rounding(torch.cat([cos * B0 + sin * C0, cos * C0 - sin * B0], dim=-2))
        lost = _cancelled(state[:, :rows], B0, C0, landscape.sigma)
        runs = []
        for here in [slice(i, i + 1) for i in range(batch)] if alone else [slice(None)]:
            own = rates.member(here)
            step = partial(_step_factors if turn else _step_product, own)
            runs.append(_run(state[here], own, times.tolist(), step, turn=turn, jumps=alone))
        stacked = torch.cat([run.states for run in runs], dim=1) if alone else runs[0].states
        stacked = stacked if turned is None else stacked @ turned.mT
        X, Y = stacked[..., :rows, :], stacked[..., rows:, :]
        B, C = cos * X - sin * Y, sin * X + cos * Y
    operations = torch.cat([run.rounding for run in runs], dim=1).to(B) + lost
    share = batch // len(runs)
    return Solution(
        B, C, [run.status for run in runs for _ in range(share)], ["exact"] * batch, ["balanced"] * batch,
        [run.steps for run in runs for _ in range(share)], [0] * batch, rotated_bound(B, C, operations),
    )  # fmt: skip


def _one_moves(B: Tensor, C: Tensor, value: Tensor) -> bool:
    """Whether every member has one zero factor and columns that are orthogonal in the other (λ ≠ 0)."""
    b, c = torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C)
    one = torch.where(value > 0, (b > 0) & ~C.flatten(1).any(-1), (c > 0) & ~B.flatten(1).any(-1)) & (value != 0)
    return B.shape[-1] <= B.shape[-2] and bool(one.all())


def _without_rounding(state: Tensor) -> tuple[Tensor, Tensor | None]:
    """The state (S, 2q, r) with what is zero to rounding set to zero, and the turn (S, r, r) of its columns, if any.

    A growing row, or a direction of the factor space, that is there by rounding alone would be of order one after its
    escape time. Rows are cut where they stand; dependent columns are turned until they are zero.
    """
    rows, rank = state.shape[-2:]
    noise = torch.finfo(state.dtype).eps * (rows // 2 + rank) * torch.linalg.matrix_norm(state)
    state = torch.where(torch.linalg.vector_norm(state, dim=-1, keepdim=True) > noise[:, None, None], state, 0.0)
    if rank == 1 or bool(surely_independent(state, noise).all()):
        return state, None
    eye = torch.eye(rank, dtype=state.dtype, device=state.device).expand(len(state), rank, rank)
    _, values, right = torch.linalg.svd(state, full_matrices=False)
    short = rank - values.shape[-1]  # more columns than rows: the others are zero
    values, right = torch.nn.functional.pad(values, (0, short)), torch.nn.functional.pad(right, (0, 0, 0, short))
    full = (values > noise[:, None]).all(-1)[:, None, None]
    turned = torch.where(full, eye, right.mT)
    cut = torch.where(full, torch.ones_like(state[:, :1]), (values > noise[:, None])[:, None].to(state))
    return torch.where(full, state, state @ turned * cut), turned


def _cancelled(growing: Tensor, B0: Tensor, C0: Tensor, sigma: Tensor) -> Tensor:
    """How many times its own rounding a growing row has lost where it is a small sum of rows of B and C, (S,)."""
    length = torch.linalg.vector_norm(growing, dim=-1)
    whole = torch.hypot(torch.linalg.vector_norm(B0, dim=-1), torch.linalg.vector_norm(C0, dim=-1))
    counts = (length > 0) & (sigma > 0)
    return torch.where(counts, whole / torch.where(counts, length, torch.ones_like(length)), 0.0).amax(-1)


@dataclass
class _Run:
    """States (T, S, 2q, r) of members that share their sub-steps, and their rounding in units of ε, (T, S)."""

    states: Tensor
    rounding: Tensor
    status: Status
    steps: int


Step = Callable[[Tensor, float, float], Tensor]  # the state after a sub-step h from time t, from (state, t, h)


def _run(state: Tensor, rates: Rates, times: list[float], step: Step, *, turn: bool, jumps: bool) -> _Run:
    states = state.new_full((len(times), *state.shape), math.nan)
    rounding = torch.ones(len(times), state.shape[0], dtype=torch.float64, device=state.device)
    size = float(torch.linalg.matrix_norm(state).max())
    clock, taken, bound = 0.0, 0, 1.0
    for place, time in enumerate(times):
        if time > clock:
            moved = _advance(state, rates, (clock, time), step, MOST_STEPS - taken, size, turn=turn, jumps=jumps)
            if moved is None:
                rounding[place:] = bound
                return _Run(states, rounding, Status.MAX_STEPS, taken)
            state, steps, added = moved
            taken, bound, clock = taken + steps, bound + added, time
        states[place], rounding[place] = state, bound
    return _Run(states, rounding, Status.COMPLETED, taken)


def _advance(
    state: Tensor, rates: Rates, between: tuple[float, float], step: Step, allowed: int, size: float, *, turn: bool,
    jumps: bool,
) -> tuple[Tensor, int, float] | None:  # fmt: skip
    """The state from one time to another, with the steps taken and their rounding; None beyond `allowed` steps.

    `size` is the size of the state at time 0.
    """
    fastest, taken, bound, span = float(rates.omega.max()), 0, 0.0, between[1] - between[0]
    while span > 0:
        # Where every ω is 0 (Δ = 0 and λ = 0) the flow still moves, algebraically: one sub-step at least.
        count = max(1, math.ceil(fastest * span / CAP), _conditioning_steps(state, span) if turn else 0)
        if count > BLOCK and jumps:
            whole = _one_step(state, rates, span, count, size, turn=turn)
            if whole is not None:
                return whole[0], taken + 1, bound + whole[1]
        h, block = span / count, min(count, BLOCK)
        if taken + block > allowed:
            return None
        for place in range(block):
            state = step(state, between[1] - span + place * h, h)
        taken, bound = taken + block, bound + block * math.exp(fastest * h)
        span = span - block * h if block < count else 0.0
    return state, taken, bound


def _one_step(
    state: Tensor, rates: Rates, span: float, count: int, size: float, *, turn: bool
) -> tuple[Tensor, float] | None:
    """One step for the whole `span`, with its rounding; None where `count` sub-steps have the smaller error.

    ZᵀZ' is symmetric along the flow, so its own factors turn against the best aligned ones by no more than the
    square of the distance covered: where that is below rounding, or the state has faded, alignment gives the factors.
    """
    here = float(torch.linalg.matrix_norm(state[0]))
    if here <= torch.finfo(state.dtype).tiny ** 0.25:
        return torch.zeros_like(state), 1.0  # its products are below any rounding, and its inverse would overflow
    start = pivots_of(state[0], rates.member(0))
    bound, sub_steps = JUMP_ROUNDING * start.condition, count * math.exp(CAP)
    if bound > sub_steps:
        return None
    moved = jump(start, span)
    left, _, right = torch.linalg.svd(moved.mT @ state[0])
    moved = moved @ (left @ right)
    distance = float(torch.linalg.matrix_norm(moved - state[0]))
    if turn and not distance**2 <= sub_steps * torch.finfo(state.dtype).eps * here * max(here, size):
        return None
    return moved[None], bound


def _phi(rates: Rates, h: float | Tensor) -> Tensor:
    """(e^{2eh} − 1)/(2e), h where e = 0, for each row, as a column."""
    e = rates.signed[..., None]
    still = e == 0
    safe = torch.where(still, torch.ones_like(e), e)
    return torch.where(still, torch.zeros_like(e) + h, torch.expm1(2 * safe * h) / (2 * safe))


def _step_product(rates: Rates, state: Tensor, t: float, h: float) -> Tensor:
    """One sub-step with the triangular root of N, whatever the time t.

    A positive diagonal makes the root unique and continuous (for rank 1 it is the true factor's sign).
    """
    R = shifted_root(_phi(rates, h).sqrt() * state, 2 * math.exp(float(rates.omega.max()) * h))
    # What all rows grow by is divided out of the root: for |λ| ≫ σ little else would be left of the exponents.
    R = R * _common(rates, -h)
    return torch.linalg.solve_triangular(R, _growth(rates, h) * state, upper=True, left=False)


def _growth(rates: Rates, h: float) -> Tensor:
    """e^{(e − |λ|/2)h} of each row, as a column."""
    return torch.exp(rates.shifted * h)[..., None]


def _common(rates: Rates, h: float) -> Tensor:
    """e^{|λ|h/2}, (S, 1, 1)."""
    return torch.exp(rates.base[..., :1] * h)[..., None]


def _conditioning_steps(state: Tensor, h: float) -> int:
    """Sub-steps that keep N = I + O(h‖c‖²) well conditioned, so that its eigenvectors are accurate."""
    return math.ceil(h * float(torch.linalg.matrix_norm(state, ord=2).square().max()) / CAP)


def _step_factors(rates: Rates, state: Tensor, t: float, h: float) -> Tensor:
    """One sub-step with the symmetric root and the rotation: the flow's own factors, whatever the time t."""
    fastest = float(rates.omega.max())
    values, vectors = _spectrum(_gram(state, rates, h))
    root = (vectors * values.rsqrt()[..., None, :]) @ vectors.mT * _common(rates, h)
    return _growth(rates, h) * state @ (root @ _rotation(state, rates, h, fastest))


def _gram(state: Tensor, rates: Rates, h: float | Tensor) -> Tensor:
    """N − I = Σ_j φ(e_j)c_jc_jᵀ."""
    return state.mT @ (_phi(rates, h) * state)


def _spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(gram)
    return 1 + values.clamp_min(0.0), vectors


def _rotation(state: Tensor, rates: Rates, h: float, fastest: float) -> Tensor:
    """O(h) with O' = KO by a sixth-order Magnus method (Blanes, Casas & Ros 2000), Gauss-Legendre nodes.

    In the eigenbasis of N with eigenvalues g, and F = N' = Σ_j e^{2e_jt}c_jc_jᵀ,
    K_ij = F_ij(√g_i − √g_j)/(2√g_i√g_j(√g_i + √g_j)).
    """
    scale = max(fastest, float(torch.linalg.matrix_norm(state, ord=2).square().max()))
    count = max(1, math.ceil(scale * h / ROTATION_STEP))
    delta = h / count
    offset = math.sqrt(15.0) / 10
    starts = torch.arange(count, dtype=torch.float64, device=state.device) * delta
    nodes = torch.stack([starts + (0.5 + d) * delta for d in (-offset, 0.0, offset)])
    nodes = nodes.to(state.dtype)[..., None, None, None]  # (3, count, batch, row, column)
    values, vectors = _spectrum(_gram(state, rates, nodes))
    rate = state.mT @ (torch.exp(2 * rates.signed[..., None] * nodes) * state)
    roots = values.sqrt()
    left, right = roots[..., :, None], roots[..., None, :]
    K = (vectors.mT @ rate @ vectors) * (left - right) / (2 * left * right * (left + right))
    K = vectors @ K @ vectors.mT
    first, second, third = K[0], K[1], K[2]

    def commutator(X: Tensor, Y: Tensor) -> Tensor:
        return X @ Y - Y @ X

    a1 = delta * second
    a2 = math.sqrt(15.0) / 3 * delta * (third - first)
    a3 = 10.0 / 3 * delta * (third - 2 * second + first)
    c1 = commutator(a1, a2)
    c2 = -commutator(a1, 2 * a3 + c1) / 60
    exponents = a1 + a3 / 12 + commutator(-20 * a1 - a3 + c1, a2 + c2) / 240
    turns = torch.linalg.matrix_exp(exponents)
    total = turns[0]
    for turn in turns[1:]:
        total = turn @ total
    return total
