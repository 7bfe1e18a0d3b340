"""`simulate` and `descend` against plain SciPy and NumPy in the user's coordinates, and every refusal."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
import xarray as xr

from flowsim import Adapter, Frobenius, TraceSquared, descend, simulate
from flowsim.errors import FlowsimError, HypothesisError, InputError
from tests.oracles import reference as ref
from tests.oracles.reference import EPS

TIMES = np.array([0.0, 0.05, 0.3, 0.9, 2.0])
# (n, m, r): rank 1 up to beyond min(n, m), square and rectangular both ways.
SHAPES = [(4, 4, 1), (4, 4, 2), (4, 4, 6), (5, 3, 1), (5, 3, 3), (5, 3, 6), (3, 6, 2), (3, 6, 4)]


def frobenius(n: int, m: int, *, c: float = 0.8, s: float = 0.6, seed: int = 0) -> ref.Loss:
    rng = np.random.default_rng([seed, n, m])
    return ref.Loss(rng.standard_normal((n, m)), rng.standard_normal((n, m)), c, s)


def trace_squared(n: int, *, c: float = 0.3, s: float = 1.7, seed: int = 0) -> ref.Loss:
    return ref.Loss(np.random.default_rng([seed, n]).standard_normal((n, n)), None, c, s)


def objective_of(loss: ref.Loss) -> Frobenius | TraceSquared:
    if loss.target is None:
        return TraceSquared(loss.W0, loss.c)
    return Frobenius(loss.W0, loss.target, loss.c)


def some_starts(loss: ref.Loss, r: int) -> dict[str, ref.Factors]:
    delta = loss.W0 if loss.target is None else loss.target - loss.W0
    return ref.starts(np.random.default_rng([7, *delta.shape, r]), delta, r)


def norms(X: np.ndarray) -> np.ndarray:
    return np.linalg.norm(X, axis=(-2, -1))


def views(A: np.ndarray, B: np.ndarray) -> dict[str, np.ndarray]:
    return {"A": A, "B": B, "BA": B @ A}


# Flows


def agree_with_dop853(loss: ref.Loss, r: int, solver: str, rtol: float = 1e-10) -> None:
    """A, B and BA of a whole batch of starts against DOP853 at rtol 1e-12.

    Allowed is what the two computations say of their own errors: the distance of each from itself at ten times
    its rtol, which is several times its error once that falls with rtol; one local error at the reference's rtol; and
    rounding: 4ε a step, or e⁴ε for each sub-step of a closed form, of the largest norm seen.
    """
    found = some_starts(loss, r)
    objective, adapter = objective_of(loss), Adapter(*ref.stack(found), loss.s)
    got = simulate(objective, adapter, TIMES, solver=solver, rtol=rtol, atol=1e-14)
    loose = simulate(objective, adapter, TIMES, solver=solver, rtol=10 * rtol, atol=1e-14)
    assert set(got.outcome.values.tolist()) <= {"reached", "not_yet", "stationary_elsewhere"}
    for i, (name, (A0, B0)) in enumerate(found.items()):
        exact = got.method.values[i] == "exact"
        assert not (exact and solver.startswith("dopri"))
        right, looser = (views(*ref.flow(loss, A0, B0, TIMES, tol)) for tol in (1e-12, 1e-11))
        mine, my_looser = (views(ds.A.values[i], ds.B.values[i]) for ds in (got, loose))
        steps = int(got.steps[i])
        for letter, value in right.items():
            size = norms(right["A"]).max() * norms(right["B"]).max() if letter == "BA" else norms(value).max()
            rounding = EPS * max(size, 1.0) * (np.exp(4.0) * (1 + steps) if exact else 4 * (1 + steps))
            rounding += 1e-12 * size
            allowed = norms(looser[letter] - value).max() + norms(my_looser[letter] - mine[letter]).max() + rounding
            error = norms(mine[letter] - value).max()
            assert error <= allowed, (name, letter, error, allowed)
            assert allowed < 1e-6 * max(size, 1.0), (name, letter, "the bound says nothing", allowed)
        direct = np.array([loss.value(A, B) for A, B in zip(right["A"], right["B"], strict=True)])
        slope = 2 * loss.c * loss.s * np.sqrt(direct.max() / loss.c) * max(1.0, np.sqrt(len(loss.W0)))
        np.testing.assert_allclose(got.loss.values[i], direct, rtol=1e-13, atol=10 * slope * allowed + 1e-13)


@pytest.mark.parametrize("solver", ["auto", "dopri5", "dopri8"])
@pytest.mark.parametrize(
    ("n", "m", "r"),
    [*SHAPES[1:4], SHAPES[7], *(pytest.param(*s, marks=pytest.mark.slow) for s in (SHAPES[0], *SHAPES[4:7]))],
)
def test_frobenius_flow_is_that_of_dop853(n: int, m: int, r: int, solver: str) -> None:
    agree_with_dop853(frobenius(n, m), r, solver)


@pytest.mark.parametrize("solver", ["auto", "exact", "dopri5", "dopri8"])
@pytest.mark.parametrize("r", [1, 3, 6])
def test_trace_squared_flow_is_that_of_dop853(r: int, solver: str) -> None:
    agree_with_dop853(trace_squared(4), r, solver)


@pytest.mark.parametrize(("n", "m"), [(5, 3), (3, 5), (4, 4)])
def test_low_rank_difference_is_solved_as_well(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    W0 = rng.standard_normal((n, m))
    loss = ref.Loss(W0, W0 + np.outer(rng.standard_normal(n), rng.standard_normal(m)), 0.5, 1.0)
    for solver in ("auto", "dopri8"):
        agree_with_dop853(loss, 2, solver)


def test_exact_takes_what_is_balanced_and_refuses_the_rest() -> None:
    loss = frobenius(5, 3)
    found = some_starts(loss, 2)
    balanced = {name: one for name, one in found.items() if name.startswith(("balanced", "orthogonal", "spectral"))}
    objective = objective_of(loss)
    auto = simulate(objective, Adapter(*ref.stack(found), loss.s), TIMES)
    expected = ["exact" if name in balanced else "adaptive" for name in found]
    assert auto.method.values.tolist() == expected
    exact = simulate(objective, Adapter(*ref.stack(balanced), loss.s), TIMES, solver="exact")
    assert set(exact.method.values.tolist()) == {"exact"} and not exact.evaluations.values.any()
    for name in set(found) - set(balanced):
        with pytest.raises(HypothesisError) as caught:
            simulate(objective, Adapter(*found[name], loss.s), TIMES, solver="exact")
        two_lines(caught.value)


def test_rank_one_is_always_exact_and_gives_the_factors_themselves() -> None:
    loss = frobenius(5, 3)
    for A0, B0 in some_starts(loss, 1).values():
        got = simulate(objective_of(loss), Adapter(A0, B0, loss.s), TIMES, solver="exact", error="product")
        A, B = ref.flow(loss, A0, B0, TIMES)
        looser = ref.flow(loss, A0, B0, TIMES, 1e-11)
        allowed = max(np.abs(A - looser[0]).max(), np.abs(B - looser[1]).max()) + 100 * EPS * (1 + int(got.steps))
        assert max(np.abs(got.A.values - A).max(), np.abs(got.B.values - B).max()) <= allowed


def test_product_mode_gives_the_same_product_and_loss_and_other_factors() -> None:
    loss = frobenius(4, 4)
    A0, B0 = ref.balanced_start(np.random.default_rng(3), 4, 4, 3, 0.0)
    runs = [simulate(objective_of(loss), Adapter(A0, B0, loss.s), TIMES, error=e) for e in ("factors", "product")]
    products = [ds.B.values @ ds.A.values for ds in runs]
    np.testing.assert_allclose(products[0], products[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(runs[0].loss, runs[1].loss, rtol=0, atol=1e-12)
    assert np.abs(runs[0].A.values - runs[1].A.values).max() > 1e-4  # the gauge is not the flow's


@pytest.mark.parametrize("update", ["a_first", "b_first", "symmetric"])
@pytest.mark.parametrize("trace", [False, True])
def test_windows_are_dense_matrix_exponentials(update: str, trace: bool) -> None:
    loss = trace_squared(3) if trace else frobenius(4, 3)
    h, count = 0.25, 8
    found = some_starts(loss, 2)
    adapter = Adapter(*ref.stack(found), loss.s)
    got = simulate(objective_of(loss), adapter, h * np.arange(count + 1), update=update, window=h)
    for i, (A0, B0) in enumerate(found.values()):
        A, B = ref.windows(loss, A0, B0, update, h, count)

        def rerun(a: np.ndarray, b: np.ndarray) -> ref.Factors:
            return ref.windows(loss, a, b, update, h, count)

        # expm of an (rn + 1)-sized matrix is accurate to a modest multiple of its size in ε.
        allowed = 40 * EPS * count * A0.size * ref.amplification(rerun, A0, B0) * (norms(A).max() + norms(B).max())
        np.testing.assert_allclose(got.A.values[i], A, rtol=0, atol=allowed)
        np.testing.assert_allclose(got.B.values[i], B, rtol=0, atol=allowed)
    assert got.method.values.tolist() == ["window"] * len(found)
    np.testing.assert_array_equal(got.steps, count)
    np.testing.assert_array_equal(got.evaluations, count * (3 if update == "symmetric" else 2))


def test_windows_are_recorded_at_the_nearest_round() -> None:
    loss = frobenius(3, 3)
    adapter = Adapter(*some_starts(loss, 2)["gaussian"], loss.s)
    got = simulate(objective_of(loss), adapter, [0.0, 0.1, 0.14, 0.3], update="a_first", window=0.2)
    every = simulate(objective_of(loss), adapter, [0.0, 0.2, 0.4], update="a_first", window=0.2)
    np.testing.assert_array_equal(got.time, [0.0, 0.1, 0.14, 0.3])
    np.testing.assert_array_equal(got.flow_time, [0.0, 0.0, 0.2, 0.2])
    np.testing.assert_array_equal(got.A, every.A.values[[0, 0, 1, 1]])


# Descent


def descent_tolerance(loss: ref.Loss, A0: np.ndarray, B0: np.ndarray, *plan: object) -> float:
    """Rounding of both loops: about (n + m + r) additions a step, each ε, enlarged by the iteration itself."""

    def rerun(a: np.ndarray, b: np.ndarray) -> ref.Factors:
        return ref.descent(loss, a, b, *plan)  # type: ignore[arg-type]

    A, B = rerun(A0, B0)
    operations = sum(loss.W0.shape) + len(A0)
    return EPS * operations * len(A) * ref.amplification(rerun, A0, B0) * float(norms(A).max() + norms(B).max())


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("update", ref.UPDATES)
@pytest.mark.parametrize("case", ["square", "tall", "wide", "trace"])
def test_descent_is_a_plain_loop(case: str, update: str, inner: int) -> None:
    losses = {"square": frobenius(4, 4), "tall": frobenius(6, 3), "wide": frobenius(3, 5), "trace": trace_squared(4)}
    loss = losses[case]
    for r in (1, 2, 5):
        found = some_starts(loss, r)
        rate, rounds = 0.02, 60 // inner
        together = descend(objective_of(loss), Adapter(*ref.stack(found), loss.s), rounds, rate, update, inner)
        assert together.A.dims == ("batch", "time", "factor", "column")
        assert together.B.dims == ("batch", "time", "row", "factor")
        for i, (A0, B0) in enumerate(found.values()):
            plan = (rate, rounds, update, inner)
            A, B = ref.descent(loss, A0, B0, *plan)
            allowed = descent_tolerance(loss, A0, B0, *plan)
            assert allowed < 1e-9
            np.testing.assert_allclose(together.A.values[i], A, rtol=0, atol=allowed)
            np.testing.assert_allclose(together.B.values[i], B, rtol=0, atol=allowed)
            direct = [loss.value(a, b) for a, b in zip(A, B, strict=True)]
            np.testing.assert_allclose(together.loss.values[i], direct, rtol=0, atol=100 * allowed)
            if i < 2:
                alone = descend(objective_of(loss), Adapter(A0, B0, loss.s), rounds, rate, update, inner)
                assert alone.A.dims == ("time", "factor", "column")
                np.testing.assert_allclose(alone.A, A, rtol=0, atol=allowed)
                np.testing.assert_allclose(alone.B, B, rtol=0, atol=allowed)
    np.testing.assert_array_equal(together.step, np.arange(rounds + 1))
    np.testing.assert_allclose(together.time, np.arange(rounds + 1) * inner * rate, rtol=1e-15)
    np.testing.assert_array_equal(together.evaluations, 2 * inner * rounds)


def test_orders_are_the_ones_they_are_called() -> None:
    """The negative control of the test above: no two orders agree, nor 1 and 3 inner steps."""
    loss = frobenius(4, 3)
    A0, B0 = some_starts(loss, 2)["gaussian"]
    runs = {
        (update, inner): descend(objective_of(loss), Adapter(A0, B0, loss.s), 5, 0.05, update, inner).A.values[-1]
        for update in ref.UPDATES
        for inner in (1, 3)
    }
    for one, other in itertools.combinations(runs.values(), 2):
        assert np.abs(one - other).max() > 1e-5


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("solver", ["auto", "adaptive", "dopri8"])
def test_functions_alone_are_those_of_the_states(trace: bool, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without A and B: the same numbers, whichever way the states would have been solved."""
    loss = trace_squared(5) if trace else frobenius(5, 4)
    objective, adapter = objective_of(loss), Adapter(*ref.stack(some_starts(loss, 2)), loss.s)
    monkeypatch.setattr("flowsim.integrators.solve.HELD_ENTRIES", 200)  # exact members in small groups
    full = simulate(objective, adapter, TIMES, solver=solver, rtol=1e-8)
    lean = simulate(objective, adapter, TIMES, solver=solver, rtol=1e-8, save="functions")
    assert set(full) - set(lean) == {"A", "B"}
    start = full["loss"].isel(time=0).values[:, None]
    for name in ("loss", "excess_loss", "gradient_norm"):
        np.testing.assert_allclose(lean[name], full[name], rtol=1e-9, atol=1e-13 * start.max())
    # Both are rounding where the flow is exact, and the solver's error where it is not.
    rounding = 100 * EPS * (1 + np.hypot(norms(full["A"].values), norms(full["B"].values)) ** 2)
    assert (np.abs(lean["imbalance_drift"].values - full["imbalance_drift"].values) <= rounding).all()
    for name in ("outcome", "method", "stepper", "choice", "steps", "evaluations"):
        np.testing.assert_array_equal(lean[name], full[name])


def test_functions_alone_need_the_simultaneous_flow() -> None:
    loss = frobenius(4, 4)
    adapter = Adapter(np.ones((1, 4)), np.ones((4, 1)))
    with pytest.raises(InputError, match="save") as caught:
        simulate(objective_of(loss), adapter, TIMES, update="a_first", window=0.1, save="functions")
    assert len(caught.value.lines()) == 2


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_every_picks_rounds_and_changes_none(every: int) -> None:
    loss = frobenius(3, 4)
    adapter = Adapter(*some_starts(loss, 2)["gaussian"], loss.s)
    full = descend(objective_of(loss), adapter, 20, 0.05, "a_first", 2)
    some = descend(objective_of(loss), adapter, 20, 0.05, "a_first", 2, every=every)
    rounds = np.arange(0, 21, every)
    np.testing.assert_array_equal(some.step, rounds)
    # The same states, brought back by products of another shape, which may round otherwise.
    np.testing.assert_allclose(some.A, full.A.values[rounds], rtol=0, atol=8 * EPS * np.abs(full.A.values).max())
    np.testing.assert_array_equal(some.time, full.time.values[rounds])


@pytest.mark.parametrize("trace", [False, True])
def test_a_diverging_descent_keeps_every_finite_value(trace: bool) -> None:
    loss = trace_squared(3) if trace else frobenius(3, 3)
    found = some_starts(loss, 2)
    A0, B0 = (10 * X for X in found["gaussian"])
    calm = (0.01 * found["gaussian"][0], 0 * found["gaussian"][1])
    A, B = ref.descent(loss, A0, B0, 0.5, 40)
    alive = np.isfinite(A).all((-2, -1)) & np.isfinite(B).all((-2, -1))
    last = int(alive.sum()) - 1
    assert 2 < last < 40 and np.abs(A[last]).max() > 1e80  # what the plain loop still holds
    got = descend(objective_of(loss), Adapter(A0, B0, loss.s), 40, 0.5)
    kept = np.isfinite(got.A.values).all((-2, -1)) & np.isfinite(got.B.values).all((-2, -1))
    assert abs(int(kept.sum()) - 1 - last) <= 1  # the sum that overflows first depends on its order
    shared = min(last, int(kept.sum()) - 1)
    assert np.abs(got.A.values[shared]).max() > 1e80
    size = np.abs(A[: shared + 1]).max((-2, -1)) * 3.0 ** np.arange(shared + 1)
    assert (np.abs(got.A.values[: shared + 1] - A[: shared + 1]).max((-2, -1)) <= 200 * EPS * size).all()
    for name in ("A", "B"):
        assert np.isnan(got[name].values[~kept]).all()
    for name in ("loss", "excess_loss", "gradient_norm"):
        assert not np.isinf(got[name].values).any(), name
        assert np.isnan(got[name].values[~kept]).all()
    assert got.outcome.item() == "diverged" and "not finite" in got.reason.item()
    pair = Adapter(np.stack([A0, calm[0]]), np.stack([B0, calm[1]]), loss.s)
    both = descend(objective_of(loss), pair, 40, 0.02)
    assert np.isfinite(both.A.values[1]).all() and both.outcome.values[1] != "diverged"


# A hand-written LoRA layer


class LoRALinear(torch.nn.Module):
    """As people write it: frozen weight in a buffer, A and B trained, scale α/r."""

    def __init__(self, weight: torch.Tensor, A: torch.Tensor, B: torch.Tensor, alpha: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.A, self.B = torch.nn.Parameter(A.clone()), torch.nn.Parameter(B.clone())
        self.scale = alpha / A.shape[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T + self.scale * (x @ self.A.T) @ self.B.T


def layer_loss(layer: LoRALinear, target: torch.Tensor | None, c: float) -> torch.Tensor:
    out = layer(torch.eye(layer.weight.shape[1], dtype=torch.float64)).T  # W as the image of the unit vectors
    return c * (out.diagonal().sum() ** 2 if target is None else (out - target).square().sum())


def train(loss: ref.Loss, A0: np.ndarray, B0: np.ndarray, rate: float, steps: int, mode: str) -> ref.Factors:
    """SGD on the layer: one optimizer, or one for each factor with gradients taken afresh or both at the start."""
    alpha = loss.s * len(A0)
    layer = LoRALinear(*(torch.from_numpy(X.copy()) for X in (loss.W0, A0, B0)), alpha)
    target = None if loss.target is None else torch.from_numpy(loss.target)
    groups = [[layer.A, layer.B]] if mode == "simultaneous" else [[layer.A], [layer.B]]
    if mode == "b_first":
        groups.reverse()
    optimizers = [torch.optim.SGD(group, lr=rate) for group in groups]
    kept = [(A0, B0)]
    for _ in range(steps):
        for position, optimizer in enumerate(optimizers):
            if position == 0 or mode != "stale":
                layer.zero_grad()
                layer_loss(layer, target, loss.c).backward()
            optimizer.step()
        kept.append((layer.A.detach().numpy().copy(), layer.B.detach().numpy().copy()))
    return np.stack([a for a, _ in kept]), np.stack([b for _, b in kept])


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("update", ref.UPDATES)
def test_descent_is_an_autograd_lora_layer_trained_with_sgd(update: str, trace: bool) -> None:
    loss = trace_squared(5) if trace else frobenius(6, 4, c=0.5, s=2.0)
    steps, rate = 300, 0.01
    for name in ("gaussian", "B=0"):
        A0, B0 = some_starts(loss, 3)[name]
        A, B = train(loss, A0, B0, rate, steps, update)
        got = descend(objective_of(loss), Adapter(A0, B0, loss.s), steps, rate, update)
        allowed = descent_tolerance(loss, A0, B0, rate, steps, update, 1)
        assert allowed < 1e-9
        np.testing.assert_allclose(got.A, A, rtol=0, atol=allowed)
        np.testing.assert_allclose(got.B, B, rtol=0, atol=allowed)


def test_a_layer_with_stale_gradients_is_simultaneous_not_sequential() -> None:
    loss = frobenius(6, 4, c=0.5, s=2.0)
    A0, B0 = some_starts(loss, 3)["gaussian"]
    A, _ = train(loss, A0, B0, 0.01, 50, "stale")
    runs = {u: descend(objective_of(loss), Adapter(A0, B0, loss.s), 50, 0.01, u).A.values for u in ref.UPDATES}
    allowed = descent_tolerance(loss, A0, B0, 0.01, 50, "simultaneous", 1)
    assert np.abs(runs["simultaneous"] - A).max() <= allowed
    for update in ("a_first", "b_first"):
        assert np.abs(runs[update] - A).max() > 1e-3


# What comes back


def test_a_dataset_says_what_it_is() -> None:
    loss = frobenius(4, 3)
    A0, B0 = some_starts(loss, 2)["gaussian"]
    ds = simulate(objective_of(loss), Adapter(A0, B0, loss.s), TIMES, solver="dopri5")
    assert isinstance(ds, xr.Dataset)
    np.testing.assert_array_equal(ds.time, TIMES)
    assert (ds.attrs["objective"], ds.attrs["scale"], ds.attrs["coefficient"]) == ("frobenius", loss.s, loss.c)
    assert ds.attrs["dtype"] == "float64"
    assert ds.A.dims == ("time", "factor", "column") and ds.B.dims == ("time", "row", "factor")
    assert {"loss", "excess_loss", "gradient_norm", "imbalance_drift"} <= set(ds)
    assert {"outcome", "method", "steps", "evaluations"} <= set(ds)
    np.testing.assert_allclose(ds.A[0], A0, rtol=0, atol=20 * EPS)
    np.testing.assert_allclose(ds.B[0], B0, rtol=0, atol=20 * EPS)
    A, B = ds.A.values[-1], ds.B.values[-1]
    dA, dB = loss.slopes(A, B)
    np.testing.assert_allclose(ds.loss[-1], loss.value(A, B), rtol=1e-12)
    np.testing.assert_allclose(ds.gradient_norm[-1], np.hypot(np.linalg.norm(dA), np.linalg.norm(dB)), rtol=1e-10)
    tail = np.linalg.svd(loss.target - loss.W0, compute_uv=False)[2:]
    np.testing.assert_allclose(ds.loss - ds.excess_loss, loss.c * np.sum(tail**2), rtol=0, atol=1e-12)
    drift = norms(ref.imbalance(ds.A.values, ds.B.values) - ref.imbalance(A0, B0))
    np.testing.assert_allclose(ds.imbalance_drift, drift, rtol=0, atol=200 * EPS)


def test_the_input_is_left_alone_and_its_precision_kept() -> None:
    loss = frobenius(4, 3)
    arrays = [loss.W0, loss.target, *some_starts(loss, 2)["gaussian"]]
    copies = [X.copy() for X in arrays]
    for dtype in (np.float64, np.float32):
        W0, target, A0, B0 = (X.astype(dtype) for X in arrays)
        for run in (
            simulate(Frobenius(W0, target), Adapter(A0, B0), TIMES, rtol=1e-5, atol=1e-8),
            simulate(Frobenius(W0, target), Adapter(A0, 0 * B0), TIMES, rtol=1e-5, atol=1e-8),
            simulate(Frobenius(W0, target), Adapter(A0[:1], B0[:, :1]), TIMES),
            simulate(Frobenius(W0, target), Adapter(A0, B0), TIMES, update="symmetric", window=0.05),
            simulate(TraceSquared(W0[:3]), Adapter(A0, B0[:3]), TIMES),
            descend(Frobenius(W0, target), Adapter(A0, B0), 10, 0.01),
        ):
            assert run.A.dtype == run.B.dtype == dtype
            assert run.attrs["dtype"] == np.dtype(dtype).name
            assert np.isfinite(run.A.values).all()
    for X, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(X, copy)


def test_single_precision_is_as_good_as_it_can_be() -> None:
    """Its error is rounding: steps·ε32, enlarged by the flow, beside the tolerance asked for."""
    loss = frobenius(5, 3)
    A0, B0 = some_starts(loss, 2)["gaussian"]
    W0, target, a, b = (X.astype(np.float32) for X in (loss.W0, loss.target, A0, B0))
    right = simulate(objective_of(loss), Adapter(A0, B0, loss.s), TIMES, rtol=1e-10)
    for solver in ("dopri5", "dopri8"):
        got = simulate(Frobenius(W0, target, loss.c), Adapter(a, b, loss.s), TIMES, solver=solver, rtol=1e-5, atol=1e-8)
        grown = ref.amplification(lambda x, y: ref.flow(loss, x, y, TIMES, 1e-9), A0, B0)
        allowed = (10 * np.finfo(np.float32).eps + 1e-5) * int(got.steps) * grown * float(norms(right.A.values).max())
        assert np.abs(got.A.values - right.A.values).max() <= allowed
        assert allowed < 1e-2


def test_torch_and_numpy_input_are_the_same_and_lists_of_integers_become_floats() -> None:
    loss = frobenius(4, 3)
    A0, B0 = some_starts(loss, 2)["gaussian"]
    one = simulate(objective_of(loss), Adapter(A0, B0), TIMES)
    tensors = [torch.from_numpy(X) for X in (loss.W0, loss.target, A0, B0)]
    other = simulate(Frobenius(tensors[0], tensors[1], loss.c), Adapter(tensors[2], tensors[3]), TIMES)
    xr.testing.assert_identical(one, other)
    integers = simulate(Frobenius(np.eye(3, dtype=int), np.zeros((3, 3), dtype=int)), Adapter(A0[:, :3], B0[:3]), TIMES)
    assert integers.A.dtype == np.float64


def test_a_read_only_or_transposed_array_is_accepted() -> None:
    loss = frobenius(4, 3)
    A0, B0 = some_starts(loss, 2)["gaussian"]
    one = simulate(objective_of(loss), Adapter(A0, B0), TIMES)
    W0 = np.asfortranarray(loss.W0)
    W0.flags.writeable = False
    frozen = A0.T.copy().T
    frozen.flags.writeable = False
    xr.testing.assert_identical(one, simulate(Frobenius(W0, loss.target, loss.c), Adapter(frozen, B0), TIMES))


def test_nothing_moves_where_there_is_no_force() -> None:
    zero = np.zeros((3, 3))
    for objective in (Frobenius(np.eye(3), zero), TraceSquared(np.eye(3))):
        ds = simulate(objective, Adapter(np.zeros((2, 3)), np.zeros((3, 2))), [0.0, 1.0, 50.0])
        assert not ds.A.values.any() and not ds.B.values.any()
        got = descend(objective, Adapter(np.zeros((2, 3)), np.zeros((3, 2))), 5, 0.1)
        assert not got.A.values.any()
    A0, B0 = np.ones((1, 3)), np.ones((3, 1))
    ds = simulate(Frobenius(zero, B0 @ A0), Adapter(A0, B0), [0.0, 5.0])
    np.testing.assert_allclose(ds.A, np.ones((2, 1, 3)), rtol=0, atol=20 * EPS)


@pytest.mark.parametrize("error", ["factors", "product"])
def test_a_target_equal_to_the_weight_still_pulls_the_product_to_zero(error: str) -> None:
    """Δ = 0 and λ = 0: no exponential rate at all, s = s0/(1 + 2s0t)."""
    A0, B0 = np.full((1, 3), 0.4), np.full((3, 1), 0.4)
    times = np.array([0.0, 1.0, 100.0])
    ds = simulate(Frobenius(np.eye(3), np.eye(3)), Adapter(A0, B0), times, error=error)
    s0 = 0.48
    wanted = s0 / (1 + 2 * s0 * times)
    assert ds.method == "exact"
    np.testing.assert_allclose(norms(ds.B.values @ ds.A.values), wanted, rtol=1e-13)


# Refusals


def two_lines(error: FlowsimError) -> None:
    lines = error.lines()
    assert len(lines) == 2 and all(line.strip() for line in lines), lines
    assert error.exit_code == 2


SQUARE = np.arange(9.0).reshape(3, 3)
GOOD = (np.ones((2, 3)), np.ones((3, 2)))


def with_nan(X: np.ndarray) -> np.ndarray:
    Y = X.copy()
    Y.flat[0] = np.nan
    return Y


@pytest.mark.parametrize(
    "make",
    [
        lambda: Frobenius(np.ones(3), np.ones(3)),
        lambda: Frobenius(np.ones((2, 3, 3)), np.ones((2, 3, 3))),
        lambda: Frobenius(SQUARE, np.ones((3, 4))),
        lambda: Frobenius(SQUARE, SQUARE.astype(np.float32)),
        lambda: Frobenius(SQUARE, SQUARE.astype(complex)),
        lambda: Frobenius(SQUARE > 1, SQUARE),
        lambda: Frobenius(SQUARE.astype(np.float16), SQUARE.astype(np.float16)),
        lambda: Frobenius(np.ones((0, 3)), np.ones((0, 3))),
        lambda: Frobenius(with_nan(SQUARE), SQUARE),
        lambda: Frobenius(SQUARE, np.full((3, 3), np.inf)),
        lambda: Frobenius(SQUARE, SQUARE, 0.0),
        lambda: Frobenius(SQUARE, SQUARE, -1.0),
        lambda: Frobenius(SQUARE, SQUARE, np.nan),
        lambda: Frobenius(SQUARE, SQUARE, np.inf),
        lambda: Frobenius(SQUARE, SQUARE, "big"),
        lambda: Frobenius(SQUARE, SQUARE, None),
        lambda: Frobenius("W0", SQUARE),
        lambda: Frobenius(None, SQUARE),
        lambda: Frobenius(SQUARE, np.array([["a", "b"], ["c", "d"]])),
        lambda: Frobenius(SQUARE, np.array([[1, None], [2, 3]], dtype=object)),
        lambda: TraceSquared(np.ones((3, 4))),
        lambda: TraceSquared(with_nan(SQUARE)),
        lambda: TraceSquared(SQUARE, -0.5),
        lambda: TraceSquared(SQUARE.astype(complex)),
        lambda: Adapter(np.ones(3), np.ones((3, 1))),
        lambda: Adapter(np.ones((2, 3)), np.ones((3, 1))),
        lambda: Adapter(np.ones((4, 2, 3)), np.ones((3, 2))),
        lambda: Adapter(np.ones((4, 2, 3)), np.ones((5, 3, 2))),
        lambda: Adapter(np.ones((0, 3)), np.ones((3, 0))),
        lambda: Adapter(np.ones((0, 2, 3)), np.ones((0, 3, 2))),
        lambda: Adapter(GOOD[0].astype(np.float32), GOOD[1]),
        lambda: Adapter(with_nan(GOOD[0]), GOOD[1]),
        lambda: Adapter(GOOD[0].astype(complex), GOOD[1]),
        lambda: Adapter(*GOOD, scale=0.0),
        lambda: Adapter(*GOOD, scale=-2.0),
        lambda: Adapter(*GOOD, scale=np.nan),
        lambda: Adapter(*GOOD, scale="α/r"),
    ],
)
def test_malformed_matrices_are_refused_in_two_lines(make) -> None:
    with pytest.raises(InputError) as caught:
        make()
    two_lines(caught.value)


def run_simulate(**changes: object) -> xr.Dataset:
    call = {"objective": Frobenius(SQUARE, SQUARE + 1), "adapter": Adapter(*GOOD), "times": [0.0, 1.0]} | changes
    return simulate(**call)  # type: ignore[arg-type]


def run_descend(**changes: object) -> xr.Dataset:
    call = {"objective": Frobenius(SQUARE, SQUARE + 1), "adapter": Adapter(*GOOD), "steps": 3, "learning_rate": 0.01}
    return descend(**(call | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"times": []},
        {"times": [1.0, 0.5]},
        {"times": [0.0, 1.0, 1.0]},
        {"times": [-1.0, 1.0]},
        {"times": [0.0, np.nan]},
        {"times": [0.0, np.inf]},
        {"times": [[0.0, 1.0]]},
        {"times": 1.0},
        {"times": "soon"},
        {"times": ["a"]},
        {"times": [1j]},
        {"times": None},
        {"update": "both"},
        {"update": None},
        {"update": "a_first"},
        {"window": 0.1},
        {"update": "a_first", "window": 0.0},
        {"update": "a_first", "window": -1.0},
        {"update": "symmetric", "window": np.nan},
        {"update": "symmetric", "window": "wide"},
        {"solver": "rk45"},
        {"solver": None},
        {"rtol": 0.0},
        {"rtol": -1e-9},
        {"rtol": np.nan},
        {"rtol": "tight"},
        {"atol": -1.0},
        {"atol": np.nan},
        {"atol": None},
        {"error": "both"},
        {"reach": 0.0},
        {"device": "tpu"},
        {"device": "no such device"},
        {"device": None},
        {"adapter": Adapter(np.ones((2, 4)), np.ones((3, 2)))},
        {"adapter": Adapter(np.ones((2, 3)), np.ones((4, 2)))},
        {"adapter": Adapter(*(X.astype(np.float32) for X in GOOD))},
        {"objective": TraceSquared(np.ones((4, 4)))},
    ],
    ids=lambda changes: re.sub(r" object at 0x[0-9a-f]+", "", str(changes)),  # equal in every process
)
def test_impossible_simulations_are_refused_in_two_lines(changes: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        run_simulate(**changes)
    two_lines(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": -1},
        {"steps": 2.5},
        {"steps": True},
        {"steps": "3"},
        {"steps": None},
        {"steps": np.nan},
        {"steps": np.inf},
        {"inner_steps": 0},
        {"inner_steps": 1.5},
        {"inner_steps": False},
        {"every": 0},
        {"every": 0.5},
        {"every": True},
        {"learning_rate": 0.0},
        {"learning_rate": -0.1},
        {"learning_rate": np.nan},
        {"learning_rate": np.inf},
        {"learning_rate": "fast"},
        {"update": "symmetric"},
        {"update": "B first"},
        {"reach": -1.0},
        {"device": "tpu"},
        {"adapter": Adapter(np.ones((2, 4)), np.ones((3, 2)))},
    ],
    ids=lambda changes: re.sub(r" object at 0x[0-9a-f]+", "", str(changes)),  # equal in every process
)
def test_impossible_descents_are_refused_in_two_lines(changes: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        run_descend(**changes)
    two_lines(caught.value)


@pytest.mark.parametrize("whole", [3, 3.0, np.int64(3), np.float64(3.0), np.uint8(3)])
def test_whole_numbers_of_any_type_count(whole: object) -> None:
    got = run_descend(steps=whole, inner_steps=whole, every=whole)
    expected = run_descend(steps=3, inner_steps=3, every=3)
    np.testing.assert_array_equal(got.A, expected.A)
    np.testing.assert_array_equal(got.step, [0, 3])


def test_no_steps_and_time_zero_give_the_start() -> None:
    for ds in (run_descend(steps=0), run_simulate(times=[0.0]), run_simulate(times=[0.0], solver="dopri5")):
        np.testing.assert_allclose(ds.A[0], GOOD[0], rtol=0, atol=20 * EPS)
        assert ds.sizes["time"] == 1 and ds.steps == 0


def test_arrays_that_may_not_be_written_are_taken() -> None:
    """Times of another dataset and memory-mapped weights are read-only: torch would warn of each."""
    loss, ones = frobenius(4, 3), (np.ones((2, 3)), np.ones((4, 2)))
    read_only = [np.array(value) for value in (loss.W0, loss.target, *ones, TIMES)]
    for array in read_only:
        array.setflags(write=False)
    W0, target, A, B, times = read_only
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # not once a process
    try:
        got = simulate(Frobenius(W0, target, loss.c), Adapter(A, B), times)
    finally:
        torch.set_warn_always(always)
    xr.testing.assert_identical(got, simulate(objective_of(loss), Adapter(*ones), TIMES))


def test_the_time_still_needed_is_that_of_the_closed_form() -> None:
    """On a plateau the present rate says nothing: 1 × 1, wanted 2, from 1e-8; s' = 2s(2 - s) has a closed form."""
    objective, start = Frobenius(np.zeros((1, 1)), np.full((1, 1), 2.0)), np.full((1, 1), 1e-8)
    for stop in (4.0, 6.0):
        dataset = simulate(objective, Adapter(start, start), [0.0, stop], reach=1e-6)
        further = re.search(r"about ([\d.]+) more flow time", str(dataset["reason"].values))
        # excess (2 - s)²/2 falls to 1e-6 of its start where 2 - s = 2e-3: t = ln((2 - s0)/s0 · s/(2 - s))/4
        wanted = np.log((2 - 1e-16) / 1e-16 * (2 - 2e-3) / 2e-3) / 4 - stop
        assert further and float(further[1]) == pytest.approx(wanted, rel=0.02)


def test_lists_are_numbers_in_double_precision() -> None:
    """torch would take them in single precision, and then refuse them beside arrays."""
    got = simulate(Frobenius([[0.0]], [[2.0]]), Adapter(A=[[0.1]], B=[[0.1]]), [0.0, 1.0])
    assert got.attrs["dtype"] == "float64" and got["A"].dtype == np.float64
    with pytest.raises(InputError, match="is not an array of numbers"):
        Adapter(A=[["a"]], B=[[0.1]])
    with pytest.raises(InputError, match="is not an array of numbers"):
        Adapter(A=[[0.1], [0.1, 0.2]], B=[[0.1]])
