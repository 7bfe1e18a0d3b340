"""Results of points put side by side, as the result of a sweep holds them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from flowsim.scenario.sweep import Axis
from flowsim.trajectory.points import point_label

SAME = ("flow_time", "step", "parameters")  # no sweep of these tests changes them


def side_by_side(trees: Sequence[xr.DataTree], axes: Sequence[Axis]) -> xr.DataTree:
    """One result of those of all points, in row-major order."""
    lengths = [len(axis.values) for axis in axes]
    names = [axis.name for axis in axes]
    coords = {axis.name: (axis.name, axis.coordinate, {"key": axis.path}) for axis in axes}
    first = trees[0]
    sweep = [{"path": axis.path, "name": axis.name, "values": axis.values} for axis in axes]
    attrs = first.attrs | {
        "sweep": json.dumps(sweep),
        "points": json.dumps([[int(tree.attrs["rows"]), int(tree.attrs["columns"])] for tree in trees]),
    }
    groups = {"/": xr.Dataset(attrs=attrs)}
    for path, node in ((node.path, node) for node in first.subtree if node.path not in ("/", "/checks", "/factors")):
        own = node.to_dataset(inherit=False)
        data = {}
        for name, variable in own.data_vars.items():
            values = np.stack([tree[path].dataset[name].values for tree in trees])
            dims, shape = (*names, *variable.dims), (*lengths, *variable.shape)
            data[name] = variable if name in SAME else (dims, values.reshape(shape), variable.attrs)
        groups[path] = xr.Dataset(data, {**own.coords, **coords}, own.attrs)
    checks = []
    for tree, places in zip(trees, itertools.product(*map(range, lengths)), strict=True):
        own = tree["checks"].to_dataset()
        subjects = [f"{point_label(axes, places)}/{subject}" for subject in own["subject"].values]
        checks.append(own.assign(subject=own["subject"].copy(data=np.array(subjects, dtype=object))))
    groups["/checks"] = xr.concat(checks, dim="check")
    return xr.DataTree.from_dict(groups)
