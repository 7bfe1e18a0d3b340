"""`closed_form` and `accuracy`: integrated against exact, and an estimate that must bound what it estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowsim.integrators import solve as solving

LABELS = ["loose_10", "loose_100", "tight", "exact", "integrated", "integrated_10", "integrated_100"]
FROBENIUS = """\
name: exact
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2, 0, 0], [0, 1, 0], [0, 0, 0.5], [0, 0, 0]]}
adapter: {ranks: [1], seeds: 2, init: {kind: gaussian, std: 0.5}}
time: {stop: 3.0, points: 4}
solver: {rtol: 1e-7, atol: 1e-10}
"""
TRACE = """\
name: exact
objective: {kind: trace_squared}
pretrained: {kind: values, values: [[1, 0, 0], [0, 1, 0], [0, 0, -0.5]]}
adapter: {ranks: [2], init: {kind: gaussian, std: 0.5}}
time: {stop: 3.0, points: 4}
solver: {rtol: 1e-7, atol: 1e-10}
"""
BOTH = pytest.mark.parametrize("text", [FROBENIUS, TRACE], ids=["frobenius", "trace_squared"])


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["verdict"] for row in rows]


@BOTH
@pytest.mark.parametrize("method", ["auto", "adaptive", "dopri8"])
def test_both_ways_of_solving_agree(solve: Any, judge: Any, text: str, method: str) -> None:
    """Exact runs are held against an integrated companion of their first seed, numerical ones against the exact."""
    tree = solve(text.replace("solver: {", f"solver: {{method: {method}, ")).tree
    rows = judge(tree, "closed_form")
    exact = method == "auto"
    seeds = tree["trajectory"].sizes["seed"]
    assert [row["subject"].split("/")[0] for row in rows] == (["integrated"] if exact else ["flow"] * seeds)
    assert set(verdicts(rows)) == {"pass"}
    # So few steps of dopri8 show no order: their bound is what rtol = 1e-7 allows each of them.
    bound = 1e-5 if method == "dopri8" else 1e-6
    assert all(0 < row["observed"] <= row["tolerance"] < bound for row in rows)
    assert set(verdicts(judge(tree, "accuracy"))) == {"pass"}


def test_where_no_closed_form_exists_the_hypothesis_is_named(frobenius_run: Any, judge: Any) -> None:
    row = next(row for row in judge(frobenius_run.tree, "closed_form") if row["subject"] == "flow/rank=2")
    assert row["verdict"] == "not_applicable"
    assert "BᵀB − AAᵀ is not a multiple of the identity" in row["reason"]


@BOTH
def test_an_exact_solution_with_its_clock_doubled_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    right = solving._exact
    monkeypatch.setattr(solving, "_exact", lambda problem, times, *rest: right(problem, 2 * times, *rest))
    tree = solve(text).tree
    assert verdicts(judge(tree, "closed_form")) == ["fail"]
    assert verdicts(judge(tree, "accuracy")) == ["fail"]


@BOTH
def test_an_integrator_with_its_clock_doubled_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    right = solving._integrated
    monkeypatch.setattr(solving, "_integrated", lambda problem, times, *rest: right(problem, 2 * times, *rest))
    assert verdicts(judge(solve(text).tree, "closed_form")) == ["fail"]


@BOTH
def test_an_integrator_that_ignores_the_start_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    import dataclasses

    right = solving._integrated

    def elsewhere(problem: Any, *rest: Any) -> Any:
        return right(dataclasses.replace(problem, B=0.5 * problem.C, C=problem.C), *rest)

    monkeypatch.setattr(solving, "_integrated", elsewhere)
    assert verdicts(judge(solve(text).tree, "closed_form")) == ["fail"]


@BOTH
def test_an_exact_solution_without_the_scale_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The clock of the scaled adapter is s·2c times the user's: one that forgets s drifts away."""
    right = solving._exact
    monkeypatch.setattr(solving, "_exact", lambda problem, times, *rest: right(problem, times / problem.scale, *rest))
    scaled = text.replace("std: 0.5}", "std: 0.5}, scaling: {kind: lora, alpha: 1.5}")
    assert verdicts(judge(solve(scaled).tree, "closed_form")) == ["fail"]


@pytest.mark.parametrize(
    ("label", "rank", "name"),
    [("integrated", 0, "closed_form"), ("integrated", 0, "accuracy"), ("tight", 1, "accuracy")],
)
def test_a_distance_above_the_estimate_fails(frobenius_tree: Any, judge: Any, label: str, rank: int, name: str) -> None:
    assert "fail" not in verdicts(judge(frobenius_tree, name))
    frobenius_tree["companions"]["distance"].values[LABELS.index(label), rank, 0, 2] = 1e-5
    bad = [row for row in judge(frobenius_tree, name) if row["verdict"] == "fail"]
    assert len(bad) == 1 and f"rank={rank + 1}" in bad[0]["subject"] and bad[0]["observed"] == 1e-5


def test_an_estimate_a_million_times_too_small_fails(frobenius_tree: Any, judge: Any) -> None:
    frobenius_tree["trajectory"]["estimated_error"].values[0] /= 1e6
    frobenius_tree["companions"]["estimated_error"].values[:] /= 1e6
    rows = {row["subject"]: row["verdict"] for row in judge(frobenius_tree, "accuracy")}
    assert rows == {"integrated/rank=1/seed=0": "fail", "flow/rank=2/seed=0": "fail"}


@pytest.mark.parametrize(("family", "rank"), [(("loose_10", "loose_100"), 1), (("integrated_10", "integrated_100"), 0)])
def test_an_error_that_does_not_fall_with_rtol_is_unresolved(
    frobenius_tree: Any, judge: Any, family: tuple[str, str], rank: int
) -> None:
    near, far = (LABELS.index(label) for label in family)
    distance = frobenius_tree["companions"]["distance"].values
    distance[far, rank] = 2.9 * distance[near, rank, 0].max()
    rows = [row for row in judge(frobenius_tree, "accuracy") if f"rank={rank + 1}" in row["subject"]]
    assert verdicts(rows) == ["unresolved"] and "at least 3-fold wanted" in rows[0]["reason"]
    distance[far, rank] = 3.1 * distance[near, rank, 0].max()
    assert verdicts([row for row in judge(frobenius_tree, "accuracy") if f"rank={rank + 1}" in row["subject"]]) == [
        "pass"
    ]


def test_at_rounding_no_fall_is_asked_for(frobenius_tree: Any, judge: Any) -> None:
    rounding = frobenius_tree["companions"]["estimated_error"].values[0, 1, 0].max()
    for label in ("loose_10", "loose_100", "tight"):
        frobenius_tree["companions"]["distance"].values[LABELS.index(label), 1, 0] = 0.9 * rounding
    row = next(row for row in judge(frobenius_tree, "accuracy") if row["subject"] == "flow/rank=2/seed=0")
    assert (row["verdict"], row["reason"]) == ("pass", "solver error is at rounding")


def test_nothing_moves_means_nothing_to_judge(solve: Any, judge: Any) -> None:
    tree = solve(FROBENIUS.replace("std: 0.5", "std: 0.0")).tree
    for name in ("closed_form", "accuracy"):
        assert set(verdicts(judge(tree, name))) == {"not_applicable"}


@pytest.mark.parametrize("label", ["integrated", "integrated_10", "integrated_100"])
def test_a_companion_that_ended_early_decides_nothing(frobenius_tree: Any, judge: Any, label: str) -> None:
    for name in ("product_norm", "distance", "estimated_error"):
        frobenius_tree["companions"][name].values[LABELS.index(label), 0, 0, 1:] = np.nan
    for name in ("closed_form", "accuracy"):
        row = next(row for row in judge(frobenius_tree, name) if "rank=1" in row["subject"])
        assert (row["verdict"], row["reason"]) == ("unresolved", f"the companion solve {label} did not complete")


def test_a_tight_companion_of_unknown_error_decides_nothing(frobenius_tree: Any, judge: Any) -> None:
    """Its own error is told by `tight_10`: where that gave up, no distance from it is a failure."""
    companions = frobenius_tree["companions"]
    place = companions["companion"].values.tolist().index("tight_10")
    for name in ("product_norm", "distance", "estimated_error"):
        companions[name].values[place, 1, 0] = np.nan
    companions["estimated_error"].values[LABELS.index("tight"), 1, 0] = np.nan
    rows = [row for row in judge(frobenius_tree, "accuracy") if "rank=2" in row["subject"]]
    reason = "the companion solve tight_10 did not complete"
    assert [(row["verdict"], row["reason"]) for row in rows if row["verdict"] != "pass"] == [("unresolved", reason)]
