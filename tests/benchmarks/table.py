"""The races by name."""

from __future__ import annotations

from tests.benchmarks.engines import PEERS, Sample
from tests.benchmarks.race import Race
from tests.benchmarks.work import Work

SWEPT = (1, 2, 4, 6, 8, 10, 12, 16)

RACES = {
    "small": Race("n = 64, r = 4, T = 150", Work(64, (4,), 150.0), peers=PEERS),
    "n256-r16": Race("n = 256, r = 16, T = 1260", Work(256, (16,), 1260.0), peers=PEERS, wanted=40),
    "n256-r16-plateaus": Race(
        "n = 256, r = 16, T = 1260, times growing geometrically", Work(256, (16,), 1260.0, times="growing")
    ),
    "n256-r64": Race("n = 256, r = 64, T = 11460", Work(256, (64,), 11460.0), wanted=200, slow=True),
    "n1024-r16": Race("n = 1024, r = 16, T = 1300", Work(1024, (16,), 1300.0), wanted=300, slow=True),
    "n1024-r64": Race(
        "n = 1024, r = 64, T = 12000", Work(1024, (64,), 12000.0), part=0.02, bound=1e-6, slow=True
    ),
    "sweep": Race(
        "8 ranks (1 … 16) × 8 seeds, n = 256, T = 300", Work(256, SWEPT, 300.0, seeds=8), wanted=40, slow=True
    ),
    "kaiming-n256": Race(
        "Kaiming, n = 256, r = 16, T = 1260", Work(256, (16,), 1260.0, start="kaiming"),
        peers=("torchode dopri5", "diffrax tsit5", "scipy RK45"), wanted=25,
    ),
    "kaiming-n1024": Race(
        "Kaiming, n = 1024, r = 16, T = 1260", Work(1024, (16,), 1260.0, start="kaiming"), wanted=200, slow=True
    ),
    "factors": Race(
        "A and B within 1e-6, n = 1024, r = 16, T = 1300", Work(1024, (16,), 1300.0), bound=1e-6, factors=True,
        wanted=60, slow=True,
    ),
    "trace-squared": Race(
        "tr², n = 256, r = 16, T = 20", Work(256, (16,), 20.0, kind="trace_squared"), peers=PEERS
    ),
    "trace-squared-sweep": Race(
        "tr², n = 1024, ranks 1 … 64 × 32 seeds, T = 20, functions saved",
        Work(1024, tuple(range(1, 65)), 20.0, seeds=32, kind="trace_squared"),
        baseline=Sample((1, 16, 32, 48, 64), 2), save="functions", wanted=500, slow=True,
    ),
    "kaiming-n4096": Race(
        "Kaiming from a dense Δ, n = 4096, r = 16, T = 1260", Work(4096, (16,), 1260.0, start="kaiming"),
        part=0.005, bound=1e-6, most=3.0, slow=True,
    ),
}  # fmt: skip
