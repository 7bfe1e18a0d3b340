"""Run benchmarks and write their table: python -m tests.benchmarks [NAME ...] [--quick]."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import race, report
from tests.benchmarks.child import Failed
from tests.benchmarks.claims import CLAIMS, SLOW_CLAIMS
from tests.benchmarks.lines import Line
from tests.benchmarks.table import RACES


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = (*RACES, *CLAIMS)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to run, all if none is named: {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="leave out what takes more than about a minute")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a peer may take (default 60)")
    parser.add_argument("--out", type=Path, default=report.ROOT / "results" / "benchmarks", help="folder of the tables")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(names)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    chosen = [name for name in names if not given.names or name in given.names]
    slow = {name for name, one in RACES.items() if one.slow}.union(SLOW_CLAIMS) if given.quick else set()
    left_out = [name for name in chosen if name in slow]
    references, lines, about, files = given.out / "references", [], report.origin(), ()
    for name in chosen:
        if name not in left_out:
            lines += timed(name, references, given.limit)
            files = report.write(lines, about, given.out)  # what is done stays if the rest is interrupted
    print("\n" + report.terminal(lines))
    print(f"\n{about['date']}, {about['machine']}, load {about['load']} before")
    if left_out:
        print(f"left out by --quick: {', '.join(left_out)}")
    for file in files:
        print(file)
    return 0


def timed(name: str, references: Path, limit: float) -> list[Line]:
    """The lines of one benchmark, with its progress on the terminal."""
    print(name, flush=True)
    began = time.perf_counter()

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        lines = race.run(RACES[name], references, say, limit) if name in RACES else CLAIMS[name](references, say)
    except Failed as failed:
        say(str(failed))
        lines = [Line(name, "flowsim", note=f"FAILED: {str(failed).strip().splitlines()[-1]}")]
    print(f"  took {time.perf_counter() - began:.0f} s", flush=True)
    return lines


if __name__ == "__main__":
    sys.exit(main())
