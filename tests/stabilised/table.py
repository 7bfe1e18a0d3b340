"""Find the table of stabilised pairs, or better ones than it holds.

    python -m tests.stabilised.table [--stages 8 9 …] [--seconds 60] [--seed 0]

Each stage count starts from what the table holds, from the pair with one stage less, and from nothing, and keeps the
best; the table is rewritten whenever one was found. A run that finds nothing better changes nothing.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from flowsim.integrators.adaptive.stabilised import TABLE
from tests.stabilised.formula import DAMPING, ORDER, Array, Formula
from tests.stabilised.search import fresh, grown, improve

STAGES = (8, 9, 10, 11, 12, 13, 14, 15, 16)


def entries() -> list[dict]:
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else []


def stored() -> dict[int, Array]:
    """Coefficients of every pair of the table, by its number of stages."""
    return {len(one["rows"]): vector(one) for one in entries()}


def formulas() -> dict[int, Formula]:
    """The conditions and goals of every pair of the table, with the polynomials of the table."""
    known = [(len(one["rows"]), (one["interval"], tuple(one["polynomial"]))) for one in entries()]
    return {stages: Formula(stages, polynomial) for stages, polynomial in known}


def vector(entry: dict) -> Array:
    """A pair of the table as `Formula` takes it."""
    *rows, weights = entry["rows"]
    return np.concatenate([np.concatenate(rows), weights, entry["error"]])


def write(pairs: dict[int, Array]) -> None:
    """One line a pair."""
    lines = []
    for stages in sorted(pairs):
        formula = Formula(stages)
        A, b, e = formula.split(pairs[stages])
        rows = [A[i, :i].tolist() for i in range(1, stages)] + [b.tolist()]
        entry = {
            "order": ORDER, "interval": formula.interval, "damping": DAMPING, "polynomial": list(formula.powers),
            "rows": rows, "error": e.tolist(),
        }  # fmt: skip
        lines.append(json.dumps(entry))
    TABLE.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def find(stages: int, pairs: dict[int, Array], seconds: float, random: np.random.Generator) -> tuple[Array, float]:
    """The best pair with that many stages."""
    formula, until = Formula(stages), time.monotonic() + seconds
    best = improve(formula, pairs[stages]) if stages in pairs else None
    smaller = Formula(stages - 1) if stages - 1 in pairs else None
    turn = 0
    while time.monotonic() < until or best is None:
        turn += 1
        if best is not None and turn % 2:
            start: Array | None = best[0] + random.normal(size=formula.size) * 10 ** random.uniform(-2.5, -0.7)
        elif smaller is not None:
            start = grown(smaller, pairs[stages - 1], formula, random)
        else:
            start = fresh(formula, random)
        found = improve(formula, start) if start is not None else None
        if found is not None and (best is None or found[1] < best[1]):
            best = found
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="*", default=STAGES)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pairs, random = stored(), np.random.default_rng(options.seed)
    for stages in options.stages:
        formula = Formula(stages)
        before = np.inf if stages not in pairs else float(np.sum(formula.goals(pairs[stages]) ** 2))
        pair, cost = find(stages, pairs, options.seconds, random)
        print(f"{stages} stages, interval {formula.interval:.2f}: goals {before:.4g} -> {cost:.4g}", flush=True)
        if cost < before * (1 - 1e-3):
            pairs[stages] = pair
            write(pairs)


if __name__ == "__main__":
    main()
