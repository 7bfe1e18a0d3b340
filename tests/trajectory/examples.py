"""A small sound result made of nothing, and ways to write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsim.scenario.model import Scenario
from flowsim.trajectory.content import FORMAT
from flowsim.trajectory.draft import draft
from flowsim.trajectory.seal import add_seal, content_size
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

SIZES = {"schedule": 2, "rank": 2, "seed": 3, "time": 4, "mode": 2, "side": 2, "companion": 2, "check": 3}
RUN = ("schedule", "rank", "seed")
SCENARIO = Scenario.model_validate(
    {
        "name": "small", "objective": {"kind": "frobenius"}, "adapter": {"ranks": [1, 4], "seeds": 3},
        "pretrained": {"kind": "gaussian", "shape": [6, 5], "std": 1.0, "seed": 0}, "time": {"stop": 2.0},
    }
)  # fmt: skip
WORDS = ("reached", "groß und ‖ΔW‖", "", "not_yet")


def variable(dims: tuple[str, ...], kind: type, about: Variable | None = None, **sizes: int) -> xr.Variable:
    """A variable whose entries are all different, some of them NaN."""
    shape = tuple((SIZES | sizes)[dim] for dim in dims)
    count = int(np.prod(shape))
    values: np.ndarray = np.arange(count) * 7 % 1009
    if kind is float:
        values = np.where(values % 5 == 4, np.nan, values / 3.0)
    elif kind is str:
        values = np.array([f"{WORDS[i % 4]} {i}" if i % 4 != 2 else "" for i in range(count)], dtype=object)
    attrs = about.attrs() if about is not None else {"long_name": "σ", "units": "1", "formula": "σ₁ ≥ σ₂"}
    return xr.Variable(dims, values.reshape(shape), attrs)


def texts(dim: str, *values: str) -> xr.Variable:
    return xr.Variable((dim,), np.array(values, dtype=object), {"long_name": dim})


def small(axes: dict[str, list[Any]] | None = None, **attrs: Any) -> xr.DataTree:
    """A result as `flowsim run` leaves it: of one point, or of a sweep along axes."""
    axes = axes or {}
    swept, sizes = tuple(axes), {name: len(values) for name, values in axes.items()}
    coords = {
        "schedule": texts("schedule", "flow", "descent/simultaneous"),
        "kind": texts("schedule", "flow", "descent"),
        "update": texts("schedule", "simultaneous", "simultaneous"),
        "window": xr.Variable(("schedule",), [np.nan, np.nan], {"units": "time"}),
        "learning_rate": xr.Variable(("schedule",), [np.nan, 0.1], {"units": "time"}),
        "inner_steps": xr.Variable(("schedule",), [0, 1]),
        "rank": xr.Variable(("rank",), [1, 4]),
        "seed": xr.Variable(("seed",), [0, 1, 2]),
        "time": xr.Variable(("time",), [0.0, 0.5, 1.0, 2.0], {"units": "time"}),
        "mode": xr.Variable(("mode",), [1, 2]),
        "side": texts("side", "left", "right"),
        "companion": texts("companion", "tenfold", "hundredfold"),
        "against": texts("companion", "flow", "flow"),
        "rtol_factor": xr.Variable(("companion",), [10.0, 100.0]),
    } | {name: xr.Variable((name,), values, {"key": name}) for name, values in axes.items()}

    def group(variables: dict[str, xr.Variable]) -> xr.Dataset:
        dims = {dim for one in variables.values() for dim in one.dims}
        beside = {name: one for name, one in coords.items() if set(one.dims) <= dims}
        return xr.Dataset(variables, beside)

    def along(*dims: str, kind: type = float, about: Variable | None = None) -> xr.Variable:
        return variable((*swept, *dims), kind, about, **sizes)

    groups = {
        "trajectory": {
            name: along(*RUN, "time", *((about.extra,) if about.extra else ()), about=about)
            for name, about in TRAJECTORY.items()
        }
        | {"flow_time": variable(("schedule", "time"), float), "step": variable(("schedule", "time"), int)},
        "final": {
            name: along(
                *RUN,
                *((about.extra,) if about.extra else ()),
                kind=int if name in ("steps", "evaluations") else float,
                about=about,
            )
            for name, about in (TRAJECTORY | FINAL_NUMBERS).items()
        }
        | {name: along(*RUN, kind=str, about=about) for name, about in FINAL_WORDS.items()},
        "baseline": {name: along("time", about=about) for name, about in BASELINE.items()},
        "theory": {name: along("rank", "seed", about=about) for name, about in THEORY.items()}
        | {name: along("rank", "seed", kind=str, about=about) for name, about in THEORY_WORDS.items()},
        "companions": {
            name: along("companion", "rank", "seed", "time", about=about) for name, about in COMPANIONS.items()
        }
        | {"method": along("companion", "rank", "seed", kind=str)},
        "checks": {
            name: variable(("check",), float if name in ("observed", "expected", "tolerance") else str)
            for name in ("name", "subject", "observed", "expected", "tolerance", "verdict", "reason")
        },
    }
    given = {
        "digest": "ab", "format": FORMAT, "objective": "frobenius", "dtype": "float64", "title": "Größe", "empty": "",
        "resolved_scenario": json.dumps(SCENARIO.model_dump(mode="json")),
        "coefficient": 0.5, "rtol": 1e-6, "atol": 1e-9, "rows": 6, "columns": 5,
        "reach": 1e-3, "failed_tiles": 0,
        "sweep": json.dumps([{"path": name, "name": name, "values": values} for name, values in axes.items()]),
        "points": json.dumps([[6, 5]] * int(np.prod(list(sizes.values())))),
    }  # fmt: skip
    root = xr.Dataset(attrs=given | attrs)
    return xr.DataTree.from_dict({"/": root} | {f"/{name}": group(one) for name, one in groups.items()})


def save(tree: xr.DataTree, path: Path) -> None:
    """Write a tree whole, group by group."""
    with draft(path) as out:
        for node in tree.subtree:
            with out.writing() as writer:
                if node.path == "/":
                    writer.attributes(node.attrs)
                else:
                    writer.dataset(node.path, node.to_dataset(inherit=False))


def unseal(path: Path) -> None:
    """Cut the seal off, as another program does that writes to the file."""
    with path.open("r+b") as file:
        size = content_size(file)
        assert size is not None
        file.truncate(size)


def seal_again(path: Path) -> None:
    """Seal a file that was tampered with."""
    with path.open("r+b") as file:
        if (size := content_size(file)) is not None:
            file.truncate(size)
    add_seal(path)
