"""Block Krylov spaces: exact where they close, honest about what they miss where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics.flow import velocity
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.dynamics.reduction import Ritz, Spaces, outside_square, scaled_start, values_error
from flowsim.problem.objectives import Adapter, Frobenius
from tests.oracles import reference as ref
from tests.oracles.reference import EPS

SHAPES = [(30, 30, 2), (40, 25, 3), (25, 40, 3)]


def with_spectrum(values: np.ndarray, n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix with these singular values, and its singular vectors."""
    rng = np.random.default_rng(seed)
    U, V = ref.haar(rng, n, len(values)), ref.haar(rng, m, len(values))
    return (U * values) @ V.T, U, V


def spaces_of(objective: Frobenius, adapter: Adapter, blocks: int) -> Spaces:
    spaces = Spaces.of(objective.target - objective.pretrained, *scaled_start(adapter))
    for _ in range(blocks - 1):
        spaces.grow()
    return spaces


def problem(n: int, m: int, r: int, values: np.ndarray | None = None, c: float = 0.8, s: float = 0.6):
    rng = np.random.default_rng([n, m, r])
    delta, _, _ = with_spectrum(1 / np.arange(1.0, min(n, m) + 1) if values is None else values, n, m)
    W0 = 0.1 * rng.standard_normal((n, m))
    loss = ref.Loss(W0, W0 + delta, c, s)
    return loss, ref.starts(rng, delta, r)


@pytest.mark.parametrize(("n", "m", "r"), SHAPES)
@pytest.mark.parametrize("blocks", [1, 3])
def test_spaces_are_orthonormal_and_hold_the_start(n: int, m: int, r: int, blocks: int) -> None:
    loss, starts = problem(n, m, r)
    objective = Frobenius(loss.W0, loss.target, loss.c)
    for A, B in starts.values():
        spaces = spaces_of(objective, Adapter(A, B, loss.s), blocks)
        for side, delta, X in ((spaces.left, spaces.delta, B.T), (spaces.right, spaces.delta.mT, A)):
            basis = side.basis
            np.testing.assert_allclose(basis @ basis.mT, np.eye(len(basis)), rtol=0, atol=40 * EPS)
            np.testing.assert_allclose(side.image, basis @ delta, rtol=0, atol=40 * EPS)
            np.testing.assert_allclose(X @ basis.mT.numpy() @ basis.numpy(), X, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize(("n", "m", "r"), SHAPES)
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_velocity_is_the_user_s_but_for_the_leak(n: int, m: int, r: int, blocks: int) -> None:
    """The leak is the distance of the dense velocity from that in the spaces, for any state in them."""
    loss, starts = problem(n, m, r)
    objective = Frobenius(loss.W0, loss.target, loss.c)
    rng = np.random.default_rng(5)
    for name, (A, B) in starts.items():
        spaces = spaces_of(objective, Adapter(A, B, loss.s), blocks)
        ritz = Ritz.of(objective, Adapter(A, B, loss.s), spaces)
        batch = ritz.canonical(objective, loss.s, spaces)
        back_a, back_b = batch.factors(batch.B, batch.C)
        np.testing.assert_allclose(back_a[0], A, rtol=0, atol=100 * EPS, err_msg=name)
        np.testing.assert_allclose(back_b[0], B, rtol=0, atol=100 * EPS, err_msg=name)
        b = torch.from_numpy(rng.standard_normal((3, len(ritz.s), r)))
        c = torch.from_numpy(rng.standard_normal((3, len(ritz.s), r)))
        b, c = b * (batch.left.square().sum(0) > 0.5)[:, None], c * (batch.right.square().sum(0) > 0.5)[:, None]
        found = ritz.leak(b, c)
        dA, dB = batch.factors(*velocity(batch.landscape, torch.stack([b, c], 1)).unbind(1))
        state_a, state_b = batch.factors(b, c)
        root = loss.s**0.5
        for i in range(3):
            want_a, want_b = loss.slopes(state_a[i].numpy(), state_b[i].numpy())
            missed = np.hypot(
                np.linalg.norm(root * (want_a / (2 * loss.c * loss.s) - dA[i].numpy())),
                np.linalg.norm(root * (want_b / (2 * loss.c * loss.s) - dB[i].numpy())),
            )
            assert float(found[i]) == pytest.approx(missed, rel=1e-9, abs=1e-12), name
            value = batch.curvature * (batch.landscape.floor(r) + batch.landscape.excess(b[i], c[i]))
            assert float(value) == pytest.approx(loss.value(state_a[i].numpy(), state_b[i].numpy()), rel=1e-12), name


def test_members_share_the_spaces() -> None:
    loss, starts = problem(40, 40, 2)
    A, B = ref.stack({name: starts[name] for name in ("gaussian", "B=0", "rank one")})
    objective, adapter = Frobenius(loss.W0, loss.target, loss.c), Adapter(A, B, loss.s)
    spaces = spaces_of(objective, adapter, 2)
    batch = Ritz.of(objective, adapter, spaces).canonical(objective, loss.s, spaces)
    back_a, back_b = batch.factors(batch.B, batch.C)
    np.testing.assert_allclose(back_a, A, rtol=0, atol=100 * EPS)
    np.testing.assert_allclose(back_b, B, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize("values", [np.array([3.0, 2.0, 0.5]), np.array([2.0] * 4 + [1.0] * 3), np.array([1.0])])
def test_spaces_close_where_few_values_differ(values: np.ndarray) -> None:
    """Rank-deficient Δ, ties and r above rank Δ: the spaces end, nothing leaks, and no rounding is taken for more."""
    for n, m, r in [(30, 30, 2), (30, 20, 4)]:
        loss, starts = problem(n, m, r, values)
        objective = Frobenius(loss.W0, loss.target, loss.c)
        for name, (A, B) in starts.items():
            spaces = spaces_of(objective, Adapter(A, B, loss.s), 9)
            assert spaces.closed, name
            assert spaces.rows <= 2 * (2 * r + 2) + len(values), name
            assert spaces.dropped < 1e-12, name


def test_zero_difference_and_zero_factors() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 9)), rng.standard_normal((12, 2))
    zero = np.zeros((12, 9))
    for target in (zero, with_spectrum(np.array([1.0, 0.5]), 12, 9)[0]):
        objective = Frobenius(zero, target)
        for a, b in ((A, B), (A, 0 * B), (0 * A, B), (0 * A, 0 * B)):
            spaces = spaces_of(objective, Adapter(a, b), 8)
            ritz = Ritz.of(objective, Adapter(a, b), spaces)
            batch = ritz.canonical(objective, 1.0, spaces)
            assert spaces.closed and not ritz.copies
            assert bool(batch.B.any()) == bool(b.any()) and bool(batch.C.any()) == bool(a.any())  # zeros stay exact
            assert float(batch.landscape.floor(2)) == 0.0


def test_more_columns_than_the_weight_has() -> None:
    rng = np.random.default_rng(1)
    delta = rng.standard_normal((6, 5))
    A, B = rng.standard_normal((8, 5)), rng.standard_normal((6, 8))
    objective = Frobenius(np.zeros_like(delta), delta)
    spaces = spaces_of(objective, Adapter(A, B), 3)
    ritz = Ritz.of(objective, Adapter(A, B), spaces)
    assert spaces.closed and spaces.whole and ritz.trusted((6, 5))
    np.testing.assert_allclose(ritz.values[:5], np.linalg.svd(delta)[1], rtol=1e-13)


def test_small_columns_count() -> None:
    """A column of 1e-20 beside one of 1 is a direction of its own."""
    rng = np.random.default_rng(2)
    delta, _, _ = with_spectrum(1 / np.arange(1.0, 21), 20, 20)
    A = rng.standard_normal((2, 20)) * np.array([[1.0], [1e-20]])
    spaces = spaces_of(Frobenius(np.zeros_like(delta), delta), Adapter(A, np.zeros((20, 2))), 1)
    rest = A[1] - A[1] @ spaces.right.basis.mT.numpy() @ spaces.right.basis.numpy()
    assert np.linalg.norm(rest) < 1e-34


HARD = {
    "distinct": 1 / np.arange(1.0, 61),
    "slow": np.arange(1.0, 61) ** -0.5,
    "cluster": np.concatenate([1 - 1e-3 * np.arange(8), 0.3 - 1e-5 * np.arange(52)]),
    "tight cluster": np.concatenate([1 - 3e-8 * np.arange(8), 0.3 - 3e-7 * np.arange(9), 0.1 / np.arange(1.0, 44)]),
    "tie": np.concatenate([np.ones(6), 1 / np.arange(2.0, 56)]),
    "tie across": np.concatenate([[2.0, 1.5], np.ones(7), 0.5 / np.arange(1.0, 52)]),
}


@pytest.mark.parametrize("spectrum", HARD)
@pytest.mark.parametrize("kind", ["generic", "both", "misses the first", "misses six", "last modes", "dependent"])
def test_values_are_trusted_only_where_they_are_those_of_the_difference(spectrum: str, kind: str) -> None:
    """Through all stages of growth: a trusted value is right, whatever the start cannot see."""
    sigma, n, r = HARD[spectrum], 60, 3
    delta, _, V = with_spectrum(sigma, n, n)
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((r, n)), np.zeros((n, r))
    if kind == "both":
        B = rng.standard_normal((n, r))
    elif kind == "misses the first":
        A = A - A @ V[:, :1] @ V[:, :1].T
    elif kind == "misses six":
        A = A - A @ V[:, :6] @ V[:, :6].T
    elif kind == "last modes":
        A = V[:, 20 : 20 + r].T.copy()
    elif kind == "dependent":
        A = np.repeat(A[:1], r, 0)
    objective, adapter = Frobenius(np.zeros_like(delta), delta), Adapter(A, B)
    spaces = spaces_of(objective, adapter, 1)
    trusted = 0
    for _ in range(40):
        ritz = Ritz.of(objective, adapter, spaces)
        error = np.abs(ritz.s[: r + 1].numpy() - sigma[: r + 1]).max() if len(ritz.s) > r else np.inf
        if ritz.trusted((n, n)):
            trusted += 1
            assert error <= 2 * EPS * n * sigma[0]
            landscape = ritz.canonical(objective, 1.0, spaces).landscape
            assert isinstance(landscape, FrobeniusLandscape)
            want = 0.5 * np.sum(sigma[r:][::-1] ** 2)
            assert float(landscape.floor(r)) == pytest.approx(want, rel=1e-11)
        if spaces.whole:
            break
        if ritz.copies:
            spaces.probe(ritz.copies)
        spaces.grow()
    assert trusted > 0


def test_the_bound_of_the_values_is_a_bound() -> None:
    """Linear near a gap that is not there, quadratic where there is one."""
    rng = np.random.default_rng(4)
    for trial in range(200):
        sigma = np.sort(rng.random(12) ** 3)[::-1]
        M = with_spectrum(sigma, 12, 12, trial)[0]
        angle = 10.0 ** rng.uniform(-9, -3)
        U, s, Vh = np.linalg.svd(M)
        left, right = (ref.haar(rng, 12, 12) for _ in range(2))
        near = [np.linalg.qr(X + angle * (Y - X * np.sum(X * Y, 0)))[0][:, :8] for X, Y in ((U, left), (Vh.T, right))]
        core = near[0].T @ M @ near[1]
        P, found, Oh = np.linalg.svd(core)
        u, v = near[0] @ P, near[1] @ Oh.T
        squares = (
            np.linalg.norm(M @ v - u * found, axis=0) ** 2 + np.linalg.norm(M.T @ u - v * found, axis=0) ** 2
        ) / 2
        bound = values_error(torch.from_numpy(found), torch.from_numpy(squares), 3, resolved=True)
        assert np.abs(found[:3] - s[:3]).max() <= bound + 8 * EPS


def test_what_is_outside_keeps_its_digits() -> None:
    """A tail of 1e-9: ‖Δ‖² − Σs² has no digit left of its square, the residual has."""
    tail = 1e-9 * np.array([3.0, 2.0, 1.5, 1.0])
    sigma = np.concatenate([[2.0, 1.0, 0.5], tail])
    delta, _, V = with_spectrum(sigma, 30, 20)
    spaces = Spaces.of(
        torch.from_numpy(delta), torch.zeros(1, 30, 3).double(), torch.from_numpy(V[None, :, :3].copy()), 0
    )
    spaces.grow()
    found = outside_square(spaces, torch.from_numpy(sigma[:3].copy()), 3)
    assert float(found) == pytest.approx(np.sum(tail**2), rel=1e-5)


def test_outside_belongs_to_the_floor_and_moves_nothing() -> None:
    whole = FrobeniusLandscape(torch.tensor([2.0, 1.0, 0.5]).double(), 3)
    part = FrobeniusLandscape(torch.tensor([2.0, 1.0]).double(), 2, torch.tensor(0.25).double())
    for rank in (1, 2):
        assert float(whole.floor(rank)) == float(part.floor(rank))
    B, C = torch.randn(2, 2, 1, dtype=torch.float64)
    assert torch.equal(part.pull(B, C), FrobeniusLandscape(part.sigma, 2).pull(B, C))
