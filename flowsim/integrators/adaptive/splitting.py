"""The flow of nearly balanced factors: an extrapolated splitting around the exact λ-balanced flow.

With Λ = BᵀB − CᵀC conserved, λ = tr Λ/r and E = Λ − λI, LoRA's flow in spectral coordinates is

    Z' = S_λZ − ½ZZᵀZ + ½JZE,   Z = [B; C],  J = diag(I, −I).

Without E it has a closed form for any time (`graph_flow`, Φ1). E alone moves B to B·e^{Et/2} and C to C·e^{−Et/2} (Φ2),
which leaves BCᵀ as it is. Strang's composition Φ2(h/2)Φ1(h)Φ2(h/2) (Strang 1968) is time-symmetric, so its error has
even powers of h alone, all of them proportional to E, and extrapolation in h² over 1, 2, … sub-steps (Gragg 1965;
Hairer, Nørsett & Wanner 1993, ch. II.9) raises the order by two each. No stability limits a step: BCᵀ at the minimum is
a fixed point of both flows.

Each of the extrapolated states is first brought back to BᵀB − CᵀC = Λ, which a composition keeps to its own order only,
by the symmetric T with B ← BM, C ← CM⁻¹, M = (I − T/2)⁻¹(I + T/2): BCᵀ stays, and the steps near the minimum grow
from E·h ≈ 0.01 to 0.5. T solves the linearised equation TK + KT = Λ − (BᵀB − CᵀC), K = BᵀB + CᵀC.

Columns are turned once so that E is diagonal, and back for output. A state whose whole way to the minimum is within the
tolerance (`standing`) stays where it is, for as long as is asked.

An error in a mode that is not learned yet grows with the mode, so that errors along the way exceed those of single
steps: by ten where rtol is small and B and C themselves are judged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowsim.dynamics.invariants import imbalance
from flowsim.integrators.adaptive.graph_flow import Coefficients, Exponents, advance
from flowsim.integrators.adaptive.nearly_balanced import applicable, turned
from flowsim.integrators.adaptive.small import inverse, lyapunov
from flowsim.integrators.adaptive.standing import Standing, standing
from flowsim.integrators.adaptive.stepper import Carry, OneSetting, norm
from flowsim.integrators.exact.balanced import imbalance_value, rotated_modes
from flowsim.integrators.exact.one_shot import Rates

__all__ = ["Constants", "Splitting", "applicable"]

LONGEST = 0.5  # ‖E‖·h of one step: its kicks are e^{±1/8} at most, and T of the projection stays small


class Constants(NamedTuple):
    """What a trajectory carries along; every tensor has the batch first.

    Attributes
    ----------
    cos, sin : Tensor, (S, q, 1)
        The rotation by θ of the rows of B and C into the eigenvectors of S_λ.
    double, mixed : Tensor, (S, 2, q, 1) and (S, q, 1)
        ±cos 2θ, and −sin 2θ.
    late, twice : Tensor, (S, ...)
        `Exponents` of the exact flow.
    speeds, fixed : Tensor, (S, r)
        Eigenvalues w of E, and those of Λ.
    turn : Tensor, (S, r, r)
        The eigenvectors.
    fastest, curvature, residual, rounding : Tensor, (S, 1)
        ω_1; half the least curvature of f̂ at its minimum; ‖Σ − BCᵀ‖ at the start, which bounds it for ever; the
        rounding of an excess.
    excess, rest : Tensor, (S, 1)
        The excess loss at the state, and the time for which the state does not move.
    """

    cos: Tensor
    sin: Tensor
    double: Tensor
    mixed: Tensor
    late: Tensor
    twice: Tensor
    speeds: Tensor
    fixed: Tensor
    turn: Tensor
    fastest: Tensor
    curvature: Tensor
    residual: Tensor
    rounding: Tensor
    excess: Tensor
    rest: Tensor


class Splitting(OneSetting):
    """Steps of the flow on ½‖Σ − BCᵀ‖² from factors with nearly scalar BᵀB − CᵀC.

    Parameters
    ----------
    sigma : Tensor, (q,)
        Singular values, the largest first.
    order : {2, 4, 6, 8}
        Twice the members of the extrapolation. Order 2 is Strang's composition alone, which knows no error.
    factors : bool
        Whether the error is that of B and C themselves, ‖e‖ ≤ atol·√N + rtol·‖Z⁺‖, or that of BCᵀ,
        ‖e‖ ≤ atol·q + rtol·‖BCᵀ‖: its steps are up to three times longer, and the gauge of B and C is less exact.

    Notes
    -----
    The buffers of a step are kept for the next: one object steps one batch at a time.
    """

    block = 8  # a step costs as much as ten of a Runge–Kutta pair

    def __init__(self, sigma: Tensor, *, order: int = 4, rtol: float, atol: float = 0.0, factors: bool = False) -> None:
        self.sigma, self.rtol, self.atol, self.factors = sigma, rtol, atol, factors
        self.name = f"splitting{order}"
        self.members = order // 2
        counts = list(range(self.members, 0, -1))
        self.weights = _weights(counts)
        self._change = [x - y for x, y in zip(self.weights, [*_weights(counts[:-1]), 0.0], strict=True)]
        #: The member with most sub-steps first, so that those still on their way are the first ones.
        self._counts = sigma.new_tensor(counts).view(-1, 1, 1)
        self._rooms: dict[str, Tensor] = {}
        self._left: list[Tensor] = []
        self._fewer = Splitting(sigma, order=order - 2, rtol=rtol) if order > 2 else None

    @property
    def order(self) -> int:
        """k of the controller: the error estimate is the local error of the extrapolation two orders lower."""
        return 2 * self.members - 1

    @property
    def cost(self) -> int:
        """Exact flows of one step."""
        return self.members * (self.members + 1) // 2

    def begin(self, start: Tensor) -> tuple[Tensor, Carry]:
        """The start (S, 2, q, r) with its columns turned to the eigenvectors of E, and the constants."""
        y, turn = turned(start)
        rank = start.shape[-1]
        own = imbalance(y[:, 0], y[:, 1]).diagonal(dim1=-2, dim2=-1)
        value = imbalance_value(y[:, 0], y[:, 1])
        omega, cos, sin = rotated_modes(self.sigma, value)
        exponents = Exponents.of(Rates.of(self.sigma, omega, value[:, None]), rank)
        cos, sin = cos[..., None], sin[..., None]
        double = (cos - sin) * (cos + sin)
        double, mixed = torch.stack([double, -double], dim=1), -2 * cos * sin
        # At the minimum the Hessian's least eigenvalue is ω_r − ω_{r+1} or larger, but for what E changes.
        beyond = torch.nn.functional.pad(omega, (0, 1))[:, rank]
        curvature = 0.5 * (omega[:, rank - 1] - beyond - (own - value[:, None]).abs().amax(-1)).clamp_min(0.0)
        here = self._judged(y, curvature)
        size = torch.linalg.vector_norm(self.sigma)
        residual = (2 * here.excess + self.sigma[rank:].square().sum()).clamp_min(0.0).sqrt()
        # ‖BCᵀ‖ ≤ ‖Σ‖ + ‖Σ − BCᵀ‖ bounds the terms of an excess, sums of q + r terms each.
        rounding = torch.finfo(y.dtype).eps * sum(y.shape[-2:]) * (2 * size + residual).square()
        numbers = (x[:, None] for x in (omega[:, 0], curvature, residual, rounding, here.excess, here.rest))
        return y, tuple(Constants(cos, sin, double, mixed, *exponents, own - value[:, None], own, turn, *numbers))

    def first_step(self, y: Tensor, carry: Carry, stop: Tensor) -> Tensor:
        """Where the local error ‖E‖/ω·(ωh)^k of a composition meets the tolerance."""
        c = Constants(*carry)
        fastest, speed = c.fastest[:, 0], c.speeds.abs().amax(-1)
        moving = (fastest > 0) & (speed > 0)
        unit = torch.where(moving, self.rtol * fastest / torch.where(moving, speed, 1.0), torch.inf)
        h = unit ** (1 / self.order) / torch.where(fastest > 0, fastest, 1.0)
        return torch.minimum(torch.minimum(h, LONGEST / speed), stop).to(torch.float64)

    def longest(self, y: Tensor, carry: Carry) -> Tensor | None:
        """½/‖E‖, or as long as the state is at rest."""
        c = Constants(*carry)
        return torch.maximum(LONGEST / c.speeds.abs().amax(-1), c.rest[:, 0]).to(torch.float64)

    def inside(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor:
        """With one member fewer, whose error is what the step's estimate is of: at most a few times the tolerance.

        Output then costs a third of a step, or half of one at order 6.
        """
        c, fewer = Constants(*carry), self if self._fewer is None else self._fewer
        still = h <= self._judged(y, c.curvature[:, 0]).rest
        members = fewer.projected(fewer.compositions(y, c, torch.where(still, 0.0, h).to(y.dtype)), c)
        return torch.where(still[:, None, None, None], y, _sum(fewer.weights, members))

    @property
    def cost_inside(self) -> int:
        """Exact flows of `inside`."""
        return self.cost if self._fewer is None else self._fewer.cost

    def output(self, y: Tensor, carry: Carry) -> Tensor:
        """States with their columns turned back."""
        return y @ Constants(*carry).turn.mT[:, None]

    def step(self, y: Tensor, carry: Carry, h: Tensor) -> tuple[Tensor, Tensor, Carry]:
        """One step of every member; a state that is not finite, or has no graph, has error NaN."""
        c = Constants(*carry)
        members = self.projected(self.compositions(y, c, h.to(y.dtype)), c)
        new, error = (_sum(weights, members) for weights in (self.weights, self._change))
        still = h <= c.rest[:, 0]
        new = torch.where(still[:, None, None, None], y, new)
        here = self._judged(new, c.curvature[:, 0])
        wrong = norm(error) if self.factors else _product_error(error, new, here.gram)
        ratio = torch.where((wrong == 0) | still, 0.0, wrong / here.allowed)
        # The flow's loss never rises, and no error within the tolerance can make it rise by more than this: an
        # estimate that missed the error is found out.
        rise = (here.excess - c.excess[:, 0]) / (here.slack * (c.residual[:, 0] + 0.5 * here.slack) + c.rounding[:, 0])
        return new, torch.maximum(ratio, rise).to(torch.float64), tuple(_at(c, here))

    def compositions(self, y: Tensor, c: Constants, h: Tensor) -> Tensor:
        """Strang's composition of m, m − 1, …, 1 sub-steps, (m, S, 2, q, r), all those on their way as one batch."""
        batch, _, rows, rank = y.shape
        count, cos, sin = self.members, c.cos, c.sin
        first, second = (self._room(name, y, (count, *y.shape)) for name in ("first", "second"))
        scratch = self._room("scratch", y, (count * batch, 2 * rows - rank, 2 * rank))
        states = first.view(count * batch, 2 * rows, rank)
        X, Y = first[:, :, 0], first[:, :, 1]
        spans = h[:, None] / self._counts
        over = Coefficients.over(Exponents(c.late, c.twice), spans).flat()
        angle = (0.25 * spans * c.speeds)[:, :, None, None]
        # Φ2(h/2), and from B and C to the rows of the exact flow.
        ends = torch.exp(torch.cat([angle, -angle], dim=2))
        torch.mul(y, ends, out=second)
        torch.mul(second, cos[:, None], out=first)
        X.addcmul_(sin, second[:, :, 1])
        Y.addcmul_(sin, second[:, :, 0], value=-1)
        advance(states, over, scratch)
        # Φ2(h) between two exact flows, on the rows of these: cosh + (cos 2θ, −sin 2θ; −sin 2θ, −cos 2θ)·sinh.
        full = 2 * angle[:-1]
        sinh, cosh = torch.sinh(full), torch.cosh(full)
        cross = c.mixed * sinh[:, :, 0]
        for left in range(count - 1, 0, -1):
            moved = torch.addcmul(cosh[:left], c.double, sinh[:left], out=second[:left]).mul_(first[:left])
            moved[:, :, 0].addcmul_(cross[:left], Y[:left])
            moved[:, :, 1].addcmul_(cross[:left], X[:left])
            first[:left] = moved
            going = slice(left * batch)
            advance(states[going], over.part(going), scratch[going])
        torch.mul(first, cos[:, None], out=second)
        second[:, :, 0].addcmul_(sin, Y, value=-1)
        second[:, :, 1].addcmul_(sin, X)
        return second.mul_(ends)

    def projected(self, Z: Tensor, c: Constants) -> Tensor:
        """States (m, S, 2, q, r) with BᵀB − CᵀC = Λ and the same BCᵀ."""
        count, rank = len(Z), Z.shape[-1]
        factors = Z.flatten(0, 2)
        B, C = torch.bmm(factors.mT, factors).view(-1, 2, rank, rank).unbind(1)
        wanted = torch.diag_embed(c.fixed).repeat(count, 1, 1)
        T = 0.5 * lyapunov(B + C, wanted - (B - C))
        T = torch.stack([-T, T], dim=1).flatten(0, 1)
        T.diagonal(dim1=-2, dim2=-1).add_(1.0)
        M = 2 * inverse(T)
        M.diagonal(dim1=-2, dim2=-1).sub_(1.0)
        return torch.bmm(factors, M).view(Z.shape)

    def _judged(self, y: Tensor, curvature: Tensor) -> Standing:
        return standing(self.sigma, y, curvature, rtol=self.rtol, atol=self.atol, factors=self.factors)

    def _room(self, name: str, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Scratch space of that shape: new memory for every step would cost more than what is computed in it."""
        size, held = math.prod(shape), self._rooms.get(name)
        if held is None or len(held) < size or (held.dtype, held.device, type(held)) != (y.dtype, y.device, type(y)):
            if held is not None and held.is_cuda:
                self._left.append(held)  # a captured graph may still write there
            held = self._rooms[name] = y.new_empty(size if held is None else max(size, 2 * len(held)))
        return held[:size].view(shape)


def _at(c: Constants, here: Standing) -> Constants:
    return c._replace(excess=here.excess[:, None], rest=here.rest[:, None])


def _product_error(error: Tensor, new: Tensor, gram: Tensor) -> Tensor:
    """‖dB·Cᵀ + B·dCᵀ‖ for the error (dB, dC) of (B, C) with Grams `gram`, (S,), without forming a product."""
    own, cross = error.mT @ error, error.mT @ new
    square = (own * gram.flip(1)).sum((-3, -2, -1)) + 2 * (cross[:, 0] * cross[:, 1].mT).sum((-2, -1))
    return square.clamp_min(0.0).sqrt()


def _sum(weights: list[float], members: Tensor) -> Tensor:
    total = members[0] * weights[0]
    for weight, member in zip(weights[1:], members[1:], strict=True):
        total.add_(member, alpha=weight)
    return total


def _weights(counts: list[int]) -> list[float]:
    """Those of extrapolation in h² from steps h/n for n in `counts`."""
    return [math.prod(n * n / (n * n - m * m) for m in counts if m != n) for n in counts]
