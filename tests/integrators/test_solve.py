"""The choice of a method: closed forms where they hold, refusals where they do not, one batch of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics import products
from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.errors import HypothesisError, InputError
from flowsim.integrators.adaptive import STEPPERS
from flowsim.integrators.base import Status
from flowsim.integrators.selection import METHODS, closed_form_holds
from flowsim.integrators.solve import solve_flow
from flowsim.integrators.stepped import sequential_flow
from flowsim.problem.objectives import Adapter, Frobenius, TraceSquared
from tests.oracles import reference as ref

TIMES = torch.tensor([0.0, 0.4, 2.0], dtype=torch.float64)


def problem(r: int, n: int = 5, m: int = 4) -> tuple[dict[str, ref.Factors], Canonical]:
    rng = np.random.default_rng([r, n, m])
    W0, target = rng.standard_normal((n, m)), rng.standard_normal((n, m))
    found = ref.starts(rng, target - W0, r)
    return found, canonical(Frobenius(W0, target, 0.7), Adapter(*ref.stack(found), 0.9))


def test_closed_forms_hold_where_the_hypothesis_does() -> None:
    found, batch = problem(3)
    closed = [name.startswith(("balanced", "orthogonal", "spectral")) for name in found]
    assert closed_form_holds(batch) == closed
    assert all(closed_form_holds(problem(1)[1]))
    trace = canonical(TraceSquared(np.eye(4)), Adapter(np.ones((3, 4)), np.eye(4)[:, :3]))
    assert closed_form_holds(trace) == [True]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_solves_and_names_itself(method: str) -> None:
    found, batch = problem(1)
    solution = solve_flow(batch, TIMES, method=method, rtol=1e-5, atol=1e-8)
    looser = solve_flow(batch, TIMES, method=method, rtol=1e-4, atol=1e-7)
    assert solution.status == [Status.COMPLETED] * len(found)
    name = {"auto": "exact"}.get(method, method)
    assert solution.method == [name] * len(found)
    if name == "adaptive":
        assert set(solution.stepper) <= set(STEPPERS)
    else:
        stepper = {"exact": "balanced"}.get(name, name)
        aligned = "mode_aligned" if name == "exact" else stepper
        assert solution.stepper == [aligned if one == "spectral" else stepper for one in found]
    assert all(solution.choice)
    assert (solution.evaluations[0] == 0) == (name == "exact")
    assert torch.isfinite(solution.B).all() and solution.rounding.shape == (3, len(found))
    exact = solve_flow(batch, TIMES, method="exact")
    # A numerical solution's distance from itself at ten times rtol is larger than its error; in a few steps, limited
    # by their growth, both may take the same ones, and each may err by rtol·‖Z‖.
    squares = (solution.B.square() + solution.C.square()).sum((-2, -1)).amax(0)
    local = 2e-5 * torch.tensor(solution.steps) * squares
    allowed = products.distance(solution.B, solution.C, looser.B, looser.C) + local + solution.rounding + exact.rounding
    assert (products.distance(solution.B, solution.C, exact.B, exact.C) <= allowed).all()


def test_auto_splits_a_batch_and_each_member_is_as_alone() -> None:
    found, batch = problem(2)
    whole = solve_flow(batch, TIMES, method="auto", rtol=1e-10, atol=1e-14, factors=True)
    assert {"exact", "adaptive"} == set(whole.method)
    for i in range(len(found)):
        alone = solve_flow(batch.member(slice(i, i + 1)), TIMES, method="auto", rtol=1e-10, atol=1e-14, factors=True)
        assert alone.method == [whole.method[i]]
        # A closed form differs by rounding, an integration by the tolerance of other steps.
        allowed = 1e-12 if alone.method == ["exact"] else 1e-8
        torch.testing.assert_close(whole.B[:, i], alone.B[:, 0], rtol=0, atol=allowed)
        torch.testing.assert_close(whole.C[:, i], alone.C[:, 0], rtol=0, atol=allowed)


def test_exact_is_refused_by_name_and_unknown_methods_are_too() -> None:
    found, batch = problem(2)
    with pytest.raises(HypothesisError, match="rank 2") as caught:
        solve_flow(batch, TIMES, method="exact")
    assert len(caught.value.lines()) == 2
    balanced = [i for i, name in enumerate(found) if name.startswith("balanced")]
    solve_flow(batch.member(torch.tensor(balanced)), TIMES, method="exact")
    with pytest.raises(InputError, match="kvaerno5"):
        solve_flow(batch, TIMES, method="kvaerno5")


def test_windows_beyond_the_range_of_numbers_are_an_outcome() -> None:
    """A Gram matrix that overflows has no eigenvalues: nothing is raised, nothing looks finished."""
    huge = np.full((2, 3), 1e200)
    batch = canonical(Frobenius(np.zeros((3, 3)), np.eye(3)), Adapter(huge, huge.T))
    solution = sequential_flow(batch, "a_first", 0.1, [0, 1])
    assert torch.isnan(solution.B[1]).all() and torch.isnan(solution.C[1]).all()


def test_max_steps_reaches_the_engine() -> None:
    _, batch = problem(2)
    solution = solve_flow(batch, TIMES * 100, method="dopri5", max_steps=5)
    assert Status.MAX_STEPS in solution.status
    assert torch.isfinite(solution.B[0]).all()


def test_time_runs_with_scale_and_curvature() -> None:
    """Doubling c halves the time; s enters as √s in the factors and s in the clock."""
    rng = np.random.default_rng(0)
    W0, target, A, B = (rng.standard_normal(shape) for shape in [(4, 3), (4, 3), (2, 3), (4, 2)])
    for method in ("dopri8", "auto"):
        one = canonical(Frobenius(W0, target, 0.5), Adapter(A, B, 1.0))
        two = canonical(Frobenius(W0, target, 1.0), Adapter(A / 2, B / 2, 4.0))
        first = solve_flow(one, TIMES * 8, method=method, rtol=1e-11, atol=1e-14)
        second = solve_flow(two, TIMES, method=method, rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(first.B, second.B, rtol=0, atol=1e-12)
        back_a, back_b = two.factors(second.B, second.C)
        plain_a, plain_b = one.factors(first.B, first.C)
        torch.testing.assert_close(back_a, plain_a / 2, rtol=0, atol=1e-12)
        torch.testing.assert_close(back_b, plain_b / 2, rtol=0, atol=1e-12)
