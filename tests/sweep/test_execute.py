"""One rank, solved: recorded numbers against the recorded states, whatever the init, the order and the shape."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from flowsim.errors import HypothesisError
from flowsim.integrators.solve import solve_flow
from flowsim.problem.assemble import assemble
from flowsim.scenario.read import parse_scenario
from flowsim.sweep import companions, execute, starts
from flowsim.sweep.schedules import clock_of, expand, nominal_times
from flowsim.sweep.starts import Starts

W0 = "{kind: gaussian, shape: [5, 4], std: 0.6, seed: 2}"
SQUARE = "{kind: gaussian, shape: [4, 4], std: 0.6, seed: 2}"
SCHEDULES = """\
schedules:
  - {kind: flow, update: b_first, windows: [0.2]}
  - {kind: descent, update: simultaneous, inner_steps: 2, learning_rates: [0.05]}
  - {kind: descent, update: a_first, learning_rates: [0.05]}
"""


def scenario(
    init: str,
    *,
    ranks: str = "[2]",
    seeds: int = 2,
    factors: str = "all",
    objective: str = "frobenius",
    more: str = SCHEDULES,
    time: str = "{stop: 1.0, points: 4}",
) -> str:
    pretrained = W0 if objective == "frobenius" else SQUARE
    return f"""\
name: one
objective: {{kind: {objective}, coefficient: 0.8}}
pretrained: {pretrained}
adapter: {{ranks: {ranks}, seeds: {seeds}, init: {init}, scaling: {{kind: lora, alpha: 3}}}}
time: {time}
save: {{factors: {factors}}}
solver: {{rtol: 1e-7, atol: 1e-10}}
{more}"""


def prepared(text: str) -> tuple[Starts, Any]:
    document = parse_scenario(text, name="s.yaml", folder=".")
    return Starts(assemble(document), torch.device("cpu")), clock_of(
        expand(document.scenario), nominal_times(document.scenario.time)
    )


def problem_of(text: str) -> Any:
    return assemble(parse_scenario(text, name="s.yaml", folder="."))


INITS = [
    ("frobenius", "{kind: gaussian, std: 0.4}", "[2]"),
    ("frobenius", "{kind: gaussian, std: 0.4, zero: none}", "[2]"),
    ("frobenius", "{kind: kaiming, zero: A}", "[6]"),  # beyond min(n, m)
    ("frobenius", "{kind: orthogonal, scale: 0.5}", "[3]"),
    ("frobenius", "{kind: pissa}", "[2]"),
    ("frobenius", "{kind: spectral, of: difference, power: 0.5, scale: 0.4, b: 0.2}", "[2]"),
    ("frobenius", "{kind: values, A: [[1, 0, 0.5, 0]], B: [[0.1], [0], [0], [0.2], [0]]}", "[1]"),
    ("trace_squared", "{kind: gaussian, std: 0.4, zero: none}", "[2]"),
    ("trace_squared", "{kind: pissa}", "[2]"),
    ("trace_squared", "{kind: kaiming}", "[6]"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("objective", "init", "ranks"), INITS)
def test_recorded_losses_are_those_of_the_recorded_factors(objective: str, init: str, ranks: str, solve: Any) -> None:
    text = scenario(init, ranks=ranks, objective=objective)
    tree = solve(text).tree
    problem = problem_of(text)
    [rank] = problem.ranks
    frozen, scale = problem.frozen(rank), problem.scale(rank)
    kept = tree[f"factors/rank_{rank}"]
    A, B = kept["A"].values, kept["B"].values  # (schedule, seed, time, r, m) and (…, n, r)
    assert A.shape == (4, 2, 4, rank, problem.shape[1]) and B.shape == (4, 2, 4, problem.shape[0], rank)
    start = problem.start(rank)
    np.testing.assert_allclose(A[:, :, 0], np.broadcast_to(start.A, A[:, :, 0].shape), atol=1e-14)
    np.testing.assert_allclose(B[:, :, 0], np.broadcast_to(start.B, B[:, :, 0].shape), atol=1e-14)
    W = frozen + scale * B @ A
    size = (W**2).sum((-2, -1)) if objective == "frobenius" else np.trace(W, axis1=-2, axis2=-1) ** 2
    loss = 0.8 * size
    stored = tree["trajectory"]
    np.testing.assert_allclose(stored["loss"].values[:, 0], loss, rtol=1e-11, atol=1e-13)
    update = scale * B @ A
    np.testing.assert_allclose(stored["product_norm"].values[:, 0], np.linalg.norm(update, axis=(-2, -1)), rtol=1e-11)
    # Descent with 2 inner steps of 0.05 and the window of 0.2 are recorded within half a round of the nominal time.
    same = np.isclose(stored["flow_time"].values, stored["time"].values)
    unit = np.linalg.norm(update[0], axis=(-2, -1)).max(-1)
    gap = np.linalg.norm(update - update[0], axis=(-2, -1)) / unit[:, None]
    measured = stored["flow_gap"].values[:, 0]
    np.testing.assert_allclose(measured.swapaxes(1, 2)[same], gap.swapaxes(1, 2)[same], atol=1e-7)
    if objective == "frobenius":
        np.testing.assert_allclose(tree["baseline"]["loss"].values.ravel()[0], loss[0, 0, 0], rtol=1e-12)


@pytest.mark.parametrize("factors", ["ends", "none"])
def test_factors_at_the_ends_or_not_at_all(factors: str, solve: Any) -> None:
    tree = solve(scenario("{kind: gaussian, std: 0.4}", factors=factors)).tree
    assert ("factors" in tree.children) == (factors == "ends")
    if factors == "ends":
        kept = tree["factors/rank_2"]
        np.testing.assert_array_equal(kept["time"].values, [0.0, 1.0])
        assert kept["A"].dims == ("schedule", "seed", "time", "factor", "column")
        assert kept["B"].dims == ("schedule", "seed", "time", "row", "factor")
        loss = 0.8 * (
            (problem_of(scenario("{kind: kaiming}")).pretrained + 1.5 * kept["B"].values @ kept["A"].values) ** 2
        )
        np.testing.assert_allclose(
            tree["trajectory"]["loss"].values[:, 0][..., [0, -1]], loss.sum((-2, -1)), rtol=1e-11
        )


def test_what_is_kept_does_not_change_what_is_recorded(solve: Any) -> None:
    """Factors cost a rotation; products, losses and gaps are the same numbers with and without it."""
    text = scenario("{kind: orthogonal, scale: 0.5}", ranks="[2]")
    with_factors = solve(text).tree["trajectory"]
    without = solve(text.replace("all", "none")).tree["trajectory"]
    for name in ("loss", "product_norm", "imbalance_drift", "singular_value"):
        np.testing.assert_allclose(with_factors[name].values, without[name].values, rtol=1e-11, atol=1e-12)


def test_descent_in_the_file_is_a_plain_loop(solve: Any) -> None:
    """Simultaneous with k = 2, and sequential: the dense gradient, the user's η, float64."""
    text = scenario("{kind: gaussian, std: 0.4, zero: none}", seeds=1)
    tree, problem = solve(text).tree, problem_of(text)
    W, s, start = problem.pretrained, problem.scale(2), problem.start(2)
    steps = tree["trajectory"]["step"].values
    for schedule, k, sequential in ((2, 2, False), (3, 1, True)):
        A, B = start.A[0], start.B[0]
        kept, done = tree["factors/rank_2"], 0
        for time, target in enumerate(steps[schedule]):
            for _ in range(int(target) - done):
                for _ in range(k):
                    G = 1.6 * (W + s * B @ A)
                    A_new = A - 0.05 * s * B.T @ G
                    if sequential:
                        G = 1.6 * (W + s * B @ A_new)
                    B = B - 0.05 * s * G @ (A_new if sequential else A).T
                    A = A_new
            done = int(target)
            np.testing.assert_allclose(kept["A"].values[schedule, 0, time], A, atol=1e-13)
            np.testing.assert_allclose(kept["B"].values[schedule, 0, time], B, atol=1e-13)


def test_labels_are_told_one_by_one() -> None:
    starts, clock = prepared(scenario("{kind: gaussian, std: 0.4}"))
    told: list[str] = []
    result = execute.solve_rank(starts, 2, clock, 3, told.append)
    assert told == [item.label for item in clock.items]
    assert result["trajectory/singular_value"].shape == (4, 2, 4, 3)
    assert np.isnan(result["trajectory/singular_value"][..., 2]).all()
    assert result["final/outcome"].shape == (4, 2) and result["theory/loss_floor"].shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_starts_have_the_scenario_dtype_and_share_one_decomposition(dtype: torch.dtype) -> None:
    compute = f"compute: {{dtype: {str(dtype).removeprefix('torch.')}}}\n"
    starts, _ = prepared(scenario("{kind: gaussian, std: 0.4}", ranks="[1, 2]", more=compute))
    one, two = starts.batch(1), starts.batch(2)
    assert one.B.dtype == two.C.dtype == dtype
    assert (one.rank, two.rank, one.B.shape[0]) == (1, 2, 2)
    assert (one.scale, two.scale, one.curvature) == (3.0, 1.5, 1.6)
    assert torch.equal(one.landscape.sigma[:4], two.landscape.sigma[:4])  # type: ignore[attr-defined]


def test_a_residual_has_its_own_decomposition() -> None:
    starts, _ = prepared(scenario("{kind: pissa}", ranks="[1, 2]", seeds=1, more=""))
    sigma = np.linalg.svd(starts.problem.pretrained, compute_uv=False)
    for rank in (1, 2):
        got = starts.batch(rank).landscape.sigma[:4].numpy()  # type: ignore[attr-defined]
        wanted = np.sort(np.append(sigma[rank:], np.zeros(rank)))[::-1]
        np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_exact_is_refused_naming_every_rank_without_a_closed_form() -> None:
    starts, _ = prepared(scenario("{kind: gaussian, std: 0.4}", ranks="[1, 2, 3]", more=""))
    with pytest.raises(HypothesisError) as caught:
        starts.refuse_inexact()
    assert caught.value.lines()[0].startswith("solver exact: ranks 2, 3: BᵀB − AAᵀ is not a multiple of the identity")
    prepared(scenario("{kind: orthogonal}", ranks="[1, 2, 3]"))[0].refuse_inexact()
    prepared(scenario("{kind: gaussian}", ranks="[1, 2]", objective="trace_squared"))[0].refuse_inexact()


def test_the_flow_estimate_is_what_its_looser_companions_say(solve: Any) -> None:
    tree = solve(scenario("{kind: gaussian, std: 0.4}", factors="none", more="")).tree
    estimate = tree["trajectory"]["estimated_error"].values[0, 0]
    near, far = tree["companions"]["distance"].sel(companion=["loose_10", "loose_100"]).values[:, 0]
    distance = np.maximum(near, far / 3)
    assert (estimate[:, 1:] > distance[:, 1:]).all() and (estimate < distance + 1e-11).all()
    exact = solve(scenario("{kind: orthogonal}", factors="none", more="")).tree
    assert (exact["trajectory"]["estimated_error"].values < 1e-13).all()


def test_a_flow_that_cannot_be_solved_leaves_the_others(solve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "solve_flow", functools.partial(solve_flow, max_steps=6))
    tree = solve(
        scenario("{kind: gaussian, std: 0.4}", ranks="[1, 2]", factors="none", time="{stop: 8.0, points: 5}")
    ).tree
    final, loss = tree["final"], tree["trajectory"]["loss"].values
    assert (final["outcome"].values[0, 1] == "max_steps").all()
    assert (
        final["reason"].values[0, 1]
        == "the step limit was reached; loosen rtol, shorten the horizon or choose another method"
    ).all()
    assert not (final["outcome"].values[0, 0] == "max_steps").any() and np.isfinite(loss[0, 0]).all()
    assert np.isfinite(loss[0, 1, :, 0]).all() and np.isnan(loss[0, 1, :, -1]).all()
    assert np.isfinite(loss[1:, 1]).all()  # windows and descents of the same rank
    gap = tree["trajectory"]["flow_gap"].values
    assert np.isnan(gap[1:, 1, :, -1]).all() and np.isfinite(gap[1:, 0, :, -1]).all()


def test_a_companion_that_cannot_be_solved_leaves_the_run(
    solve: Any, monkeypatch: pytest.MonkeyPatch, judge: Any
) -> None:
    monkeypatch.setattr(companions, "MOST_STEPS", 6)
    text = scenario(
        "{kind: gaussian, std: 0.4}", ranks="[1, 2]", factors="none", more="", time="{stop: 8.0, points: 5}"
    )
    tree = solve(text).tree
    assert np.isfinite(tree["trajectory"]["loss"].values).all()
    rows = [row for row in judge(tree) if row["check"] in ("accuracy", "conservation", "closed_form")]
    assert {row["verdict"] for row in rows} <= {"unresolved", "not_applicable"}


def test_diverged_descent_keeps_its_finite_values(solve: Any) -> None:
    """1e88 counts: every finite value stays, then NaN, and the other trajectories do not notice."""
    two, one = "{kind: descent, learning_rates: [2.0, 0.01]}", "{kind: descent, update: a_first, learning_rates: [2.0]}"
    more = f"schedules: [{two}, {one}]\n"
    text = scenario(
        "{kind: gaussian, std: 0.4}", ranks="[1]", factors="none", more=more, time="{stop: 30.0, points: 16}"
    )
    tree = solve(text).tree
    loss, outcome = tree["trajectory"]["loss"].values[:, 0], tree["final"]["outcome"].values[:, 0]
    assert (outcome[[1, 3]] == "diverged").all() and (outcome[[0, 2]] == "reached").all()
    for schedule in (1, 3):
        for row in loss[schedule]:
            finite = int(np.isfinite(row).sum())
            assert 3 <= finite < len(row)
            assert np.isfinite(row[:finite]).all() and np.isnan(row[finite:]).all()
            assert row[finite - 1] > 1e30
    for name, values in tree["trajectory"].data_vars.items():
        # A bound on an error may be infinite: that is what it then says.
        assert name == "estimated_error" or not np.isinf(values.values.astype(float)).any(), name
    reasons = tree["final"]["reason"].values[1, 0]
    assert all("loss not finite after t = " in r and "unstable at this learning rate" in r for r in reasons)


def test_float32_is_computed_in_float32(solve: Any) -> None:
    text = scenario("{kind: gaussian, std: 0.4}", factors="none").replace(
        "rtol: 1e-7, atol: 1e-10", "rtol: 1e-4, atol: 1e-6"
    )
    single, double = (
        solve(text + extra).tree["trajectory"]["loss"].values for extra in ("compute: {dtype: float32}\n", "")
    )
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-4)
    assert np.abs(single - double).max() > 1e-9
