"""Small real results for the tests of figures, each computed once."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import xarray as xr

SCENARIOS = {
    # Everything at once: floors, closed forms (rank 1), integrated flows, windows, descent with k = 1 and 2, ranks
    # of which the last is beyond the target's.
    "frobenius": """
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [5, 4], singular_values: [3, 2, 1], seed: 0}
adapter: {ranks: [3, 1, 2], seeds: 2, init: {kind: gaussian, std: 0.3}}
schedules:
  - {kind: flow, update: a_first, windows: [0.2, 0.1]}
  - {kind: flow, update: symmetric, windows: [0.2, 0.1]}
  - {kind: descent, update: simultaneous, learning_rates: [0.04, 0.02]}
  - {kind: descent, update: b_first, learning_rates: [0.04, 0.02]}
  - {kind: descent, update: b_first, learning_rates: [0.02, 0.01], inner_steps: 2}
time: {stop: 4.0, points: 9}
""",
    "trace_squared": """
objective: {kind: trace_squared, coefficient: 0.25}
pretrained: {kind: gaussian, shape: [8, 8], std: 0.5, seed: 0}
adapter: {ranks: [1, 2, 4, 8], seeds: 3, init: {kind: gaussian, std: 0.2}}
time: {stop: 5.0, points: 9, spacing: log, first: 1.0e-2}
""",
    "one": """
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2.0, 0.0], [0.0, 1.0]]}
adapter: {ranks: [1], init: {kind: orthogonal, scale: 0.5}}
time: {stop: 4.0, points: 5}
""",
    "diverged": """
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [5, 4], singular_values: [3, 2, 1], seed: 0}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.3}}
schedules:
  - {kind: descent, update: simultaneous, learning_rates: [0.9, 0.05]}
time: {stop: 12.0, points: 13}
""",
    "still": """
objective: {kind: frobenius}
pretrained: {kind: zeros, shape: [3, 3]}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.3}}
schedules: [{kind: descent, update: a_first, learning_rates: [0.1]}]
time: {stop: 1.0, points: 3}
""",
}


@functools.cache
def real_result(name: str) -> xr.DataTree:
    """The result of one of `SCENARIOS`; not to be changed."""
    import flowsim

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(f"name: {name}\n{SCENARIOS[name]}", encoding="utf-8")
        return flowsim.run(path, out=Path(folder), plots=False)
