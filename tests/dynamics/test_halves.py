"""The numbers of B ± C against dense matrices, in parts, next to zero, and once only."""

from __future__ import annotations

import pytest
import torch

from flowsim.dynamics import halves as module
from flowsim.dynamics.coordinates import canonical
from flowsim.dynamics.halves import Halves
from flowsim.dynamics.invariants import imbalance
from flowsim.problem.objectives import Adapter, TraceSquared

EPS = torch.finfo(torch.float64).eps


def draw(batch: int = 5, q: int = 7, r: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    B, C = (torch.randn(batch, q, r, dtype=torch.float64, generator=generator) for _ in range(2))
    return B, C


@pytest.mark.parametrize("part", [1, 2 * 7 * 3, 10**6])
def test_every_number_is_that_of_the_matrices(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", part)
    B, C = draw()
    found = Halves(B, C)
    for i, (b, c) in enumerate(zip(B, C, strict=True)):
        u, v = b + c, b - c
        exact = {
            "u": u, "v": v, "u_as_is": u, "v_as_is": v, "b": b, "c": c, "gram_u": u @ u.T, "gram_v": v @ v.T,
            "cross": u.T @ v, "imbalance": imbalance(b, c),
        }  # fmt: skip
        for name, matrix in exact.items():
            assert float(getattr(found, name)[i]) == pytest.approx(float(matrix.norm()), rel=1e-13), name
        assert float(found.inner[i]) == pytest.approx(float(torch.trace(b @ c.T)), abs=1e-13)
    assert found.moving.all() and not found.zero_b.any() and not found.zero_c.any()


def test_a_half_that_is_rounding_is_zero_and_remembered() -> None:
    B, C = draw(4)
    C[0], C[1], C[2] = B[0] * (1 + 2 * EPS), -B[1], B[2] * (1 + 1e-9)
    found = Halves(B, C)
    assert (found.v == 0).tolist() == [True, False, False, False]
    assert (found.u == 0).tolist() == [False, True, False, False]
    assert float(found.v_as_is[0]) > 0
    for name in ("cross", "imbalance"):
        assert (getattr(found, name) == 0).tolist() == [True, True, False, False]
    assert found.gram_v[0] == 0 and found.gram_u[1] == 0


def test_zero_is_zero_and_not_an_underflow() -> None:
    B, C = draw(3)
    B[0], B[1], C[2] = 0.0, 1e-200, 0.0
    found = Halves(B, C)
    assert found.zero_b.tolist() == [True, False, False]
    assert found.zero_c.tolist() == [False, False, True]


def test_a_problem_finds_them_once() -> None:
    B, C = draw(2)
    batch = canonical(TraceSquared(torch.eye(7, dtype=torch.float64)), Adapter(C.mT, B))
    assert batch.halves is batch.halves
    assert batch.halves.u is batch.halves.u
    assert batch.member(slice(1)).halves.u.shape == (1,)
