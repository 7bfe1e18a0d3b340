"""The flow in Krylov spaces against DOP853 on the dense matrices: what it misses is within its own certificate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowsim.dynamics.coordinates import Canonical
from flowsim.integrators import reduced
from flowsim.integrators.base import Solution, Status
from flowsim.integrators.reduced import pays, solve_reduced
from flowsim.integrators.solve import solve_flow
from flowsim.problem.objectives import Adapter, Frobenius
from flowsim.theory.limits import missing_modes
from tests.oracles import reference as ref

N, M, R = 96, 80, 2
RTOL = 1e-6
SPECTRA = {
    "inverse": 1 / np.arange(1.0, M + 1),
    "root": np.arange(1.0, M + 1) ** -0.5,
    "halving": 2.0 ** -np.arange(M),
    "cluster": np.concatenate([1 - 1e-3 * np.arange(6), 0.3 - 1e-3 * np.arange(M - 6) / M]),
    "ties": np.concatenate([np.ones(5), 0.5 * np.ones(5), 0.1 * np.ones(M - 10)]),
    "rank one": np.array([2.0]),
}


def tight(problem: Canonical, times: torch.Tensor) -> Solution:
    return solve_flow(problem, times, method="dopri8", rtol=1e-11, atol=1e-14)


def difference(spectrum: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng, values = np.random.default_rng(seed), SPECTRA[spectrum]
    U, V = ref.haar(rng, N, len(values)), ref.haar(rng, M, len(values))
    return (U * values) @ V.T, U, V


def start(kind: str, seed: int = 1) -> ref.Factors:
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((R, M)), rng.standard_normal((N, R))
    return {
        "kaiming": (rng.uniform(-1, 1, (R, M)) / M**0.5, 0 * B),
        "small": (1e-2 * A / M**0.5, 1e-2 * B / N**0.5),
        "A=0": (0 * A, B / N**0.5),
        "both": (0.5 * A / M**0.5, 0.5 * B / N**0.5),
        "dependent": (np.repeat(A[:1], R, 0) / M**0.5, 0 * B),
    }[kind]


def compare(loss: ref.Loss, A0: np.ndarray, B0: np.ndarray, found: tuple[Canonical, Solution], times: np.ndarray):
    """Error of BA at each time and its bound, both relative to max ‖BA‖, and the dense states."""
    problem, solution = found
    want_a, want_b = ref.flow(loss, A0, B0, times)
    A, B = (X[:, 0].numpy() for X in problem.factors(solution.B, solution.C))
    size = loss.s * np.linalg.norm(want_b @ want_a, axis=(1, 2)).max()
    error = loss.s * np.linalg.norm(B @ A - want_b @ want_a, axis=(1, 2)) / size
    return error, solution.rounding[:, 0].numpy() / size, want_a, want_b


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("kind", ["kaiming", "small", "A=0", "both", "dependent"])
def test_flow_and_losses_are_those_of_the_dense_matrices(spectrum: str, kind: str) -> None:
    delta, _, _ = difference(spectrum)
    A, B = start(kind)
    loss, times = ref.Loss(0 * delta, delta, 0.8, 1.3), np.array([0.3, 20.0])
    found = solve_reduced(
        Frobenius(loss.W0, loss.target, loss.c), Adapter(A, B, loss.s), torch.from_numpy(times), solve=tight,
        rtol=RTOL, forced=True,
    )  # fmt: skip
    if found is None:
        assert spectrum in ("root", "inverse") and kind in ("small", "both")  # two starts share half the rows
        return
    error, bound, want_a, want_b = compare(loss, A, B, found, times)
    assert (error <= bound + 1e-10).all()  # 1e-10: the oracle's own error
    assert error.max() <= RTOL and bound.max() <= 10 * RTOL
    problem, solution = found
    assert solution.B.shape[0] == len(times) and problem.left.shape[1] <= M // 2
    value = problem.curvature * (problem.landscape.floor(R) + problem.landscape.excess(solution.B, solution.C))
    for i in range(len(times)):
        assert float(value[i, 0]) == pytest.approx(loss.value(want_a[i], want_b[i]), rel=1e-8)
    values = np.linalg.svd(delta)[1]
    floor = loss.c * np.sum(values[R:] ** 2) * (spectrum != "rank one")
    assert float(problem.curvature * problem.landscape.floor(R)) == pytest.approx(floor, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("spectrum", ["inverse", "root", "cluster", "flat"])
@pytest.mark.parametrize("kind", ["kaiming", "small", "A=0", "both"])
def test_certificate_bounds_what_too_small_spaces_miss(
    spectrum: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spaces that were taken too early: the error is real, and the bound is above it wherever it says anything."""
    monkeypatch.setitem(SPECTRA, "flat", 1 + 0.1 * np.linspace(1, 0, M))
    monkeypatch.setattr(reduced, "SHARE", 1e9)
    monkeypatch.setattr(reduced.Ritz, "trusted", lambda self, shape: True)
    delta, _, _ = difference(spectrum)
    A, B = start(kind)
    loss, times = ref.Loss(0 * delta, delta), np.array([0.5, 3.0, 10.0, 40.0])
    meaningful = 0
    for blocks in (3, 5, 7):
        monkeypatch.setattr(reduced, "LEAST_BLOCKS", blocks)
        found = solve_reduced(
            Frobenius(loss.W0, loss.target), Adapter(A, B), torch.from_numpy(times), solve=tight, rtol=1.0, forced=True
        )
        assert found is not None
        error, bound, _, _ = compare(loss, A, B, found, times)
        says = bound < 1
        assert (error <= bound + 1e-10)[says].all()
        meaningful += int((says & (error > 1e-9)).sum())
    assert meaningful > 0


def test_one_late_time_is_certified_like_many() -> None:
    """Between two wanted times the leak is looked at where it may have been larger."""
    delta, _, _ = difference("inverse")
    A, B = start("kaiming")
    seen: list[int] = []

    def counted(problem: Canonical, times: torch.Tensor) -> Solution:
        seen.append(len(times))
        return tight(problem, times)

    bounds = []
    for times in (np.array([100.0]), np.geomspace(0.01, 100.0, 200)):
        found = solve_reduced(
            Frobenius(0 * delta, delta), Adapter(A, B), torch.from_numpy(times), solve=counted, rtol=RTOL, forced=True
        )
        assert found is not None and found[1].B.shape[0] == len(times)
        bounds.append(float(found[1].rounding[-1]))
    assert bounds[1] <= bounds[0] <= 3 * bounds[1]
    assert 5 <= seen[0] <= 20 and seen[1] == 200


def test_wanted_times_come_back_as_they_were() -> None:
    delta, _, _ = difference("halving")
    A, B = start("kaiming")
    times = torch.tensor([0.0, 0.1, 0.1, 7.3, 50.0], dtype=torch.float64)

    def echo(problem: Canonical, clock: torch.Tensor) -> Solution:
        """The time itself in every entry."""
        shape = (len(clock), *problem.B.shape)
        B = clock[:, None, None, None].expand(shape)
        return Solution(
            B, 0 * B, [Status.COMPLETED], ["echo"], ["echo"], [1], [1], torch.zeros(shape[:2]).double(), None
        )

    found = solve_reduced(Frobenius(0 * delta, delta), Adapter(A, B, 0.7), times, solve=echo, rtol=1e9, forced=True)
    assert found is not None
    assert torch.equal(found[1].B[:, 0, 0, 0], times)


@pytest.mark.parametrize(("spectrum", "missing"), [("halving", 1), ("halving", 4), ("inverse", 1), ("cluster", 1)])
def test_a_start_that_misses_the_largest_values_has_the_right_floor(spectrum: str, missing: int) -> None:
    """The flow never sees them; the floor, the excess and the missing modes must."""
    delta, _, V = difference(spectrum)
    A, _ = start("kaiming")
    A = A - A @ V[:, :missing] @ V[:, :missing].T
    loss, times = ref.Loss(0 * delta, delta), np.array([1.0, 30.0])
    found = solve_reduced(
        Frobenius(loss.W0, loss.target), Adapter(A, np.zeros((N, R))), torch.from_numpy(times), solve=tight,
        rtol=RTOL, forced=True,
    )  # fmt: skip
    assert found is not None
    problem, _ = found
    sigma = SPECTRA[spectrum]
    np.testing.assert_allclose(problem.landscape.sigma[: R + 1], sigma[: R + 1], rtol=1e-12)
    assert float(problem.landscape.floor(R)) == pytest.approx(0.5 * np.sum(sigma[R:] ** 2), rel=1e-11)
    if spectrum != "cluster":  # whose vectors are not known to the rounding that counts as nothing
        assert missing_modes(problem) == [", ".join(str(i + 1) for i in range(min(missing, R)))]
    error, bound, _, _ = compare(loss, A, np.zeros((N, R)), found, times)
    # What rounding leaves of the missing modes grows by e^{30}: no more is asked of either solver.
    assert error[0] <= bound[0] + 1e-10


def test_all_copies_of_a_tie_are_found_that_the_start_misses() -> None:
    rng = np.random.default_rng(0)
    sigma = np.concatenate([np.ones(4), 0.5 ** np.arange(1.0, 40)])
    U, V = ref.haar(rng, N, 43), ref.haar(rng, M, 43)
    delta = (U * sigma) @ V.T
    A = rng.standard_normal((3, M))
    A = A - A @ V[:, :4] @ V[:, :4].T
    found = solve_reduced(
        Frobenius(0 * delta, delta), Adapter(A, np.zeros((N, 3))), torch.tensor([1.0]).double(), solve=tight, rtol=RTOL,
        forced=True,
    )  # fmt: skip
    assert found is not None
    np.testing.assert_allclose(found[0].landscape.sigma[:4], 1.0, rtol=1e-12)
    assert float(found[0].landscape.floor(3)) == pytest.approx(0.5 * np.sum(sigma[3:] ** 2), rel=1e-11)


def test_a_batch_shares_its_spaces() -> None:
    delta, _, _ = difference("halving")
    kinds = ["kaiming", "A=0", "both"]
    A, B = (np.stack(X) for X in zip(*(start(kind, seed) for seed, kind in enumerate(kinds)), strict=True))
    loss, times = ref.Loss(0 * delta, delta), np.array([0.5, 10.0])
    found = solve_reduced(
        Frobenius(loss.W0, loss.target), Adapter(A, B), torch.from_numpy(times), solve=tight, rtol=RTOL, forced=True
    )
    assert found is not None
    problem, solution = found
    back_a, back_b = (X.numpy() for X in problem.factors(solution.B, solution.C))
    for i in range(3):
        want_a, want_b = ref.flow(loss, A[i], B[i], times)
        np.testing.assert_allclose(back_b[:, i] @ back_a[:, i], want_b @ want_a, rtol=0, atol=RTOL)


def test_a_closed_form_holds_in_the_spaces_too() -> None:
    delta, _, _ = difference("halving")
    rng = np.random.default_rng(2)
    A = 0.3 * ref.haar(rng, M, R).T
    loss, times = ref.Loss(0 * delta, delta), np.array([1.0, 10.0])
    found = solve_reduced(
        Frobenius(loss.W0, loss.target), Adapter(A, np.zeros((N, R))), torch.from_numpy(times),
        solve=lambda problem, clock: solve_flow(problem, clock, method="exact", factors=True), rtol=1e-9, forced=True,
    )  # fmt: skip
    assert found is not None
    error, bound, want_a, _ = compare(loss, A, np.zeros((N, R)), found, times)
    assert (error <= bound + 1e-10).all() and error.max() < 1e-9
    np.testing.assert_allclose(found[0].factors(found[1].B, found[1].C)[0][:, 0], want_a, rtol=0, atol=1e-8)


def test_a_flat_spectrum_is_left_to_the_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECTRA, "flat", 1 + 0.1 * np.linspace(1, 0, M))
    delta, _, _ = difference("flat")
    A, B = start("kaiming")

    def never(problem: Canonical, times: torch.Tensor) -> Solution:
        raise AssertionError("nothing is solved before the spaces are good enough")

    times = torch.tensor([50.0]).double()
    objective = Frobenius(0 * delta, delta)
    assert solve_reduced(objective, Adapter(A, B), times, solve=never, rtol=RTOL, forced=True) is None
    assert "singular_system" not in objective.__dict__


def test_where_it_pays() -> None:
    assert pays(4096, 4096, 16) and pays(4096, 1024, 16) and pays(1024, 1024, 32) and pays(256, 256, 4)
    assert not pays(128, 4096, 1) and not pays(256, 256, 16, mixed=True) and not pays(1024, 1024, 128)
    delta, _, _ = difference("halving")
    A, B = start("kaiming")
    times = torch.tensor([1.0]).double()
    assert solve_reduced(Frobenius(0 * delta, delta), Adapter(A, B), times, solve=tight, rtol=RTOL) is None


def test_spaces_that_the_solve_finds_too_small_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast may be wrong, the certificate decides."""
    monkeypatch.setattr(reduced, "CAUTION", 1e-4)
    delta, _, _ = difference("inverse")
    A, B = start("kaiming")
    rows: list[int] = []

    def counted(problem: Canonical, times: torch.Tensor) -> Solution:
        rows.append(problem.B.shape[-2])
        return tight(problem, times)

    loss, times = ref.Loss(0 * delta, delta), np.array([60.0])  # the values hold at 28 rows, this flow needs more
    found = solve_reduced(
        Frobenius(loss.W0, loss.target), Adapter(A, B), torch.from_numpy(times), solve=counted, rtol=1e-9, forced=True
    )
    assert found is not None and len(rows) == 2 and rows[1] > rows[0]
    _, bound, _, _ = compare(loss, A, B, found, times)
    assert bound.max() <= 1e-8


def test_a_solver_that_stops_early_keeps_what_it_has() -> None:
    delta, _, _ = difference("halving")
    A, B = start("kaiming")

    def stopped(problem: Canonical, times: torch.Tensor) -> Solution:
        whole = tight(problem, times)
        whole.B[-1], whole.C[-1] = torch.nan, torch.nan
        whole.status[0] = Status.MAX_STEPS
        return whole

    times = torch.tensor([1.0, 10.0]).double()
    found = solve_reduced(Frobenius(0 * delta, delta), Adapter(A, B), times, solve=stopped, rtol=RTOL, forced=True)
    assert found is not None
    solution = found[1]
    assert solution.status == [Status.MAX_STEPS] and solution.B[0].isfinite().all() and solution.B[1].isnan().all()
    assert solution.rounding[0].isfinite().all()
