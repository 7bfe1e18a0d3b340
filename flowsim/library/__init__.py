"""Flows and descents from Python: `simulate` and `descend`, one adapter or a batch, as xarray datasets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowsim.dynamics import descent, sequential
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.invariants import balance
from flowsim.dynamics.rounds import nearest_rounds
from flowsim.errors import InputError
from flowsim.integrators import stepped
from flowsim.integrators.base import Solution
from flowsim.integrators.reduced import solve_reduced
from flowsim.integrators.solve import functions_only, solve_flow
from flowsim.library import custom
from flowsim.library.arguments import as_float64, increasing, one_of, positive, whole
from flowsim.library.dataset import assemble
from flowsim.problem.custom import AnyObjective, Custom
from flowsim.problem.objectives import Adapter, Frobenius, Objective, TraceSquared
from flowsim.sweep.horizon import arrival_times
from flowsim.sweep.outcome import Horizon, decide_all, of_unknown_limit
from flowsim.sweep.schedules import stability_name
from flowsim.theory.limits import end_state_rates, missing_modes, theory_of, waiting_for
from flowsim.trajectory.measure import in_user_units
from flowsim.trajectory.provenance import choose_device

CLOSED_FORM = 1e-12  # relative error of the spaces in which a closed form is evaluated
RECORDED = ("loss", "excess_loss", "gradient_norm", "imbalance_drift")


def simulate(
    objective: AnyObjective, adapter: Adapter, times: Sequence[float] | np.ndarray, update: str = "simultaneous",
    window: float | None = None, solver: str = "auto", rtol: float = 1e-9, atol: float = 1e-12,
    device: str = "auto", error: str = "factors", reach: float = 1e-6, save: str = "states",
    companions: bool = True,
) -> xr.Dataset:  # fmt: skip
    """Solve the gradient flow A' = −sBᵀ∇f(W), B' = −s∇f(W)Aᵀ, W = W0 + sBA.

    Parameters
    ----------
    objective : Frobenius or TraceSquared
    adapter : Adapter
        The state at time 0, with or without a batch dimension.
    times : sequence of float, (T,)
        Flow times at which states are wanted, strictly increasing and not negative.
    update : str
        `simultaneous`; or `a_first`, `b_first`, `symmetric`: the sequential flow, where each factor follows its
        own exact flow for a `window` in turn (states are those of the round nearest to each time).
    window : float, optional
        Required by the sequential flow.
    solver : str
        `auto` (closed form where one holds), `exact`, `adaptive` (which picks a stepper), a stepper's name
        (`splitting4`, `splitting6`, `stabilised`, `tsit5`), or a torchdiffeq method name. A Custom objective takes
        the latter only; `auto` is `dopri8`.
    rtol, atol : float
        Tolerances of a step of a numerical solver, in a norm of A and B (a splitting with `error="product"`: of BA)
        that no rotation changes.
    device : str
        `auto`, `cpu`, `cuda`, …; for a Custom objective `auto` is where its W0 lies.
    error : str
        `factors`: A and B are those of the flow. `product`: BA is; A and B up to an orthogonal r × r matrix (closed
        forms) or to fewer digits (splittings).
    reach : float
        `outcome` is `reached` when the excess loss is below this share of its start.
    save : str
        `states`: everything below. `functions`: without A and B, which large batches at many times may have no
        memory for; trace-squared then costs O(1) a time, whatever n and r (simultaneous updates only).
    companions : bool
        Of a Custom objective: also solve the flow at 10 and 100 times rtol, and the first member by another method,
        so that `check` can judge the dataset. It takes about four times as long. The others keep none.

    Returns
    -------
    Dataset
        Over `time` (and `batch`): A (time, factor, column), B (time, row, factor), loss, excess_loss,
        gradient_norm, imbalance_drift; outcome, method, stepper, choice, steps, evaluations, reason. Of a Custom
        objective also factor_norm, product_norm, gram_sum_norm and, with `companions`, estimated_error, loss_error
        and (over `companion`) distance, factor_distance, companion_error, companion_status. Its excess_loss is NaN
        without a floor, and `outcome` says what can be known (`sweep.custom_outcome`).

    Raises
    ------
    InputError
        For arguments that make no sense; `HypothesisError` if `exact` is asked for where no closed form holds.
    """
    grid = increasing(times)
    one_of("error", error, ("factors", "product"))
    one_of("update", update, ("simultaneous", *sequential.ORDERS))
    one_of("save", save, ("states", "functions"))
    positive("rtol", rtol)
    positive("reach", reach)
    if atol != 0:
        positive("atol", atol)
    if (window is None) != (update == "simultaneous"):
        raise InputError(
            f"window: is {window} with update {update!r}", "Sequential updates need a window; simultaneous takes none."
        )
    if isinstance(objective, Custom):
        flow = custom.flow_of(objective, adapter, device)
        dataset = custom.simulate(
            flow, grid, update=update, solver=solver, rtol=rtol, atol=atol, reach=reach, states=save == "states",
            companions=companions,
        )  # fmt: skip
        return dataset if adapter.batched else dataset.isel(batch=0)
    objective, adapter = _on_device(objective, adapter, device)
    if window is None:
        batch, solution = _flow(
            objective,
            adapter,
            grid,
            method=solver,
            rtol=rtol,
            atol=atol,
            factors=error == "factors",
            states=save == "states",
        )
        return _dataset(batch, solution, grid, grid, objective, adapter.batched, reach)
    if save == "functions":
        raise InputError(
            "save: functions alone are kept of the simultaneous flow only", "Leave save out, or update and window."
        )
    positive("window", window)
    batch = canonical(objective, adapter)
    rounds = nearest_rounds(grid, window)
    solution = stepped.sequential_flow(batch, update, window, rounds)
    dataset = _dataset(batch, solution, grid, rounds * window, objective, adapter.batched, reach)
    return dataset.assign_coords(
        flow_time=("time", rounds * window, {"long_name": "flow time of the recorded round", "units": "time"})
    )


def descend(
    objective: AnyObjective, adapter: Adapter, steps: int, learning_rate: float, update: str = "simultaneous",
    inner_steps: int = 1, every: int = 1, device: str = "auto", reach: float = 1e-6,
) -> xr.Dataset:  # fmt: skip
    """Run gradient descent on the factors.

    Parameters
    ----------
    steps : int
        Rounds; a round is `inner_steps` steps on both factors.
    learning_rate : float
        η > 0.
    update : str
        `simultaneous`, `a_first` or `b_first` (k steps on one factor, then k on the other).
    inner_steps : int
        k.
    every : int
        Rounds between records; round 0 is always recorded.

    Returns
    -------
    Dataset
        As `simulate`, with `time` = learning_rate × inner_steps × round and the coordinate `step` (the round).
        A run that diverges keeps every finite value; NaN follows.

    Raises
    ------
    InputError
        For arguments that make no sense.
    """
    one_of("update", update, descent.ORDERS)
    positive("learning_rate", learning_rate)
    positive("reach", reach)
    steps, every = whole("steps", steps, 0), whole("every", every, 1)
    inner_steps = whole("inner_steps", inner_steps, 1)
    rounds = np.arange(0, steps + 1, every, dtype=np.int64)
    if isinstance(objective, Custom):
        flow = custom.flow_of(objective, adapter, device)
        dataset = custom.descend(flow, rounds, learning_rate, update=update, inner_steps=inner_steps, reach=reach)
        return dataset if adapter.batched else dataset.isel(batch=0)
    objective, adapter = _on_device(objective, adapter, device)
    batch = canonical(objective, adapter)
    solution = stepped.descend(batch, update, learning_rate, inner_steps, rounds)
    times = rounds * inner_steps * learning_rate
    dataset = _dataset(
        batch,
        solution,
        times,
        times,
        objective,
        adapter.batched,
        reach,
        learning_rate,
        stability_name(update, inner_steps),
    )
    return dataset.assign_coords(step=("time", rounds, {"long_name": "round", "units": "1"}))


def _on_device(objective: Objective, adapter: Adapter, device: str) -> tuple[Objective, Adapter]:
    """Both on the wanted device; dtype stays that of the input."""
    adapter.fits(objective)
    wanted = choose_device(device)
    if objective.pretrained.device != wanted:
        W0 = objective.pretrained.to(wanted)
        if isinstance(objective, Frobenius):
            objective = Frobenius(W0, objective.target.to(wanted), objective.coefficient)
        else:
            objective = TraceSquared(W0, objective.coefficient)
        adapter = Adapter(adapter.A.to(wanted), adapter.B.to(wanted), adapter.scale)
    return objective, adapter


def _flow(
    objective: Objective, adapter: Adapter, times: np.ndarray, *, method: str, rtol: float, atol: float,
    factors: bool, states: bool,
) -> tuple[Canonical, Solution]:  # fmt: skip
    """The simultaneous flow: in small spaces that hold it where that is cheaper than an SVD of the difference."""
    clock = torch.as_tensor(times, device=objective.pretrained.device)

    def solve(problem: Canonical, at: Tensor, states: bool = True) -> Solution:
        return solve_flow(problem, at, method=method, rtol=rtol, atol=atol, factors=factors, states=states)

    if isinstance(objective, Frobenius) and method != "exact":
        even = balance(adapter.B, adapter.A.mT)[1] | (adapter.rank == 1)
        share = CLOSED_FORM if method == "auto" and bool(even.all()) else rtol
        found = solve_reduced(objective, adapter, clock, solve=solve, rtol=share)
        if found is not None:
            problem, solution = found
            return problem, solution if states else functions_only(problem, solution)
    problem = canonical(objective, adapter)
    return problem, solve(problem, clock, states)


def _dataset(
    batch: Canonical, solution: Solution, times: np.ndarray, flow_times: np.ndarray, objective: Objective,
    batched: bool, reach: float, learning_rate: float = math.nan, limit: str = "",
) -> xr.Dataset:  # fmt: skip
    functions = solution.functions or functions_only(batch, solution).functions
    measured = in_user_units(batch, functions)
    numbers = {name: as_float64(value) for name, value in measured.items()}
    exact = theory_of(batch, objective.shape, float(times[-1]))
    start = batch.landscape.excess(batch.B, batch.C)
    limit_excess = (exact["loss_limit"] - exact["loss_floor"]) / batch.curvature
    arrival = arrival_times(batch, solution, reach * start, limit_excess, float(flow_times[-1]))
    theory = {name: as_float64(value) for name, value in exact.items()}
    theory["missing_modes"] = np.array(missing_modes(batch), dtype=object)
    rate, _ = end_state_rates(batch, solution.B[-1], solution.C[-1])
    horizon = Horizon(flow_times, theory, reach, as_float64(batch.curvature * start))
    endings = decide_all(
        measured, solution.status, horizon, learning_rate, arrival=as_float64(arrival), limit=limit,
        waiting=waiting_for(batch, solution.B[-1], solution.C[-1], of_unknown_limit(theory)),
        local_rate=as_float64(rate),
    )  # fmt: skip
    about: dict[str, object] = {
        "objective": objective.kind, "coefficient": objective.coefficient, "scale": batch.scale,
    }  # fmt: skip
    factors = None if solution.functions else batch.factors(solution.B, solution.C)
    recorded = {name: numbers[name] for name in RECORDED}
    words = [(str(outcome), reason) for outcome, reason, _ in endings]
    dataset = assemble(recorded, words, solution, times, factors, about)
    return dataset if batched else dataset.isel(batch=0)
