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
    variation : Tensor (T, S, 5, 2, q, r) or None
        The state and its responses to the four sources, solved together (`dynamics.flow`). Its state is the same
        flow, but in the gauge of the responses; B and C may be in another one.
    size : Tensor, (S,)
        max_t ‖s·BA_flow‖_F; NaN where the flow stays at zero.
    clock : float
        sκ: canonical per user's time.
    """

    B: Tensor
    C: Tensor
    variation: Tensor | None
    size: Tensor
    clock: float

    def coefficient(self, weights: tuple[float, ...]) -> list[products.Term]:
        """Leading coefficient of the product per unit of flow time, as terms e_B·Cᵀ + B·e_Cᵀ."""
        assert self.variation is not None
        B, C = self.variation[..., 0, :, :, :].unbind(-3)
        e_b, e_c = combine(self.variation[..., 1:, :, :, :], weights)
        return [(self.clock, e_b, C), (self.clock, B, e_c)]

    def at(self, places: Tensor) -> FlowReference:
        """The reference at some of its times."""
        variation = None if self.variation is None else self.variation[places]
        return FlowReference(self.B[places], self.C[places], variation, self.size, self.clock)


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
    if weights is None or flow.variation is None:
        return flow.B.new_full(flow.B.shape[:2], torch.nan)
    return step * products.norm_of_sum(flow.coefficient(weights)) / flow.size


@dataclass(frozen=True)
class Gap:
    """The measured gap of one schedule: its states, what they are held against, and its step h."""

    own: Pair
    other: Pair
    h: float

    def at(self, places: Tensor) -> Gap:
        """The gap at some of its times."""
        return Gap((self.own[0][places], self.own[1][places]), (self.other[0][places], self.other[1][places]), self.h)

    def terms(self, weight: float) -> list[products.Term]:
        """weight × (own − other) as terms of a product sum."""
        return [(weight, *self.own), (-weight, *self.other)]


def extrapolant(coarse: Gap, fine: Gap, sign: float = 1.0) -> list[products.Term]:
    """sign × (q·d(h/q) − d(h))/(q − 1) with d(h) = gap(h)/h: the measured leading coefficient up to O(h²)."""
    q = coarse.h / fine.h
    return fine.terms(sign * q / (q - 1) / fine.h) + coarse.terms(-sign / (q - 1) / coarse.h)


def richardson_residual(flow: FlowReference, weights: tuple[float, ...], coarse: Gap, fine: Gap) -> Tensor:
    """‖extrapolant − e1‖/size, (T, S): falls like h² if and only if e1 is right."""
    predicted_terms = [(-a, B, C) for a, B, C in flow.coefficient(weights)]
    return products.norm_of_sum(extrapolant(coarse, fine) + predicted_terms) / flow.size


def richardson_drift(flow: FlowReference, coarse: Gap, middle: Gap, fine: Gap) -> Tensor:
    """‖extrapolant(h, h/q) − extrapolant(h/q, h/q²)‖/size, (T, S): whether the measured coefficient has settled."""
    return products.norm_of_sum(extrapolant(coarse, middle) + extrapolant(middle, fine, -1.0)) / flow.size
