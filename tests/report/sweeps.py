"""Sweeps for the tests: a small real one, made once, and a result repeated and painted over at every point."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

STD, EXPONENT = "adapter.init.std", "pretrained.singular_values.exponent"
SCENARIO = """\
name: phases
title: A small sweep
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [4, 3], singular_values: {kind: power, exponent: 1.0}, seed: 0}
adapter: {ranks: [2, 1], seeds: 2, init: {kind: gaussian, std: 0.1}}
schedules: [{kind: descent, learning_rates: [0.05]}]
time: {stop: 20.0, points: 6}
reach: 1.0e-3
solver: {rtol: 1.0e-5, atol: 1.0e-8}
sweep:
  adapter.init.std: [1.0, 1.0e-2]
  pretrained.singular_values.exponent: [0.5, 1, 2]
"""
_FOLDER = tempfile.TemporaryDirectory(prefix="flowsim-sweep-")
atexit.register(_FOLDER.cleanup)


@functools.cache
def real_sweep() -> Path:
    """The folder of the result of `SCENARIO`, computed once; not to be changed."""
    from tests.conftest import execute_text

    folder: Path = execute_text(SCENARIO, Path(_FOLDER.name)).folder
    return folder


def painted(
    tree: xr.DataTree, sweep: Mapping[str, Sequence[Any]], paint: Callable[..., tuple[Any, Any, Any]]
) -> xr.DataTree:
    """The same result at every point, with loss, time to reach and outcome of the flow painted over.

    Parameters
    ----------
    tree : DataTree
        A result that is no sweep.
    sweep : mapping
        Key paths with their values.
    paint : callable
        (places of a point…, places of the ranks, places of the seeds) -> three (rank, seed) arrays.
    """
    shape = tuple(len(values) for values in sweep.values())
    count = int(np.prod(shape))
    names = {path: path.split(".")[-1] for path in sweep}
    attrs = dict(tree.attrs) | {
        "sweep": json.dumps([{"path": p, "name": names[p], "values": list(v)} for p, v in sweep.items()]),
        "points": json.dumps([[int(tree.attrs["rows"]), int(tree.attrs["columns"])]] * count),
    }
    final = tree["final"].to_dataset()
    data = {}
    for name in ("loss", "reach_time", "outcome"):
        own = final[name].variable
        data[name] = xr.Variable(
            (*names.values(), *own.dims), np.array([own.values] * count).reshape(*shape, *own.shape), own.attrs
        )
    ranks, seeds = np.indices(final["loss"].shape[-2:])
    for place in itertools.product(*map(range, shape)):
        for name, values in zip(data, paint(*place, ranks, seeds), strict=True):
            data[name].values[place][0] = values
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs=attrs),
            "/trajectory": tree["trajectory"].to_dataset()[["flow_time", "loss"]],
            "/final": xr.Dataset(data, final.coords),
            "/checks": tree["checks"].to_dataset(),
        }
    )
