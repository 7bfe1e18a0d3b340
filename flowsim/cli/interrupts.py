"""Ctrl-C and SIGTERM: the first ends a run in order, the second, or a run that does not answer, at once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

from flowsim.cli.common import INTERRUPTED

GRACE_SECONDS = 5.0  # for a run to end in order; a library call may take minutes and hears no signal
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block both signals raise KeyboardInterrupt, and a second one ends the process.

    Nothing that is finished is lost then: files are put in their place whole.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the business of the main thread
        return
    if os.name == "nt":  # which has no such pipe: there the first Ctrl-C is all
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    # The system writes a byte here at once, whatever the main thread is busy with.
    other = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(other)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writer)
        watch.join()
        os.close(reader)


def _watch(reader: int) -> None:
    """Wait for signals until the pipe is closed."""
    patience = None
    while True:
        ready, _, _ = select.select([reader], [], [], patience)
        heard = os.read(reader, 1) if ready else bytes([signal.SIGINT])
        if not heard:
            return
        if heard[0] not in SIGNALS:
            continue
        if patience is not None:
            os.write(2, b"\nstopped at once; what was finished is kept: the same command goes on from there\n")
            os._exit(INTERRUPTED)
        patience = GRACE_SECONDS
