"""Explicit Runge–Kutta pairs with long real stability intervals, as many stages as a block of steps needs.

The Jacobian of a gradient flow is symmetric and, where the flow has settled, negative semidefinite: a step is stable
while h·ρ, ρ the spectral radius, stays within the real stability interval of the formula. A formula of the table has s
stages, order 5, the longest damped interval that these allow (0.22 s² for s = 8, 0.26 s² for s = 16; Tsitouras' pair
has 3.5 for its six), and an embedded solution of order 4.

An interval alone does not make steps long. Where slow modes drive fast ones, the error of a step is not that of
classical order: a solution φ followed by a mode λ gets Σ_j zD_j(z)·h^j·φ^(j), z = λh, with
D_j = bᵀ(I − zA)⁻¹(c^j/j! − Ac^{j−1}/(j−1)!) (Prothero & Robinson 1974). A method with the recurrence and the four
finishing stages of Abdulle (2002) has zD_2 up to 10 on the interval of 8 stages and up to 40 on that of 10. No explicit
method with the full interval can have D_2 = 0 (Biswas et al. 2023 pay for it with stages), but with free coefficients
it can be small: the table was searched for |zD_2|, |zD_3| of about 0.1, an error estimate that does not grow on the
interval either, and stages and roundings that a step does not amplify. `tests/stabilised` holds the search.

References
----------
Abdulle, A. (2002). Fourth order Chebyshev methods with recurrence relation. SIAM J. Sci. Comput. 23.
Biswas, A., Ketcheson, D. I., Roberts, S., Seibold, B. & Shirokoff, D. (2023). Explicit Runge–Kutta methods that
alleviate order reduction.
Prothero, A. & Robinson, A. (1974). On the stability and accuracy of one-step methods for solving stiff systems of
ordinary differential equations. Math. Comp. 28.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from flowsim.integrators.adaptive.embedded import EmbeddedPair
from flowsim.integrators.adaptive.radius import Radius
from flowsim.integrators.adaptive.stepper import Carry, Field, FieldStepper
from flowsim.integrators.adaptive.tsit5 import Tsit5

TABLE = Path(__file__).with_name("stabilised_pairs.json")
TSIT5_INTERVAL = 3.47  # |R(z)| ≤ 0.95 on [−3.47, −0.05]
MARGIN = 0.97  # of an interval that is used: ρ belongs to the start of a step


@dataclass(frozen=True)
class Pair:
    """A Runge–Kutta pair whose last stage is the next step's first.

    Attributes
    ----------
    order : int
        Order of the solution; that of the embedded one is lower by one.
    interval : float
        |R(z)| ≤ damping for −interval ≤ z ≤ −1.
    rows : tuple of tuples
        Coefficients of stages 2, …, s, and the weights.
    error : tuple
        Weights of the error estimate, s + 1.
    """

    order: int
    interval: float
    damping: float
    rows: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]

    @property
    def stages(self) -> int:
        """s, which is also the number of evaluations of a step."""
        return len(self.rows)


@cache
def pairs() -> tuple[Pair, ...]:
    """The table, fewest stages first."""
    return tuple(
        Pair(one["order"], one["interval"], one["damping"], tuple(map(tuple, one["rows"])), tuple(one["error"]))
        for one in json.loads(TABLE.read_text(encoding="utf-8"))
    )


class StabilisedPair(EmbeddedPair):
    """Steps of one pair of the table, however long."""

    name = "stabilised"

    def __init__(self, field: Field, like: Tensor, pair: Pair, *, rtol: float, atol: float) -> None:
        super().__init__(field, like, order=pair.order, rows=pair.rows, error=pair.error, rtol=rtol, atol=atol)
        self.pair = pair


class Stabilised(FieldStepper):
    """Tsitouras' pair while accuracy limits the step, a pair of the table where stability would.

    All carry the slope alone and measure the error in the same way, so that one follows the other at no cost. The
    second tensor carried is the spectral radius at the state.

    Parameters
    ----------
    field : callable
        y' = field(y) for y (S, ...), whose Jacobian has real eigenvalues, mostly negative.
    like : Tensor
        Dtype and device of the coefficients.
    rtol, atol : float
        Tolerances of the invariant norm (`FieldStepper`).
    spectral_radius : callable
        From states (S, ...) to upper bounds (S,) float64 of the spectral radius of the Jacobian there.
    """

    name = "stabilised"
    block = 16  # the formula is chosen anew after so many steps

    def __init__(self, field: Field, like: Tensor, *, rtol: float, atol: float, spectral_radius: Radius) -> None:
        super().__init__(field, rtol=rtol, atol=atol)
        self.spectral_radius = spectral_radius
        self._formulas: list[tuple[EmbeddedPair, float]] = [
            (Tsit5(field, like, rtol=rtol, atol=atol), MARGIN * TSIT5_INTERVAL),
            *((StabilisedPair(field, like, one, rtol=rtol, atol=atol), MARGIN * one.interval) for one in pairs()),
        ]
        self._place = 0

    @property
    def _formula(self) -> EmbeddedPair:
        return self._formulas[self._place][0]

    @property
    def order(self) -> int:
        """k of the controller, the same for every formula."""
        return self._formula.order

    @property
    def cost(self) -> int:
        """Evaluations of one step of the present formula."""
        return self._formula.cost

    def begin(self, start: Tensor) -> tuple[Tensor, Carry]:
        """The start itself, with slope and spectral radius."""
        return start, (self.field(start), self.spectral_radius(start)[:, None])

    def step(self, y: Tensor, carry: Carry, h: Tensor) -> tuple[Tensor, Tensor, Carry]:
        """One step of every member by the present formula."""
        new, ratio, (slope,) = self._formula.step(y, carry[:1], h)
        return new, ratio, (slope, self.spectral_radius(new)[:, None])

    def inside(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor:
        """One shorter step of the present formula."""
        return self._formula.inside(y, carry, h)

    def longest(self, y: Tensor, carry: Carry) -> Tensor:
        """Steps within the stability interval of the present formula."""
        return self._formulas[self._place][1] / carry[1][:, 0]

    def demand(self, y: Tensor, carry: Carry, h: Tensor) -> Tensor:
        """h·ρ, what the stability interval has to hold."""
        return h * carry[1][:, 0]

    @property
    def setting(self) -> int:
        """Place of the present formula."""
        return self._place

    def choose(self, demand: float, present: int) -> int:
        """The formula with the fewest evaluations for each unit of time.

        Near the end of its interval a formula sees errors that are its own: a demand as large as the interval is
        only known not to be smaller, and a longer formula comes next.
        """
        first = 0
        if demand >= self._formulas[present][1]:
            first = min(present + 1, len(self._formulas) - 1)

        def evaluations(place: int) -> float:
            formula, interval = self._formulas[place]
            return formula.cost / max(min(demand, interval), math.ulp(0.0))

        return min(range(first, len(self._formulas)), key=evaluations)

    def use(self, setting: int) -> None:
        """The formula at that place."""
        self._place = setting
