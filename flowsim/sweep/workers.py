"""Who solves the tiles: this process, processes of this machine, or a Dask cluster; all speak `submit` and futures."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flowsim import __version__
from flowsim.errors import FlowsimError, InputError
from flowsim.sweep.work import Job, describe, forget, solve_job

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext
    from multiprocessing.synchronize import Event

CLUSTER_HINT = "Start one with `dask scheduler` and `dask worker ADDRESS --nthreads 1`; both need flowsim."
CONNECT_SECONDS = 10
AHEAD = 2  # jobs at a time per worker of a cluster: one on its way while the other is solved
LOST = (BrokenProcessPool, MemoryError)
STILLBORN = 3  # processes that die as they start, one after the other, before it is given up


class Workers(Protocol):
    """Whoever solves jobs.

    Attributes
    ----------
    most : int
        Jobs to hand over at a time.
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

    def trouble(self) -> str:
        """Why nothing may be coming; empty where all is well."""
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
            traceback.clear_frames(error.__traceback__)  # which hold the memory that another try may need
            forget()
            future.set_exception(error)
        return future

    def trouble(self) -> str:
        """None that this process could tell of."""
        return ""


class Processes:
    """Processes of this machine, started afresh, each with its own queue: one that dies takes its own job along."""

    def __init__(self, count: int) -> None:
        self.most = count
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        # Every process watches one end. When the other one is closed, and be it because this process was killed, they
        # end at once, whatever they are at.
        self._watched, self._lifeline = context.Pipe(duplex=False)
        self._slots = [_Slot(context, self._watched) for _ in range(count)]
        self._stillborn = 0

    def stamp(self, device: str) -> dict[str, str]:
        """What all processes of this machine compute with."""
        return describe(device)

    def submit(self, job: Job) -> Future[bytes]:
        """Give a job to a process that has none.

        Raises
        ------
        FlowsimError
            If processes die before they are there to work.
        """
        if self._stillborn >= STILLBORN:
            raise FlowsimError(
                "worker processes die as they start",
                'Use fewer --jobs if memory is short; a script needs the guard if __name__ == "__main__".',
            )
        slot = next(one for one in self._slots if one.free)
        slot.free = False
        answer: Future[bytes] = Future()

        def hand_on(sent: Future[bytes]) -> None:
            if sent.cancelled():  # by `close`, when nobody waits any more
                return
            error = sent.exception()
            if isinstance(error, BrokenProcessPool):
                if not slot.renew():
                    error = NotStarted()
                    self._stillborn += 1
            else:
                self._stillborn = 0
            slot.free = True
            if error is None:
                answer.set_result(sent.result())
            else:
                answer.set_exception(error)

        # Ctrl-C goes to all processes of a terminal: it is this one that has to answer it. Whoever is started while
        # the signal is blocked never sees it.
        with _blocked(signal.SIGINT):
            slot.executor.submit(solve_job, job).add_done_callback(hand_on)
        return answer

    def trouble(self) -> str:
        """None: a process that dies gives its job back."""
        return ""

    def close(self, *, at_once: bool) -> None:
        """Wait for the processes to end; `at_once` ends them."""
        if at_once:
            self._lifeline.close()
        for slot in self._slots:
            slot.executor.shutdown(wait=True, cancel_futures=at_once)
        self._lifeline.close()
        self._watched.close()


class _Slot:
    """Room for one process, and for another one after its death."""

    def __init__(self, context: SpawnContext, watched: Connection) -> None:
        self._context, self._watched = context, watched
        self.free = True
        self._new()

    def _new(self) -> None:
        self._started = self._context.Event()
        self.executor = ProcessPoolExecutor(
            1, mp_context=self._context, initializer=_begin, initargs=(self._watched, self._started)
        )

    def renew(self) -> bool:
        """Make room for another process; whether the one before had come to work."""
        started = self._started.is_set()
        self.executor.shutdown(wait=False)
        self._new()
        return started


def _begin(watched: Connection, started: Event) -> None:
    """The first thing that a worker process does."""

    def end() -> None:
        watched.poll(None)
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    started.set()


class NotStarted(Exception):
    """A process died before it was there to work: that says nothing of its job."""


class Cluster:
    """The workers of a Dask scheduler that is running already."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
            from distributed.comm.addressing import get_address_host_port
        except ImportError as error:
            raise InputError(
                "--scheduler needs the package distributed, which is not installed",
                "Install it with: pip install 'flowsim[cluster]'",
            ) from error
        # What a connection that breaks has to say is said below, in two lines.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            self._address = address
            # A client that finds nobody cannot even be thrown away in peace.
            socket.create_connection(get_address_host_port(address), timeout=CONNECT_SECONDS).close()
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            size = len(self._client.nthreads())  # a process solves one job at a time
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

    def trouble(self) -> str:
        """No workers."""
        there = bool(self._client.nthreads())
        return "" if there else f"scheduler {self._address} has no workers any more: waiting for others"

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
