"""The points of a sweep inside its result: each is a result like any other, taken out without reading its numbers."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from pydantic import ValidationError

from flowsim.scenario.fit import Look
from flowsim.scenario.model import Scenario, ZerosMatrix
from flowsim.scenario.sweep import Axis

Shape = tuple[int, int]


def axes_of(tree: xr.DataTree) -> list[Axis]:
    """The axes of a result, in the order of its dimensions.

    Parameters
    ----------
    tree : DataTree
        A result, in memory or opened lazily.

    Returns
    -------
    list of Axis
        Empty without a sweep.
    """
    stored = json.loads(str(tree.attrs.get("sweep", "[]")))
    return [Axis(one["path"], one["name"], tuple(one["values"])) for one in stored]


def point_label(axes: Sequence[Axis], places: Sequence[int]) -> str:
    """What a point is called: ``std=0.01/exponent=1``, and nothing where nothing is swept.

    Parameters
    ----------
    places : sequence of int
        The place of the point's value along each axis.

    Examples
    --------
    >>> point_label([Axis("adapter.init.std", "std", (0.01, 1)), Axis("reach", "reach", (1e-6,))], (1, 0))
    'std=1/reach=1e-06'
    """
    return _joined(axes, [axis.texts for axis in axes], places)


def _joined(axes: Sequence[Axis], texts: Sequence[Sequence[str]], places: Sequence[int]) -> str:
    return "/".join(f"{axis.name}={own[place]}" for axis, own, place in zip(axes, texts, places, strict=True))


def point_of(tree: xr.DataTree, places: Sequence[int]) -> xr.DataTree:
    """Take one point out of a sweep; no number is read.

    Parameters
    ----------
    tree : DataTree
        The result of a sweep, in memory or opened lazily.
    places : sequence of int
        The place of the point's value along each axis.

    Returns
    -------
    DataTree
        A result like any other: without the dimensions of the axes, with the attributes of the point, its `/checks`
        those of the point alone. Without a sweep the tree itself.

    Raises
    ------
    IndexError
        If there is no such place along an axis.
    """
    points = _Points(tree)
    return points.tree_of(tuple(places)) if points.axes else tree


def points_of(tree: xr.DataTree) -> Iterator[tuple[str, xr.DataTree]]:
    """All points of a result with their labels, in row-major order.

    Yields
    ------
    (str, DataTree)
        As `point_label` and `point_of` give them; the result itself, with an empty label, where nothing is swept.
    """
    points = _Points(tree)
    if not points.axes:
        yield "", tree
        return
    for places in points.all_places():
        yield points.label_of(places), points.tree_of(places)


class _Points:
    """What the points of one result share."""

    def __init__(self, tree: xr.DataTree) -> None:
        self.axes = axes_of(tree)
        self._texts = [axis.texts for axis in self.axes]
        self._lengths = [len(axis.values) for axis in self.axes]
        self._attrs = {str(name): value for name, value in tree.attrs.items()}
        self._groups = {node.path: node.to_dataset(inherit=False) for node in tree.subtree if node.path != "/checks"}
        self._checks = tree["checks"].to_dataset() if "checks" in tree.children else None

    def all_places(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*map(range, self._lengths))

    def label_of(self, places: tuple[int, ...]) -> str:
        return _joined(self.axes, self._texts, places)

    def tree_of(self, places: tuple[int, ...]) -> xr.DataTree:
        if len(places) != len(self._lengths) or not all(0 <= p < n for p, n in zip(places, self._lengths, strict=True)):
            raise IndexError(f"no point {places} in a sweep of {self._lengths}")
        at = {axis.name: place for axis, place in zip(self.axes, places, strict=True)}
        groups = {path: one.isel(at, drop=True, missing_dims="ignore") for path, one in self._groups.items()}
        if self._checks is not None:
            groups["/checks"] = self._checks_of(self.label_of(places))
        tree = xr.DataTree.from_dict(groups)
        tree.attrs = self._attrs_of(places)
        return tree

    def _checks_of(self, label: str) -> xr.Dataset:
        """The findings of one point, their subjects without its label."""
        assert self._checks is not None
        own = self._checks.isel(check=self._rows_by_label.get(label, []))
        shorter = np.array([str(subject)[len(label) + 1 :] for subject in own["subject"].values], dtype=object)
        return own.assign(subject=own["subject"].copy(data=shorter))

    @cached_property
    def _shapes(self) -> list[list[int]]:
        shapes: list[list[int]] = json.loads(str(self._attrs["points"]))
        return shapes

    @cached_property
    def _first(self) -> dict[str, Any]:
        scenario: dict[str, Any] = json.loads(str(self._attrs["resolved_scenario"]))
        return {key: value for key, value in scenario.items() if key != "sweep"}

    @cached_property
    def _rows_by_label(self) -> dict[str, list[int]]:
        """Places along `check` by the label that the subject begins with; a value may hold a slash itself."""
        assert self._checks is not None
        labels = {self.label_of(places) for places in self.all_places()}
        rows: dict[str, list[int]] = {}
        for row, subject in enumerate(map(str, self._checks["subject"].values)):
            ends = [place for place, letter in enumerate(subject) if letter == "/" and subject[:place] in labels]
            if ends:
                rows.setdefault(subject[: ends[-1]], []).append(row)
        return rows

    def _attrs_of(self, places: tuple[int, ...]) -> dict[str, Any]:
        """Root attributes of one point; those of the file are its first point's."""
        rows, columns = self._shapes[int(np.ravel_multi_index(places, self._lengths))]
        values = [(axis.path, axis.values[place]) for axis, place in zip(self.axes, places, strict=True)]
        resolved = _resolved(self._first, values, (rows, columns))
        return self._attrs | {
            "resolved_scenario": json.dumps(resolved),
            "objective": str(resolved["objective"]["kind"]),
            "coefficient": float(resolved["objective"]["coefficient"]),
            "rtol": float(resolved["solver"]["rtol"]),
            "atol": float(resolved["solver"]["atol"]),
            "reach": float(resolved["reach"]),
            "dtype": str(resolved["compute"]["dtype"]),
            "rows": rows,
            "columns": columns,
            "points": json.dumps([[rows, columns]]),
            "sweep": "[]",
        }


def _resolved(first: dict[str, Any], values: list[tuple[str, Any]], shape: Shape) -> dict[str, Any]:
    """The resolved scenario of a point from that of the first point and the values of the axes.

    A value of another kind (`objective.kind`, say) does not go with every key that the first point was given by
    default: these are left out then, and filled in anew.
    """
    with contextlib.suppress(ValidationError):
        return _validated(_with(first, values), shape)
    with contextlib.suppress(ValidationError):
        written = Scenario.model_validate(first).model_dump(mode="json", exclude_defaults=True)
        return _validated(_with(written, values), shape)
    return _with(first, values) | {"sweep": None}


def _with(scenario: dict[str, Any], values: list[tuple[str, Any]]) -> dict[str, Any]:
    """A copy of plain data with these values at their key paths."""
    changed = copy.deepcopy(scenario)
    for path, value in values:
        *above, last = path.split(".")
        here: Any = changed
        for key in above:
            if isinstance(here, list):
                here = here[int(key)]
            else:
                here[key] = here.get(key) or {}
                here = here[key]
        here[int(last) if isinstance(here, list) else last] = value
    return changed


def _validated(scenario: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """With every default, also those that follow from the shape.

    Raises
    ------
    ValidationError
        If the data is not a scenario.
    """
    model = Scenario.model_validate(scenario)
    if model.objective.kind == "trace_squared" and isinstance(model.target, ZerosMatrix):
        model = model.model_copy(update={"target": None})
    filled: dict[str, Any] = Look(shape=shape).fill(model).model_dump(mode="json")
    return filled | {"sweep": None}
