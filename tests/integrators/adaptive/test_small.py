"""Small factorisations: LAPACK's and the ones that never wait for a device, on the CPU both."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flowsim.integrators.adaptive import small

EPS = float(np.finfo(np.float64).eps)
R = 7


def spread(condition: float, seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Orthogonal U, V (batch, R, R) and singular values from 1 to 1/condition."""
    rng = np.random.default_rng(seed)
    U, V = (torch.from_numpy(np.linalg.qr(rng.standard_normal((batch, R, R)))[0]) for _ in range(2))
    return U, V, torch.logspace(0, -float(np.log10(condition)), R, dtype=torch.float64)


@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e10])
@pytest.mark.parametrize("size", [1e-200, 1.0, 1e100])
def test_the_polar_factor(condition: float, size: float, iterate: bool) -> None:
    U, V, values = spread(condition)
    X = size * (U * values) @ V.mT
    turn = small.polar(X, iterate=iterate)
    # Its condition number is at most that of X (Higham 2008, theorem 8.9).
    assert float((turn - U @ V.mT).abs().max()) <= 8 * R * EPS * condition
    assert float((turn @ turn.mT - torch.eye(R, dtype=X.dtype)).abs().max()) <= 8 * R * EPS
    scipys = scipy.linalg.polar((X[0] / size).numpy(), side="left")[0]
    assert np.abs(turn[0].numpy() - scipys).max() <= 8 * R * EPS * condition


@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_the_lyapunov_equation(condition: float, iterate: bool) -> None:
    U, _, values = spread(condition)
    K, right = (U * values) @ U.mT, torch.from_numpy(np.random.default_rng(1).standard_normal((3, R, R)))
    right = right + right.mT
    T = small.lyapunov(K, right, iterate=iterate)
    for one, k, wanted in zip(T.numpy(), K.numpy(), right.numpy(), strict=True):
        scipys = scipy.linalg.solve_continuous_lyapunov(k, wanted)
        # The equation's own condition number is cond(K): sums of eigenvalues are at least 2/cond.
        assert np.abs(one - scipys).max() <= 32 * R * EPS * condition * np.abs(scipys).max()


def test_a_member_without_a_factor_does_not_harm_the_others() -> None:
    U, V, values = spread(10.0)
    P = (U * values) @ U.mT
    X = (U * values) @ V.mT
    P[1], X[1] = -P[1], 0.0
    K, inverted = small.cholesky(P), small.inverse(X)
    assert K[1].isnan().all()
    assert not inverted[1].isfinite().all()
    eye = torch.eye(R, dtype=X.dtype)
    for i in (0, 2):
        assert float((K[i] @ K[i].mT - P[i]).abs().max()) <= 8 * R * EPS
        assert float((X[i] @ inverted[i] - eye).abs().max()) <= 8 * R * EPS * 10
        assert torch.equal(K[i], K[i].tril())


@pytest.mark.parametrize("iterate", [False, True])
def test_what_is_not_finite_raises_nothing(iterate: bool) -> None:
    U, V, values = spread(10.0)
    X, K = (U * values) @ V.mT, (U * values) @ U.mT
    right, others = small.polar(X, iterate=iterate), small.lyapunov(K, K, iterate=iterate)
    X[1, 0, 0], K[1, 2, 2] = torch.nan, torch.inf
    again, equal = small.polar(X, iterate=iterate), small.lyapunov(K, K, iterate=iterate)
    for i in (0, 2):
        assert torch.allclose(again[i], right[i], rtol=0, atol=8 * R * EPS * 10)
        assert torch.allclose(equal[i], others[i], rtol=0, atol=8 * R * EPS * 10)


class Reads(TorchDispatchMode):
    """Counts operators that need the host to know a value."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select", "equal.default")):
            self.count[name] += 1
        if any(word in name for word in ("eigh", "svd")):
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


def test_the_iterations_leave_the_host_and_the_synchronising_factorisations_alone() -> None:
    U, V, values = spread(10.0)
    X, K = (U * values) @ V.mT, (U * values) @ U.mT
    with Reads() as reads:
        small.polar(X, iterate=True)
        small.lyapunov(K, K, iterate=True)
        small.inverse(X)
        small.cholesky(K)
    assert not reads.count
    with Reads() as reads:
        small.polar(X)
    assert reads.count, "the count must be able to see LAPACK's"
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(X)
        assert small.polar(fake, iterate=True).shape == X.shape
        assert small.lyapunov(fake, fake, iterate=True).shape == X.shape
