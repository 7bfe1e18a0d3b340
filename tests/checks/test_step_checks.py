"""`equivalence` and `descent_follows_flow`: the predicted coefficient, and the iterations that only look right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from flowsim.integrators import solve as solving
from flowsim.integrators import stepped
from flowsim.sweep import gaps

HEAD = """\
name: steps
objective: {kind: frobenius, coefficient: 0.5}
pretrained: {kind: values, values: [[2, 0, 0], [0, 1, 0], [0, 0, 0.5], [0, 0, 0]]}
adapter: {ranks: [1], init: {kind: gaussian, std: 0.5}}
time: {stop: 4.0, points: 6}
solver: {rtol: 1e-7, atol: 1e-10}
"""
DESCENT = (
    HEAD
    + """\
schedules:
  - {kind: descent, update: a_first, learning_rates: [0.04, 0.02, 0.01]}
"""
)
WINDOWS = (
    HEAD
    + """\
schedules:
  - {kind: flow, update: b_first, windows: [0.1, 0.05, 0.025]}
  - {kind: flow, update: symmetric, windows: [0.2, 0.1, 0.05]}
"""
)
TRACE = """\
name: steps
objective: {kind: trace_squared}
pretrained: {kind: values, values: [[1, 0, 0], [0, 0.5, 0], [0, 0, 0.25]]}
adapter: {ranks: [2], init: {kind: gaussian, std: 0.5}}
schedules:
  - {kind: descent, update: b_first, learning_rates: [0.04, 0.02, 0.01]}
  - {kind: flow, update: a_first, windows: [0.1, 0.05, 0.025]}
time: {stop: 4.0, points: 6}
solver: {rtol: 1e-7, atol: 1e-10}
"""


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["verdict"] for row in rows]


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    """Replace the step of gradient descent; `change` gets the right one first."""
    right = stepped.descent_step
    monkeypatch.setattr(stepped, "descent_step", lambda *args: change(right, *args))


def test_every_family_is_judged_once_per_rank(frobenius_run: Any, judge: Any) -> None:
    for name, families in (
        ("descent_follows_flow", ["descent/simultaneous/inner_steps=1", "descent/b_first/inner_steps=1"]),
        ("equivalence", ["flow/a_first/windows", "flow/symmetric/windows", "descent/b_first/inner_steps=1"]),
    ):
        rows = judge(frobenius_run.tree, name)
        assert [row["subject"].split("/seed=")[0] for row in rows] == [
            f"{f}/rank={r}" for f in families for r in (1, 2)
        ]
        assert set(verdicts(rows)) == {"pass"}
        assert all(abs(row["observed"] - 4.0) < 1.0 for row in rows)


@pytest.mark.parametrize(("update", "inner_steps"), [("simultaneous", 3), ("a_first", 3), ("b_first", 2)])
def test_more_inner_steps_have_their_own_coefficient(solve: Any, judge: Any, update: str, inner_steps: int) -> None:
    rates = ", ".join(str(0.06 / inner_steps / 2**i) for i in range(3))
    schedule = (
        f"schedules: [{{kind: descent, update: {update}, inner_steps: {inner_steps}, learning_rates: [{rates}]}}]\n"
    )
    tree = solve(HEAD.replace("points: 6", "points: 3").replace("stop: 4.0", "stop: 2.4") + schedule).tree
    assert verdicts(judge(tree, "descent_follows_flow")) == ["pass"]
    assert verdicts(judge(tree, "equivalence")) == (["pass"] if update != "simultaneous" else [])


@pytest.mark.parametrize("text", [DESCENT, WINDOWS, TRACE], ids=["descent", "windows", "trace_squared"])
def test_a_coefficient_of_the_wrong_sign_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    right = gaps.sources_of

    def flipped(*args: Any) -> tuple[float, ...] | None:
        weights = right(*args)
        return None if weights is None else tuple(-w for w in weights)

    monkeypatch.setattr(gaps, "sources_of", flipped)
    rows = [r for r in judge(solve(text).tree) if r["check"] in ("equivalence", "descent_follows_flow")]
    first_order = [row for row in rows if "symmetric" not in row["subject"]]
    assert first_order and set(verdicts(first_order)) == {"fail"}
    assert all("is not the predicted one" in row["reason"] for row in first_order)
    assert set(verdicts([row for row in rows if "symmetric" in row["subject"]])) <= {"pass"}


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_coefficient_off_by_a_tenth_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    right = gaps.sources_of
    monkeypatch.setattr(gaps, "sources_of", lambda *args: tuple(factor * w for w in right(*args) or ()))
    tree = solve(DESCENT).tree
    assert verdicts(judge(tree, "equivalence")) == verdicts(judge(tree, "descent_follows_flow")) == ["fail"]


@pytest.mark.parametrize("text", [DESCENT, TRACE], ids=["frobenius", "trace_squared"])
def test_a_stale_gradient_fails(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The second factor moves by the gradient at the old first one: simultaneous descent under another name."""
    spoil(monkeypatch, lambda right, land, update, step, inner: right(land, "simultaneous", step, inner))
    tree = solve(text).tree
    rows = [row for row in judge(tree, "equivalence") if row["subject"].startswith("descent")]
    assert verdicts(rows) == ["fail"]
    assert verdicts(judge(tree, "descent_follows_flow")) == ["fail"]


def test_the_other_order_under_this_name_fails(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"a_first": "b_first", "b_first": "a_first", "simultaneous": "simultaneous"}
    spoil(monkeypatch, lambda right, land, update, step, inner: right(land, other[update], step, inner))
    tree = solve(DESCENT).tree
    assert verdicts(judge(tree, "equivalence")) == verdicts(judge(tree, "descent_follows_flow")) == ["fail"]


def fixed_block(right: Any, landscape: Any, update: str, step: float, inner_steps: int) -> Any:
    """Sequential descent with k·η = 0.2 whatever η, under the label of one inner step.

    A round has two factor steps; in a block of k rounds the first factor takes its k steps, then the second.
    """
    if update == "simultaneous":
        return right(landscape, update, step, inner_steps)
    count, done = round(0.2 / step), 0

    def advance(B: torch.Tensor, C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal done
        for _ in range(2):
            first = done % (2 * count) < count
            if first == (update == "a_first"):
                C = C + step * landscape.pull(C, B)
            else:
                B = B + step * landscape.pull(B, C)
            done += 1
        return B, C

    return advance


@pytest.mark.parametrize("update", ["a_first", "b_first"])
def test_k_times_eta_held_fixed_fails(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, update: str) -> None:
    """The natural negative control: the gap stalls, because the iteration tends to another system."""
    spoil(monkeypatch, fixed_block)
    text = DESCENT.replace("a_first", update).replace("[0.04, 0.02, 0.01]", "[0.05, 0.025, 0.0125, 0.00625]")
    tree = solve(text).tree
    [row] = judge(tree, "equivalence")
    assert row["verdict"] == "fail"
    assert row["reason"].startswith("the gap does not fall as it should: its order has settled at")
    gap = tree["trajectory"]["update_order_gap"].values[1:, 0, 0].max(-1)
    assert gap.min() > 0.5 * gap.max() > 1e-3
    # The same rates with k = 1 are what theory says.
    monkeypatch.undo()
    assert verdicts(judge(solve(text.replace("steps", "right")).tree, "equivalence")) == ["pass"]


@pytest.mark.parametrize("text", [DESCENT, TRACE], ids=["frobenius", "trace_squared"])
def test_a_flow_with_its_clock_doubled_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    for name in ("_exact", "_integrated"):
        right = getattr(solving, name)
        monkeypatch.setattr(
            solving, name, lambda problem, times, *rest, right=right: right(problem, 2 * times, *rest)
        )  # fmt: skip
    assert verdicts(judge(solve(text).tree, "descent_follows_flow")) == ["fail"]


def test_a_first_order_composition_named_symmetric_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = stepped.window_step
    monkeypatch.setattr(stepped, "window_step", lambda land, update, window: right(land, "a_first", window))
    rows = [row for row in judge(solve(WINDOWS).tree, "equivalence") if "symmetric" in row["subject"]]
    assert verdicts(rows) == ["fail"]


def test_a_wrong_seed_is_found_among_right_ones(frobenius_tree: Any, judge: Any) -> None:
    group = frobenius_tree["trajectory"]
    place = list(group["schedule"].values).index("descent/b_first/learning_rate=0.01")
    for shift, name in ((1, "richardson_residual"), (1, "richardson_order_residual")):
        values = group[name].values
        values[place - shift, 1, 1] = values[place - 2, 1, 1]
        values[place - 2, 1, 1] *= 1.2
    for name in ("richardson_drift", "richardson_order_drift"):
        group[name].values[place - 2, 1, 1] = 0.0
    for name in ("descent_follows_flow", "equivalence"):
        bad = [row for row in judge(frobenius_tree, name) if row["verdict"] == "fail"]
        assert [row["subject"] for row in bad] == ["descent/b_first/inner_steps=1/rank=2/seed=1"]


LARGE = HEAD.replace("time: {stop: 4.0, points: 6}", "time: {stop: 18.0, points: 4}")


@pytest.mark.parametrize(
    ("points", "update", "rates"),
    [
        (4, "a_first", [0.45, 0.36, 0.3]),  # the coefficient seems settled, because the steps are close together
        (2, "a_first", [0.4, 0.2, 0.1]),  # the gap seems to stall, because flow and descent have both arrived
        (2, "a_first", [0.4, 0.3, 0.2]),
        (7, "simultaneous", [0.45, 0.36, 0.3]),
    ],
)
def test_steps_too_large_for_a_leading_order_never_fail(
    solve: Any, judge: Any, points: int, update: str, rates: list[float]
) -> None:
    text = LARGE.replace("points: 4", f"points: {points}")
    tree = solve(text + f"schedules: [{{kind: descent, update: {update}, learning_rates: {rates}}}]\n").tree
    for name in ("descent_follows_flow", "equivalence"):
        assert "fail" not in verdicts(judge(tree, name))
    if points != 7:
        assert verdicts(judge(tree, "descent_follows_flow")) == ["unresolved"]


def test_a_coefficient_that_has_not_settled_is_unresolved(frobenius_tree: Any, judge: Any) -> None:
    """A residual that does not fall, while the measured coefficient still changes as much."""
    group = frobenius_tree["trajectory"]
    places = [i for i, s in enumerate(group["schedule"].values) if str(s).startswith("descent/simultaneous")]
    residual, drift = group["richardson_residual"].values, group["richardson_drift"].values
    residual[places[0], 0], residual[places[1], 0] = 1.0, 0.9
    drift[places[0], 0] = 0.5
    row = judge(frobenius_tree, "descent_follows_flow")[0]
    assert row["verdict"] == "unresolved" and row["reason"].startswith("the steps are too large")
    drift[places[0], 0] = 0.1
    assert judge(frobenius_tree, "descent_follows_flow")[0]["verdict"] == "fail"


def test_residuals_are_compared_at_the_same_times(frobenius_tree: Any, judge: Any) -> None:
    """A time that only the coarser pair of steps has in common says nothing about how the residual falls."""
    group = frobenius_tree["trajectory"]
    first = list(group["schedule"].values).index("descent/simultaneous/learning_rate=0.04")
    residual = group["richardson_residual"].values
    residual[first, 0, :, 2] *= 100.0
    assert judge(frobenius_tree, "descent_follows_flow")[0]["observed"] > 30
    residual[first + 1, 0, :, 2] = np.nan
    row = judge(frobenius_tree, "descent_follows_flow")[0]
    assert row["verdict"] == "pass" and abs(row["observed"] - 4.0) < 1.0


def test_two_step_sizes_are_too_few(solve: Any, judge: Any) -> None:
    two, one = "{kind: descent, learning_rates: [0.04, 0.02]}", "{kind: flow, update: symmetric, windows: [0.1]}"
    text = HEAD + f"schedules: [{two}, {one}]\n"
    tree = solve(text).tree
    for name in ("descent_follows_flow", "equivalence"):
        [row] = judge(tree, name)
        assert row["verdict"] == "unresolved" and row["reason"].startswith("fewer than two residuals")


def test_residuals_at_the_solver_error_are_unresolved(frobenius_tree: Any, judge: Any) -> None:
    frobenius_tree["trajectory"]["estimated_error"].values[:] = 1e-2
    for name in ("descent_follows_flow", "equivalence"):
        rows = judge(frobenius_tree, name)
        assert set(verdicts(rows)) == {"unresolved"}
        assert all("too close to the solver's error" in row["reason"] for row in rows)


def test_descent_above_the_stability_limit_is_an_outcome_and_not_judged(solve: Any, judge: Any) -> None:
    """λ_max = √(4σ1² + λ²) at the limit: beyond 2/λ_max descent leaves the minimum, far beyond it diverges."""
    text = HEAD.replace("stop: 4.0, points: 6", "stop: 30.0, points: 21")
    tree = solve(text + "schedules: [{kind: descent, learning_rates: [1.5, 0.54, 0.5]}]\n").tree
    limit = float(tree["theory"]["stability_limit"].item())
    assert 0.45 < limit < 0.5
    outcomes = [str(x) for x in tree["final"]["outcome"].values.ravel()]
    assert outcomes == ["reached", "diverged", "left_minimum", "left_minimum"]
    [row] = judge(tree, "descent_follows_flow")
    assert row["verdict"] == "not_applicable" and "above the stability limit" in row["reason"]
    # What stays below the limit is judged without the others.
    more = (
        text.replace("steps", "more").replace("1e-7", "1e-8")
        + "schedules: [{kind: descent, learning_rates: [1.5, 0.04, 0.02, 0.01]}]\n"
    )
    assert verdicts(judge(solve(more).tree, "descent_follows_flow")) == ["pass"]


def test_nothing_moves(solve: Any, judge: Any) -> None:
    tree = solve(DESCENT.replace("std: 0.5", "std: 0.0")).tree
    for name in ("descent_follows_flow", "equivalence"):
        [row] = judge(tree, name)
        assert (row["verdict"], row["reason"]) == ("not_applicable", "nothing moves: the update stays zero")


def test_a_flow_that_did_not_complete_decides_nothing(frobenius_tree: Any, judge: Any) -> None:
    frobenius_tree["trajectory"]["product_norm"].values[0, 1, :, 1:] = np.nan
    for name in ("descent_follows_flow", "equivalence"):
        rows = judge(frobenius_tree, name)
        assert {r["verdict"] for r in rows if "rank=2" in r["subject"]} == {"unresolved"}
        assert {r["verdict"] for r in rows if "rank=1" in r["subject"]} == {"pass"}
