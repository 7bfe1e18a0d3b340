"""A file that HDF5 writes to and that never tells it of trouble: HDF5 may crash on closing a file on a full disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flowsim.trajectory.files import cannot_write


class Disk:
    """The file object of h5py's `fileobj` driver. It remembers the first error and swallows writes from then on.

    Whoever writes calls `check` after each step and once the HDF5 file is closed: HDF5 itself never learns of it.

    Parameters
    ----------
    temporary : Path
        The file, which exists.
    path : Path
        How it is called in messages.
    """

    def __init__(self, temporary: Path, path: Path) -> None:
        self.failure: BaseException | None = None
        self._path, self._place = path, 0
        try:
            self._handle = os.open(temporary, os.O_RDWR)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._size = os.fstat(self._handle).st_size

    def check(self) -> None:
        """Raise what went wrong so far.

        Raises
        ------
        OutputError
            If the file could not be written.
        """
        if isinstance(self.failure, OSError):
            raise cannot_write(self._path, self.failure) from self.failure
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Give the handle back; HDF5 may still call, and is served with nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            try:
                os.close(handle)
            except OSError as error:
                self.failure = self.failure or error

    # What h5py asks of a file object

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place; the size is what HDF5 believes it to be, also after a failure."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """The current place."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer; zeros where nothing was written."""
        rest, length = memoryview(buffer).cast("B"), len(buffer)
        try:
            while len(rest) > 0 and (done := os.preadv(self._handle, [rest], self._place + length - len(rest))):
                rest = rest[done:]
        except BaseException as error:
            self.failure = self.failure or error
        rest[:] = bytes(len(rest))
        self._place += length
        return length

    def read(self, size: int) -> bytes:
        """As `readinto`."""
        content = bytearray(size)
        self.readinto(memoryview(content))
        return bytes(content)

    def write(self, data: memoryview) -> int:
        """Write all of it, or remember why not."""
        rest = memoryview(data).cast("B")
        length, place = len(rest), self._place
        self._place += length
        self._size = max(self._size, self._place)

        def whole() -> None:
            nonlocal rest, place
            while len(rest) > 0:
                done = os.pwrite(self._handle, rest, place)
                rest, place = rest[done:], place + done

        self._attempt(whole)
        return length

    def truncate(self, size: int) -> int:
        """Cut or lengthen the file."""
        self._size = size
        self._attempt(lambda: os.truncate(self._handle, size))
        return size

    def flush(self) -> None:
        """Nothing is kept back here."""

    def _attempt(self, action: Callable[[], None]) -> None:
        if self.failure is not None:
            return
        try:
            action()
        except BaseException as error:  # an interrupt too: HDF5 must come to the end of what it is doing
            self.failure = error
