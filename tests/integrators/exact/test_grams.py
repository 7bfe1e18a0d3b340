"""Gram matrices by blocks, triangular roots and their bound, and columns that are surely independent."""

from __future__ import annotations

import pytest
import torch

from flowsim.integrators.exact import grams
from tests.oracles.reference import EPS


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rank", [1, 5, 8, 9, 21])
def test_blocks_leave_nothing_out(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "BLOCK", 4)
    X = draw(2, 30, rank)
    whole = X.mT @ X
    torch.testing.assert_close(grams.gram(X), whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(grams.upper_gram(X).triu(), whole.triu(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e5])
def test_the_bound_holds_whatever_the_lengths(condition: float) -> None:
    """‖H⁻¹‖ of the matrix of unit diagonal, against its eigenvalues."""
    X = draw(3, 40, 6)
    X = X @ torch.diag(torch.logspace(0, 8, 6, dtype=torch.float64)) + draw(3, 40, 1, seed=1) * (condition - 1)
    R, lengths, bound = grams.scaled_root(X.mT @ X)
    H = X / torch.linalg.vector_norm(X, dim=-2, keepdim=True)
    exact = 1 / torch.linalg.svdvals(H)[:, -1].square()
    assert (bound >= exact * (1 - 64 * EPS * exact)).all() and (bound <= 7 * exact).all()
    torch.testing.assert_close(R.mT @ R, H.mT @ H, rtol=0, atol=64 * EPS)
    torch.testing.assert_close(lengths, torch.linalg.vector_norm(X, dim=-2))


@pytest.mark.parametrize("limit", [0.0, 1e9])
@pytest.mark.parametrize("shape", [(1, 9, 4), (3, 2, 5), (2, 6, 1)])
def test_both_ways_to_the_root_agree(shape: tuple[int, ...], limit: float) -> None:
    W = 3 * draw(*shape)
    R = grams.shifted_root(W, limit)
    eye = torch.eye(shape[-1], dtype=torch.float64)
    torch.testing.assert_close(R.mT @ R, eye + W.mT @ W, rtol=1e-13, atol=1e-13)
    assert (R.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert torch.equal(R, R.triu())


def test_a_badly_conditioned_root_keeps_the_digits_of_a_qr() -> None:
    """Columns that differ by 1e-7: the square of the Gram matrix's condition would leave few digits."""
    column = draw(1, 30, 1)
    W = 1e7 * torch.cat([column, column + 1e-7 * draw(1, 30, 1, seed=1)], dim=-1)
    right = torch.linalg.qr(torch.cat([torch.eye(2, dtype=torch.float64)[None], W], dim=-2), mode="r").R.abs()
    torch.testing.assert_close(grams.shifted_root(W, 100.0).abs(), right, rtol=1e-12, atol=0)
    with pytest.raises(AssertionError):  # what the limit is for
        torch.testing.assert_close(grams.shifted_root(W, 1e99).abs(), right, rtol=1e-12, atol=0)


def test_independence_is_claimed_only_where_it_is_certain() -> None:
    X = draw(4, 20, 3)
    X[1, :, 2] = X[1, :, 0] + X[1, :, 1]  # dependent
    X[2, :, 2] = X[2, :, 0] + 1e-9 * X[2, :, 1]  # a Gram matrix cannot tell
    X[3, :, 2] *= 1e-12  # short, not dependent
    noise = EPS * 23 * torch.linalg.matrix_norm(X)
    assert grams.surely_independent(X, noise).tolist() == [True, False, False, True]
    least = torch.linalg.svdvals(X)[:, -1]
    assert not grams.surely_independent(X, least * 1.001).any()
    assert not grams.surely_independent(draw(1, 2, 3), noise[:1]).any()  # more columns than rows
    X[0, :, 1] = 0.0
    assert not grams.surely_independent(X, noise)[0]
