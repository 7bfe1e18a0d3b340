"""What a benchmark hands back: one line for each engine on each piece of work."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One line of the table; what was not measured is None.

    Attributes
    ----------
    error : float
        Largest relative error over wanted times and trajectories, of BA, or of A and B where `factors`.
    peak : int
        Bytes of the engine's process at its largest during the run.
    ratio, wanted : float
        Seconds of the baseline over seconds of this line, and the least ratio (or most seconds, see `note`) asked for.
    """

    work: str
    engine: str
    threads: int | None = None
    seconds: float | None = None
    evaluations: int | None = None
    error: float | None = None
    factors: bool = False
    peak: int | None = None
    ratio: float | None = None
    wanted: float | None = None
    note: str = ""


def slope(x: list[float], y: list[float]) -> float:
    """Exponent of y ∝ x^p by least squares in logarithms."""
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    spread = sum((v - mean_a) ** 2 for v in a)
    return sum((v - mean_a) * (w - mean_b) for v, w in zip(a, b, strict=True)) / spread


def extrapolated(by_rank: dict[int, float], ranks: tuple[int, ...], times: float = 1.0) -> float:
    """Sum over all `ranks` of what was measured at some, linear between them, times a number of repetitions."""
    known = sorted(by_rank)
    total = 0.0
    for rank in ranks:
        below = max([k for k in known if k <= rank], default=known[0])
        above = min([k for k in known if k >= rank], default=known[-1])
        share = (rank - below) / (above - below) if above > below else 0.0
        total += by_rank[below] + share * (by_rank[above] - by_rank[below])
    return times * total
