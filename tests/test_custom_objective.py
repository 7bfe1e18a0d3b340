"""`simulate` and `descend` of an objective of the user's own, against exact solvers and plain loops."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from flowsim import Adapter, Custom, Frobenius, TraceSquared, descend, simulate
from flowsim.errors import HypothesisError, InputError
from flowsim.integrators import engine
from tests.oracles import reference as ref

TIMES = np.array([0.0, 0.2, 1.0])
SCALE = 1.3
LOOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-8}  # what needs no more takes a tenth of the time


def frobenius(n: int = 4, m: int = 3) -> Frobenius:
    rng = np.random.default_rng([n, m])
    return Frobenius(rng.standard_normal((n, m)), rng.standard_normal((n, m)), 0.7)


def trace_squared(n: int = 4) -> TraceSquared:
    return TraceSquared(np.random.default_rng(n).standard_normal((n, n)), 0.3)


def starts(shape: tuple[int, int], rank: int, batch: int = 2, seed: int = 0) -> Adapter:
    rng = np.random.default_rng([seed, *shape, rank])
    n, m = shape
    return Adapter(0.5 * rng.standard_normal((batch, rank, m)), 0.4 * rng.standard_normal((batch, n, rank)), SCALE)


def by_autograd(known: Frobenius | TraceSquared) -> Custom:
    return Custom(known.value, pretrained=known.pretrained, floor=0.0)


def by_gradient(known: Frobenius | TraceSquared) -> Custom:
    return Custom(known.value, known.gradient, pretrained=known.pretrained)


def log_cosh(W: Tensor) -> Tensor:
    return torch.logaddexp(W - 1, 1 - W).sum()


@pytest.mark.parametrize("made", [by_autograd, by_gradient])
@pytest.mark.parametrize(
    ("known", "rank"), [(frobenius(4, 3), 1), (frobenius(3, 5), 1), (trace_squared(), 2)], ids=["tall", "wide", "trace"]
)
def test_the_flow_is_the_exact_one_within_its_own_estimate(known: Any, rank: int, made: Any) -> None:
    adapter = starts(known.shape, rank)
    exact = simulate(known, adapter, TIMES, solver="exact")
    found = simulate(made(known), adapter, TIMES, rtol=1e-7, atol=1e-10)
    product, truth = (SCALE * one["B"].values @ one["A"].values for one in (found, exact))
    unit = np.linalg.norm(truth, axis=(-2, -1)).max(-1)
    error = np.linalg.norm(product - truth, axis=(-2, -1)).max(-1) / unit
    assert (error <= found["estimated_error"].max("time").values).all()
    assert (found["estimated_error"].max("time").values > 0).all()
    assert (found["estimated_error"].max("time").values < 1e-5).all()
    # The loss, too, is right within what is said of it.
    assert (np.abs(found["loss"] - exact["loss"]) <= found["loss_error"] + 16 * ref.EPS * exact["loss"]).all()
    for name in ("A", "B", "gradient_norm"):
        size = float(np.abs(exact[name]).max())
        np.testing.assert_allclose(found[name], exact[name], rtol=0, atol=1e-6 * size)


@pytest.mark.parametrize("method", engine.METHODS)
def test_every_torchdiffeq_method_by_name(method: str) -> None:
    known, rtol = frobenius(), 1e-4
    adapter = starts(known.shape, 2, batch=1)
    found = simulate(by_autograd(known), adapter, [0.0, 0.5], solver=method, rtol=rtol, atol=1e-7)
    best = simulate(known, adapter, [0.0, 0.5], solver="tsit5", rtol=1e-10)
    assert found["method"].item() == found["stepper"].item() == method
    np.testing.assert_allclose(found["A"], best["A"], rtol=0, atol=100 * rtol)


def test_each_member_is_as_alone_and_the_shape_is_that_of_the_adapter() -> None:
    objective, many = by_autograd(frobenius()), starts((4, 3), 2, batch=3)
    whole = simulate(objective, many, TIMES, **LOOSE)
    for place in range(3):
        alone = simulate(objective, Adapter(many.A[place], many.B[place], SCALE), TIMES, **LOOSE)
        assert alone["A"].dims == ("time", "factor", "column") and alone["B"].dims == ("time", "row", "factor")
        assert alone["distance"].dims == ("companion", "time") and alone["outcome"].dims == ()
        assert int(alone["steps"]) == int(whole["steps"][place])
        np.testing.assert_allclose(alone["A"], whole["A"][place], rtol=0, atol=1e-13)
    # Only the first has the companion by another method.
    assert whole["companion_status"].sel(companion="tight").values.tolist() == ["completed", "", ""]


def test_what_the_dataset_holds() -> None:
    found = simulate(by_autograd(frobenius()), starts((4, 3), 2), TIMES, **LOOSE)
    per_time = {"loss", "excess_loss", "gradient_norm", "imbalance_drift", "factor_norm", "product_norm"}
    per_time |= {"gram_sum_norm", "estimated_error", "loss_error"}
    words = {"outcome", "reason", "method", "stepper", "choice", "steps", "evaluations", "companion_status"}
    assert set(found.data_vars) == {"A", "B", "distance", "factor_distance", "companion_error"} | per_time | words
    assert all(found[name].dims == ("batch", "time") for name in per_time)
    assert all(found[name].attrs["long_name"] and "units" in found[name].attrs for name in found.data_vars)
    assert found["time"].values.tolist() == TIMES.tolist()
    A, B = found["A"].values[1], found["B"].values[1]
    W = frobenius().pretrained.numpy() + SCALE * B @ A
    np.testing.assert_allclose(found["loss"][1], frobenius().value(torch.as_tensor(W)), rtol=1e-13)
    np.testing.assert_allclose(found["product_norm"][1], SCALE * np.linalg.norm(B @ A, axis=(-2, -1)), rtol=1e-12)
    sums = B.transpose(0, 2, 1) @ B + A @ A.transpose(0, 2, 1)
    np.testing.assert_allclose(found["gram_sum_norm"][1], np.linalg.norm(sums, axis=(-2, -1)), rtol=1e-12)
    np.testing.assert_allclose(
        found["factor_norm"][1], np.sqrt((A**2).sum((-2, -1)) + (B**2).sum((-2, -1))), rtol=1e-12
    )
    np.testing.assert_allclose(found["excess_loss"], found["loss"], rtol=0)


def test_less_can_be_asked_for() -> None:
    objective, adapter = by_gradient(frobenius()), starts((4, 3), 2)
    bare = simulate(objective, adapter, TIMES, save="functions", companions=False, **LOOSE)
    assert not {"A", "B", "distance", "estimated_error"} & set(bare.data_vars)
    np.testing.assert_array_equal(bare["loss"], simulate(objective, adapter, TIMES, **LOOSE)["loss"])
    assert np.isnan(bare["excess_loss"]).all() and math.isnan(bare.attrs["floor"])


def test_times_need_not_begin_at_zero() -> None:
    objective, adapter = by_autograd(frobenius()), starts((4, 3), 2)
    late, whole = (simulate(objective, adapter, one, companions=False, **LOOSE) for one in (TIMES[1:], TIMES))
    np.testing.assert_allclose(late["A"], whole["A"][:, 1:], rtol=0, atol=1e-13)
    still = simulate(objective, adapter, [0.0], **LOOSE)
    np.testing.assert_allclose(still["A"].values[:, 0], adapter.A.numpy(), rtol=4 * ref.EPS)  # √s and back
    assert set(still["outcome"].values) == {"not_yet"}


def test_float32_stays_float32() -> None:
    W0 = torch.zeros(3, 2)
    found = simulate(
        Custom(log_cosh, pretrained=W0), Adapter(torch.ones(1, 2), torch.zeros(3, 1)), TIMES, rtol=1e-4, atol=1e-6
    )
    assert found["A"].dtype == found["B"].dtype == np.float32 and found.attrs["dtype"] == "float32"


def test_outcomes_with_and_without_a_floor() -> None:
    """log cosh falls to 0 where W = 1, which rank 1 reaches from here."""

    def value(W: Tensor) -> Tensor:
        return (torch.logaddexp(W - 1, 1 - W) - math.log(2)).sum()

    adapter = Adapter(np.full((1, 2), 0.5), np.zeros((3, 1)))
    with_floor = Custom(value, pretrained=np.zeros((3, 2)), floor=0.0, name="log cosh")
    without = Custom(value, pretrained=np.zeros((3, 2)))
    ends = {
        (one.name, stop): simulate(one, adapter, [0.0, stop], companions=False, **LOOSE)["outcome"].item()
        for one in (with_floor, without)
        for stop in (0.1, 30.0)
    }
    assert ends == {
        ("log cosh", 0.1): "not_yet", ("log cosh", 30.0): "reached",
        ("custom", 0.1): "not_yet", ("custom", 30.0): "stationary_elsewhere",
    }  # fmt: skip


def test_a_flow_that_blows_up_is_diverged_and_keeps_what_it_has() -> None:
    """f = −Σ W³: infinite in finite time."""
    objective = Custom(lambda W: -(W**3).sum(), pretrained=np.zeros((2, 2)))
    found = simulate(objective, Adapter(np.ones((1, 2)), np.ones((2, 1))), [0.0, 0.01, 5.0], companions=False, **LOOSE)
    assert found["outcome"].item() in ("diverged", "step_underflow")
    assert np.isfinite(found["loss"].values[:2]).all() and np.isnan(found["loss"].values[2])


@pytest.mark.parametrize("update", ref.UPDATES)
@pytest.mark.parametrize("known", [frobenius(5, 3), trace_squared(4)], ids=["frobenius", "trace"])
@pytest.mark.parametrize("made", [by_autograd, by_gradient])
def test_descent_is_that_of_the_known_objective_to_rounding(made: Any, known: Any, update: str) -> None:
    adapter = starts(known.shape, 2)
    given: dict[str, Any] = {"update": update, "inner_steps": 3, "every": 4}
    found, expected = (descend(one, adapter, 20, 0.02, **given) for one in (made(known), known))
    np.testing.assert_array_equal(found["step"], expected["step"])
    np.testing.assert_array_equal(found["time"], expected["time"])
    for name in ("A", "B", "loss", "gradient_norm", "imbalance_drift"):
        size = max(float(np.abs(expected[name]).max()), 1.0)
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=60 * 16 * ref.EPS * size)


def test_descent_is_an_autograd_lora_layer_trained_with_sgd() -> None:
    """Of an objective that has no formula in flowsim: softmax regression."""
    rng = torch.Generator().manual_seed(0)
    X, y = torch.randn(9, 3, dtype=torch.float64, generator=rng), torch.arange(9) % 4
    W0 = torch.randn(4, 3, dtype=torch.float64, generator=rng)

    def value(W: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(X @ W.mT, y)

    adapter = starts((4, 3), 2, batch=1)
    A, B = (torch.nn.Parameter(one[0].clone()) for one in (adapter.A, adapter.B))
    optimiser = torch.optim.SGD([A, B], lr=0.3)
    for _ in range(5):
        optimiser.zero_grad()
        value(W0 + SCALE * B @ A).backward()
        optimiser.step()
    found = descend(Custom(value, pretrained=W0), adapter, 5, 0.3)
    np.testing.assert_allclose(found["A"].values[0, -1], A.detach(), rtol=0, atol=100 * ref.EPS)
    np.testing.assert_allclose(found["B"].values[0, -1], B.detach(), rtol=0, atol=100 * ref.EPS)
    assert int(found["evaluations"][0]) == 5


def test_descent_that_diverges_keeps_every_finite_value() -> None:
    known = frobenius()
    found, expected = (descend(one, starts((4, 3), 1), 40, 3.0) for one in (by_autograd(known), known))
    assert set(found["outcome"].values) == {"diverged"} == set(expected["outcome"].values)
    np.testing.assert_array_equal(np.isfinite(found["A"]), np.isfinite(expected["A"]))
    assert float(np.nanmax(np.abs(found["A"]))) > 1e80


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "windows": ({"update": "a_first", "window": 0.1}, "update: 'a_first' needs each factor's own exact flow"),
    "exact": ({"solver": "exact"}, "solver exact: is for the Frobenius and the trace-squared objective"),
    "splitting": ({"solver": "splitting6"}, "solver splitting6: is for the Frobenius"),
    "unknown": ({"solver": "euler"}, "solver: unknown method 'euler'"),
    "device": ({"device": "abacus"}, "device 'abacus': not available here"),
    "rtol": ({"rtol": math.nan}, "rtol: is nan"),
    "times": ({"times": [0.0, -1.0]}, "times: must be finite"),
    "adapter": ({"adapter": starts((3, 3), 1)}, "adapter: B·A is 3 × 3, the weight is 4 × 3"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_makes_no_sense_is_refused_in_two_lines(kind: str) -> None:
    more, said = REFUSED[kind]
    given: dict[str, Any] = {"adapter": starts((4, 3), 1), "times": TIMES} | more
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        simulate(by_autograd(frobenius()), **given)
    assert len(caught.value.lines()) == 2
    assert isinstance(caught.value, HypothesisError) == (kind in ("exact", "splitting"))


def test_a_start_without_a_finite_loss_is_refused_by_its_place() -> None:
    objective = Custom(lambda W: W.log().sum(), pretrained=np.ones((2, 2)), name="log barrier")
    adapter = Adapter(np.array([[[0.0, 0.0]], [[1.0, 1.0]]]), np.array([[[1.0], [1.0]], [[-3.0], [-3.0]]]))
    for call in (lambda: simulate(objective, adapter, TIMES), lambda: descend(objective, adapter, 3, 0.1)):
        with pytest.raises(InputError, match=r"objective log barrier: loss or gradient .* of adapter 1 is not finite"):
            call()


def test_a_function_that_fails_on_the_way_is_named() -> None:
    def value(W: Tensor) -> Tensor:
        if float(W.detach().abs().max()) > 1.5:
            raise ValueError("outside of the table")
        return -W.square().sum()

    objective = Custom(value, pretrained=np.zeros((2, 2)), name="tabulated")
    with pytest.raises(InputError, match="value: stopped with ValueError: outside of the table"):
        simulate(objective, Adapter(np.ones((1, 2)), np.ones((2, 1))), [0.0, 5.0])


def test_the_public_name_is_imported_on_first_use() -> None:
    import flowsim

    assert "Custom" in flowsim.__all__ and flowsim.Custom is Custom
    assert isinstance(simulate(by_autograd(frobenius()), starts((4, 3), 1), [0.0]), xr.Dataset)
