"""One schedule held against the flow and, for sequential descent, against simultaneous descent."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.integrators.base import Solution
from flowsim.sweep import gaps
from flowsim.sweep.runner import Runner
from flowsim.sweep.schedules import Clock, ScheduleItem

GAP_NAMES = (
    "flow_gap",
    "update_order_gap",
    "predicted_gap",
    "predicted_order_gap",
    "richardson_residual",
    "richardson_drift",
    "richardson_order_residual",
    "richardson_order_drift",
)


def compare(item: ScheduleItem, kept: Solution, flow: gaps.FlowReference, runner: Runner) -> dict[str, Tensor]:
    """Measured, predicted and extrapolated gaps of one schedule, (T, S) each; NaN where they are not defined."""
    blank = torch.full_like(kept.rounding, math.nan)
    out = dict.fromkeys(GAP_NAMES, blank)
    if item.duration is None:
        return out | {"flow_gap": torch.zeros_like(blank)}
    family = runner.family(item)
    states = [runner.of(one) for one in family]
    out["flow_gap"] = products.distance(kept.B, kept.C, flow.B, flow.C) / flow.size
    weights = gaps.weights_of(item)
    out["predicted_gap"] = gaps.predicted(flow, weights, item.step)
    if weights is not None:
        against_flow = [
            gaps.Gap((own.B, own.C), (flow.B, flow.C), one.step) for one, own in zip(family, states, strict=True)
        ]
        names = ("richardson_residual", "richardson_drift")
        out |= _extrapolated(names, family, against_flow, weights, flow, runner.clock, blank)
    order = gaps.order_weights(item)
    if item.kind == "descent" and item.update != "simultaneous" and order is not None:
        partners = [runner.of(one.with_update("simultaneous")) for one in family]
        out["update_order_gap"] = products.distance(kept.B, kept.C, partners[0].B, partners[0].C) / flow.size
        out["predicted_order_gap"] = gaps.predicted(flow, order, item.step)
        against_partner = [
            gaps.Gap((own.B, own.C), (other.B, other.C), one.step)
            for one, own, other in zip(family, states, partners, strict=True)
        ]
        names = ("richardson_order_residual", "richardson_order_drift")
        out |= _extrapolated(names, family, against_partner, order, flow, runner.clock, blank)
    return out


def _extrapolated(
    names: tuple[str, str],
    family: list[ScheduleItem],
    measured: list[gaps.Gap],
    weights: tuple[float, ...],
    flow: gaps.FlowReference,
    clock: Clock,
    blank: Tensor,
) -> dict[str, Tensor]:
    """Residual and drift of the first two (three) steps of a family, at the times they have in common."""
    out: dict[str, Tensor] = {}
    if flow.variation is None:
        return out
    places = [clock.places[clock.items.index(one)] for one in family]
    for name, count in zip(names, (2, 3), strict=True):
        if len(family) < count:
            continue
        common = np.flatnonzero(np.logical_and.reduce([places[0] == other for other in places[:count]]))
        if not len(common):
            continue
        at = torch.as_tensor(common, device=blank.device)
        local, steps = flow.at(at), [gap.at(at) for gap in measured[:count]]
        value = (
            gaps.richardson_residual(local, weights, steps[0], steps[1])
            if count == 2
            else gaps.richardson_drift(local, *steps)
        )
        out[name] = blank.index_copy(0, at, value)
    return out
