"""The imbalance: constant along the flow, bounding the factors, drifting under descent as predicted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim import Adapter, Frobenius, TraceSquared, descend, simulate
from flowsim.dynamics.invariants import balance, gram_sum_norm, imbalance
from tests.oracles import reference as ref

TIMES = np.linspace(0.0, 3.0, 601)


def losses() -> dict[str, ref.Loss]:
    rng = np.random.default_rng(4)
    W0, target = rng.standard_normal((4, 4)), rng.standard_normal((4, 4))
    return {"frobenius": ref.Loss(W0, target, 0.7, 1.3), "trace": ref.Loss(W0, None, 0.4, 0.8)}


def objective_of(loss: ref.Loss):
    return TraceSquared(loss.W0, loss.c) if loss.target is None else Frobenius(loss.W0, loss.target, loss.c)


def gaussian(r: int = 2, seed: int = 1) -> ref.Factors:
    rng = np.random.default_rng(seed)
    return 0.6 * rng.standard_normal((r, 4)), 0.6 * rng.standard_normal((4, r))


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
@pytest.mark.parametrize("solver", ["auto", "dopri8"])
def test_the_flow_conserves_the_imbalance_and_bounds_the_factors(kind: str, solver: str) -> None:
    loss = losses()[kind]
    A0, B0 = gaussian()
    drifts = []
    for rtol in (1e-8, 1e-10):
        ds = simulate(objective_of(loss), Adapter(A0, B0, loss.s), TIMES[::60], solver=solver, rtol=rtol, atol=1e-14)
        drifts.append(float(ds.imbalance_drift.max()))
        A, B = ds.A.values, ds.B.values
        gram = np.swapaxes(B, -1, -2) @ B + A @ np.swapaxes(A, -1, -2)
        left = np.square(gram).sum((-2, -1)) - 4 * np.square(B @ A).sum((-2, -1))
        right = np.square(ref.imbalance(A0, B0)).sum()
        np.testing.assert_allclose(left, right, rtol=0, atol=4 * np.abs(gram).max() * drifts[-1] + 1e-12)
    rounding = 1e-13
    # The drift of Q is at most 2‖Z‖ times the error of Z, whose size the tolerance sets: it falls with it.
    assert drifts[1] <= max(0.1 * drifts[0], rounding)
    assert drifts[1] <= 1e-10 * 10 * max(np.square(A0).sum() + np.square(B0).sum(), 1) * 10


def drift_rate(loss: ref.Loss, A: np.ndarray, B: np.ndarray, update: str) -> np.ndarray:
    """d/dt of (Q − Q0)/η along the flow, to first order in η, by the product rule from full gradients.

    In canonical letters: simultaneous AGᵀGAᵀ − BᵀGGᵀB; the second factor of a sequential round sees the first
    one moved, which turns the sign of the first one's own term and adds its Hessian term twice.
    """
    root = np.sqrt(loss.s)
    A, B, kappa = root * A, root * B, 2 * loss.c
    G = loss.gradient(A / root, B / root) / kappa

    def hess(X: np.ndarray) -> np.ndarray:
        return X if loss.target is not None else np.trace(X) * np.eye(len(X))

    own_a, own_b = A @ G.T @ G @ A.T, B.T @ G @ G.T @ B
    if update == "simultaneous":
        rate = own_a - own_b
    elif update == "a_first":
        X = B.T @ hess(B @ B.T @ G) @ A.T
        rate = own_a + own_b + X + X.T
    else:
        Y = B.T @ hess(G @ A.T @ A) @ A.T
        rate = -(own_a + own_b + Y + Y.T)
    return rate * (loss.s * kappa) ** 2 / loss.s  # back to the user's Q, η and time


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
@pytest.mark.parametrize("update", ref.UPDATES)
def test_descent_lets_the_imbalance_drift_at_the_predicted_rate(kind: str, update: str) -> None:
    loss = losses()[kind]
    A0, B0 = gaussian()
    flow = simulate(objective_of(loss), Adapter(A0, B0, loss.s), TIMES, solver="dopri8", rtol=1e-10)
    rates = np.stack([drift_rate(loss, a, b, update) for a, b in zip(flow.A.values, flow.B.values, strict=True)])
    weights = np.ones(len(TIMES))
    weights[1:-1:2], weights[2:-1:2] = 4, 2  # Simpson
    predicted = np.tensordot(weights, rates, 1) * (TIMES[1] - TIMES[0]) / 3
    measured = []
    for steps in (600, 1200, 2400):
        eta = TIMES[-1] / steps
        ds = descend(objective_of(loss), Adapter(A0, B0, loss.s), steps, eta, update, every=steps)
        Q = ref.imbalance(ds.A.values, ds.B.values)
        measured.append((Q[-1] - Q[0]) / eta)
    first, second = 2 * measured[1] - measured[0], 2 * measured[2] - measured[1]
    size = np.linalg.norm(predicted)
    errors = [np.linalg.norm(x - predicted) / size for x in (measured[2], first, second)]
    assert errors[2] < errors[0] / 20, errors
    assert 3.4 < errors[1] / errors[2] < 4.6, errors  # Richardson: what is left falls like η²


def test_balance_finds_lambda_and_refuses_what_is_only_nearly_balanced() -> None:
    rng = np.random.default_rng(0)
    for value in (-0.7, 0.0, 0.7):
        A, B = ref.balanced_start(rng, 6, 5, 3, value)
        b, c = torch.from_numpy(B), torch.from_numpy(A.T.copy())
        found, holds = balance(b, c)
        assert bool(holds) and float(found) == pytest.approx(value, abs=1e-14)
        np.testing.assert_allclose(imbalance(b, c), value * np.eye(3), atol=1e-14)
        b = b.clone()
        b[0, 0] += 1e-11
        assert not bool(balance(b, c)[1])
    gram = gram_sum_norm(b, c)
    np.testing.assert_allclose(gram, np.linalg.norm(b.numpy().T @ b.numpy() + c.numpy().T @ c.numpy()), rtol=1e-14)
