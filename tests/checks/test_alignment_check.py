"""`alignment`: subspaces against what the excess loss allows, at every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

FLOW = """
name: spaces
objective: {kind: frobenius, coefficient: 0.8}
pretrained: {kind: spectrum, shape: [5, 4], singular_values: [3, 2, 1, 0.5], seed: 2}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.4, zero: none}, scaling: {kind: constant, value: 1.3}}
time: {stop: 20, points: 41}
"""


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["verdict"]) for row in rows]


def test_the_subspaces_are_found(solve: Any, judge: Any) -> None:
    rows = judge(solve(FLOW).tree, "alignment")
    assert verdicts(rows) == ["pass", "pass"]
    assert all(row["observed"] <= row["tolerance"] < 1e-5 for row in rows)


@pytest.mark.parametrize("place", [20, -1])
@pytest.mark.parametrize("side", [0, 1])
def test_another_subspace_fails_at_any_time(solve: Any, judge: Any, place: int, side: int) -> None:
    tree = solve(FLOW).tree
    tree["trajectory"]["alignment"].values[0, 1, 0, place, side] = 0.5  # one of two directions is wrong
    assert verdicts(judge(tree, "alignment")) == ["pass", "fail"]


def test_the_bound_holds_for_any_matrix_of_the_rank() -> None:
    """‖Δ − X‖² ≥ floor + (σ_r² − σ_{r+1}²)·r·(1 − alignment) for X = UUᵀΔ, the best with its left space, and others."""
    rng = np.random.default_rng(0)
    sigma = np.array([3.0, 2.0, 1.0, 0.5])
    delta = np.diag(sigma)
    for r in (1, 2, 3):
        floor, gap = np.sum(sigma[r:] ** 2), sigma[r - 1] ** 2 - sigma[r] ** 2
        for _ in range(200):
            U = np.linalg.qr(rng.standard_normal((4, r)))[0]
            missing = r - np.sum(U[:r] ** 2)
            for X in (U @ (U.T @ delta), U @ rng.standard_normal((r, 4))):
                assert np.sum((delta - X) ** 2) - floor >= gap * missing - 1e-12


def test_what_has_no_best_subspace_or_ends_elsewhere_is_not_judged(solve: Any, judge: Any) -> None:
    tied = FLOW.replace("[3, 2, 1, 0.5]", "[3, 2, 2, 0.5]")
    first, second = judge(solve(tied).tree, "alignment")
    assert first["verdict"] == "pass" and second["verdict"] == "not_applicable" and "tie" in second["reason"]
    values = "{kind: values, A: [[0, 1, 0, 0]], B: [[0], [1], [0], [0], [0]]}"
    diagonal = FLOW.replace("{kind: gaussian, std: 0.4, zero: none}", values).replace("[1, 2], seeds: 2", "[1]")
    diagonal = diagonal.replace(
        "{kind: spectrum, shape: [5, 4], singular_values: [3, 2, 1, 0.5], seed: 2}",
        "{kind: values, values: [[-3, 0, 0, 0], [0, -2, 0, 0], [0, 0, -1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]}",
    )
    [row] = judge(solve(diagonal).tree, "alignment")
    assert row["verdict"] == "not_applicable" and "ends elsewhere" in row["reason"]


def test_a_short_horizon_and_a_near_tie(solve: Any, judge: Any) -> None:
    assert "not_reached" in verdicts(judge(solve(FLOW.replace("stop: 20", "stop: 0.5")).tree, "alignment"))
    # Within reach of the floor, yet the excess that is left does not tell σ_2 = 2 from σ_3 = 2 − 1e-9.
    near = FLOW.replace("[3, 2, 1, 0.5]", "[3, 2, 1.999999999, 0.5]")
    assert verdicts(judge(solve(near).tree, "alignment")) == ["pass", "unresolved"]


def test_trace_squared_has_no_difference(trace_tree: Any, judge: Any) -> None:
    trace_tree.attrs["resolved_scenario"] = trace_tree.attrs["resolved_scenario"].replace(
        '"checks": "auto"', '"checks": ["alignment"]'
    )
    assert verdicts(judge(trace_tree)) == ["not_applicable"]
