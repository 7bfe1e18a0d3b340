"""Plateaus: which mode a state waits for, how long, and when it waits in vain; against runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from flowsim import Adapter, Frobenius, simulate
from flowsim.dynamics.coordinates import canonical
from flowsim.theory.limits import waiting_for
from flowsim.theory.plateau import plateau

SIGMA = np.array([3.0, 1.0, 0.4])


def tiny(seed: int, size: float, r: int = 2, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    A, B = size * rng.standard_normal((r, 3)), size * rng.standard_normal((4, r))
    target = np.zeros((4, 3))
    target[:3] = np.diag(SIGMA)
    return Frobenius(np.zeros((4, 3)), target, 0.8), Adapter(A, B, scale)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_forecast_is_the_time_at_which_the_mode_is_learnt(seed: int, scale: float) -> None:
    """Unbalanced tiny starts: from the start to mode 1, and from the plateau of mode 1 to mode 2."""
    objective, adapter = tiny(seed, 1e-7, scale=scale)
    start = canonical(objective, adapter)
    times = np.linspace(0.0, 30.0 / start.clock, 1201)
    run = simulate(objective, adapter, times, solver="dopri8", rtol=1e-9, atol=1e-17)
    product = scale * run.B.values @ run.A.values
    learnt = [float(times[int(np.argmax(product[:, i, i] > 0.5 * SIGMA[i]))]) for i in (0, 1)]
    between = int(np.argmin(np.abs(times - np.mean(learnt))))
    for place, mode in ((0, 1), (between, 2)):
        here = canonical(objective, Adapter(run.A.values[place], run.B.values[place], scale))
        found = waiting_for(here, here.B, here.C)
        assert int(found.mode) == mode
        # Amplitude √σ instead of the true path of the last e-fold: off by less than one e-fold, 1/μ, μ = σ.
        late = times[place] + float(found.leaving)
        assert abs(late - learnt[mode - 1]) < 1 / (SIGMA[mode - 1] * start.clock)


def test_nothing_to_wait_for_at_a_minimum_and_in_a_trace() -> None:
    U = torch.eye(3, dtype=torch.float64)[:, :2] * torch.tensor(SIGMA[:2]).sqrt()
    objective, _ = tiny(0, 1.0)
    there = canonical(objective, Adapter(U.T, torch.nn.functional.pad(U, (0, 0, 0, 1))))
    found = plateau(there, there.B, there.C)
    assert int(found.mode) == 0 and found.leaving.isnan().all()


@pytest.mark.parametrize(("row", "leaving"), [(0.0, math.inf), (1e-17, math.inf), (1e-12, None)])
def test_a_mode_that_is_not_there_is_waited_for_in_vain(row: float, leaving: float | None) -> None:
    """On the saddle where mode 2 is learnt in place of mode 1: [[−1, 3], [3, −1]] grows at 2 what is there of it."""
    objective, _ = tiny(1, 1.0)
    here = canonical(objective, Adapter(np.array([[row, 1.0, 0.0]]), np.array([[row], [1.0], [0.0], [0.0]])))
    found = plateau(here, here.B, here.C)
    assert int(found.mode) == 1
    wanted = math.log(3**0.5 / (2**0.5 * row)) / 2 if leaving is None else leaving
    assert float(found.leaving) == pytest.approx(wanted, rel=1e-9)


def test_states_that_are_not_finite_wait_for_nothing() -> None:
    objective, adapter = tiny(2, 0.3)
    here = canonical(objective, adapter)
    found = plateau(here, here.B * math.nan, here.C)
    assert int(found.mode) == 0 and found.leaving.isnan().all()
