"""`conservation` and `monotone_loss`: what passes, and what a drift, a rise, a wrong sign or a lost solve does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flowsim.integrators import solve as solving

LABELS = ["loose_10", "loose_100", "tight", "exact", "integrated", "integrated_10", "integrated_100"]
UNBALANCED = """\
name: unbalanced
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2, 0, 0], [0, 1, 0], [0, 0, 0.5], [0, 0, 0]]}
adapter: {ranks: [2], init: {kind: gaussian, std: 0.5, zero: none}, scaling: {kind: rslora, alpha: 2}}
time: {stop: 3.0, points: 4}
solver: {rtol: 1e-6, atol: 1e-9}
"""


def half_wrong(landscape: Any, Z: torch.Tensor) -> torch.Tensor:
    """The right-hand side with the sign of A' flipped."""
    B, C = Z.unbind(-3)
    return torch.stack([landscape.pull(B, C), -landscape.pull(C, B)], dim=-3)


def wholly_wrong(landscape: Any, Z: torch.Tensor) -> torch.Tensor:
    """The right-hand side of ascent."""
    B, C = Z.unbind(-3)
    return -torch.stack([landscape.pull(B, C), landscape.pull(C, B)], dim=-3)


def test_conservation_judges_what_was_integrated(frobenius_run: Any, judge: Any) -> None:
    """A closed form conserves Q by construction: its integrated companion stands for it, for one seed."""
    rows = judge(frobenius_run.tree, "conservation")
    subjects = ["integrated/rank=1/seed=0", "flow/rank=2/seed=0", "flow/rank=2/seed=1"]
    assert [row["subject"] for row in rows] == [subject for subject in subjects for _ in range(2)]
    assert {row["verdict"] for row in rows} == {"pass"}
    assert all(0 <= row["observed"] < row["tolerance"] < 1e-5 for row in rows)


@pytest.mark.parametrize(
    "scaling", ["{kind: rslora, alpha: 2}", "{kind: lora, alpha: 3}", "{kind: constant, value: 0.5}"]
)
def test_the_identity_knows_the_scale(solve: Any, judge: Any, scaling: str) -> None:
    tree = solve(UNBALANCED.replace("{kind: rslora, alpha: 2}", scaling)).tree
    assert [row["verdict"] for row in judge(tree, "conservation")] == ["pass", "pass"]


@pytest.mark.parametrize("where", ["flow", "integrated"])
def test_a_drift_of_the_imbalance_fails(frobenius_tree: Any, judge: Any, where: str) -> None:
    group, place = (
        (frobenius_tree["trajectory"], (0, 1, 1)) if where == "flow" else (frobenius_tree["companions"], (4, 0, 0))
    )
    group["imbalance_drift"].values[place] += np.linspace(0.0, 1e-5, 6)
    rows = {(row["subject"], row["reason"]): row["verdict"] for row in judge(frobenius_tree, "conservation")}
    spoilt = "flow/rank=2/seed=1" if where == "flow" else "integrated/rank=1/seed=0"
    assert {key for key, verdict in rows.items() if verdict == "fail"} == {(spoilt, "largest drift of Q over time")}


@pytest.mark.parametrize("name", ["gram_sum_norm", "product_norm"])
def test_a_defect_of_the_boundedness_identity_fails(frobenius_tree: Any, judge: Any, name: str) -> None:
    frobenius_tree["trajectory"][name].values[0, 1, 1, 3] *= 1 + 1e-5
    rows = [row for row in judge(frobenius_tree, "conservation") if row["verdict"] == "fail"]
    assert [row["subject"] for row in rows] == ["flow/rank=2/seed=1"]
    assert rows[0]["reason"].startswith("largest defect of the boundedness identity")


@pytest.mark.parametrize("text", [UNBALANCED, UNBALANCED.replace("ranks: [2]", "ranks: [1]")], ids=["rank2", "rank1"])
def test_one_flipped_sign_fails(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(solving, "velocity", half_wrong)
    tree = solve(text).tree
    assert {row["verdict"] for row in judge(tree, "conservation")} == {"fail"}
    if "ranks: [2]" in text:
        assert [row["verdict"] for row in judge(tree, "monotone_loss")] == ["fail"]
    else:
        assert [row["verdict"] for row in judge(tree, "closed_form")] == ["fail"]


def test_ascent_fails(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of ascent rises; Q is conserved by it as well, and so that check alone cannot see it."""
    monkeypatch.setattr(solving, "velocity", wholly_wrong)
    tree = solve(UNBALANCED.replace("stop: 3.0", "stop: 0.05")).tree
    assert [row["verdict"] for row in judge(tree, "monotone_loss")] == ["fail"]
    assert {row["verdict"] for row in judge(tree, "conservation")} == {"pass"}


def test_ascent_that_blows_up_passes_nothing(solve: Any, judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first time there is no number left: that is never a pass."""
    import functools

    from flowsim.sweep import companions, starts

    monkeypatch.setattr(solving, "velocity", wholly_wrong)
    for module in (starts, companions):
        monkeypatch.setattr(module, "solve_flow", functools.partial(solving.solve_flow, max_steps=100))
    for text in (UNBALANCED, UNBALANCED.replace("ranks: [2]", "ranks: [1]").replace("unbalanced", "one")):
        tree = solve(text).tree
        broken = [row for row in judge(tree) if row["check"] in ("conservation", "closed_form", "accuracy")]
        assert "pass" not in {row["verdict"] for row in broken}


def test_monotone_loss_judges_every_flow_and_no_descent(frobenius_run: Any, judge: Any) -> None:
    rows = judge(frobenius_run.tree, "monotone_loss")
    labels = {row["subject"].split("/rank=")[0] for row in rows}
    kinds = frobenius_run.tree["trajectory"]["kind"].values
    assert labels == {str(s) for s in frobenius_run.tree["trajectory"]["schedule"].values[kinds == "flow"]}
    assert {row["verdict"] for row in rows} == {"pass"}
    assert all(row["observed"] <= row["tolerance"] for row in rows)


@pytest.mark.parametrize("schedule", [0, 2])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rising_loss_fails(frobenius_tree: Any, judge: Any, schedule: int, rank: int) -> None:
    excess = frobenius_tree["trajectory"]["excess_loss"].values
    excess[schedule, rank, 1, 4] = 1.01 * excess[schedule, rank, 1, 3] + 1e-6
    bad = [row for row in judge(frobenius_tree, "monotone_loss") if row["verdict"] == "fail"]
    label = str(frobenius_tree["trajectory"]["schedule"].values[schedule])
    assert [row["subject"] for row in bad] == [f"{label}/rank={rank + 1}/seed=1"]
    assert bad[0]["observed"] > bad[0]["tolerance"]


def test_a_rise_within_the_solver_error_passes(frobenius_tree: Any, judge: Any) -> None:
    excess = frobenius_tree["trajectory"]["excess_loss"].values
    before = judge(frobenius_tree, "monotone_loss")[0]
    excess[0, 0, :, -1] = excess[0, 0, :, -2] + 0.5 * before["tolerance"]
    assert judge(frobenius_tree, "monotone_loss")[0]["verdict"] == "pass"


def test_numbers_that_end_early_are_no_pass(frobenius_tree: Any, judge: Any) -> None:
    for name in ("product_norm", "excess_loss", "loss", "imbalance_drift", "factor_norm"):
        frobenius_tree["trajectory"][name].values[0, 1, 1, 1:] = np.nan
    rows = {row["subject"]: row for row in judge(frobenius_tree, "conservation")}
    assert rows["flow/rank=2/seed=1"]["verdict"] == "unresolved"
    assert "did not complete" in rows["flow/rank=2/seed=1"]["reason"]
    assert rows["flow/rank=2/seed=0"]["verdict"] == "pass"
    monotone = {row["subject"].rsplit("/", 1)[0]: row["verdict"] for row in judge(frobenius_tree, "monotone_loss")}
    assert (monotone["flow/rank=1"], monotone["flow/rank=2"]) == ("pass", "unresolved")


@pytest.mark.parametrize(
    ("label", "rank", "subject"), [("loose_10", 1, "flow/rank=2/seed=0"), ("integrated", 0, "integrated/rank=1/seed=0")]
)
def test_a_companion_that_ended_early_is_no_pass(
    frobenius_tree: Any, judge: Any, label: str, rank: int, subject: str
) -> None:
    for name in ("product_norm", "imbalance_drift", "factor_norm", "gram_sum_norm", "factor_distance", "distance"):
        frobenius_tree["companions"][name].values[LABELS.index(label), rank, 0, 1:] = np.nan
    row = next(row for row in judge(frobenius_tree, "conservation") if row["subject"] == subject)
    assert row["verdict"] == "unresolved" and row["reason"] == f"the companion solve {label} did not complete"
