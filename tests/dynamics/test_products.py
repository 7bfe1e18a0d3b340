"""Norms and singular values of products from their factors, against the products themselves."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from flowsim.dynamics import products


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("q", "r"), [(6, 2), (3, 5), (4, 4), (5, 1)])
def test_distance_norm_and_singular_values_are_those_of_the_product(q: int, r: int) -> None:
    B1, C1, B2, C2 = (draw(2, 3, q, r, seed=i) for i in range(4))
    direct = B1 @ C1.mT
    torch.testing.assert_close(products.product_norm(B1, C1), torch.linalg.matrix_norm(direct))
    torch.testing.assert_close(products.distance(B1, C1, B2, C2), torch.linalg.matrix_norm(direct - B2 @ C2.mT))
    values = products.singular_values(B1, C1)
    torch.testing.assert_close(values, torch.linalg.svdvals(direct)[..., : min(q, r)])
    one = products.norm_of_sum([(2.0, B1, C1), (-0.5, B2, C2[0, 0])])
    torch.testing.assert_close(one, torch.linalg.matrix_norm(2 * direct - 0.5 * B2 @ C2[0, 0].mT))


def test_no_gauge_is_seen() -> None:
    B, C = draw(6, 3), draw(6, 3, seed=1)
    gauge = torch.linalg.qr(draw(3, 3, seed=2)).Q
    assert float(products.distance(B, C, B @ gauge, C @ gauge)) < 1e-14
    assert float(products.distance(B, C, 2 * B, C / 2)) < 1e-14


def test_tiny_distances_keep_their_digits() -> None:
    """A Gram matrix of the difference would bottom out near √ε‖BC‖ = 1e-8."""
    B, C, kick = draw(6, 2), draw(6, 2, seed=1), draw(6, 2, seed=2)
    for size in (1e-9, 1e-12):
        moved = B + size * kick
        with mpmath.workdps(40):
            rest = mpmath.matrix((moved - B).tolist()) * mpmath.matrix(C.tolist()).T
            exact = float(mpmath.sqrt(mpmath.fsum(x**2 for x in rest)))
        assert float(products.distance(moved, C, B, C)) == pytest.approx(exact, abs=1e-14)


def test_states_that_are_not_finite_give_nan_and_leave_others_whole() -> None:
    B, C = draw(4, 5, 2), draw(4, 5, 2, seed=1)
    B[1, 0, 0], C[2, 0, 0], B[3, 0, 0] = torch.nan, torch.inf, 1e200
    for value in (products.singular_values(B, C), products.distance(B, C, C, B)):
        assert torch.isfinite(value[0]).all() and torch.isnan(value[1:]).all()


def test_alignment_counts_the_share_of_the_leading_axes() -> None:
    E = torch.eye(5, dtype=torch.float64)
    B, C = torch.zeros(5, 2, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)
    B[:, 0], B[:, 1] = 3 * E[0], E[1]
    C[:, 0], C[:, 1] = E[0], E[3]
    np.testing.assert_allclose(products.leading_alignment(B, C, 2), [1.0, 0.5], atol=1e-14)
    np.testing.assert_allclose(products.leading_alignment(B, C, 1), [1.0, 1.0], atol=1e-14)
    C[:, 1] = 0
    assert torch.isnan(products.leading_alignment(B, C, 2)).all()  # rank 1: no 2-subspace
    assert torch.isnan(products.leading_alignment(0 * B, C, 1)).all()
