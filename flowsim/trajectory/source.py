"""A file that HDF5 reads from, and that keeps from it the one kind of damage on which it loops forever.

HDF5 stores texts in "global heaps", runs of objects of which each says how long it is; at one that claims no length
HDF5 stays for good (HDFGroup/hdf5 issue 1707). A heap is looked through here before HDF5 gets it.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

HEAP = b"GCOL"
HEAD = struct.Struct("<4sB3xQ")  # of a heap: mark, version, size
OBJECT = struct.Struct("<HH4xQ")  # of an object in it: number, references, length


class Source(io.FileIO):
    """A binary file opened for reading, as the file object of h5py's `fileobj` driver."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer.

        Raises
        ------
        OSError
            If it begins with a heap that cannot be walked through.
        """
        place = self.tell()
        done = super().readinto(buffer) or 0
        if done >= HEAD.size and bytes(buffer[:4]) == HEAP:
            self._look_through(place, HEAD.unpack_from(buffer)[2])
        return done

    def _look_through(self, start: int, size: int) -> None:
        if start + size > os.fstat(self.fileno()).st_size:
            raise OSError("a heap of texts is cut")
        heap = os.pread(self.fileno(), size, start)
        place = HEAD.size
        while place + OBJECT.size <= size:
            number, _, length = OBJECT.unpack_from(heap, place)
            step = OBJECT.size + (length + 7) // 8 * 8 if number > 0 else length
            if step < OBJECT.size or place + step > size:
                raise OSError("a heap of texts is damaged")
            place += step
