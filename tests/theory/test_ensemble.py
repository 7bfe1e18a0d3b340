"""Laws of whole kinds of starts against draws, and the slope that they show on a finite grid of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowsim.theory.ensemble import gaussian_law, orthonormal_law, power_law, uniform_law


def test_the_gaussian_law_against_draws() -> None:
    """Mean and variance of e² = n/r_eff − 1 over many draws, by four standard errors."""
    rng, n, draws = np.random.default_rng(5), 6, 40_000
    law = gaussian_law(n, np.array([1.0, 2.0, 5.0]))
    for place, rank in enumerate((1, 2, 5)):
        A = rng.standard_normal((draws, rank, n))
        gram = A @ A.transpose(0, 2, 1)
        e2 = n * (gram**2).sum((1, 2)) / np.trace(gram, axis1=1, axis2=2) ** 2 - 1
        assert abs(e2.mean() - law.mean[place]) <= 4 * np.sqrt(law.variance[place] / draws) + 1e-12
        assert e2.var() == pytest.approx(law.variance[place], rel=0.08, abs=1e-12)


@pytest.mark.parametrize(("n", "rank"), [(4, 2), (10, 2), (10, 5)])
def test_the_uniform_law_against_draws(n: int, rank: int) -> None:
    rng, draws = np.random.default_rng(5), 40_000
    A = rng.uniform(-1, 1, (draws, rank, n))
    gram = A @ A.transpose(0, 2, 1)
    e2 = n * (gram**2).sum((1, 2)) / np.trace(gram, axis1=1, axis2=2) ** 2 - 1
    law = uniform_law(n, np.array([float(rank)]))
    assert abs(e2.mean() - law.mean[0]) <= law.bias[0] + 4 * e2.std() / draws**0.5
    assert law.bias[0] < 0.11 * law.mean[0]
    assert law.variance is None


def test_at_rank_one_every_draw_is_the_same() -> None:
    """e² = n − 1, whatever the row."""
    one = np.array([1.0])
    for law in (gaussian_law(7, one), uniform_law(7, one), orthonormal_law(7, one)):
        assert law.mean[0] == pytest.approx(6.0, rel=1e-14)
        assert law.variance is None or law.variance[0] == 0.0


@pytest.mark.parametrize(
    ("law", "n", "ranks", "slope"),
    [
        (gaussian_law, 128, [1, 2, 4, 8, 16, 32, 64, 128], -0.49866),
        (orthonormal_law, 128, [1, 2, 4, 8, 16, 32, 64], -0.5696),
    ],
)
def test_the_slope_on_a_grid_is_not_one_half(law: Any, n: int, ranks: list[int], slope: float) -> None:
    """Against NumPy's own fit: the line that a perfect experiment would show."""
    x = np.array(ranks, dtype=float)
    found, constant = power_law(x, law(n, x).mean)
    line = np.polyfit(np.log(x), 0.5 * np.log(law(n, x).mean), 1)
    assert (found, constant) == (pytest.approx(line[0], rel=1e-12), pytest.approx(np.exp(line[1]), rel=1e-12))
    assert found == pytest.approx(slope, abs=5e-5)


def test_no_draw_is_better_than_orthonormal_rows() -> None:
    ranks = np.arange(1.0, 9.0)
    best = orthonormal_law(8, ranks).mean
    assert (gaussian_law(8, ranks).mean[1:] > best[1:]).all() and best[-1] == 0.0
    assert orthonormal_law(4, np.array([6.0])).mean[0] == 0.0  # never negative
