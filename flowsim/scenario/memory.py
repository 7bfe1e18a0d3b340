"""How much memory a scenario needs, and how much there is: a scenario that cannot fit is refused at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["MOST_PAIRS", "available_memory", "needed_memory", "size_text"]

MOST_PAIRS = 10_000_000  # of a rank and a seed, at all points: a table of what became of each still fits


def available_memory() -> int:
    """Bytes that a program can still take on this machine; a container's limit counts."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    except (OSError, ValueError):
        found = None
    try:
        free = int(found.group(1)) * 1024 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        free = 2**63
    return min(free, _container_limit())


def _container_limit() -> int:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such limit; "max" is none either
        return 2**63


def needed_memory(shape: tuple[int, int], rank: int, points: int, schedules: int, *, keep_factors: bool) -> int:
    """Bytes that a run needs at least; seeds, and what a sweep adds, are solved one after the other.

    Parameters
    ----------
    shape : tuple of int
        (n, m).
    rank : int
        The largest rank.
    points, schedules : int
        How many recorded times, and trajectories per rank and seed.
    keep_factors : bool
        Whether A and B are stored at every time.

    Returns
    -------
    int
        Dense float64 matrices (W0, W*, their difference and its singular vectors) and, of one seed of the largest
        rank, the states A and B of two trajectories at every time (a schedule and the flow it is compared with), the
        recorded variables and, if asked for, the stored factors.
    """
    n, m = shape
    dense = 3 * n * m + (n + m) * min(n, m)
    states = 2 * points * (n + m) * rank
    recorded = schedules * points * (10 + rank)
    factors = schedules * points * (n + m) * rank if keep_factors else 0
    return 8 * (dense + states + recorded + factors)


def size_text(size: int) -> str:
    """A number of bytes for a reader.

    Examples
    --------
    >>> size_text(1_500_000), size_text(3 * 2**40)
    ('1.4 MiB', '3.0 TiB')
    """
    value = float(min(size, 2**100))
    if value < 1024:
        return f"{value:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB" if value < 2**20 else "more than 1000 TiB"
