"""The canonical flow, and the first-order departure of descents and windows from it, by Richardson extrapolation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical, canonical
from flowsim.dynamics.flow import SOURCES, combine, sources_of, variation_velocity, velocity
from flowsim.integrators.engine import integrate
from flowsim.problem.objectives import Adapter, Frobenius, TraceSquared
from tests.oracles import reference as ref

STOP = 0.8
PLANS = [(u, k) for u in ref.UPDATES for k in (1, 3)]


def case(kind: str) -> tuple[ref.Loss, ref.Factors, Canonical]:
    rng = np.random.default_rng(11)
    W0, target = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    A0, B0 = 0.7 * rng.standard_normal((2, 3)), 0.7 * rng.standard_normal((4, 2))
    if kind == "trace":
        W0, B0 = W0[:3], B0[:3]
        return ref.Loss(W0, None, 0.8, 0.9), (A0, B0), canonical(TraceSquared(W0, 0.8), Adapter(A0, B0, 0.9))
    return ref.Loss(W0, target, 0.6, 1.2), (A0, B0), canonical(Frobenius(W0, target, 0.6), Adapter(A0, B0, 1.2))


def variation(batch: Canonical, stop: float) -> Tensor:
    """The flow and its four responses at one user's time, (5, 2, q, r)."""
    start = torch.stack([batch.B, batch.C], dim=1)
    state = torch.cat([start[:, None], torch.zeros_like(start)[:, None].expand(-1, 4, -1, -1, -1)], dim=1)
    clock = torch.tensor([batch.clock * stop], dtype=torch.float64)
    solved = integrate(
        lambda y: variation_velocity(batch.landscape, y), state, clock, method="dopri8", rtol=1e-12, atol=1e-14
    )
    return solved.states[0, 0]


def coefficient(batch: Canonical, solved: Tensor, weights: tuple[float, ...]) -> np.ndarray:
    """e1 for A and B in the user's coordinates, per unit of the user's step, as one vector."""
    e_b, e_c = combine(solved[1:], weights)
    A, B = batch.factors(e_b[None], e_c[None])
    return batch.clock * ref.pack(A[0].numpy(), B[0].numpy())


def settles(slopes: list[np.ndarray], e1: np.ndarray) -> None:
    """d(h) for h, h/2, h/4: the extrapolated slope leaves a residual that falls 4 times per halving."""
    size = np.linalg.norm(e1)
    first, second = (np.linalg.norm(2 * b - a - e1) / size for a, b in itertools.pairwise(slopes))
    raw = np.linalg.norm(slopes[-1] - e1) / size
    assert second < 0.3 * raw and 3.3 < first / second < 4.8, (raw, first, second)


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
@pytest.mark.parametrize(("update", "inner"), PLANS)
def test_descent_leaves_the_flow_along_the_first_variation(kind: str, update: str, inner: int) -> None:
    loss, (A0, B0), batch = case(kind)
    A, B = ref.flow(loss, A0, B0, [STOP])
    weights = sources_of("descent", update, inner)
    e1 = coefficient(batch, variation(batch, STOP), weights)
    slopes = []
    for rounds in (200, 400, 800):
        h = STOP / rounds
        a, b = ref.descent(loss, A0, B0, h / inner, rounds, update, inner)
        slopes.append((ref.pack(a[-1], b[-1]) - ref.pack(A[0], B[0])) / h)
    settles(slopes, e1)


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
@pytest.mark.parametrize("update", ["a_first", "b_first"])
def test_windows_leave_the_flow_along_the_first_variation(kind: str, update: str) -> None:
    loss, (A0, B0), batch = case(kind)
    A, B = ref.flow(loss, A0, B0, [STOP])
    e1 = coefficient(batch, variation(batch, STOP), sources_of("flow", update))
    slopes = []
    for count in (40, 80, 160):
        a, b = ref.windows(loss, A0, B0, update, STOP / count, count)
        slopes.append((ref.pack(a[-1], b[-1]) - ref.pack(A[0], B[0])) * count / STOP)
    settles(slopes, e1)


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("update", ["a_first", "b_first"])
def test_sequential_minus_simultaneous_has_the_difference_of_the_weights(kind: str, update: str, inner: int) -> None:
    loss, (A0, B0), batch = case(kind)
    own, base = sources_of("descent", update, inner), sources_of("descent", "simultaneous", inner)
    e1 = coefficient(batch, variation(batch, STOP), tuple(x - y for x, y in zip(own, base, strict=True)))
    slopes = []
    for rounds in (200, 400, 800):
        h = STOP / rounds
        ends = [ref.descent(loss, A0, B0, h / inner, rounds, one, inner) for one in (update, "simultaneous")]
        slopes.append((ref.pack(ends[0][0][-1], ends[0][1][-1]) - ref.pack(ends[1][0][-1], ends[1][1][-1])) / h)
    settles(slopes, e1)


def test_one_flipped_sign_or_another_k_is_seen() -> None:
    """The negative control: the weights of another schedule leave a residual of the size of e1 itself."""
    loss, (A0, B0), batch = case("frobenius")
    A, B = ref.flow(loss, A0, B0, [STOP])
    solved = variation(batch, STOP)
    slopes = []
    for rounds in (400, 800):
        a, b = ref.descent(loss, A0, B0, STOP / rounds / 3, rounds, "a_first", 3)
        slopes.append((ref.pack(a[-1], b[-1]) - ref.pack(A[0], B[0])) * rounds / STOP)
    measured = 2 * slopes[1] - slopes[0]
    right = sources_of("descent", "a_first", 3)
    wrong = [sources_of("descent", "b_first", 3), sources_of("descent", "a_first", 1), sources_of("flow", "a_first")]
    wrong += [tuple(-x if i == j else x for i, x in enumerate(right)) for j in range(4)]
    size = np.linalg.norm(measured)
    assert np.linalg.norm(coefficient(batch, solved, right) - measured) < 1e-3 * size
    for weights in wrong:
        assert np.linalg.norm(coefficient(batch, solved, weights) - measured) > 0.02 * size, weights


def test_weights_of_the_four_sources() -> None:
    """Backward error analysis of k Euler steps on one factor, then k on the other, per unit of h = kη."""
    assert SOURCES == ("AA", "BB", "AB", "BA")
    assert sources_of("flow", "simultaneous") == (0.0, 0.0, 0.0, 0.0)
    assert sources_of("descent", "simultaneous") == (-0.5, -0.5, -0.5, -0.5)
    assert sources_of("descent", "simultaneous", 4) == (-0.125,) * 4
    assert sources_of("descent", "a_first") == (-0.5, -0.5, -0.5, 0.5)
    assert sources_of("descent", "b_first", 2) == (-0.25, -0.25, 0.5, -0.5)
    assert sources_of("flow", "a_first") == (0.0, 0.0, -0.5, 0.5)
    assert sources_of("flow", "symmetric") is None
    many = sources_of("descent", "a_first", 10**9)
    np.testing.assert_allclose(many, sources_of("flow", "a_first"), atol=1e-9)  # k → ∞: exact sub-flows


@pytest.mark.parametrize("kind", ["frobenius", "trace"])
def test_velocity_and_sources_are_those_of_autograd(kind: str) -> None:
    _, _, batch = case(kind)
    landscape = batch.landscape
    Z = torch.stack([batch.B, batch.C], dim=1)
    np.testing.assert_allclose(velocity(landscape, Z)[:, 0], landscape.pull(batch.B, batch.C))

    def moves(which: str):
        def field(z: Tensor) -> Tensor:
            mask = torch.tensor([1.0, 0.0] if which == "B" else [0.0, 1.0], dtype=z.dtype)
            return velocity(landscape, z) * mask[:, None, None]

        return field

    state = torch.cat([Z[:, None], torch.zeros_like(Z)[:, None].expand(-1, 4, -1, -1, -1)], dim=1)
    state[:, 1:] = torch.randn(state[:, 1:].shape, dtype=Z.dtype, generator=torch.Generator().manual_seed(0))
    rate = variation_velocity(landscape, state)
    for index, (outer, along) in enumerate(SOURCES):
        _, source = torch.autograd.functional.jvp(moves(outer), Z, moves(along)(Z))
        _, linear = torch.autograd.functional.jvp(lambda z: velocity(landscape, z), Z, state[:, 1 + index])
        torch.testing.assert_close(rate[:, 1 + index], source + linear, rtol=1e-12, atol=1e-12)
