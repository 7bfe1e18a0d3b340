"""Processes of their own for what is timed: a fixed number of threads, imports and a small run before the clock.

The parent only asks; it holds no arrays and runs nothing beside a child that works.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.benchmarks.engines import ENGINES, Answer, Sample, Setting
from tests.benchmarks.work import Work

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class TooSlow(Exception):
    """A child did not answer within the limit; it has been ended."""


class Failed(Exception):
    """A child raised an exception; the message is its traceback."""


@dataclass(frozen=True)
class Timing:
    """One timed run: seconds and evaluations by rank, peak memory (bytes) of the process during it, its formulas."""

    seconds: dict[int, float]
    evaluations: dict[int, int]
    peak: int
    stepper: str
    compiling: float

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class Child:
    """A spawned process that answers one question at a time."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        before = {name: os.environ.get(name) for name in (*THREADS, "XLA_FLAGS")}
        os.environ.update(dict.fromkeys(THREADS, str(threads)))
        if threads == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        try:
            self._process = context.Process(target=_serve, args=(there,), daemon=True)
            self._process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
        there.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, question: Callable[..., Any], *arguments: Any, limit: float | None = None) -> Any:
        """What `question(*arguments)`, a function of a module, returns in the child."""
        try:
            self._here.send((question, arguments))
            if not self._here.poll(limit):
                raise TooSlow(f"not done after {limit:.0f} s")
            good, value = self._here.recv()
        except EOFError as gone:
            raise Failed("the process ended without an answer (out of memory?)") from gone
        finally:
            if not self._process.is_alive():
                self.close()
        if not good:
            raise Failed(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._here.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    while True:
        try:
            question, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, question(*arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))


# What a child can be asked. The last answer stays in the child, so that its error is judged outside the timing.

_last: dict[str, Answer] = {}


def warm(engine: str, work: Work, setting: Setting) -> None:
    """Import the engine, run it on a small problem of the same kind, and make the arrays of the real one."""
    small = replace(work, n=8, ranks=(2,), seeds=1, horizon=2.0, saves=3)
    ENGINES[engine](small, Sample(), setting)
    _ = work.target if work.kind == "frobenius" else work.pretrained


def run(engine: str, work: Work, sample: Sample, setting: Setting) -> Timing:
    """One timed run."""
    _last.clear()
    reset_peak()
    answer = ENGINES[engine](work, sample, setting)
    peak = peak_memory()
    _last["answer"] = answer
    return Timing(answer.seconds, answer.evaluations, peak, answer.stepper, answer.compiling)


def errors(work: Work, sample: Sample, folder: Path) -> tuple[float, float]:
    """Largest relative error of BA, and of A and B, of the last run in this process."""
    from tests.benchmarks.errors import factor_error, product_error
    from tests.benchmarks.reference import reference

    ranks, members = sample.of(work)
    product, factor = [], []
    for rank in ranks:
        A, B = _last["answer"].states[rank]
        exact = reference(work, rank, folder, members)
        product.append(product_error(A, B, *exact))
        factor.append(factor_error(A, B, *exact))
    return max(product), max(factor)


def solve_references(work: Work, sample: Sample, folder: Path) -> None:
    """Make sure that the references lie on the disk."""
    from tests.benchmarks.reference import reference

    ranks, members = sample.of(work)
    for rank in ranks:
        reference(work, rank, folder, members)


def peak_memory() -> int:
    """Largest resident memory of this process in bytes since `reset_peak`, or since it began."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Forget how much memory making the problem took, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
