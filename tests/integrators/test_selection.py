"""Which method each trajectory gets, why, and what happens where it finds no way on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape, TraceLandscape
from flowsim.errors import HypothesisError
from flowsim.integrators import adaptive, solve
from flowsim.integrators.adaptive.splitting import Splitting
from flowsim.integrators.base import Status
from flowsim.integrators.selection import choose
from flowsim.integrators.solve import solve_flow
from flowsim.sweep.companions import companions_of

SIGMA = torch.tensor([1.5, 1.0, 0.7, 0.4, 0.2, 0.1], dtype=torch.float64)
TIMES = torch.tensor([0.0, 3.0, 12.0], dtype=torch.float64)


def starts(*sizes: float, rank: int = 3, seed: int = 0) -> Tensor:
    """One start (2, q, r) for each size, smaller ones being more nearly balanced."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([size * rng.standard_normal((2, 6, rank)) for size in sizes]))


def problem(Z: Tensor) -> Canonical:
    return Canonical(FrobeniusLandscape(SIGMA, 6), Z[:, 0], Z[:, 1], 1.0, 1.0, None, None)


def balanced_start() -> Tensor:
    Q = torch.linalg.qr(torch.from_numpy(np.random.default_rng(5).standard_normal((6, 3)))).Q
    return torch.stack([torch.zeros(6, 3, dtype=torch.float64), 0.3 * Q])[None]


def dependent_start() -> Tensor:
    Z = starts(1e-3)
    Z[:, :, :, 2] = Z[:, :, :, 1] * (1 + 1e-9)  # two columns that differ by little
    return Z


def test_each_member_gets_what_suits_it_and_a_reason() -> None:
    batch = problem(torch.cat([starts(1e-3, 0.5), balanced_start(), dependent_start()]))
    choices = choose(batch, "auto", rtol=1e-6, factors=False)
    assert [one.stepper for one in choices] == ["splitting4", "stabilised", "balanced", "stabilised"]
    assert [one.method for one in choices] == ["adaptive", "adaptive", "exact", "adaptive"]
    words = ["nearly a multiple", "imbalance", "is a multiple", "dependent"]
    assert all(word in one.reason for word, one in zip(words, choices, strict=True))
    assert choose(batch, "auto", rtol=1e-8, factors=False)[0].stepper == "splitting6"
    assert {one.reason for one in choose(batch, "dopri5", rtol=1e-8, factors=False)} == {"as the scenario asks"}


def test_the_choice_and_its_reason_come_with_the_solution() -> None:
    batch = problem(torch.cat([starts(1e-3, 0.5), balanced_start()]))
    solution = solve_flow(batch, TIMES, rtol=1e-8)
    chosen = choose(batch, "auto", rtol=1e-8, factors=False)
    assert solution.stepper == [one.stepper for one in chosen]
    assert solution.choice == [one.reason for one in chosen]


def test_all_choices_agree() -> None:
    """Whatever is chosen, the flow is the same."""
    batch = problem(starts(1e-3, 2e-3))
    loose = {name: solve_flow(batch, TIMES, method=name, rtol=1e-7, atol=1e-13) for name in adaptive.STEPPERS}
    tight = solve_flow(batch, TIMES, method="dopri8", rtol=1e-11, atol=1e-16)
    size = products.product_norm(tight.B, tight.C)
    for name, one in loose.items():
        error = products.distance(one.B, one.C, tight.B, tight.C) / size
        assert float(error.max()) <= 5e-6, name  # errors made early grow with the modes


def test_a_splitting_is_refused_by_name_where_it_cannot_work() -> None:
    with pytest.raises(HypothesisError, match="splitting6: rank 3: dependent leading rows") as caught:
        solve_flow(problem(dependent_start()), TIMES, method="splitting6", rtol=1e-8)
    assert len(caught.value.lines()) == 2
    zero = torch.zeros((), dtype=torch.float64)
    trace = Canonical(TraceLandscape(zero + 1, 6), *starts(0.1).unbind(1), 1.0, 1.0, None, None)
    with pytest.raises(HypothesisError, match="Frobenius"):
        solve_flow(trace, TIMES, method="splitting4")
    # An imbalance costs steps and is no reason to refuse what is asked for.
    assert solve_flow(problem(starts(0.2)), TIMES, method="splitting4", rtol=1e-4).status == [Status.COMPLETED]


def test_where_the_splitting_finds_no_way_on_another_stepper_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Splitting.step

    def fails(self: Splitting, y: Tensor, carry: tuple[Tensor, ...], h: Tensor) -> object:
        new, ratio, kept = right(self, y, carry, h)
        return new, torch.where(y.flatten(1).abs().amax(1) > 0.05, torch.nan, ratio), kept

    batch = problem(starts(1e-3, 1e-3))
    whole = solve_flow(batch, TIMES, rtol=1e-6)
    monkeypatch.setattr(Splitting, "step", fails)
    again = solve_flow(batch, TIMES, rtol=1e-6)
    assert again.status == [Status.COMPLETED] * 2 and again.stepper == ["stabilised"] * 2
    assert again.choice == [solve.LOST] * 2
    error = products.distance(whole.B, whole.C, again.B, again.C) / products.product_norm(whole.B, whole.C)
    assert float(error.max()) <= 1e-4
    # Asked for by name, it ends by name.
    named = solve_flow(batch, TIMES, method="splitting4", rtol=1e-6)
    assert named.status == [Status.DIVERGED] * 2


def test_companions_of_a_mixed_batch_take_each_members_own_stepper() -> None:
    batch = problem(torch.cat([starts(1e-3), dependent_start(), starts(0.5)]))
    run = solve_flow(batch, TIMES, rtol=1e-7)
    assert run.stepper == ["splitting6", "stabilised", "stabilised"]
    size = products.product_norm(run.B, run.C).amax(0)
    made = {one.label: one for one in companions_of(batch, run, TIMES, size, rtol=1e-7, atol=1e-12)}
    assert made["loose_10"].method == run.stepper and made["loose_100"].method == run.stepper
    assert made["tight"].method == ["dopri8"] and made["tight"].members == [0]


@pytest.mark.parametrize("trace", [False, True])
def test_functions_of_the_state_wait_for_no_one(trace: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of the host a block, also where losses are computed in it."""
    Z = starts(0.4, 0.5)
    batch = problem(Z)
    if trace:
        w = torch.ones((), dtype=torch.float64)
        batch = Canonical(TraceLandscape(w, 6), Z[:, 0], Z[:, 1], 1.0, 1.0, None, None)
    solve_flow(batch, TIMES, method="tsit5", rtol=1e-6, states=False)  # what is read once is read
    from torch.utils._python_dispatch import TorchDispatchMode

    found = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func.__name__.split(".")[0] in ("_local_scalar_dense", "nonzero", "equal", "masked_select"):
                found.append(func.__name__)
            return func(*args, **(kwargs or {}))

    from flowsim.integrators.adaptive.driver import Solve

    for name in ("block", "_flush", "_going_on"):
        inner = getattr(Solve, name)

        def counted(*given, inner=inner):  # type: ignore[no-untyped-def]
            with Reads():
                return inner(*given)

        monkeypatch.setattr(Solve, name, counted)
    solve_flow(batch, TIMES, method="tsit5", rtol=1e-6, states=False)
    assert not found
