"""How much memory a scenario needs, and how much there is: a scenario that cannot fit is refused at once."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["available_memory", "needed_memory", "size_text"]


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


def needed_memory(
    shape: tuple[int, int],
    ranks: Sequence[int],
    seeds: int,
    points: int,
    schedules: int,
    *,
    keep_factors: bool,
) -> int:
    """Bytes that a run needs at least.

    Parameters
    ----------
    shape : tuple of int
        (n, m).
    ranks : sequence of int
        The ranks.
    seeds, points, schedules : int
        How many seeds, recorded times and trajectories per rank and seed.
    keep_factors : bool
        Whether A and B are stored at every time.

    Returns
    -------
    int
        Dense float64 matrices (W0, W*, their difference and its singular vectors), the states A and B of two
        trajectories of the largest rank at every time (a schedule and the flow it is compared with), the
        recorded variables and, if asked for, the stored factors.
    """
    n, m = shape
    p, largest = min(n, m), max(ranks)
    dense = 3 * n * m + (n + m) * p
    states = 2 * points * seeds * (n + m) * largest
    recorded = schedules * len(ranks) * seeds * points * (10 + largest)
    factors = schedules * seeds * points * (n + m) * sum(ranks) if keep_factors else 0
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
