"""Progress on stderr: one bar with rate and remaining time on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowsim.cli.common import note

if TYPE_CHECKING:
    from rich.progress import TaskID

Tick = Callable[[str, int, int], None]
LINE_SECONDS = 10.0  # between two lines; a run that is done sooner prints none


@contextmanager
def progress(enabled: bool) -> Iterator[Tick | None]:
    """Give what is called with (what, trajectories done, in all); its first call says where the work begins."""
    if not enabled:
        yield None
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        with _bar() as tick:
            yield tick


@dataclass
class Lines:
    """A line every `LINE_SECONDS`, for a log."""

    clock: Callable[[], float] = time.monotonic
    _began: tuple[float, int] | None = field(default=None, repr=False)
    _last: float = field(default=0.0, repr=False)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note how far the work is; say so if it is time."""
        now = self.clock()
        if self._began is None:
            self._began, self._last = (now, done), now
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        seconds, new = now - self._began[0], done - self._began[1]
        note(f"{done} of {total} trajectories, {pace(new / seconds, total - done)} ({what})")


def pace(rate: float, left: int) -> str:
    """Rate and remaining time.

    Examples
    --------
    >>> pace(35.21, 7000), pace(0.5, 20), pace(0.0, 3)
    ('35.2 a second, about 3 min left', '0.5 a second, about 40 s left', 'none yet')
    """
    if rate <= 0:
        return "none yet"
    return f"{rate:.3g} a second, about {_duration(left / rate)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def _bar() -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task: TaskID | None = None
        began, first = time.monotonic(), 0

        def tick(what: str, done: int, total: int) -> None:
            nonlocal task, began, first
            if task is None:
                began, first = time.monotonic(), done
                task = bar.add_task(what or "starting", total=total, completed=done, pace="")
                return
            seconds = max(time.monotonic() - began, 1e-3)
            left = pace((done - first) / seconds, total - done) if done < total else ""
            bar.update(task, description=what, completed=done, pace=left)

        yield tick
