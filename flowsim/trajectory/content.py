"""What a result holds: its groups, variables and attributes, how they fit together, and what does not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from pydantic import ValidationError

from flowsim.scenario.model import Scenario
from flowsim.scenario.sweep import TAKEN
from flowsim.trajectory.structure import Group, Stored, Structure, Unsound
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

FORMAT = 2  # raised when the meaning of a stored name changes
CONTENT = {
    "trajectory": (*TRAJECTORY, "flow_time", "step"),
    "final": (*TRAJECTORY, *FINAL_NUMBERS, *FINAL_WORDS),
    "baseline": tuple(BASELINE),
    "theory": (*THEORY, *THEORY_WORDS),
    "companions": (*COMPANIONS, "method"),
    "checks": ("name", "subject", "observed", "expected", "tolerance", "verdict", "reason"),
}
TEXTS = ("digest", "resolved_scenario", "objective", "dtype", "sweep", "points")
NUMBERS = ("format", "coefficient", "rtol", "atol", "rows", "columns", "reach", "failed_tiles")
ATTRIBUTES = (*TEXTS, *NUMBERS)

RUN = ("schedule", "rank", "seed")
SCHEDULE = {
    "schedule": str, "kind": str, "update": str, "window": float, "learning_rate": float, "inner_steps": int,
}  # fmt: skip
COORDINATES: dict[str, dict[str, type]] = {
    "trajectory": SCHEDULE | {"rank": int, "seed": int, "time": float, "mode": int, "side": str},
    "final": SCHEDULE | {"rank": int, "seed": int, "mode": int, "side": str},
    "baseline": {"time": float},
    "theory": {"rank": int, "seed": int},
    "companions": {"companion": str, "against": str, "rtol_factor": float, "rank": int, "seed": int, "time": float},
}
WORDS = {*FINAL_WORDS, *THEORY_WORDS, "name", "subject", "verdict"}
COUNTS = {"step", "steps", "evaluations"}

Dims = tuple[str, ...]


def require(structure: Structure) -> None:
    """Refuse a file that is no result, or whose parts do not fit each other.

    Raises
    ------
    Unsound
    """
    for lack in _missing(structure):
        raise Unsound(f"it lacks {lack}")
    axes = _attributes(structure.groups[""].attrs)
    sizes = _sizes(structure, axes)
    for name, group in structure.groups.items():
        for key, dims, kind in _wanted(name, group):
            _fit(f"{name}/{key}", group.variables[key], dims, kind, axes)
        for dim, size in group.dims.items():
            shared = name in CONTENT or (name.startswith("factors/") and dim in (*axes, "schedule", "seed"))
            if shared and size != sizes.setdefault(dim, size):
                raise Unsound(f"{name}/{dim} has {size} entries where {sizes[dim]} are wanted")


def agree(tree: xr.DataTree) -> None:
    """Refuse a tree whose groups name different ranks, seeds, times, … or one of them twice.

    Raises
    ------
    Unsound
    """
    known: dict[str, np.ndarray] = {}
    for group in CONTENT:
        for name, index in tree[group].dataset.indexes.items():
            values = index.to_numpy()
            if name != "time" and not index.is_unique:
                raise Unsound(f"{group}/{name} has an entry twice")
            if not np.array_equal(values, known.setdefault(str(name), values)):
                raise Unsound(f"{group}/{name} differs from that of another group")


def _missing(structure: Structure) -> Iterator[str]:
    groups = structure.groups
    yield from (f"the attribute {name!r}" for name in ATTRIBUTES if name not in groups[""].attrs)
    yield from (f"the group {name!r}" for name in CONTENT if name not in groups)
    for name, keys in CONTENT.items():
        every = (*keys, *COORDINATES.get(name, ()))
        yield from (f"the variable {name}/{key}" for key in every if key not in groups[name].variables)


def _attributes(attrs: Mapping[str, Any]) -> dict[str, int]:
    """Check the attributes of the root; the sizes of the sweep's axes by name."""
    for name in TEXTS:
        if not isinstance(attrs[name], str):
            raise Unsound(f"the attribute {name!r} is no text")
    for name in NUMBERS:
        if isinstance(attrs[name], str | list) or not math.isfinite(attrs[name]):
            raise Unsound(f"the attribute {name!r} is no number")
    try:
        Scenario.model_validate(_json(attrs, "resolved_scenario"))
    except ValidationError as error:
        raise Unsound("the attribute 'resolved_scenario' is no scenario") from error
    axes = _axes(_json(attrs, "sweep"))
    points = _json(attrs, "points")
    pairs = isinstance(points, list) and all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(size, int) for size in one) for one in points
    )
    if not pairs or len(points) != math.prod(axes.values()):
        raise Unsound("the attribute 'points' does not fit the sweep")
    return axes


def _json(attrs: Mapping[str, Any], name: str) -> Any:
    try:
        return json.loads(attrs[name])
    except (ValueError, RecursionError) as error:
        raise Unsound(f"the attribute {name!r} is no JSON") from error


def _axes(sweep: Any) -> dict[str, int]:
    axes: dict[str, int] = {}
    for axis in sweep if isinstance(sweep, list) else [sweep]:
        match axis:
            case {"path": str(), "name": str(name), "values": list(values)} if name not in axes and name not in TAKEN:
                axes[name] = len(values)
            case _:
                raise Unsound("the attribute 'sweep' is no list of axes")
    return axes


def _sizes(structure: Structure, axes: dict[str, int]) -> dict[str, int]:
    """The size that each dimension must have everywhere."""
    trajectory = structure.groups["trajectory"].dims
    for name in axes:
        if name not in trajectory or name not in structure.groups["trajectory"].variables:
            raise Unsound(f"it lacks the variable trajectory/{name}")
    return axes | {name: trajectory[name] for name in (*RUN, "time") if name in trajectory}


def _wanted(name: str, group: Group) -> Iterator[tuple[str, tuple[Dims, ...], type]]:
    """Each variable of a group with the dimensions it may have beside those of the sweep, and its kind."""
    for key, kind in COORDINATES.get(name, {}).items():
        along = "schedule" if key in SCHEDULE else "companion" if key in ("against", "rtol_factor") else key
        yield key, ((along,),), kind
    for key in CONTENT.get(name, ()):
        yield key, _dims(name, key), str if key in WORDS else int if key in COUNTS else float
    if name.startswith("factors/"):
        for key, dims in (("A", ("factor", "column")), ("B", ("row", "factor"))):
            if key not in group.variables:
                raise Unsound(f"it lacks the variable {name}/{key}")
            yield key, (("schedule", "seed", "time", *dims),), float


def _dims(group: str, name: str) -> tuple[Dims, ...]:
    about: Variable | None = TRAJECTORY.get(name)
    extra = (about.extra,) if about is not None and about.extra else ()
    if group == "trajectory":
        return ((*RUN, "time", *extra),) if about is not None else (("schedule", "time"),)
    if group == "final":
        return ((*RUN, *extra),)
    if group == "baseline":
        return ("time",), ("rank", "seed", "time")
    if group == "theory":
        return ("rank",), ("rank", "seed")
    if group == "companions":
        return (("companion", "rank", "seed") if name == "method" else ("companion", "rank", "seed", "time"),)
    return (("check",),)


def _fit(where: str, one: Stored, dims: tuple[Dims, ...], kind: type, axes: Mapping[str, int]) -> None:
    swept = tuple(dim for dim in one.dims if dim in axes)
    if one.dims[: len(swept)] != swept or one.dims[len(swept) :] not in dims:
        raise Unsound(f"the variable {where} lies along {', '.join(one.dims) or 'nothing'}")
    if one.kind is not kind:
        raise Unsound(f"the variable {where} is of the wrong kind")
