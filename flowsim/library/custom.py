"""`simulate` and `descend` of an objective of the user's own."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowsim.dynamics import invariants, products
from flowsim.dynamics.custom import CustomFlow
from flowsim.errors import InputError
from flowsim.integrators import custom
from flowsim.integrators.base import Solution
from flowsim.library.arguments import as_float64
from flowsim.library.dataset import assemble
from flowsim.problem.custom import AT_ONCE, Custom
from flowsim.problem.objectives import Adapter
from flowsim.sweep.custom_companions import LABELS, CustomCompanions, companions_of
from flowsim.sweep.custom_outcome import CustomEnding, decide
from flowsim.trajectory.provenance import choose_device
from flowsim.trajectory.variables import OF_ANY_OBJECTIVE


def flow_of(objective: Custom, adapter: Adapter, device: str) -> CustomFlow:
    """The flow of an adapter, on the wanted device; `auto` leaves it where the objective's own data lie.

    Raises
    ------
    InputError
        If the two do not fit, or loss or gradient are not finite at the start.
    """
    adapter.fits(objective)
    if device != "auto":
        wanted = choose_device(device)
        objective = objective.on(wanted)
        adapter = Adapter(adapter.A.to(wanted), adapter.B.to(wanted), adapter.scale)
    flow = CustomFlow.of(objective, adapter)
    W = flow.weight(flow.B, flow.C)
    good = torch.isfinite(objective.value(W)) & torch.isfinite(objective.gradient(W)).all(-1).all(-1)
    if not bool(good.all()):
        which = f" of adapter {int((~good).nonzero()[0])}" if adapter.batched else ""
        raise InputError(
            f"objective {objective.name}: loss or gradient at the start W0 + sBA{which} is not finite",
            "Start where both are finite.",
        )
    return flow


def simulate(
    flow: CustomFlow, times: np.ndarray, *, update: str, solver: str, rtol: float, atol: float, reach: float,
    states: bool, companions: bool,
) -> xr.Dataset:  # fmt: skip
    """The flow at the given times, over `batch` and `time`; arguments as of `flowsim.simulate`."""
    if update != "simultaneous":
        raise InputError(
            f"update: {update!r} needs each factor's own exact flow, which a custom objective has not",
            "Use simultaneous, or descend(..., update=...) at a small learning rate.",
        )
    method = custom.method_of(solver)
    clock = torch.as_tensor(times, device=flow.B.device)
    run = custom.solve(flow, clock, method=method, rtol=rtol, atol=atol)
    numbers = _measured(flow, run)
    dataset = _dataset(flow, run, numbers, times, times, reach, states)
    dataset.attrs |= {"rtol": rtol, "atol": atol}
    return _with(dataset, companions_of(flow, run, clock, rtol=rtol, atol=atol)) if companions else dataset


def descend(
    flow: CustomFlow, rounds: np.ndarray, learning_rate: float, *, update: str, inner_steps: int, reach: float
) -> xr.Dataset:
    """Gradient descent, recorded after the given rounds; arguments as of `flowsim.descend`."""
    run = custom.descend(flow, update, learning_rate, inner_steps, rounds)
    times = rounds * inner_steps * learning_rate
    dataset = _dataset(flow, run, _measured(flow, run), times, times, reach, True)
    return dataset.assign_coords(step=("time", rounds, {"long_name": "round", "units": "1"}))


def _measured(flow: CustomFlow, run: Solution) -> dict[str, np.ndarray]:
    """The numbers of all states, (T, S) each, in the user's units; NaN where one overflows."""
    B, C, scale = run.B, run.C, flow.scale
    loss, gradient = [], []
    share = max(1, AT_ONCE // (len(flow.B) * flow.objective.pretrained.numel()))
    for first in range(0, len(B), share):
        b, c = B[first : first + share], C[first : first + share]
        loss.append(flow.objective.value(flow.weight(b, c)))
        pulls = flow.pulls(b, c)
        gradient.append(scale**0.5 * torch.hypot(*(torch.linalg.matrix_norm(pull) for pull in pulls)))
    floor = math.nan if flow.objective.floor is None else flow.objective.floor
    start = invariants.imbalance(flow.B, flow.C)
    value = torch.cat(loss)
    numbers: dict[str, Tensor] = {
        "loss": value,
        "excess_loss": value - floor,
        "gradient_norm": torch.cat(gradient),
        "imbalance_drift": torch.linalg.matrix_norm(invariants.imbalance(B, C) - start) / scale,
        "factor_norm": torch.hypot(torch.linalg.matrix_norm(B), torch.linalg.matrix_norm(C)) / scale**0.5,
        "product_norm": products.product_norm(B, C),
        "gram_sum_norm": invariants.gram_sum_norm(B, C) / scale,
    }
    return {name: as_float64(one.masked_fill(one.isinf(), torch.nan)) for name, one in numbers.items()}


def _dataset(
    flow: CustomFlow, run: Solution, numbers: dict[str, np.ndarray], times: np.ndarray, flow_times: np.ndarray,
    reach: float, states: bool,
) -> xr.Dataset:  # fmt: skip
    objective = flow.objective
    floor = math.nan if objective.floor is None else objective.floor
    start = as_float64(objective.value(flow.weight(flow.B, flow.C)))
    loss = np.concatenate([start[None], numbers["loss"]])
    slope = np.concatenate([numbers["gradient_norm"][:1], numbers["gradient_norm"]])
    clock = np.concatenate([[0.0], flow_times])
    epsilon = float(torch.finfo(run.B.dtype).eps)
    endings = []
    for place, status in enumerate(run.status):
        end = CustomEnding(loss[:, place], slope[:, place], clock, floor, reach, epsilon)
        outcome, reason = decide(end, status)
        endings.append((str(outcome), reason))
    about: dict[str, object] = {
        "objective": objective.name, "floor": floor, "scale": flow.scale,
        "rows": objective.shape[0], "columns": objective.shape[1], "rank": int(run.B.shape[-1]),
    }  # fmt: skip
    factors = flow.factors(run.B, run.C) if states else None
    return assemble(numbers, endings, run, times, factors, about)


def _with(dataset: xr.Dataset, found: CustomCompanions) -> xr.Dataset:
    """The dataset with its companions and what they say of its error."""
    for name, value in (("estimated_error", found.estimated_error), ("loss_error", found.loss_error)):
        dataset[name] = (("batch", "time"), as_float64(value).T, OF_ANY_OBJECTIVE[name].attrs())
    rows = {
        "distance": found.distance,
        "factor_distance": found.factor_distance,
        "companion_error": found.own_error,
    }
    for name, value in rows.items():
        dataset[name] = (
            ("batch", "companion", "time"),
            as_float64(value).transpose(2, 0, 1),
            OF_ANY_OBJECTIVE[name].attrs(),
        )
    status = np.array(found.status, dtype=object).T
    dataset["companion_status"] = (("batch", "companion"), status, OF_ANY_OBJECTIVE["companion_status"].attrs())
    return dataset.assign_coords(companion=("companion", list(LABELS), {"long_name": "companion", "units": ""}))
