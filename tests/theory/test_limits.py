"""The theory group: user's units, shapes, NaN where nothing is known, agreement with what runs record."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim import Adapter, Frobenius, TraceSquared, simulate
from flowsim.dynamics.coordinates import canonical
from flowsim.theory.limits import end_state_rates, theory_of
from tests.oracles import reference as ref

NAMES = {
    "loss_reachable", "excess_rounding", "escape_time", "overlap", "convergence_power", "excess_constant",
    "sequential_stability_limit",
    "loss_floor", "loss_limit", "relative_error_limit", "relative_error_horizon", "relative_error_rounding",
    "effective_rank", "orthonormal_error", "convergence_rate", "stability_limit", "parameters", "energy",
    "spectral_gap",
}  # fmt: skip


def frobenius_case(n: int = 5, m: int = 4, r: int = 2, c: float = 0.8, s: float = 1.5):
    rng = np.random.default_rng(0)
    W0, target = rng.standard_normal((n, m)), rng.standard_normal((n, m))
    found = ref.starts(rng, target - W0, r)
    batch = canonical(Frobenius(W0, target, c), Adapter(*ref.stack(found), s))
    return ref.Loss(W0, target, c, s), found, batch, theory_of(batch, (n, m), 3.0)


def test_every_variable_is_there_for_every_member() -> None:
    _, found, _, theory = frobenius_case()
    assert set(theory) == NAMES
    assert all(value.shape == (len(found),) for value in theory.values())
    trace = theory_of(canonical(TraceSquared(np.eye(4)), Adapter(np.ones((2, 4)), np.ones((4, 2)))), (4, 4), 1.0)
    assert set(trace) == NAMES and all(value.shape == (1,) for value in trace.values())


def test_the_floor_is_eckart_and_young_s() -> None:
    loss, found, _, theory = frobenius_case()
    tail = loss.c * np.sum(np.linalg.svd(loss.target - loss.W0, compute_uv=False)[2:] ** 2)
    np.testing.assert_allclose(theory["loss_floor"], tail, rtol=1e-12)
    for i, name in enumerate(found):
        if name.startswith(("balanced", "orthogonal", "spectral")):
            assert float(theory["loss_limit"][i]) == pytest.approx(tail, rel=1e-12)
        else:
            assert math.isnan(float(theory["loss_limit"][i]))
    np.testing.assert_array_equal(theory["parameters"], 2 * (5 + 4))


def test_the_error_limit_is_where_a_long_run_ends() -> None:
    loss, found, _, theory = frobenius_case()
    for i, (A0, B0) in enumerate(found.values()):
        limit = float(theory["relative_error_limit"][i])
        if math.isnan(limit):
            continue
        start = loss.weight(A0, B0)
        ds = simulate(Frobenius(loss.W0, loss.target, loss.c), Adapter(A0, B0, loss.s), [60.0], error="product")
        end = loss.weight(ds.A.values[-1], ds.B.values[-1])
        direct = np.linalg.norm(end - loss.target) / np.linalg.norm(start - loss.target)
        assert limit == pytest.approx(direct, rel=1e-8)
        assert float(theory["loss_limit"][i]) == pytest.approx(float(ds.loss[-1]), rel=1e-8)


def test_trace_squared_numbers_are_in_the_user_s_time() -> None:
    rng = np.random.default_rng(1)
    W0, A0, B0 = rng.standard_normal((4, 4)), rng.standard_normal((2, 4)), np.zeros((4, 2))
    c, s, stop = 0.9, 2.5, 0.4
    theory = theory_of(canonical(TraceSquared(W0, c), Adapter(A0, B0, s)), (4, 4), stop)
    loss = ref.Loss(W0, None, c, s)
    A, B = ref.flow(loss, A0, B0, [stop])
    full = -np.trace(W0) / 4 * np.eye(4)
    direct = np.linalg.norm(loss.weight(A[0], B[0]) - W0 - full) / np.linalg.norm(full)
    assert float(theory["relative_error_horizon"]) == pytest.approx(direct, rel=1e-9)
    gram = A0 @ A0.T
    effective = np.trace(gram) ** 2 / np.sum(gram**2)
    assert float(theory["effective_rank"]) == pytest.approx(effective, rel=1e-12)
    assert float(theory["relative_error_limit"]) == pytest.approx(math.sqrt(4 / effective - 1), rel=1e-10)
    rate, limit = float(theory["convergence_rate"]), float(theory["stability_limit"])
    assert rate * limit == pytest.approx(4.0, rel=1e-12)  # 2·clock·D and 2/(clock·D)
    ds = simulate(TraceSquared(W0, c), Adapter(A0, B0, s), [20 / rate, 40 / rate])
    assert np.log(ds.excess_loss[0] / ds.excess_loss[1]) == pytest.approx(20.0, rel=1e-3)
    assert theory["energy"].isnan().all() and float(theory["loss_floor"]) == 0.0


def test_end_states_that_are_not_finite_have_no_rates() -> None:
    _, found, batch, _ = frobenius_case()
    B, C = batch.B.clone(), batch.C.clone()
    B[0, 0, 0], C[1, 0, 0] = torch.nan, torch.inf
    rate, sharpness = end_state_rates(batch, B, C)
    assert sharpness.isnan().tolist() == [True, True] + [False] * (len(found) - 2)
    assert rate[:2].isnan().all()
    whole = end_state_rates(batch, batch.B, batch.C)[1]
    torch.testing.assert_close(sharpness[2:], whole[2:])


def test_a_difference_of_zero_is_no_error() -> None:
    W0 = np.ones((3, 3))
    theory = theory_of(canonical(Frobenius(W0, W0), Adapter(np.ones((1, 3)), np.zeros((3, 1)))), (3, 3), 1.0)
    assert float(theory["loss_limit"]) == 0.0 and theory["relative_error_limit"].isnan().all()
    assert theory["energy"].isnan().all() and theory["convergence_rate"].isnan().all()
