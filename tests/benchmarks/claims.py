"""What is no race: all ranks in one pass, the cost of an evaluation, long horizons, descent, and the choice of `auto`.

Each claim is a function of (folder of references, say) that returns lines; what is timed runs in a child.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.benchmarks import child
from tests.benchmarks.child import Child, Failed, Timing, TooSlow
from tests.benchmarks.engines import Setting
from tests.benchmarks.lines import Line, slope
from tests.benchmarks.race import ALL, ATOL_SHARE, COUNTS, LONG, REPEATS, TOLERANCES, Say, best_of
from tests.benchmarks.work import Work

# All ranks of a λ-balanced start in one pass.

NESTED = (4096, 512, (0.5, 1.0, 2.0, 5.0, 10.0, 20.0))  # n, largest rank, times
CHECKED_RANKS = (1, 8, 32)


def nested_ranks(folder: Path, say: Say, size: tuple[int, int, tuple[float, ...]] = NESTED) -> list[Line]:
    """Orthonormal rows, B = 0, σ_i = 1/i: losses of every rank at every time."""
    n, ranks, times = size
    lines = []
    for threads in COUNTS:
        with Child(threads) as host:
            seconds, peak, steps, error = host.ask(nested_pass, n, ranks, times, CHECKED_RANKS)
        say(f"  {threads} thread(s): {seconds:.2f} s, {steps} sub-steps")
        note = f"{len(times)} times up to {times[-1]:g}, {steps} sub-steps, spectrum known; at most 2 s wanted"
        note += f"; error of ranks {CHECKED_RANKS} against DOP853"
        title = f"λ-balanced, n = {n}, ranks 1 … {ranks}"
        lines.append(Line(title, "flowsim", threads, seconds, None, error, peak=peak, note=note))
    return [min(lines, key=lambda line: line.seconds or 0.0)]


def nested_pass(
    n: int, ranks: int, times: tuple[float, ...], checked: tuple[int, ...]
) -> tuple[float, int, int, float]:
    """Seconds from the Haar draw to the losses of all ranks, peak memory, sub-steps, error of BA at some ranks."""
    import torch

    from flowsim.dynamics.landscape import FrobeniusLandscape
    from flowsim.integrators.exact import nested
    from tests.benchmarks.errors import product_error
    from tests.benchmarks.reference import integrated

    sigma = 1.0 / np.arange(1, n + 1)
    clock, best = torch.tensor(times, dtype=torch.float64), float("inf")
    child.reset_peak()
    peak = 0
    for _ in range(3):
        began = time.perf_counter()
        landscape = FrobeniusLandscape(torch.from_numpy(sigma), n)
        draw = torch.from_numpy(np.random.default_rng(0).standard_normal((n, ranks)))
        rows = torch.linalg.qr(draw).Q[None]
        solution = nested.solve(landscape, torch.zeros_like(rows), rows, clock)
        nested.losses(landscape, solution.B, solution.C)
        best = min(best, time.perf_counter() - began)
        peak = peak or child.peak_memory()
    errors = []
    for rank in checked:
        if rank <= ranks:
            B, C = integrated(sigma, np.zeros((1, n, rank)), rows[..., :rank].numpy(), np.array(times))
            ours = (X[..., :rank].numpy() for X in (solution.B, solution.C))
            mine, other = next(ours), np.swapaxes(next(ours), -1, -2)
            errors.append(product_error(other, mine, np.swapaxes(C, -1, -2), B))
    return best, peak, solution.steps[0], max(errors)


# Cost of one right-hand side.

# 8·n·r² operations stand against about 128·n·r bytes of memory: at small ranks the bytes set the time, and where Z is
# larger than 32 MiB (n·r > 2²¹) the allocator asks the system for every result anew. In between the arithmetic does.
SIZES, FIXED_RANK = (512, 1024, 2048, 4096), 256
RANKS, FIXED_SIZE = (128, 192, 256, 384, 512), 2048


def cost_exponents(
    folder: Path, say: Say, sizes: tuple[int, ...] = SIZES, fixed_rank: int = FIXED_RANK,
    ranks: tuple[int, ...] = RANKS, fixed_size: int = FIXED_SIZE,
) -> list[Line]:  # fmt: skip
    """Fitted exponents of the seconds of one right-hand side in n + m and in r."""
    with Child(1) as host:
        in_rows = [host.ask(one_evaluation, n, fixed_rank) for n in sizes]
        in_rank = [host.ask(one_evaluation, fixed_size, r) for r in ranks]
    found = slope([2.0 * n for n in sizes], in_rows), slope([float(r) for r in ranks], in_rank)
    say(f"  {found[0]:.2f} in n + m, {found[1]:.2f} in r")
    titles = (f"r = {fixed_rank}, n = {sizes[0]} … {sizes[-1]}", f"n = {fixed_size}, r = {ranks[0]} … {ranks[-1]}")
    words = ("(n + m)", "r")
    speeds = (
        [8e-9 * n * fixed_rank**2 / cost for n, cost in zip(sizes, in_rows, strict=True)],
        [8e-9 * fixed_size * r**2 / cost for r, cost in zip(ranks, in_rank, strict=True)],
    )
    return [
        Line(f"one right-hand side, {title}", "flowsim", 1, cost, 1,
             note=f"cost ∝ {word}^{power:.2f}, {speed[0]:.0f} GF/s at the smallest, {speed[-1]:.0f} at the largest")
        for title, cost, word, power, speed
        in zip(titles, (in_rows[-1], in_rank[-1]), words, found, speeds, strict=True)
    ]  # fmt: skip


def one_evaluation(n: int, rank: int) -> float:
    """Seconds of one right-hand side in spectral coordinates, the least of several."""
    import torch

    from flowsim.dynamics.flow import velocity
    from flowsim.dynamics.landscape import FrobeniusLandscape

    landscape = FrobeniusLandscape(1.0 / torch.arange(1, n + 1, dtype=torch.float64), n)
    Z = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, n, rank)))
    velocity(landscape, Z)
    seconds, spent = float("inf"), 0.0
    while spent < 0.5:
        began = time.perf_counter()
        velocity(landscape, Z)
        seconds = min(seconds, time.perf_counter() - began)
        spent += time.perf_counter() - began
    return seconds


# Long horizons.

NEAR = {"small": Work(256, (16,), 1e4), "Kaiming": Work(256, (16,), 1e4, start="kaiming")}


def long_horizon(
    folder: Path, say: Say, works: dict[str, Work] | None = None, far: float = 1e6, rtol: float = 1e-5
) -> list[Line]:
    """Seconds up to `far` against seconds up to each work's own horizon; past the latter the flow stands."""
    lines = []
    for start, work in (works or NEAR).items():
        near, later = (
            _solved(
                f"{start}, n = {work.n}, r = {work.ranks[0]}, T = {horizon:g}", replace(work, horizon=horizon),
                Setting(rtol, rtol * ATOL_SHARE), folder,
            )
            for horizon in (work.horizon, far)
        )  # fmt: skip
        assert near.seconds is not None and later.seconds is not None
        growth = f"{later.seconds / near.seconds:.2f} times the seconds of T = {work.horizon:g}; at most 10 wanted"
        say(f"  {start}: T = {work.horizon:g}: {near.seconds:.3f} s, T = {far:g}: {later.seconds:.3f} s")
        lines += [near, replace(later, note=f"{later.note}; {growth}")]
    return lines


def _solved(title: str, work: Work, setting: Setting, folder: Path, threads: int = 1) -> Line:
    """One piece of work by flowsim at a given setting."""
    with Child(threads) as host:
        timing, error = _timed(host, work, setting, folder)
    note = f"rtol {setting.rtol:g}, {timing.stepper}"
    return Line(
        title, "flowsim", threads, timing.total, sum(timing.evaluations.values()), error, peak=timing.peak, note=note
    )


def _timed(
    host: Child, work: Work, setting: Setting, folder: Path, asked: float = float("inf"), limit: float | None = None
) -> tuple[Timing, float]:
    """The best of several runs and the error of BA; one run alone where the error is larger than what is asked."""
    host.ask(child.warm, "flowsim", work, setting)
    runs = [host.ask(child.run, "flowsim", work, ALL, setting, limit=limit)]
    error = host.ask(child.errors, work, ALL, folder)[0]
    while error <= asked and len(runs) < REPEATS and sum(one.total for one in runs) < LONG:
        runs.append(host.ask(child.run, "flowsim", work, ALL, setting, limit=limit))
    return best_of(runs), error


# Gradient descent.

DESCENDED = Work(1024, (16,), 1.0)  # its horizon is not used


def descent(
    folder: Path, say: Say, work: Work = DESCENDED, rounds: int = 10_000, sampled: int = 200,
    learning_rate: float = 0.1,
) -> list[Line]:  # fmt: skip
    """`flowsim.descend` against a loop with autograd on the dense loss; the loop is timed on a part of its rounds."""
    title, lines = f"descent, n = {work.n}, r = {work.ranks[0]}, {rounds} rounds", []
    best: dict[int, tuple[tuple[float, int], tuple[float, int], float]] = {}
    for threads in COUNTS:
        with Child(threads) as host:
            loop = host.ask(autograd_loop, work, sampled, learning_rate)
        with Child(threads) as host:
            ours = host.ask(flowsim_descent, work, rounds, sampled, learning_rate)
        best[threads] = loop[0], ours[0], _apart(loop[1], ours[1])
        say(f"  {threads} thread(s): {loop[0][0] * rounds / sampled:.1f} s and {ours[0][0]:.2f} s")
    by_loop, by_us = (min(best, key=lambda one: best[one][which][0]) for which in (0, 1))
    (seconds, peak), (mine, own_peak) = best[by_loop][0], best[by_us][1]
    whole = seconds * rounds / sampled
    note = f"EXTRAPOLATED from {sampled} rounds ({seconds:.1f} s)"
    lines.append(Line(title, "autograd loop", by_loop, whole, rounds, None, peak=peak, ratio=1.0, note=note))
    note = f"error: BA against the loop's after {sampled} rounds"
    lines.append(
        Line(
            title,
            "flowsim",
            by_us,
            mine,
            rounds,
            best[by_us][2],
            peak=own_peak,
            ratio=whole / mine,
            wanted=10,
            note=note,
        )
    )
    return lines


Pair = tuple[np.ndarray, np.ndarray]


def _apart(one: Pair, other: Pair) -> float:
    from tests.benchmarks.errors import product_error

    return product_error(*(X[None] for X in (*other, *one)))


def autograd_loop(work: Work, rounds: int, learning_rate: float) -> tuple[tuple[float, int], Pair]:
    """Seconds and peak memory of plain gradient descent, and where it is then."""
    import torch

    target = torch.from_numpy(work.target)
    starts = [torch.from_numpy(X[0]) for X in work.factors(work.ranks[0])]

    def loop(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        A, B = (X.clone().requires_grad_(True) for X in starts)
        for _ in range(count):
            loss = 0.5 * (target - B @ A).square().sum()
            loss.backward()
            with torch.no_grad():
                for X in (A, B):
                    X -= learning_rate * X.grad
                    X.grad = None
        return A.detach(), B.detach()

    loop(3)
    child.reset_peak()
    began = time.perf_counter()
    A, B = loop(rounds)
    return (time.perf_counter() - began, child.peak_memory()), (A.numpy(), B.numpy())


def flowsim_descent(work: Work, rounds: int, every: int, learning_rate: float) -> tuple[tuple[float, int], Pair]:
    """Seconds and peak memory from arrays to the dataset, and where descent is at the first record."""
    from flowsim import Adapter, Frobenius, descend

    A0, B0 = (X[0] for X in work.factors(work.ranks[0]))
    descend(Frobenius(np.zeros((4, 4)), np.eye(4)), Adapter(np.ones((1, 4)), np.ones((4, 1))), 2, 0.1)
    target, seconds, peak = work.target, float("inf"), 0
    child.reset_peak()
    for _ in range(3):
        began = time.perf_counter()
        dataset = descend(
            Frobenius(work.pretrained, target), Adapter(A0, B0), rounds, learning_rate, every=every, device="cpu"
        )
        seconds = min(seconds, time.perf_counter() - began)
        peak = peak or child.peak_memory()
    return (seconds, peak), (dataset["A"].values[1], dataset["B"].values[1])


# `auto` against every single choice.

CHOICES = {
    "small, n = 256, r = 16": Work(256, (16,), 1260.0),
    "small, n = 256, r = 4": Work(256, (4,), 150.0),
    "small, n = 256, r = 64": Work(256, (64,), 11460.0),
    "small, n = 1024, r = 16": Work(1024, (16,), 1300.0),
    "middle, n = 256, r = 16": Work(256, (16,), 1260.0, start="middle"),
    "large, n = 256, r = 16": Work(256, (16,), 300.0, start="large"),
    "Kaiming, n = 64, r = 4": Work(64, (4,), 150.0, start="kaiming"),
    "Kaiming, n = 256, r = 16": Work(256, (16,), 1260.0, start="kaiming"),
    "Kaiming, n = 256, r = 64": Work(256, (64,), 11460.0, start="kaiming"),
    "Kaiming, n = 1024, r = 16": Work(1024, (16,), 1260.0, start="kaiming"),
    "8 seeds, n = 256, r = 8": Work(256, (8,), 300.0, seeds=8),
}
ASKED = 1e-6
PATIENCE = 60.0


def choices(folder: Path, say: Say, works: dict[str, Work] | None = None, asked: float = ASKED) -> list[Line]:
    """Every stepper and `auto` at its own loosest rtol with an error of at most `asked`; what `auto` loses."""
    from flowsim.integrators.adaptive import STEPPERS

    lines, lost = [], {}
    for title, work in (works or CHOICES).items():
        with Child(1) as host:
            host.ask(child.solve_references, work, ALL, folder)
        found = {}
        for solver in ("auto", *STEPPERS):
            line = _within(title, work, solver, asked, folder)
            say(f"  {title}: {solver} {line.seconds} s {line.note}")
            lines.append(line)
            if line.seconds is not None:
                found[solver] = line.seconds
        if "auto" in found:
            lost[title] = found["auto"] / min(found.values())
    worst = max(lost, key=lambda title: lost[title])
    note = f"auto is at most {lost[worst]:.2f} times slower than the best single choice ({worst})"
    return [*lines, Line("auto against every choice", "flowsim", note=note)]


def _within(title: str, work: Work, solver: str, asked: float, folder: Path) -> Line:
    """One solver at its loosest rtol within the error asked for."""
    engine, seen = f"flowsim {solver}", float("inf")
    with Child(1) as host:
        for rtol in TOLERANCES:
            setting = Setting(rtol, ATOL_SHARE * rtol, solver)
            try:
                timing, seen = _timed(host, work, setting, folder, asked, PATIENCE)
            except TooSlow:
                return Line(title, engine, 1, note=f"not done after {PATIENCE:g} s at rtol {rtol:g}")
            except Failed as failed:
                return Line(title, engine, 1, note=str(failed).strip().splitlines()[-1])
            if seen <= asked:
                calls, note = sum(timing.evaluations.values()), f"rtol {rtol:g}, {timing.stepper}"
                return Line(title, engine, 1, timing.total, calls, seen, peak=timing.peak, note=note)
    return Line(title, engine, 1, error=seen, note=f"no rtol reaches {asked:g}")


CLAIMS: dict[str, Callable[[Path, Say], list[Line]]] = {
    "nested-ranks": nested_ranks,
    "cost-exponents": cost_exponents,
    "long-horizon": long_horizon,
    "descent": descent,
    "choices": choices,
}
SLOW_CLAIMS = ("choices",)
