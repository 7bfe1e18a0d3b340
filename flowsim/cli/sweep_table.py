"""A sweep as a table: one row a point, how its flow ended and what the checks say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowsim.cli import tables
from flowsim.cli.listing import counted, printable

if TYPE_CHECKING:
    import xarray

    from flowsim.scenario import Axis

MOST_ROWS = 24  # shown without being asked for all


def point_rows(tree: xarray.DataTree) -> list[dict[str, Any]]:
    """One row per point of a sweep, in the order of the file; the flow's numbers are read a slab at a time.

    Parameters
    ----------
    tree : xarray.DataTree
        The result of a sweep, in memory or opened lazily.

    Returns
    -------
    list of dict
        point: its label; at: value of each axis by name; outcomes: of the flow, all ranks and seeds, word -> how many;
        rank: the largest; loss, reach_time: of that rank, medians over seeds (a seed that did not reach counts as
        latest), NaN where there is none; verdicts: word -> how many.
    """
    import numpy as np

    from flowsim.report.ends import WORDS, flow_ends
    from flowsim.trajectory.points import axes_of, point_label

    axes = axes_of(tree)
    ranks = tree["final"].dataset["rank"].values
    each = [flow_ends(tree, axes, place) for place in range(len(ranks))]
    counts = np.sum([ends.counts for ends in each], axis=0)
    top = each[int(np.argmax(ranks))]
    shape = top.loss.shape
    labels = [point_label(axes, place) for place in np.ndindex(shape)]
    verdicts = verdicts_by_point(tree, labels)
    rows = []
    for label, place in zip(labels, np.ndindex(shape), strict=True):
        found = {word: int(count) for word, count in zip(WORDS, counts[place], strict=True) if count}
        rows.append(
            {
                "point": label,
                "at": {axis.name: axis.values[spot] for axis, spot in zip(axes, place, strict=True)},
                "outcomes": dict(sorted(found.items(), key=lambda item: -item[1])),
                "rank": int(max(ranks)),
                "loss": float(top.loss[place]),
                "reach_time": float(top.reach_time[place]),
                "verdicts": verdicts[label],
            }
        )
    return rows


def verdicts_by_point(tree: xarray.DataTree, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many verdicts of each kind every point has, the best first."""
    from flowsim.checks.base import SEVERITY

    counts: dict[str, dict[str, int]] = {label: {str(word): 0 for word in SEVERITY} for label in labels}
    checks = tree["checks"].dataset
    if "subject" not in checks:
        return {label: {} for label in labels}
    for subject, verdict in zip(checks["subject"].values, checks["verdict"].values, strict=True):
        # A value may hold a slash itself: of all beginnings that are labels the longest is meant.
        parts = str(subject).split("/")
        beginnings = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
        label = next((one for one in beginnings if one in counts), None)
        if label is not None:
            counts[label][str(verdict)] = counts[label].get(str(verdict), 0) + 1
    return {label: {word: count for word, count in own.items() if count} for label, own in counts.items()}


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
