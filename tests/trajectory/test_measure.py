"""Every recorded number against the dense matrices it speaks of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flowsim.dynamics.coordinates import canonical
from flowsim.problem.objectives import Adapter, Frobenius, TraceSquared
from flowsim.trajectory.measure import alignment, measure, spectrum

RNG = np.random.default_rng(11)
SCALE, C = 1.7, 0.3


def case(kind: str, n: int, m: int, rank: int) -> tuple[Any, Any, np.ndarray, np.ndarray, np.ndarray]:
    """Objective, canonical problem, W0, and two members' factors A (2, r, m), B (2, n, r)."""
    W0 = RNG.standard_normal((n, m))
    A, B = RNG.standard_normal((2, rank, m)), RNG.standard_normal((2, n, rank))
    objective = Frobenius(W0, RNG.standard_normal((n, m)), C) if kind == "frobenius" else TraceSquared(W0, C)
    return objective, canonical(objective, Adapter(A, B, SCALE)), W0, A, B


CASES = [("frobenius", 5, 4, 2), ("frobenius", 3, 6, 2), ("frobenius", 3, 3, 5), ("trace_squared", 4, 4, 2)]


@pytest.mark.parametrize(("kind", "n", "m", "rank"), CASES)
def test_scalars_against_dense_matrices(kind: str, n: int, m: int, rank: int) -> None:
    objective, problem, W0, A, B = case(kind, n, m, rank)
    step_b, step_c = problem.landscape.pull(problem.B, problem.C), problem.landscape.pull(problem.C, problem.B)
    B_then = torch.stack([0.9 * problem.B, problem.B + 0.1 * step_b])
    C_then = torch.stack([1.1 * problem.C, problem.C + 0.1 * step_c])
    numbers = measure(problem, B_then, C_then)
    A_user, B_user = (x.numpy() for x in problem.factors(B_then, C_then))
    for time in range(2):
        for member in range(2):
            A1, B1 = A_user[time, member], B_user[time, member]
            got = {name: float(value[time, member]) for name, value in numbers.items()}
            W = torch.as_tensor(W0 + SCALE * B1 @ A1)
            start = torch.as_tensor(W0 + SCALE * B[member] @ A[member])
            G = objective.gradient(W).numpy()
            floor = 0.0
            if kind == "frobenius":
                sigma = np.linalg.svd(objective.target.numpy() - W0, compute_uv=False)
                floor = C * (sigma[rank:] ** 2).sum()
                full = objective.target.numpy() - start.numpy()
            else:
                full = -np.trace(start.numpy()) / n * np.eye(n)
            wanted = {
                "loss": float(objective.value(W)),
                "excess_loss": float(objective.value(W)) - floor,
                "gradient_norm": SCALE * np.hypot(np.linalg.norm(B1.T @ G), np.linalg.norm(G @ A1.T)),
                "relative_error": np.linalg.norm((W - start).numpy() - full) / np.linalg.norm(full),
                "imbalance_drift": np.linalg.norm(
                    B1.T @ B1 - A1 @ A1.T - B[member].T @ B[member] + A[member] @ A[member].T
                ),
                "factor_norm": np.hypot(np.linalg.norm(A1), np.linalg.norm(B1)),
                "product_norm": SCALE * np.linalg.norm(B1 @ A1),
                "gram_sum_norm": np.linalg.norm(B1.T @ B1 + A1 @ A1.T),
            }
            assert got == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize(("kind", "n", "m", "rank"), CASES)
def test_singular_values_against_dense_matrices(kind: str, n: int, m: int, rank: int) -> None:
    _, problem, _, A, B = case(kind, n, m, rank)
    got = spectrum(problem, problem.B[None], problem.C[None], 6).numpy()[0]
    for member in range(2):
        dense = np.linalg.svd(SCALE * B[member] @ A[member], compute_uv=False)[:rank]
        np.testing.assert_allclose(got[member, : len(dense)], dense, rtol=1e-11, atol=1e-13)
        assert np.isnan(got[member, rank:]).all()


@pytest.mark.parametrize(("kind", "n", "m", "rank"), CASES[:2])
def test_alignment_against_dense_subspaces(kind: str, n: int, m: int, rank: int) -> None:
    objective, problem, W0, A, B = case(kind, n, m, rank)
    U, _, Vh = np.linalg.svd(objective.target.numpy() - W0)
    got = alignment(problem, problem.B[None], problem.C[None]).numpy()[0]
    for member in range(2):
        u, _, vh = np.linalg.svd(B[member] @ A[member])
        left = np.linalg.norm(U[:, :rank].T @ u[:, :rank]) ** 2 / rank
        right = np.linalg.norm(Vh[:rank] @ vh[:rank].T) ** 2 / rank
        np.testing.assert_allclose(got[member], [left, right], rtol=1e-10)


def test_alignment_is_nan_where_a_subspace_is_not_defined() -> None:
    def aligned(W0: np.ndarray, B: np.ndarray, A: np.ndarray) -> np.ndarray:
        problem = canonical(Frobenius(W0, np.zeros_like(W0)), Adapter(A, B))
        values: np.ndarray = alignment(problem, problem.B[None], problem.C[None]).numpy()
        return values

    A, B = RNG.standard_normal((2, 3)), RNG.standard_normal((3, 2))
    assert np.isfinite(aligned(np.diag([3.0, 2.0, 1.0]), B, A)).all()
    assert np.isnan(aligned(np.diag([3.0, 2.0, 2.0]), B, A)).all()  # σ2 = σ3
    assert np.isnan(aligned(np.diag([3.0, 2.0, 1.0]), np.zeros((3, 2)), A)).all()  # BA = 0
    assert np.isnan(aligned(np.diag([3.0, 2.0, 1.0]), np.ones((3, 2)), A)).all()  # rank 1
    four = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 4))
    assert np.isnan(aligned(np.diag([3.0, 2.0, 1.0]), four[1], four[0])).all()  # above the rank of the difference
    trace = canonical(TraceSquared(np.eye(3)), Adapter(A, B))
    assert alignment(trace, trace.B[None], trace.C[None]).isnan().all()


@pytest.mark.parametrize("kind", ["frobenius", "trace_squared"])
def test_the_excess_near_the_floor_is_free_of_cancellation(kind: str) -> None:
    """1e-20 above a floor of order 1: the loss cannot show it, the excess does to many digits."""
    W0 = np.diag([2.0, 1.0, 0.5])
    if kind == "frobenius":
        problem = canonical(Frobenius(W0, np.zeros((3, 3))), Adapter(-np.eye(3)[:1] * 2, np.eye(3)[:, :1]))
        shift = torch.zeros_like(problem.B)
        shift[..., 1, 0] = 1e-10
        numbers = measure(problem, (problem.B + shift)[None], problem.C[None])
        # ½‖Σ − BCᵀ‖² grows by ½(2·10⁻¹⁰)²: the new column is orthogonal to what is left of Σ's first.
        assert float(numbers["excess_loss"]) == pytest.approx(0.5 * 4e-20, rel=1e-9)
        assert float(numbers["loss"]) == pytest.approx(0.5 * 1.25, rel=1e-15)
    else:
        problem = canonical(TraceSquared(W0), Adapter(np.ones((1, 3)), np.ones((3, 1))))
        known = torch.full((1, 1), 1e-200, dtype=torch.float64)
        numbers = measure(problem, problem.B[None], problem.C[None], known)
        assert float(numbers["excess_loss"]) == float(numbers["loss"]) == 1e-200


def test_states_that_are_not_finite_give_nan_and_no_error() -> None:
    _, problem, *_ = case("frobenius", 4, 3, 2)
    for bad in (torch.nan, torch.inf, 1e300):
        B = problem.B[None].clone()
        B[0, 0, 0, 0] = bad
        numbers = measure(problem, B, problem.C[None])
        for name, value in numbers.items():
            assert not bool(value.isinf().any()), name
            assert bool(value[0, 1].isfinite()), name
        assert bool(numbers["loss"][0, 0].isnan())
        assert bool(spectrum(problem, B, problem.C[None], 2)[0, 0].isnan().all())
        assert bool(alignment(problem, B, problem.C[None])[0, 0].isnan().all())


def test_large_finite_states_keep_their_loss() -> None:
    _, problem, *_ = case("frobenius", 4, 3, 2)
    numbers = measure(problem, 1e70 * problem.B[None], problem.C[None])
    assert bool((numbers["loss"] > 1e138).all()) and bool(numbers["loss"].isfinite().all())


def test_no_relative_error_where_full_finetuning_does_not_move() -> None:
    W0 = np.diag([1.0, 1.0, -2.0])
    A, B = RNG.standard_normal((1, 3)), np.zeros((3, 1))
    for objective in (TraceSquared(W0), Frobenius(W0, W0)):
        problem = canonical(objective, Adapter(A, B))
        assert measure(problem, problem.B[None], problem.C[None])["relative_error"].isnan().all()
