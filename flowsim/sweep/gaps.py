"""How far a schedule is from the flow, what first-order theory predicts, and what is left beyond it.

All distances are between products s·BA, hence gauge-invariant, and in units of max_t ‖s·BA_flow‖_F.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.dynamics.flow import combine, sources_of
from flowsim.sweep.schedules import ScheduleItem

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FlowReference:
    """The flow at the times of one schedule, with its first variations.

    Attributes
    ----------
    B, C : Tensor, (T, S, q, r)
    responses : Tensor (T, S, 4, 2, q, r) or None
        Responses to the four sources (`dynamics.flow`).
    size : Tensor, (S,)
        max_t ‖s·BA_flow‖_F; NaN where the flow stays at zero.
    clock : float
        sκ: canonical per user's time.
    """

    B: Tensor
    C: Tensor
    responses: Tensor | None
    size: Tensor
    clock: float

    def coefficient(self, weights: tuple[float, ...]) -> list[products.Term]:
        """Leading coefficient of the product per unit of flow time, as terms e_B·Cᵀ + B·e_Cᵀ."""
        assert self.responses is not None
        e_b, e_c = combine(self.responses, weights)
        return [(self.clock, e_b, self.C), (self.clock, self.B, e_c)]

    def at(self, places: Tensor) -> FlowReference:
        """The reference at some of its times."""
        responses = None if self.responses is None else self.responses[places]
        return FlowReference(self.B[places], self.C[places], responses, self.size, self.clock)


def weights_of(item: ScheduleItem) -> tuple[float, ...] | None:
    """Weights of the four sources for this schedule's gap to the flow."""
    return sources_of(item.kind, item.update, item.inner_steps)


def order_weights(item: ScheduleItem) -> tuple[float, ...] | None:
    """Weights for sequential minus simultaneous descent."""
    own = sources_of(item.kind, item.update, item.inner_steps)
    base = sources_of(item.kind, "simultaneous", item.inner_steps)
    if own is None or base is None:
        return None
    return tuple(a - b for a, b in zip(own, base, strict=True))


def predicted(flow: FlowReference, weights: tuple[float, ...] | None, step: float) -> Tensor:
    """step·‖e1‖/size, (T, S); NaN where there is no first-order coefficient."""
    if weights is None or flow.responses is None:
        return flow.B.new_full(flow.B.shape[:2], torch.nan)
    return step * products.norm_of_sum(flow.coefficient(weights)) / flow.size


def richardson(
    flow: FlowReference, weights: tuple[float, ...], coarse: list[Pair], fine: list[Pair], h: float, fine_h: float
) -> Tensor:
    """‖(q·d(h/q) − d(h))/(q − 1) − e1‖/size with d(h) = gap(h)/h, (T, S).

    `coarse` and `fine` are each [state, reference state]: the gap is the difference of their products. The
    extrapolation removes the first-order coefficient's own error term, so the result falls like h² if e1 is right.
    """
    q = h / fine_h
    fine_weight, coarse_weight = q / (q - 1) / fine_h, -1 / (q - 1) / h
    terms: list[products.Term] = []
    for weight, (state, reference) in ((fine_weight, fine), (coarse_weight, coarse)):
        terms += [(weight, *state), (-weight, *reference)]
    terms += [(-a, B, C) for a, B, C in flow.coefficient(weights)]
    return products.norm_of_sum(terms) / flow.size
