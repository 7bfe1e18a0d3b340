"""From solved ranks to one DataTree with the groups, dimensions and attributes of a result."""

from __future__ import annotations

import numpy as np
import xarray as xr

from flowsim.sweep.companions import AGAINST, LABELS, RTOL_FACTOR
from flowsim.sweep.execute import RankResult
from flowsim.sweep.schedules import Clock
from flowsim.trajectory.variables import (
    BASELINE,
    COMPANIONS,
    FINAL_NUMBERS,
    FINAL_WORDS,
    THEORY,
    THEORY_WORDS,
    TRAJECTORY,
    Variable,
)

Arrays = dict[str, np.ndarray]
Coords = dict[str, tuple[str, np.ndarray, dict[str, str]]]


def build_tree(
    results: list[RankResult], clock: Clock, seeds: tuple[int, ...], *, one_baseline: bool, factors: str,
    attrs: dict[str, object],
) -> xr.DataTree:  # fmt: skip
    """Assemble the groups of a result from all its ranks.

    Parameters
    ----------
    one_baseline : bool
        W(0) is the same for every rank and seed, so full fine-tuning has no such dimensions.
    factors : "none", "ends" or "all"
        Which states were kept.
    attrs : dict
        Root attributes.
    """
    ranks = np.array([result.rank for result in results], dtype=np.int64)
    coords = _schedule_coords(clock) | {
        "rank": ("rank", ranks, _about("rank of the update", "r", "1")),
        "seed": ("seed", np.array(seeds, dtype=np.int64), _about("seed", "as in the scenario", "1")),
        "time": ("time", clock.times, _about("nominal flow time", "as in the scenario", "time")),
    }
    stacked = _stack([result.trajectory for result in results], axis=1)
    modes = next(iter(stacked["singular_value"].shape[-1:]))
    trajectory = xr.Dataset(
        {name: _variable(("schedule", "rank", "seed", "time"), stacked[name], TRAJECTORY[name]) for name in TRAJECTORY},
        coords
        | {
            "mode": ("mode", np.arange(1, modes + 1), _about("singular mode", "1 is the strongest", "1")),
            "side": (
                "side",
                np.array(["left", "right"], dtype=object),
                _about("side of the update", "left: B, right: A"),
            ),
        },
    )
    trajectory["flow_time"] = (
        ("schedule", "time"),
        clock.flow_time,
        {
            "long_name": "flow time of the recorded round",
            "units": "time",
            "formula": "rounds x window, or rounds x k eta",
        },
    )
    trajectory["step"] = (
        ("schedule", "time"),
        clock.rounds,
        {"long_name": "recorded round", "units": "1", "formula": "nearest round to the nominal time"},
    )
    groups = {
        "/": xr.Dataset(attrs=attrs),
        "/trajectory": trajectory,
        "/final": _final(trajectory, _stack([result.final for result in results], axis=1)),
        "/baseline": _baseline(results, coords, one_baseline),
        "/theory": _theory(results, coords),
        "/companions": _companions(results, coords, len(seeds)),
    }
    kept = clock.times if factors == "all" else clock.times[[0, -1]]
    for result in results:
        if result.factors:
            groups[f"/factors/rank_{result.rank}"] = _factors(result, coords, kept)
    return xr.DataTree.from_dict(groups)


def _about(long_name: str, formula: str, units: str = "") -> dict[str, str]:
    return {"long_name": long_name, "units": units, "formula": formula}


def _schedule_coords(clock: Clock) -> Coords:
    items = clock.items

    def column(long_name: str, units: str, values: list[object], dtype: type) -> tuple[str, np.ndarray, dict[str, str]]:
        return "schedule", np.array(values, dtype=dtype), _about(long_name, "as in the scenario", units)

    return {
        "schedule": column("schedule", "", [item.label for item in items], object),
        "kind": column("flow or descent", "", [item.kind for item in items], object),
        "update": column("order of updates", "", [item.update for item in items], object),
        "window": column("window of the sequential flow", "time", [item.window for item in items], float),
        "learning_rate": column("learning rate", "time", [item.learning_rate for item in items], float),
        "inner_steps": column(
            "steps on one factor before the other moves", "1", [item.inner_steps for item in items], int
        ),
    }


def _variable(dims: tuple[str, ...], values: np.ndarray, variable: Variable) -> xr.Variable:
    extra = (variable.extra,) if variable.extra else ()
    return xr.Variable(dims + extra, values, variable.attrs())


def _stack(rows: list[Arrays], axis: int) -> Arrays:
    return {name: np.stack([row[name] for row in rows], axis=axis) for name in rows[0]}


def _final(trajectory: xr.Dataset, stacked: Arrays) -> xr.Dataset:
    """The trajectory's last time, with the words and counts of how each ended."""
    final = trajectory.isel(time=-1, drop=True)
    dims = ("schedule", "rank", "seed")
    for name, variable in (FINAL_WORDS | FINAL_NUMBERS).items():
        final[name] = _variable(dims, stacked[name], variable)
    return final


def _only(coords: Coords, *names: str) -> dict[str, object]:
    return {name: coords[name] for name in names}


def _baseline(results: list[RankResult], coords: Coords, one: bool) -> xr.Dataset:
    stacked = _stack([result.baseline for result in results], axis=0)
    if one:
        data = {name: _variable(("time",), stacked[name][0, 0], BASELINE[name]) for name in BASELINE}
        return xr.Dataset(data, _only(coords, "time"))
    data = {name: _variable(("rank", "seed", "time"), stacked[name], BASELINE[name]) for name in BASELINE}
    return xr.Dataset(data, _only(coords, "rank", "seed", "time"))


def _theory(results: list[RankResult], coords: Coords) -> xr.Dataset:
    stacked = _stack([result.theory for result in results], axis=0)
    per_rank = ("loss_floor", "parameters", "energy", "spectral_gap")
    data = {
        name: _variable(("rank",), stacked[name][:, 0], variable)
        if name in per_rank
        else _variable(("rank", "seed"), stacked[name], variable)
        for name, variable in (THEORY | THEORY_WORDS).items()
    }
    return xr.Dataset(data, _only(coords, "rank", "seed"))


def _companions(results: list[RankResult], coords: Coords, seeds: int) -> xr.Dataset:
    """Companions of all ranks; NaN where one was not made for a rank or seed."""
    shape = (len(LABELS), len(results), seeds, len(coords["time"][1]))
    data = {name: np.full(shape, np.nan) for name in COMPANIONS}
    method = np.full(shape[:3], "", dtype=object)
    for place, result in enumerate(results):
        for one in result.companions:
            row = LABELS.index(one.label)
            method[row, place, one.members] = one.method
            for name, values in one.numbers.items():
                data[name][row, place, one.members] = values.T.cpu().numpy()
    dims = ("companion", "rank", "seed", "time")
    group = xr.Dataset(
        {name: _variable(dims, values, COMPANIONS[name]) for name, values in data.items()},
        _only(coords, "rank", "seed", "time")
        | {
            "companion": ("companion", np.array(LABELS, dtype=object), _about("companion solve", "label")),
            "against": (
                "companion",
                np.array([AGAINST[label] for label in LABELS], dtype=object),
                _about("what it is held against", "label"),
            ),
            "rtol_factor": (
                "companion",
                np.array([RTOL_FACTOR[label] for label in LABELS]),
                _about("its rtol over the scenario's", "ratio", "1"),
            ),
        },
    )
    group["method"] = (dims[:3], method, {"long_name": "method of the companion", "units": "", "formula": "name"})
    return group


def _factors(result: RankResult, coords: Coords, times: np.ndarray) -> xr.Dataset:
    names = {
        "A": (("schedule", "seed", "time", "factor", "column"), "A", "r x m factor"),
        "B": (("schedule", "seed", "time", "row", "factor"), "B", "n x r factor"),
    }
    data = {
        name: xr.Variable(dims, result.factors[name], {"long_name": long, "units": "weight0.5", "formula": formula})
        for name, (dims, long, formula) in names.items()
    }
    return xr.Dataset(data, _only(coords, "schedule", "seed") | {"time": ("time", times, coords["time"][2])})
