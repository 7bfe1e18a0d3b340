"""The groups, dimensions and attributes of a result, and theory against independent linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.problem.assemble import assemble
from flowsim.scenario.read import parse_scenario

RUNS = pytest.mark.parametrize("which", ["frobenius_run", "trace_run"])


@RUNS
def test_the_groups_and_their_dimensions(which: str, request: pytest.FixtureRequest) -> None:
    tree: xr.DataTree = request.getfixturevalue(which).tree
    groups = {"trajectory", "final", "baseline", "theory", "companions", "checks"}
    assert set(tree.children) == groups | ({"factors"} if which == "frobenius_run" else set())
    base = ("schedule", "rank", "seed")
    trajectory, final = tree["trajectory"], tree["final"]
    extra = {"singular_value": ("mode",), "alignment": ("side",)}
    for name, variable in trajectory.data_vars.items():
        wanted = ("schedule", "time") if name in ("flow_time", "step") else (*base, "time", *extra.get(str(name), ()))
        assert variable.dims == wanted, name
        assert final[str(name)].dims == tuple(dim for dim in wanted if dim != "time"), name
        values, last = variable.values, final[str(name)].values
        np.testing.assert_array_equal(values[:, -1] if len(wanted) == 2 else values[:, :, :, -1], last)
    for name in (
        "outcome",
        "method",
        "stepper",
        "reason",
        "steps",
        "evaluations",
        "local_rate",
        "sharpness",
        "further_time",
    ):
        assert final[name].dims == base
    assert "time" not in final.coords
    assert tree["baseline"]["loss"].dims == ("time",)
    per_rank = {"loss_floor", "parameters", "energy", "spectral_gap"}
    for name, variable in tree["theory"].data_vars.items():
        assert variable.dims == (("rank",) if name in per_rank else ("rank", "seed")), name
    for variable in tree["companions"].data_vars.values():
        assert variable.dims[:3] == ("companion", "rank", "seed")


def test_coordinates_along_schedule(frobenius_run: Any) -> None:
    group = frobenius_run.tree["trajectory"]
    rows = [
        (str(label), str(kind), str(update), float(window), float(rate), int(k))
        for label, kind, update, window, rate, k in zip(
            *(group[n].values for n in ("schedule", "kind", "update", "window", "learning_rate", "inner_steps")),
            strict=True,
        )
    ]
    nan = pytest.approx(np.nan, nan_ok=True)
    assert rows[0] == ("flow", "flow", "simultaneous", nan, nan, 1)
    assert rows[1] == ("flow/a_first/window=0.05", "flow", "a_first", 0.05, nan, 1)
    assert rows[7] == ("descent/simultaneous/learning_rate=0.04", "descent", "simultaneous", nan, 0.04, 1)
    assert len(rows) == 13
    for name in ("kind", "update", "window", "learning_rate", "inner_steps"):
        assert group[name].dims == ("schedule",)
        assert group[name].attrs["long_name"] and "units" in group[name].attrs
    np.testing.assert_array_equal(group["rank"].values, [1, 2])
    np.testing.assert_array_equal(group["seed"].values, [0, 1])
    np.testing.assert_array_equal(group["time"].values, np.linspace(0, 10, 6))
    np.testing.assert_array_equal(group["mode"].values, [1, 2])
    assert list(group["side"].values) == ["left", "right"]


@RUNS
def test_every_variable_says_what_it_is(which: str, request: pytest.FixtureRequest) -> None:
    for node in request.getfixturevalue(which).tree.subtree:
        for name, variable in node.data_vars.items():
            assert {"long_name", "units", "formula"} <= set(variable.attrs), f"{node.path}/{name}"
            assert variable.attrs["long_name"] and variable.attrs["formula"], f"{node.path}/{name}"
            assert variable.attrs["units"] or variable.dtype == object, f"{node.path}/{name}"
            assert variable.dtype == object or variable.dtype.kind in "fi"


def test_the_root_says_where_it_comes_from(frobenius_run: Any, frobenius_text: str) -> None:
    attrs = frobenius_run.tree.attrs
    assert attrs["scenario"] == frobenius_text and attrs["title"] == "A tiny scenario"
    wanted = {
        "flowsim_version", "scenario", "resolved_scenario", "digest", "versions", "device", "dtype", "rtol", "atol",
        "weights_sha256", "objective", "coefficient", "reach", "rows", "columns", "format", "name", "title",
    }  # fmt: skip
    assert wanted <= set(attrs)
    assert (attrs["rows"], attrs["columns"], attrs["coefficient"]) == (6, 5, 0.7)


def test_recorded_rounds_are_the_nearest(frobenius_run: Any) -> None:
    group = frobenius_run.tree["trajectory"]
    for place in range(1, group.sizes["schedule"]):
        window, rate = float(group["window"][place]), float(group["learning_rate"][place])
        duration = rate if np.isnan(window) else window
        steps, times = group["step"].values[place], group["flow_time"].values[place]
        np.testing.assert_allclose(times, steps * duration, rtol=1e-14)
        assert (np.abs(times - group["time"].values) <= duration / 2 * (1 + 1e-12)).all()
    np.testing.assert_array_equal(group["flow_time"].values[0], group["time"].values)
    np.testing.assert_array_equal(group["step"].values[0], 0)


def test_companions_are_nan_where_they_were_not_made(frobenius_run: Any) -> None:
    group = frobenius_run.tree["companions"]
    made = (group["method"].values != "").tolist()
    yes, no, first = [True, True], [False, False], [True, False]
    assert made == [
        [no, yes],
        [no, yes],
        [no, first],
        [no, no],
        [first, no],
        [first, no],
        [first, no],
        [no, no],
        [no, first],
    ]
    distance = group["distance"].values
    np.testing.assert_array_equal(np.isfinite(distance).all(-1), made)
    np.testing.assert_array_equal(np.isnan(distance).all(-1), ~np.array(made))
    against = ["run", "loose_10", "run", "run", "run", "integrated", "integrated_10", "its own closed form", "tight"]
    assert list(group["against"].values) == against
    np.testing.assert_array_equal(group["rtol_factor"].values, [10, 100, 0.1, 1, 1, 10, 100, 1, 1])


def test_only_trace_squared_starts_have_an_orthonormal_twin(trace_run: Any) -> None:
    """One seed a rank, integrated; held against its own closed form, and no worse than any other start."""
    twin = trace_run.tree["companions"].sel(companion="orthonormal")
    assert (twin["method"].values == [["dopri5", "", "", ""]] * 3).all()
    found = twin["relative_error"].values[:, 0, -1]
    np.testing.assert_allclose(found, trace_run.tree["theory"]["orthonormal_error"].values[:, 0], rtol=1e-6)
    assert (found <= trace_run.tree["final"]["relative_error"].values[0, :, 0] * (1 + 1e-6)).all()
    assert (twin["distance"].values[:, 0] < 1e-6).all()


def problem(text: str) -> Any:
    return assemble(parse_scenario(text, name="s.yaml", folder="."))


def test_frobenius_theory_is_that_of_numpy(frobenius_run: Any, frobenius_text: str) -> None:
    theory, given = frobenius_run.tree["theory"], problem(frobenius_text)
    sigma = np.linalg.svd(-given.pretrained, compute_uv=False)
    for place, rank in enumerate((1, 2)):
        floor = 0.7 * (sigma[rank:] ** 2).sum()
        assert float(theory["loss_floor"][place]) == pytest.approx(floor, rel=1e-13)
        assert float(theory["energy"][place]) == pytest.approx((sigma[:rank] ** 2).sum() / (sigma**2).sum(), rel=1e-13)
        assert float(theory["parameters"][place]) == rank * 11
    # Rank 1 is λ-balanced from every start: limit, rate and stability limit are known, by theory alone.
    s, kappa = 1.5, 1.4
    for seed in range(2):
        A = given.start(1).A[seed]
        lam = -s * (A**2).sum()  # canonical: of √s·A and √s·B
        omega = np.hypot(sigma, lam / 2)
        one = theory.isel(rank=0, seed=seed)
        assert float(one["loss_limit"]) == pytest.approx(0.7 * (sigma[1:] ** 2).sum(), rel=1e-13)
        assert float(one["relative_error_limit"]) == pytest.approx(
            np.sqrt((sigma[1:] ** 2).sum() / (sigma**2).sum()), rel=1e-13
        )
        assert float(one["convergence_rate"]) == pytest.approx(2 * s * kappa * (omega[0] - omega[1]), rel=1e-11)
        assert float(one["stability_limit"]) == pytest.approx(2 / (s * kappa * np.hypot(2 * sigma[0], lam)), rel=1e-11)
        final = frobenius_run.tree["final"].isel(schedule=0, rank=0, seed=seed)
        assert float(final["local_rate"]) == pytest.approx(float(one["convergence_rate"]), rel=1e-3)
        assert float(final["sharpness"]) == pytest.approx(2 / float(one["stability_limit"]), rel=1e-3)
    assert theory["loss_limit"].isel(rank=1).isnull().all()  # no closed form for unbalanced factors


def test_trace_squared_theory_is_that_of_numpy(trace_run: Any, trace_text: str) -> None:
    theory, given = trace_run.tree["theory"], problem(trace_text)
    assert (theory["loss_floor"].values == 0).all() and (theory["loss_limit"].values == 0).all()
    assert theory["energy"].isnull().all()
    np.testing.assert_array_equal(theory["parameters"].values, [16, 32, 64])
    trace = np.trace(given.pretrained)
    for place, rank in enumerate((1, 2, 4)):
        for seed, A in enumerate(given.start(rank).A):
            gram = A @ A.T
            effective = np.trace(gram) ** 2 / (gram**2).sum()
            one = theory.isel(rank=place, seed=seed)
            assert float(one["effective_rank"]) == pytest.approx(effective, rel=1e-12)
            assert float(one["relative_error_limit"]) == pytest.approx(np.sqrt(8 / effective - 1), rel=1e-11)
            # D² = 4w² + UV with U = V = s‖A0‖²; the loss falls like e^{−2sκDt}.
            D = np.hypot(2 * trace, 1.5 * np.trace(gram))
            assert float(one["convergence_rate"]) == pytest.approx(2 * 1.5 * D, rel=1e-11)
            assert float(one["stability_limit"]) == pytest.approx(2 / (1.5 * D), rel=1e-11)


def test_the_baseline_is_the_flow_of_the_weight_itself(frobenius_run: Any, trace_run: Any, frobenius_text: str) -> None:
    times = frobenius_run.tree["baseline"]["time"].values
    start = 0.7 * (problem(frobenius_text).pretrained ** 2).sum()
    np.testing.assert_allclose(frobenius_run.tree["baseline"]["loss"].values, start * np.exp(-2.8 * times), rtol=1e-12)
    np.testing.assert_allclose(
        frobenius_run.tree["baseline"]["relative_error"].values, np.exp(-1.4 * times), rtol=1e-12
    )
    # ∇f = κτI: the trace falls like e^{−κnt}.
    group = trace_run.tree["baseline"]
    ratio = group["loss"].values / group["loss"].values[0]
    np.testing.assert_allclose(ratio, np.exp(-16 * group["time"].values), rtol=1e-10)
    np.testing.assert_allclose(group["relative_error"].values, np.exp(-8 * group["time"].values), rtol=1e-10)


def test_the_baseline_has_ranks_and_seeds_where_the_start_depends_on_them(solve: Any) -> None:
    text = """\
name: starts
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2, 0], [0, 1]]}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5, zero: none}}
time: {stop: 1.0, points: 3}
solver: {rtol: 1e-6, atol: 1e-9}
"""
    drawn = solve(text).tree
    assert drawn["baseline"]["loss"].dims == ("rank", "seed", "time")
    np.testing.assert_allclose(drawn["baseline"]["loss"].values[..., 0], drawn["trajectory"]["loss"].values[0, ..., 0])
    assert len(np.unique(drawn["baseline"]["loss"].values[..., 0])) == 4
    for init in ("{kind: gaussian, std: 0.5}", "{kind: gaussian, std: 0.5, zero: A}"):
        tree = solve(text.replace("{kind: gaussian, std: 0.5, zero: none}", init)).tree
        assert tree["baseline"]["loss"].dims == ("time",)


@pytest.mark.filterwarnings("ignore")
def test_pissa_starts_where_the_weight_was(solve: Any) -> None:
    tree = solve("""\
name: pissa
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2, 0, 0], [0, 1, 0], [0, 0, 0.5]]}
target: {kind: values, values: [[1, 0, 0], [0, 3, 0], [0, 0, 0.5]]}
adapter: {ranks: [1, 2], init: {kind: pissa}}
time: {stop: 1.0, points: 3}
solver: {rtol: 1e-6, atol: 1e-9}
""").tree
    np.testing.assert_allclose(tree["trajectory"]["loss"].values[0, :, 0, 0], 0.5 * (1 + 4))
    # W0 in every formula is the residual: Δ = diag(1, 2, 0), then diag(1, 3, 0).
    np.testing.assert_allclose(tree["theory"]["loss_floor"].values, [0.5 * 1, 0.0], atol=1e-14)
    np.testing.assert_allclose(tree["theory"]["energy"].values, [4 / 5, 1.0])


def test_one_of_everything(solve: Any) -> None:
    tree = solve("""\
name: single
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2]]}
adapter: {ranks: [1], seeds: [7], init: {kind: gaussian, std: 0.5}}
time: {stop: 1.0, points: 3, spacing: log, first: 0.25}
solver: {rtol: 1e-6, atol: 1e-9}
""").tree
    assert dict(tree["trajectory"].sizes) == {"schedule": 1, "rank": 1, "seed": 1, "time": 3, "mode": 1, "side": 2}
    np.testing.assert_allclose(tree["trajectory"]["time"].values, [0.0, 0.25, 1.0])
    assert list(tree["trajectory"]["seed"].values) == [7]
