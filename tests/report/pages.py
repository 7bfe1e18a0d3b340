"""Results for the tests of the page: one that is all green, one with every verdict there is, one sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsim.checks import check
from flowsim.pipeline import Finished, execute
from flowsim.scenario.read import parse_scenario

GREEN = """\
name: green
title: All is well
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [6, 5], singular_values: [3, 2, 1], seed: 0}
adapter: {ranks: [1, 2, 3], seeds: 2, init: {kind: orthogonal, scale: 0.3}}
schedules:
  - {kind: descent, learning_rates: [0.04, 0.02, 0.01]}
time: {stop: 20.0, points: 11}
"""

#: Rank 1 lacks a direction, rank 2 is not there yet, the large learning rate diverges.
MIXED = """\
name: mixed
title: Every verdict there is
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2, 0, 0], [0, 1, 0], [0, 0, 0.03]]}
adapter:
  ranks: [1, 2]
  init: {kind: values, A: [[0, 0.2, 0], [0, 0, 0.2]], B: [[0, 0], [0, 0], [0, 0]]}
schedules:
  - {kind: descent, learning_rates: [4.0, 0.02]}
time: {stop: 40.0, points: 21}
"""

SWEEP = """\
name: swept
title: Two keys at a time
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [4, 3], singular_values: {kind: power, exponent: 1}, seed: 0}
adapter: {ranks: [1, 2], init: {kind: orthogonal, scale: 0.1}}
time: {stop: 12.0, points: 7}
sweep:
  adapter.init.scale: [0.1, 0.5]
  pretrained.singular_values.exponent: [0.5, 1]
"""


def finished(text: str, out: Path, **options: Any) -> Finished:
    return execute(parse_scenario(text, name="s.yaml", folder=out), out=out, device="cpu", **options)


def with_every_verdict(tree: xr.DataTree) -> xr.DataTree:
    """A copy of the result of `MIXED` that is spoilt so that some check fails and some is unresolved."""
    spoilt = tree.copy(deep=True)
    for name in ("loss", "excess_loss"):
        spoilt["trajectory"][name].values[0, 1, 0, 7] *= 3  # of the flow: it rises
    distance, labels = spoilt["companions"]["distance"].values, spoilt["companions"]["companion"].values
    for place in np.flatnonzero(np.isin(labels, ["loose_100", "integrated_100"])):  # the error does not fall with rtol
        distance[place] = np.where(np.isnan(distance[place]), np.nan, 1e-9)
    spoilt["checks"] = xr.DataTree(check(spoilt))
    return spoilt
