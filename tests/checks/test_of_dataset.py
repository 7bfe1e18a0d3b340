"""Checks of a dataset of `simulate`: what passes, and what a wrong flow, a wrong number or a missing one does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from flowsim import Adapter, Custom, Frobenius, check, descend, simulate
from flowsim.checks import CHECKS, COLUMNS
from flowsim.dynamics.custom import CustomFlow
from flowsim.errors import InputError
from flowsim.integrators import engine
from flowsim.sweep import custom_companions

TIMES = np.linspace(0.0, 2.0, 5)
W0 = np.zeros((4, 3))
TARGET = torch.linspace(-2.0, 1.5, 12, dtype=torch.float64).reshape(4, 3)
TOLERANCE = {"rtol": 1e-7, "atol": 1e-10}


def value(W: Tensor) -> Tensor:
    """log cosh of the distance from a target of full rank: no closed form, no floor known for rank 2."""
    return torch.logaddexp(W - TARGET, TARGET - W).sum()


def slope(W: Tensor) -> Tensor:
    return torch.tanh(W - TARGET)


def adapter(batch: int = 2) -> Adapter:
    rng = np.random.default_rng(5)
    return Adapter(0.6 * rng.standard_normal((batch, 2, 3)), 0.5 * rng.standard_normal((batch, 4, 2)), 0.8)


@pytest.fixture(scope="module")
def solved() -> xr.Dataset:
    """A sound dataset; not to be changed."""
    return simulate(Custom(value, slope, pretrained=W0), adapter(), TIMES, **TOLERANCE)


def rows(dataset: xr.Dataset, name: str | None = None) -> list[dict[str, Any]]:
    table = check(dataset)
    found = [{key: table[key].values[place] for key in table.data_vars} for place in range(table.sizes["check"])]
    return [row for row in found if name in (None, row["name"])]


def verdicts(dataset: xr.Dataset, name: str) -> set[str]:
    return {row["verdict"] for row in rows(dataset, name)}


def solve(monkeypatch: pytest.MonkeyPatch, **wrong: Any) -> xr.Dataset:
    """The same with parts of `CustomFlow` or of the objective put wrong after its gradient was found right."""
    objective = Custom(value, slope, pretrained=W0)
    if "gradient" in wrong:
        monkeypatch.setattr(objective, "_given", wrong["gradient"])
        monkeypatch.setattr(objective, "_slope", wrong["gradient"])
    if "pulls" in wrong:
        right = CustomFlow.pulls
        monkeypatch.setattr(CustomFlow, "pulls", lambda self, B, C: wrong["pulls"](*right(self, B, C)))
    return simulate(objective, adapter(), TIMES, **(TOLERANCE | wrong.get("tolerance", {})))


def test_a_sound_flow_passes_with_the_columns_of_a_result(solved: xr.Dataset) -> None:
    assert tuple(check(solved).data_vars) == COLUMNS and set(check(solved).sizes) == {"check"}
    found = rows(solved)
    assert {row["verdict"] for row in found} == {"pass"}
    assert Counter(row["name"] for row in found) == {"conservation": 4, "monotone_loss": 2, "accuracy": 1}
    assert {row["subject"] for row in found} == {"flow/batch=0", "flow/batch=1"}
    assert all(0 < row["tolerance"] < 1e-3 and abs(row["observed"]) <= 1 for row in found)
    assert all(
        (row["statement"], row["reference"]) == (c.statement, c.reference)
        for row in found
        for c in [CHECKS[row["name"]]]
    )
    assert {row["subject"] for row in rows(solved.isel(batch=1))} == {"flow"}


def test_nothing_is_solved_and_nothing_is_changed(solved: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "integrate", None)
    monkeypatch.setattr(Custom, "gradient", None)
    before = solved.copy(deep=True)
    check(solved)
    xr.testing.assert_identical(solved, before)


def test_any_gradient_conserves_and_only_the_right_one_lets_the_loss_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q is conserved by A' = −BᵀG, B' = −GAᵀ whatever the field G is."""
    for wrong in (lambda W: -slope(W), lambda W: slope(W) + torch.eye(4, 3, dtype=W.dtype) * 3):
        dataset = solve(monkeypatch, gradient=wrong)
        assert verdicts(dataset, "conservation") == {"pass"}
        assert verdicts(dataset, "monotone_loss") == {"fail"}


@pytest.mark.parametrize(
    "pulls",
    [lambda b, c: (b, -c), lambda b, c: (b, 1.01 * c), lambda b, c: (b + 0.01, c)],
    ids=["sign", "one factor faster", "a constant force"],
)
def test_a_perturbed_right_hand_side_does_not_conserve(monkeypatch: pytest.MonkeyPatch, pulls: Any) -> None:
    assert verdicts(solve(monkeypatch, pulls=pulls), "conservation") == {"fail"}


def test_a_judge_that_solves_another_flow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other method with its clock 1 % faster: its distance is no error that the estimates allow."""
    right = custom_companions.solve

    def faster(flow: Any, times: Tensor, *, method: str, **more: Any) -> Any:
        return right(flow, times * (1.01 if method == "dopri5" else 1.0), method=method, **more)

    monkeypatch.setattr(custom_companions, "solve", faster)
    assert verdicts(solve(monkeypatch), "accuracy") == {"fail"}


def test_an_estimate_a_million_times_too_small_fails(solved: xr.Dataset) -> None:
    spoilt = solved.copy(deep=True)
    for name in ("estimated_error", "companion_error"):
        spoilt[name] /= 1e6
    assert verdicts(spoilt, "accuracy") == {"fail"}


def test_far_too_loose_a_tolerance_is_not_accurate_unless_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = solve(monkeypatch, tolerance={"rtol": 0.3, "atol": 0.3})
    best = simulate(Custom(value, slope, pretrained=W0), adapter(), TIMES, rtol=1e-9, companions=False)
    off = 0.8 * (dataset["B"].values @ dataset["A"].values - best["B"].values @ best["A"].values)
    error = np.linalg.norm(off, axis=(-2, -1)).max(-1) / best["product_norm"].values.max(-1)
    assert error.min() > 1e-6  # a million times that of the sound one
    row = rows(dataset, "accuracy")[0]
    assert row["verdict"] == "unresolved" or row["tolerance"] > error[0]


def test_numbers_put_wrong_fail(solved: xr.Dataset) -> None:
    for name, change, which in (
        ("imbalance_drift", 1e-3, "conservation"), ("gram_sum_norm", 1e-3, "conservation"),
        ("product_norm", 1e-3, "conservation"),
    ):  # fmt: skip
        spoilt = solved.copy(deep=True)
        spoilt[name].values[1, 3] += change
        bad = {row["subject"] for row in rows(spoilt, which) if row["verdict"] == "fail"}
        assert bad == {"flow/batch=1"}, name
    spoilt = solved.copy(deep=True)
    spoilt["loss"].values[0, 4] = spoilt["loss"].values[0, 3] + 1e-4
    assert [row["verdict"] for row in rows(spoilt, "monotone_loss")] == ["fail", "pass"]


def test_an_error_that_does_not_fall_with_rtol_is_unresolved(solved: xr.Dataset) -> None:
    spoilt = solved.copy(deep=True)
    near = spoilt["distance"].sel(companion="loose_10", batch=0).max()
    spoilt["distance"].loc[{"companion": "loose_100", "batch": 0}] = 2.9 * near
    row = rows(spoilt, "accuracy")[0]
    assert row["verdict"] == "unresolved" and "at least 3-fold wanted" in row["reason"]


@pytest.mark.parametrize(
    ("label", "lost"),
    [
        ("loose_10", {"conservation", "accuracy"}),
        ("loose_100", {"conservation", "accuracy"}),
        ("tight_10", {"accuracy"}),
    ],
)
def test_a_companion_that_ended_early_decides_nothing(solved: xr.Dataset, label: str, lost: set[str]) -> None:
    spoilt = solved.copy(deep=True)
    spoilt["companion_status"].loc[{"companion": label, "batch": 0}] = "max_steps"
    reasons = {row["name"]: row["reason"] for row in rows(spoilt) if row["verdict"] == "unresolved"}
    assert reasons == dict.fromkeys(lost, f"the companion solve {label} did not complete")


def test_a_flow_that_ends_early_is_no_pass() -> None:
    """f = −Σ W³ is infinite in finite time."""
    objective = Custom(lambda W: -(W**3).sum(), pretrained=np.zeros((2, 2)))
    dataset = simulate(objective, Adapter(np.ones((1, 2)), np.ones((2, 1))), [0.0, 0.01, 5.0], rtol=1e-4, atol=1e-6)
    found = rows(dataset)
    assert {row["verdict"] for row in found} == {"unresolved"}
    assert any(row["reason"].startswith("the flow did not complete: ") for row in found)


def test_nothing_moves_means_nothing_to_judge() -> None:
    dataset = simulate(Custom(value, pretrained=W0), Adapter(np.zeros((2, 3)), np.zeros((4, 2))), TIMES)
    assert verdicts(dataset, "accuracy") == {"not_applicable"}
    assert verdicts(dataset, "conservation") == verdicts(dataset, "monotone_loss") == {"pass"}
    one = simulate(Custom(value, pretrained=W0), adapter(), [1.0], **TOLERANCE)
    assert verdicts(one, "monotone_loss") == {"not_applicable"}


def test_what_a_dataset_lacks_is_named() -> None:
    known = Frobenius(W0, TARGET.numpy())
    for dataset, lacks in (
        (simulate(known, adapter(), TIMES), "factor_norm, product_norm, gram_sum_norm, estimated_error"),
        (simulate(Custom(value, pretrained=W0), adapter(), TIMES, companions=False, rtol=1e-5), "estimated_error"),
    ):
        found = rows(dataset)
        assert {row["verdict"] for row in found} == {"unresolved"}
        assert {row["name"] for row in found} == {"conservation", "monotone_loss", "accuracy"}
        assert any(f"not in this dataset: {lacks}" in row["reason"] for row in found)


def test_descent_and_windows_are_no_flow() -> None:
    known = Frobenius(W0, TARGET.numpy())
    for dataset in (descend(known, adapter(), 3, 0.1), descend(Custom(value, pretrained=W0), adapter(), 3, 0.1)):
        found = rows(dataset)
        assert {row["verdict"] for row in found} == {"not_applicable"}
        assert {row["subject"] for row in found} == {"descent/batch=0", "descent/batch=1"}
    windows = simulate(known, adapter(), TIMES, update="a_first", window=0.1)
    assert verdicts(windows, "conservation") == verdicts(windows, "accuracy") == {"not_applicable"}
    assert verdicts(windows, "monotone_loss") == {"unresolved"}


@pytest.mark.parametrize(
    "dataset",
    [
        xr.Dataset(),
        xr.Dataset({"loss": ("time", np.zeros(3))}),
        xr.Dataset({"A": ("x", [1.0])}, attrs={"dtype": "int"}),
    ],
)
def test_any_other_dataset_is_refused(dataset: xr.Dataset) -> None:
    with pytest.raises(InputError, match="check: the dataset lacks") as caught:
        check(dataset)
    assert len(caught.value.lines()) == 2


def test_a_dataset_without_its_attributes_is_refused(solved: xr.Dataset) -> None:
    with pytest.raises(InputError, match="lacks its times or attributes"):
        check(solved.drop_attrs())


def test_rounding_of_a_loss_that_subtracts_is_no_rise(solved: xr.Dataset) -> None:
    """A loss that is the difference of large terms ends with their rounding, however small it is itself."""
    data = solved.copy(deep=True)
    loss, epsilon = data["loss"].values, np.finfo(float).eps
    data["loss_error"].values[...] = 0.0
    loss[:, -2:] = [[0.0, 8 * epsilon * start] for start in loss[:, 0]]
    assert verdicts(data, "monotone_loss") == {"pass"}
    loss[:, -1] *= 4
    assert verdicts(data, "monotone_loss") == {"fail"}
