"""A sweep as a table: one row a point, how its flow ended and what the checks say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowsim.cli import tables
from flowsim.cli.listing import counted, printable

if TYPE_CHECKING:
    from flowsim.scenario import Axis

MOST_ROWS = 24  # shown without being asked for all


def point_table(rows: Sequence[Mapping[str, Any]], axes: Sequence[Axis], *, every: bool) -> str:
    """A table of `point_rows`; a long one is cut and says how to see all of it."""
    shown = list(zip(rows, itertools.product(*(axis.texts for axis in axes)), strict=True))
    if not every and len(shown) > MOST_ROWS:
        shown = shown[: MOST_ROWS - 1]
    rank = rows[0]["rank"]  # outcomes and verdicts count all of them
    names = [*(axis.name for axis in axes), "outcomes", f"final loss, r={rank}", f"time to reach, r={rank}", "verdicts"]
    cells = [
        [
            *map(printable, texts),
            counted(row["outcomes"]),
            tables.number(row["loss"]),
            tables.number(row["reach_time"]),
            counted(row["verdicts"]),
        ]
        for row, texts in shown
    ]
    text = tables.table(names, cells, right=(len(names) - 3, len(names) - 2))
    left = len(rows) - len(shown)
    return f"{text}\n… {left} more points; flowsim show RESULT --all shows every one" if left else text
