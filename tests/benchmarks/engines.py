"""Every engine that is timed, behind one call: all trajectories of a piece of work at its wanted times.

A general engine gets the right-hand side as people write it, Ȧ = BᵀR and Ḃ = RAᵀ with the dense residual R = Δ − BA
(trace-squared: the dense weight, its trace, and no product with the identity), and the engine's own error norm.
flowsim gets its public function. Imports and a small problem come before the clock starts; compiling is timed apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from tests.benchmarks.work import Array, Work

States = tuple[Array, Array]


@dataclass(frozen=True)
class Setting:
    """What an engine is asked for: tolerances, and for flowsim solver, meaning of the error, what is saved."""

    rtol: float = 1e-6
    atol: float = 1e-9
    solver: str = "auto"
    error: str = "product"
    save: str = "states"


@dataclass(frozen=True)
class Sample:
    """Which trajectories of a piece of work are run: some ranks and the first `members` seeds; all by default."""

    ranks: tuple[int, ...] = ()
    members: int | None = None

    def of(self, work: Work) -> tuple[tuple[int, ...], int]:
        return self.ranks or work.ranks, self.members or work.seeds


@dataclass
class Answer:
    """Seconds and evaluations by rank, states by rank (A (T, S, r, n), B (T, S, n, r)) where they were kept."""

    seconds: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, int] = field(default_factory=dict)
    states: dict[int, States] = field(default_factory=dict)
    stepper: str = ""
    compiling: float = 0.0


Engine = Callable[[Work, Sample, Setting], Answer]
Prepared = Callable[[], tuple[Array, int]]  # runs one trajectory: [A, B] flattened at every time, evaluations


def flowsim(work: Work, sample: Sample, setting: Setting) -> Answer:
    """The public function, from arrays to the dataset."""
    from flowsim import Adapter, Frobenius, TraceSquared, simulate

    ranks, members = sample.of(work)
    starts = {rank: tuple(X[:members] for X in work.factors(rank)) for rank in ranks}
    dense = (work.pretrained, work.target) if work.kind == "frobenius" else (work.pretrained,)
    kept, answer = {}, Answer()
    began = time.perf_counter()
    objective = Frobenius(*dense) if work.kind == "frobenius" else TraceSquared(*dense)
    for rank in ranks:
        kept[rank] = simulate(
            objective, Adapter(*starts[rank]), work.grid, solver=setting.solver, rtol=setting.rtol, atol=setting.atol,
            device="cpu", error=setting.error, save=setting.save,
        )  # fmt: skip
        ended = time.perf_counter()
        answer.seconds[rank] = ended - began
        began = ended
    for rank, dataset in kept.items():
        answer.evaluations[rank] = int(dataset["evaluations"].sum())
        if "A" in dataset:
            answer.states[rank] = tuple(np.moveaxis(dataset[name].values, 1, 0) for name in "AB")  # type: ignore[assignment]
    words = (
        f"{m}: {s}" for one in kept.values() for m, s in zip(one["method"].values, one["stepper"].values, strict=True)
    )
    answer.stepper = ", ".join(sorted(set(words)))
    return answer


def torchdiffeq_dopri5(work: Work, sample: Sample, setting: Setting) -> Answer:
    """`odeint` with its default norm, one solve a trajectory."""
    import torch
    from torchdiffeq import odeint

    dense = _torch_dense(work)
    times = torch.from_numpy(np.concatenate([[0.0], work.grid]))

    def prepare(A0: Array, B0: Array) -> Prepared:
        state, calls = (torch.from_numpy(A0), torch.from_numpy(B0)), 0

        def slopes(t: torch.Tensor, y: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal calls
            calls += 1
            return dense(*y)

        def run() -> tuple[Array, int]:
            A, B = odeint(slopes, state, times, rtol=setting.rtol, atol=setting.atol, method="dopri5")
            return torch.cat([A[1:].flatten(1), B[1:].flatten(1)], 1).numpy(), calls

        return run

    return _one_by_one(work, sample, prepare)


def torchode_dopri5(work: Work, sample: Sample, setting: Setting) -> Answer:
    """torchode's Dopri5 with its integral controller."""
    import torch
    import torchode

    dense = _torch_dense(work)
    times = torch.from_numpy(np.concatenate([[0.0], work.grid]))[None]

    def prepare(A0: Array, B0: Array) -> Prepared:
        y0 = torch.from_numpy(np.concatenate([A0.ravel(), B0.ravel()]))[None]

        def slopes(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            A, B = dense(y[0, : A0.size].view(A0.shape), y[0, A0.size :].view(B0.shape))
            return torch.cat([A.flatten(), B.flatten()])[None]

        def run() -> tuple[Array, int]:
            term = torchode.ODETerm(slopes)
            controller = torchode.IntegralController(atol=setting.atol, rtol=setting.rtol, term=term)
            solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term), controller)
            with torch.no_grad():
                solved = solver.solve(torchode.InitialValueProblem(y0=y0, t_eval=times))
            return solved.ys[0, 1:].numpy(), int(solved.stats["n_f_evals"][0])

        return run

    return _one_by_one(work, sample, prepare)


def diffrax_tsit5(work: Work, sample: Sample, setting: Setting) -> Answer:
    """diffrax's Tsit5, jit-compiled, with its PID controller."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import diffrax
    import jax.numpy as jnp

    fixed = jnp.asarray(work.target if work.kind == "frobenius" else work.pretrained)
    times, compiling = jnp.asarray(work.grid), 0.0

    def slopes(t: object, y: tuple[jax.Array, jax.Array], dense: jax.Array) -> tuple[jax.Array, jax.Array]:
        A, B = y
        if work.kind == "frobenius":
            rest = dense - B @ A
            return B.T @ rest, rest @ A.T
        trace = jnp.trace(dense + B @ A)
        return -trace * B.T, -trace * A.T

    def solve(y: tuple[jax.Array, jax.Array], dense: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        solved = diffrax.diffeqsolve(
            diffrax.ODETerm(slopes), diffrax.Tsit5(), 0.0, work.horizon, None, y, args=dense,
            saveat=diffrax.SaveAt(ts=times), max_steps=10**7,
            stepsize_controller=diffrax.PIDController(rtol=setting.rtol, atol=setting.atol),
        )  # fmt: skip
        return *solved.ys, solved.stats["num_steps"]

    def prepare(A0: Array, B0: Array) -> Prepared:
        nonlocal compiling
        y0 = (jnp.asarray(A0), jnp.asarray(B0))
        began = time.perf_counter()
        compiled = jax.jit(solve).lower(y0, fixed).compile()
        compiling += time.perf_counter() - began

        def run() -> tuple[Array, int]:
            A, B, steps = jax.block_until_ready(compiled(y0, fixed))
            flat = [np.asarray(X).reshape(len(X), -1) for X in (A, B)]
            return np.concatenate(flat, 1), 6 * int(steps) + 2  # the last stage is the next first; 2 choose a step

        return run

    answer = _one_by_one(work, sample, prepare)
    answer.compiling = compiling
    return answer


def scipy_rk45(work: Work, sample: Sample, setting: Setting) -> Answer:
    """SciPy's explicit Dormand–Prince pair."""
    return _scipy(work, sample, setting, "RK45")


def scipy_lsoda(work: Work, sample: Sample, setting: Setting) -> Answer:
    """SciPy's LSODA: Adams, or BDF with a dense Jacobian of all 2nr unknowns."""
    return _scipy(work, sample, setting, "LSODA")


def _scipy(work: Work, sample: Sample, setting: Setting, method: str) -> Answer:
    from scipy.integrate import solve_ivp

    def prepare(A0: Array, B0: Array) -> Prepared:
        def slopes(_: float, y: Array) -> Array:
            A, B = y[: A0.size].reshape(A0.shape), y[A0.size :].reshape(B0.shape)
            if work.kind == "frobenius":
                rest = work.target - B @ A
                return np.concatenate([(B.T @ rest).ravel(), (rest @ A.T).ravel()])
            trace = np.trace(work.pretrained + B @ A)
            return np.concatenate([(-trace * B.T).ravel(), (-trace * A.T).ravel()])

        def run() -> tuple[Array, int]:
            y0 = np.concatenate([A0.ravel(), B0.ravel()])
            end = float(work.grid[-1])
            solved = solve_ivp(
                slopes, (0.0, end), y0, method=method, t_eval=work.grid, rtol=setting.rtol, atol=setting.atol
            )
            if not solved.success:
                raise ArithmeticError(solved.message)
            return solved.y.T, solved.nfev

        return run

    return _one_by_one(work, sample, prepare)


def _torch_dense(work: Work) -> Callable:
    """(A, B) ↦ (Ȧ, Ḃ) as people write it."""
    import torch

    if work.kind == "frobenius":
        target = torch.from_numpy(work.target)

        def frobenius(A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rest = target - B @ A
            return B.T @ rest, rest @ A.T

        return frobenius
    weight = torch.from_numpy(work.pretrained)

    def trace_squared(A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        trace = torch.trace(weight + B @ A)
        return -trace * B.T, -trace * A.T

    return trace_squared


def _one_by_one(work: Work, sample: Sample, prepare: Callable[[Array, Array], Prepared]) -> Answer:
    """Solve every trajectory on its own; only the solves are timed."""
    ranks, members = sample.of(work)
    answer = Answer()
    for rank in ranks:
        A0, B0 = work.factors(rank)
        flat, calls, seconds = [], 0, 0.0
        for member in range(members):
            run = prepare(A0[member], B0[member])
            began = time.perf_counter()
            states, evaluations = run()
            seconds += time.perf_counter() - began
            flat.append(states)
            calls += evaluations
        whole = np.stack(flat, 1)
        size = A0[0].size
        A, B = whole[..., :size], whole[..., size:]
        answer.states[rank] = A.reshape(*A.shape[:2], *A0[0].shape), B.reshape(*B.shape[:2], *B0[0].shape)
        answer.seconds[rank], answer.evaluations[rank] = seconds, calls
    return answer


ENGINES: dict[str, Engine] = {
    "flowsim": flowsim,
    "torchdiffeq dopri5": torchdiffeq_dopri5,
    "torchode dopri5": torchode_dopri5,
    "diffrax tsit5": diffrax_tsit5,
    "scipy RK45": scipy_rk45,
    "scipy LSODA": scipy_lsoda,
}
BASELINE = "torchdiffeq dopri5"
PEERS = tuple(name for name in ENGINES if name not in ("flowsim", BASELINE))


def missing(engine: str) -> str:
    """Why an engine cannot run here, empty if it can."""
    package = engine.split()[0]
    return "" if find_spec(package) else f"{package} is not installed (pip install -c constraints.txt '.[bench]')"
