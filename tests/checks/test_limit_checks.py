"""`eckart_young` and `zero_loss`: the limit, horizons too short, starts that end elsewhere, and wrong floors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flowsim.dynamics.landscape import FrobeniusLandscape

DIAGONAL = """\
name: diagonal
objective: {kind: frobenius}
pretrained: {kind: values, values: [[3, 0, 0], [0, 2, 0], [0, 0, 1], [0, 0, 0]]}
adapter: {ranks: [1], init: {kind: gaussian, std: 0.5}}
time: {stop: 12.0, points: 4}
solver: {rtol: 1e-6, atol: 1e-9}
"""
SADDLE = """\
name: saddle
objective: {kind: trace_squared}
pretrained: {kind: values, values: [[1, 0.2, 0], [0, 0.5, 0.1], [0.3, 0, 0.5]]}
adapter: {ranks: [1], init: {kind: values, A: [[0.5, 0.25, -0.5]], B: [[0.5], [0.25], [-0.5]]}}
time: {stop: 20.0, points: 4}
solver: {rtol: 1e-6, atol: 1e-9}
"""


def values(A: list[list[float]], rows: int = 4) -> str:
    return f"init: {{kind: values, A: {A}, B: {np.zeros((rows, len(A))).tolist()}}}"


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("shift", [+1, -1])
def test_the_floor_of_another_rank_fails(frobenius_tree: Any, judge: Any, rank: int, shift: int) -> None:
    energies = np.cumsum(np.array([2.0, 1.2, 0.5, 0.2])[::-1] ** 2)[::-1]
    floors = 0.7 * np.append(energies, 0.0)
    stored = frobenius_tree["theory"]["loss_floor"].values
    assert stored[rank] == pytest.approx(floors[rank + 1], rel=1e-14)
    stored[rank] = floors[rank + 1 + shift]
    judged = [] if shift > 0 else [judge(frobenius_tree, "eckart_young")]
    # A floor below the loss while the known limit is the right one would say that this start is excluded; with a
    # limit moved along with it, nothing hides the contradiction.
    frobenius_tree["theory"]["loss_limit"].values[rank] = stored[rank]
    judged.append(judge(frobenius_tree, "eckart_young"))
    for rows in judged:
        assert [row["verdict"] for row in rows] == ["fail" if r == rank else "pass" for r in (0, 1)]


@pytest.mark.parametrize("shift", [+1, -1])
def test_a_floor_computed_for_another_rank_fails(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    """The floor inside every recorded loss is not the one that the loss is held against."""
    right = FrobeniusLandscape.floor
    monkeypatch.setattr(FrobeniusLandscape, "floor", lambda self, rank: right(self, rank + shift))
    assert [row["verdict"] for row in judge(solve(DIAGONAL).tree, "eckart_young")] == ["fail"]


def test_a_theory_for_another_rank_fails(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim.theory import frobenius

    right = frobenius.loss_floor
    monkeypatch.setattr(frobenius, "loss_floor", lambda problem: right(problem) / 2)
    assert [row["verdict"] for row in judge(solve(DIAGONAL).tree, "eckart_young")] == ["fail"]


@pytest.mark.parametrize("name", ["eckart_young", "zero_loss"])
def test_a_loss_off_the_floor_fails(frobenius_tree: Any, trace_tree: Any, judge: Any, name: str) -> None:
    tree = frobenius_tree if name == "eckart_young" else trace_tree
    loss = tree["trajectory"]["loss"].values
    wanted = 1e-6 * tree["trajectory"]["excess_loss"].values[0, 0, 1, 0]
    loss[0, 0, 1, -1] += 3 * wanted
    rows = judge(tree, name)
    assert [row["verdict"] for row in rows] == ["fail", *["pass"] * (len(rows) - 1)]
    assert rows[0]["subject"] == "flow/rank=1/seed=1" and rows[0]["tolerance"] < 3 * wanted
    loss[0, 0, 1, -1] = tree["theory"]["loss_floor"].values[0] - 3 * wanted
    assert "below the lowest possible value" in judge(tree, name)[0]["reason"]
    assert judge(tree, name)[0]["verdict"] == "fail"


@pytest.mark.parametrize(
    "outcome", ["diverged", "max_steps", "step_underflow", "failed", "left_minimum", "stationary_elsewhere"]
)
def test_any_other_end_than_the_limit_fails(frobenius_tree: Any, judge: Any, outcome: str) -> None:
    frobenius_tree["final"]["outcome"].values[0, 1, 1] = outcome
    first, second = judge(frobenius_tree, "eckart_young")
    assert (first["verdict"], second["verdict"]) == ("pass", "fail")
    assert second["reason"].startswith(f"{outcome}: ")


def test_a_short_horizon_is_not_reached_and_says_how_much_longer(solve: Any, judge: Any) -> None:
    short = solve(DIAGONAL.replace("stop: 12.0", "stop: 1.0")).tree
    [row] = judge(short, "eckart_young")
    assert row["verdict"] == "not_reached"
    final = short["final"].isel(schedule=0, rank=0, seed=0)
    assert str(final["outcome"].values) == "not_yet"
    further = float(final["further_time"])
    assert 0 < further < 20
    assert f"about {further:.4g} more flow time" in row["reason"]
    enough = solve(
        DIAGONAL.replace("stop: 12.0", f"stop: {1.5 * (1 + further):.3f}").replace("diagonal", "longer")
    ).tree
    assert judge(enough, "eckart_young")[0]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("init", "limit"),
    [
        (values([[0.0, 0.5, 0.0]]), 0.5 * (9 + 1)),  # orthogonal to v1: ends at the second mode
        (values([[0.0, 0.0, -0.25]]), 0.5 * (9 + 4)),
        ("init: {kind: gaussian, std: 0.0}", 0.5 * 14),  # nothing moves at all
    ],
)
def test_a_start_without_the_top_direction_is_excluded_by_theory(
    solve: Any, judge: Any, init: str, limit: float
) -> None:
    tree = solve(DIAGONAL.replace("init: {kind: gaussian, std: 0.5}", init).replace("12.0", "30.0")).tree
    [row] = judge(tree, "eckart_young")
    assert row["verdict"] == "not_applicable"
    assert row["reason"] == f"from this start the loss cannot fall below {limit:.8g}"
    assert tree["final"]["outcome"].values.ravel() == ["stationary_elsewhere"]
    assert float(tree["trajectory"]["loss"][0, 0, 0, -1]) == pytest.approx(limit, rel=1e-12)


def test_a_balanced_start_of_rank_two_without_the_top_direction(solve: Any, judge: Any) -> None:
    init = values([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    text = DIAGONAL.replace("init: {kind: gaussian, std: 0.5}", init).replace("ranks: [1]", "ranks: [2]")
    [row] = judge(solve(text.replace("12.0", "40.0")).tree, "eckart_young")
    assert row["verdict"] == "not_applicable" and "the loss cannot fall below 4.5" in row["reason"]


def test_a_target_that_is_there_already_is_reached(solve: Any, judge: Any) -> None:
    tree = solve(DIAGONAL + "target: {kind: shift, by: {kind: zeros}}\n").tree
    [row] = judge(tree, "eckart_young")
    assert (row["verdict"], row["observed"], row["expected"]) == ("pass", 0.0, 0.0)
    assert tree["final"]["outcome"].values.ravel() == ["reached"]


def test_the_stable_manifold_of_the_saddle_keeps_its_loss(solve: Any, judge: Any) -> None:
    """B = Aᵀ and a positive trace: both factors vanish, and the loss tends to c·(tr W0)²."""
    tree = solve(SADDLE).tree
    [row] = judge(tree, "zero_loss")
    assert row["verdict"] == "not_applicable"
    assert row["reason"] == "from this start the loss cannot fall below 2"
    assert tree["final"]["outcome"].values.ravel() == ["stationary_elsewhere"]


def test_with_the_other_sign_the_same_start_reaches_zero(solve: Any, judge: Any) -> None:
    """B = −Aᵀ leaves the saddle of a positive trace."""
    tree = solve(SADDLE.replace("B: [[0.5], [0.25], [-0.5]]", "B: [[-0.5], [-0.25], [0.5]]")).tree
    assert [row["verdict"] for row in judge(tree, "zero_loss")] == ["pass"]


def test_trace_zero_at_the_start(solve: Any, judge: Any) -> None:
    """W0 = 0 in trace and B0 = 0: the loss is zero from the start, and nothing moves."""
    text = SADDLE.replace(
        "[[1, 0.2, 0], [0, 0.5, 0.1], [0.3, 0, 0.5]]", "[[1, 0.2, 0], [0, -0.5, 0.1], [0.3, 0, -0.5]]"
    )
    start = text.index("init:")
    still = text[:start] + "init: {kind: gaussian, std: 0.4}}\ntime: {stop: 4.0, points: 3}\n"
    tree = solve(still).tree
    [row] = judge(tree, "zero_loss")
    assert (row["verdict"], row["observed"]) == ("pass", 0.0)
    for name in ("relative_error_law", "inverse_sqrt_rank", "closed_form", "accuracy"):
        assert {one["verdict"] for one in judge(tree, name)} == {"not_applicable"}
    # With both factors drawn the start has a trace, and the flow removes it (like t⁻² where B = ±Aᵀ).
    moving = solve(text.replace("saddle", "moving"))
    assert [one["verdict"] for one in judge(moving.tree, "zero_loss")] == ["not_reached"]
    drawn = still.replace("std: 0.4", "std: 0.9, zero: none").replace("stop: 4.0", "stop: 20.0")
    assert [one["verdict"] for one in judge(solve(drawn).tree, "zero_loss")] == ["pass"]


def test_an_unknown_error_is_not_a_failure(frobenius_tree: Any, judge: Any) -> None:
    frobenius_tree["trajectory"]["estimated_error"].values[0, 1, 0] = np.nan
    first, second = judge(frobenius_tree, "eckart_young")
    assert (first["verdict"], second["verdict"]) == ("pass", "unresolved")


def test_scale_applied_to_the_output_only_does_not_pass(
    solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow solved with s = 1 whose update is then multiplied by s ends off the floor, and breaks the identity."""
    from flowsim.dynamics import coordinates
    from flowsim.sweep import companions, execute, starts
    from flowsim.trajectory.measure import measure

    right = coordinates.canonical
    monkeypatch.setattr(starts, "canonical", lambda o, a: right(o, coordinates.Adapter(a.A, a.B, 1.0)))

    def stretched(problem: Any, B: torch.Tensor, C: torch.Tensor, excess: Any = None) -> Any:
        return measure(problem, 1.5**0.5 * B, 1.5**0.5 * C, None)

    for module in (execute, companions):
        monkeypatch.setattr(module, "measure", stretched)
    tree = solve(DIAGONAL.replace("std: 0.5}", "std: 0.5}, scaling: {kind: constant, value: 1.5}")).tree
    assert [row["verdict"] for row in judge(tree, "eckart_young")] != ["pass"]
    assert {row["verdict"] for row in judge(tree, "conservation")} == {"fail"}


def test_an_unbalanced_start_without_the_top_direction_is_excluded(solve: Any, judge: Any) -> None:
    """No closed form holds, but a mode absent from both factors stays absent: the loss keeps its ½·3²."""
    text = """
    name: absent
    objective: {kind: frobenius}
    pretrained: {kind: values, values: [[3, 0, 0], [0, 2, 0], [0, 0, 1]]}
    adapter: {ranks: [2], init: {kind: values, A: [[0, 0.5, 0.1], [0, 0.2, 0.7]], B: [[0, 0], [0, 0], [0, 0]]}}
    time: {stop: 40, points: 5}
    """
    tree = solve(text).tree
    [row] = judge(tree, "eckart_young")
    assert row["verdict"] == "not_applicable" and "cannot fall below 4.5" in row["reason"]
    assert tree["final"]["outcome"].values.ravel() == ["stationary_elsewhere"]


def test_a_trace_that_is_zero_to_rounding_is_zero(solve: Any, judge: Any) -> None:
    """1 − 0.9 − 0.1 is 2.8e-17 in floating point; nothing moves, and no check may call that a failure."""
    text = """
    name: zero_trace
    objective: {kind: trace_squared}
    pretrained: {kind: values, values: [[1, 0, 0], [0, -0.9, 0], [0, 0, -0.1]]}
    adapter: {ranks: [1], init: {kind: gaussian, std: 0.5}}
    time: {stop: 4, points: 5}
    """
    tree = solve(text).tree
    assert "fail" not in tree["checks"]["verdict"].values
