"""Jobs handed to workers a few at a time, so that results never pile up; what is lost is tried again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice

from flowsim.errors import FlowsimError
from flowsim.sweep.work import Job
from flowsim.sweep.workers import NotStarted, Workers, lost

PATIENCE_SECONDS = 15.0  # without news, before it is asked whether anybody is there
ATTEMPTS = 2  # of a tile whose worker is lost


def carry_out(
    jobs: Iterable[Job],
    workers: Workers,
    done: Callable[[Job, bytes], None],
    failed: Callable[[Job], None],
    tell: Callable[[str], None],
) -> dict[int, str]:
    """Solve all jobs.

    Parameters
    ----------
    done : callable
        Called with each finished job and its bytes, in the order in which they finish.
    failed : callable
        Called with each job that is given up.
    tell : callable
        Called with a sentence that a user should read.

    Returns
    -------
    dict of int to str
        Tiles that could not be solved, and why.

    Raises
    ------
    FlowsimError
        What is wrong with the scenario and not with a tile, or whatever `done` raises.
    """
    queue, source = deque[Job](), iter(jobs)
    running: dict[Future[bytes], Job] = {}
    tries: Counter[int] = Counter()
    failures: dict[int, str] = {}
    told = ""
    while True:
        while len(running) < workers.most:
            queue.extend(islice(source, 1))
            if not queue:
                break
            job = queue.popleft()
            tries[job.tile.index] += 1
            running[workers.submit(job)] = job
        if not running:
            return failures
        finished, _ = wait(running, timeout=PATIENCE_SECONDS, return_when=FIRST_COMPLETED)
        if not finished and (trouble := workers.trouble()) and trouble != told:
            tell(trouble)
            told = trouble
        for future in finished:
            job = running.pop(future)
            error = future.exception()
            if error is None:
                done(job, future.result())
            elif isinstance(error, FlowsimError):
                raise error
            elif isinstance(error, NotStarted):
                tries[job.tile.index] -= 1
                queue.appendleft(job)
            elif lost(error) and tries[job.tile.index] < ATTEMPTS:
                queue.append(job)
            else:
                failures[job.tile.index] = _reason(error, lost(error))
                failed(job)


def _reason(error: BaseException, gone: bool) -> str:
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"its worker was lost {ATTEMPTS} times ({what})" if gone else f"unexpected error: {what}"
