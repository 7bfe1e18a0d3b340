"""Who solves the tiles: this process, processes of this machine, or a Dask cluster; all speak `submit` and futures."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

from pebble import ProcessExpired, ProcessPool

from flowsim import __version__
from flowsim.errors import FlowsimError, InputError
from flowsim.sweep.work import Job, describe, solve_job

CLUSTER_HINT = "Start one with `dask scheduler` and `dask worker ADDRESS`, both where flowsim is installed."
CONNECT_SECONDS = 10
AHEAD = 2  # jobs at a time per worker
LOST = (ProcessExpired, BrokenProcessPool, MemoryError)


class Workers(Protocol):
    """Whoever solves jobs.

    Attributes
    ----------
    most : int
        Jobs to hand over at a time: one for each, and one that waits, so that nobody has to.
    """

    most: int

    def stamp(self, device: str) -> dict[str, str]:
        """What they compute with.

        Raises
        ------
        InputError
            If they lack the device.
        """
        ...

    def submit(self, job: Job) -> Future[bytes]:
        """Have a job solved; its tile, or what went wrong, comes as a future."""
        ...


class Here:
    """The process itself: a job is done when `submit` returns.

    Parameters
    ----------
    watch : callable
        Called with a job and a label after each schedule of it.
    """

    most = 1

    def __init__(self, watch: Callable[[Job, str], None]) -> None:
        self._watch = watch

    def stamp(self, device: str) -> dict[str, str]:
        """What this process computes with."""
        return describe(device)

    def submit(self, job: Job) -> Future[bytes]:
        """Solve a job."""
        future: Future[bytes] = Future()
        try:
            future.set_result(solve_job(job, lambda label: self._watch(job, label)))
        except Exception as error:  # what any executor hands on, whatever it is
            future.set_exception(error)
        return future


class Processes:
    """Processes of this machine, started afresh; one that dies takes its own job along and no other."""

    def __init__(self, count: int) -> None:
        self.most = AHEAD * count
        self._count = count
        self._pool = self._new()

    def _new(self) -> ProcessPool:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        return ProcessPool(max_workers=self._count, context=context)

    def stamp(self, device: str) -> dict[str, str]:
        """What all processes of this machine compute with."""
        return describe(device)

    def submit(self, job: Job) -> Future[bytes]:
        """Queue a job."""
        # Ctrl-C goes to all processes of a terminal: it is this one that has to answer it. Whoever is started while
        # the signal is blocked never sees it.
        with _blocked(signal.SIGINT):
            try:
                future: Future[bytes] = self._pool.schedule(solve_job, args=[job])
            except RuntimeError:  # a process that dies while it is started takes the whole pool along
                self.close(at_once=True)
                self._pool = self._new()
                future = self._pool.schedule(solve_job, args=[job])
        return future

    def close(self, *, at_once: bool) -> None:
        """Wait for the processes to end; `at_once` ends them."""
        if at_once:
            self._pool.stop()
        else:
            self._pool.close()
        self._pool.join()


class Cluster:
    """The workers of a Dask scheduler that is running already."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError(
                "--scheduler needs the package distributed, which is not installed",
                "Install it with: pip install 'flowsim[cluster]'",
            ) from error
        try:
            self._address = address
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            size = sum(self._client.nthreads().values())
        except (OSError, ValueError, TypeError, ImportError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"scheduler {address}: cannot be reached: {first}", CLUSTER_HINT) from error
        if size == 0:
            self._client.close()
            raise InputError(f"scheduler {address}: has no workers", CLUSTER_HINT)
        self.most = AHEAD * size
        self._executor = self._client.get_executor(pure=False)

    def stamp(self, device: str) -> dict[str, str]:
        """What one of the workers computes with; a tile of another one that differs is refused when it comes."""
        found: dict[str, str] = self._executor.submit(describe, device).result()
        if found["flowsim"] != __version__:
            raise InputError(
                f"scheduler {self._address}: its workers run flowsim {found['flowsim']}, this is {__version__}",
                "Install the same version everywhere.",
            )
        return found

    def submit(self, job: Job) -> Future[bytes]:
        """Send a job."""
        try:
            sent: Future[bytes] = self._executor.submit(solve_job, job)
        except RuntimeError as error:  # the client has given up
            raise self._lost from error
        answer: Future[bytes] = Future()

        def hand_on(sent: Future[bytes]) -> None:
            if sent.cancelled():  # nobody here cancels
                answer.set_exception(self._lost)
            elif (error := sent.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(sent.result())

        sent.add_done_callback(hand_on)
        return answer

    @property
    def _lost(self) -> FlowsimError:
        return FlowsimError(f"scheduler {self._address}: was lost", "Start it again; the same command then goes on.")

    def close(self, *, at_once: bool) -> None:
        """Leave the cluster; `at_once` drops what is queued there."""
        self._executor.shutdown(wait=not at_once)
        self._client.close()


@contextlib.contextmanager
def workers(jobs: int, scheduler: str | None, watch: Callable[[Job, str], None]) -> Iterator[Workers]:
    """The workers that a user asks for; gone when the block ends, at once where it ends badly.

    Parameters
    ----------
    jobs : int
        Processes of this machine; 1 is this one.
    scheduler : str or None
        Address of a Dask scheduler, in place of them.
    watch : callable
        As for `Here`.

    Raises
    ------
    InputError
        If the scheduler cannot be reached.
    """
    if scheduler is None and jobs == 1:
        yield Here(watch)
        return
    found = Processes(jobs) if scheduler is None else Cluster(scheduler)
    try:
        yield found
    except BaseException:
        found.close(at_once=True)
        raise
    found.close(at_once=False)


def lost(error: BaseException) -> bool:
    """Whether a call ended because its worker did, or had no room: tried again it may well go through."""
    # Names where the class is of a package that need not be there; for the host torch has no class of its own.
    named = type(error).__name__ in ("KilledWorker", "CommClosedError", "OutOfMemoryError")
    return isinstance(error, LOST) or named or "can't allocate memory" in str(error)


@contextlib.contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def cores() -> int:
    """Cores that this process may use; a container's limit counts."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # no such limit; "max" is none either
        return count
