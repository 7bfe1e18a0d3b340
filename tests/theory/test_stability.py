"""Multipliers of a linearised round of descent against brute-force Jacobians."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from flowsim import Adapter, Frobenius, TraceSquared, simulate
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.descent import descent_step
from flowsim.theory.stability import round_multiplier


@functools.cache
def at_a_minimum(n: int, m: int, r: int) -> Canonical:
    rng = np.random.default_rng(n + 10 * m + 100 * r)
    objective = Frobenius(np.zeros((n, m)), rng.standard_normal((n, m)))
    start = Adapter(rng.standard_normal((r, m)), rng.standard_normal((n, r)))
    end = simulate(objective, start, [400.0], rtol=1e-12, atol=1e-14)
    assert end.outcome == "reached"  # judged from time 0, which is not among the times
    return canonical(objective, Adapter(end.A.values[0], end.B.values[0]))


def brute(problem: Canonical, update: str, step: float, rows_b: int, rows_c: int) -> float:
    """Largest multiplier of the Jacobian of one round, after removing those that are 1 (the gauge)."""
    advance = descent_step(problem.landscape, update, step)
    q, r = problem.B.shape[-2:]

    def one_round(x: torch.Tensor) -> torch.Tensor:
        B, C = torch.zeros(1, q, r, dtype=x.dtype), torch.zeros(1, q, r, dtype=x.dtype)
        B[0, :rows_b], C[0, :rows_c] = x[: rows_b * r].view(rows_b, r), x[rows_b * r :].view(rows_c, r)
        B, C = advance(B, C)
        return torch.cat([B[0, :rows_b].flatten(), C[0, :rows_c].flatten()])

    state = torch.cat([problem.B[0, :rows_b].flatten(), problem.C[0, :rows_c].flatten()])
    values = torch.linalg.eigvals(torch.autograd.functional.jacobian(one_round, state))
    gauge = (values - 1).abs() < 1e-6
    assert int(gauge.sum()) == r * r
    return float(values[~gauge].abs().max())


@pytest.mark.parametrize("update", ["simultaneous", "a_first", "b_first"])
@pytest.mark.parametrize(("n", "m", "r"), [(5, 4, 2), (4, 6, 3), (4, 4, 4), (4, 4, 2)])
@pytest.mark.parametrize("step", [0.05, 0.2, 0.4])
def test_multipliers_are_those_of_the_linearised_round(n: int, m: int, r: int, update: str, step: float) -> None:
    problem = at_a_minimum(n, m, r)
    q = problem.B.shape[-2]
    rows_b, rows_c = (q if n > m else min(n, m)), (q if m > n else min(n, m))
    expected = brute(problem, update, step, rows_b, rows_c)
    assert float(round_multiplier(problem, problem.B, problem.C, update, step)[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("update", ["simultaneous", "a_first", "b_first"])
def test_trace_squared_multipliers(update: str) -> None:
    rng = np.random.default_rng(1)
    objective = TraceSquared(np.diag([1.0, 0.5, 0.3]))
    end = simulate(objective, Adapter(rng.standard_normal((2, 3)), rng.standard_normal((3, 2))), [60.0])
    problem = canonical(objective, Adapter(end.A.values[0], end.B.values[0]))
    found = float(round_multiplier(problem, problem.B, problem.C, update, 0.1)[0])
    # One round from a trace disturbed by 1e-6 shrinks it by the multiplier.
    B, C = problem.B * (1 + 1e-6), problem.C
    after = problem.landscape.trace(*descent_step(problem.landscape, update, 0.1)(B, C))
    assert abs(float(after / problem.landscape.trace(B, C))) == pytest.approx(found, rel=1e-4)
