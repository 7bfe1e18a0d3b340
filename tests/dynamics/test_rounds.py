"""Which round stands for which time, and how rounds are iterated."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsim.dynamics.rounds import iterate, nearest_rounds

FEW = settings(max_examples=60, derandomize=True, deadline=None)


def test_ties_go_to_the_earlier_round() -> None:
    wanted = [0.0, 0.5, 0.51, 1.0, 1.49, 1.5, 1.51, 2.5]
    np.testing.assert_array_equal(nearest_rounds(wanted, 1.0), [0, 0, 1, 1, 1, 1, 2, 2])


def test_ties_survive_the_division() -> None:
    """0.15 / 0.1 and 0.35 / 0.1 are not 1.5 and 3.5 in floating point."""
    for step in (0.1, 0.3, 0.7, 1e-3, 3e-5):
        whole = np.arange(200)
        np.testing.assert_array_equal(nearest_rounds(whole * step, step), whole)
        np.testing.assert_array_equal(nearest_rounds((whole + 0.5) * step, step), whole)


@FEW
@given(st.integers(0, 10**6), st.integers(1, 1000), st.integers(1, 1000))
def test_rounds_are_nearest_in_exact_arithmetic(k: int, p: int, q: int) -> None:
    step = Fraction(p, q)
    time = step * k / 7
    got = int(nearest_rounds([float(time)], float(step))[0])
    distance = abs(Fraction(k, 7) - got)
    assert distance <= Fraction(1, 2)


def test_iterate_keeps_the_wanted_rounds_repeats_included() -> None:
    B, C = torch.ones(2, 3, 1, dtype=torch.float64), torch.zeros(2, 3, 1, dtype=torch.float64)
    kept_b, kept_c = iterate(lambda b, c: (2 * b, c + 1), B, C, [0, 0, 1, 4, 4])
    assert kept_b.shape == (5, 2, 3, 1)
    np.testing.assert_array_equal(kept_b[:, 0, 0, 0], [1, 1, 2, 16, 16])
    np.testing.assert_array_equal(kept_c[:, 1, 2, 0], [0, 0, 1, 4, 4])


def test_after_the_first_state_that_is_not_finite_all_is_nan() -> None:
    """A member that overflows does not come back, keeps its large finite values, and harms no other."""
    B = torch.tensor([1.0, 1e80], dtype=torch.float64).view(2, 1, 1)
    kept_b, kept_c = iterate(lambda b, c: (b * 1e40, c + 1), B, torch.zeros_like(B), range(9))
    np.testing.assert_array_equal(kept_b[:, 0, 0, 0].isfinite(), [True] * 8 + [False])
    np.testing.assert_array_equal(kept_b[:, 1, 0, 0].isfinite(), [True] * 6 + [False] * 3)
    np.testing.assert_allclose(kept_b[5, 1, 0, 0], 1e280, rtol=1e-12)
    assert torch.isnan(kept_b[6:, 1]).all() and torch.isnan(kept_c[6:, 1]).all()
    back = iterate(lambda b, c: (1 / b, c), torch.zeros(1, 1, 1, dtype=torch.float64), B[:1], range(3))[0]
    assert torch.isnan(back[1:]).all()  # inf, then 0 again: the trajectory ended at the infinity
