"""A result in numbers, as the command line and the report page tell it: outcomes, ranks, laws, points of a sweep.

Nothing here imports numpy or xarray before it is asked: the command line answers at once.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray

#: How a flow may end without having been solved to its last time. Descent that diverges is a result.
FLOW_INCOMPLETE = frozenset({"diverged", "step_underflow", "max_steps", "failed", "not_run"})
NEVER_COMPLETE = frozenset({"failed", "not_run"})


def outcomes(tree: xarray.DataTree) -> dict[str, dict[str, int]]:
    """How the trajectories of each schedule ended: label -> outcome -> how many, the most frequent first.

    Of a sweep those of all points.
    """
    cells = tree["final"].to_dataset()["outcome"].transpose("schedule", ...)
    labels = map(str, cells["schedule"].values)
    return {
        label: dict(Counter(map(str, row.ravel())).most_common())
        for label, row in zip(labels, cells.values, strict=True)
    }


def incomplete(tree: xarray.DataTree) -> list[str]:
    """One line for every trajectory that failed, was not run, or is a flow that did not complete.

    Parameters
    ----------
    tree : xarray.DataTree
        A result, with `outcome` and, if it was recorded, `reason` (schedule, rank, seed) in ``/final``.
    """
    import numpy as np

    final = tree["final"].dataset
    axes = [str(dim) for dim in final["outcome"].dims if dim not in ("schedule", "rank", "seed")]
    order = ("schedule", *axes, "rank", "seed")
    cells = final["outcome"].transpose(*order)
    reasons = final["reason"].transpose(*order).values if "reason" in final else None
    lines = []
    for i, label in enumerate(map(str, cells["schedule"].values)):
        bad = FLOW_INCOMPLETE if label.split("/")[0] == "flow" else NEVER_COMPLETE
        words = cells[i].values
        for place in np.argwhere(np.isin(words, sorted(bad))).tolist():
            named = [(f"{dim}=" if dim in axes else f"{dim} ") for dim in order[1:]]
            at = [f"{name}{cells[dim].values[j]}" for name, dim, j in zip(named, order[1:], place, strict=True)]
            reason = f" ({reasons[i, *place]})" if reasons is not None and reasons[i, *place] else ""
            lines.append(f"{', '.join([label, *at])}: {words[tuple(place)]}{reason}")
    return lines


def result_ranks(tree: xarray.DataTree) -> list[dict[str, Any]]:
    """One row per rank of a result: theory beside the simultaneous flow, medians over seeds.

    Parameters
    ----------
    tree : xarray.DataTree
        A result, with the groups ``/trajectory``, ``/final`` and ``/theory``.

    Returns
    -------
    list of dict
        rank, parameters, energy, loss_floor, loss_start, loss, relative_error; NaN where there is none, as for a rank
        that failed.
    """
    theory, final = tree["theory"].to_dataset(), tree["final"].to_dataset().sel(schedule="flow")
    start = tree["trajectory"].to_dataset()["loss"].sel(schedule="flow").isel(time=0)
    rows = []
    for rank in final["rank"].values:
        known, ended = theory.sel(rank=rank), final.sel(rank=rank)
        rows.append(
            {
                "rank": int(rank),
                "parameters": _whole(_median(known["parameters"])),
                "energy": _median(known["energy"]),
                "loss_floor": _median(known["loss_floor"]),
                "loss_start": _median(start.sel(rank=rank)),
                "loss": _median(ended["loss"]),
                "relative_error": _median(ended["relative_error"]),
            }
        )
    return rows


def _median(values: xarray.DataArray) -> float:
    """The median of what is not NaN; NaN where nothing is left."""
    import numpy as np

    numbers = np.asarray(values.values, dtype=float).ravel()
    numbers = numbers[~np.isnan(numbers)]
    return float(np.median(numbers)) if numbers.size else float("nan")


def _whole(value: float) -> float | int:
    """A count without its decimal point, if it is one."""
    return int(value) if value.is_integer() else value


@dataclass(frozen=True)
class LawRow:
    """Trace-squared: relative error of one rank and kind of start, measured and by the exact law."""

    rank: int
    start: str
    measured: float
    exact: float

    @property
    def ratio(self) -> float:
        """Measured over exact; NaN where the exact one is zero."""
        return self.measured / self.exact if self.exact > 0 else math.nan


def law_rows(tree: xarray.DataTree) -> list[LawRow]:
    """Trace-squared: measured and exact relative error of each rank; empty for sweeps and others.

    Random starts are averaged as root mean squares; below each rank the same start with orthonormal rows, integrated.
    """
    if tree.attrs.get("objective") != "trace_squared" or tree.attrs.get("sweep", "[]") != "[]":
        return []
    theory, companions = tree["theory"].to_dataset(), tree["companions"].to_dataset()
    run = tree["final"].to_dataset()["relative_error"].sel(schedule="flow")
    kind = str(json.loads(str(tree.attrs["resolved_scenario"]))["adapter"]["init"]["kind"])
    seeds = run.sizes["seed"]
    starts = [
        (kind + (f", {seeds} seeds" if seeds > 1 else ""), run, theory["relative_error_horizon"]),
        (
            "orthonormal rows",
            companions["relative_error"].sel(companion="orthonormal").isel(time=-1),
            theory["orthonormal_error"],
        ),
    ]
    rows = []
    for rank in run["rank"].values.tolist():
        for name, found, wanted in starts:
            # The twin is made for one seed: a pair counts where both numbers are there.
            pair = [values.sel(rank=rank).values for values in (found, wanted)]
            both = [math.isfinite(a) and math.isfinite(b) for a, b in zip(*pair, strict=True)]
            if any(both):
                measured, exact = (math.sqrt(float((values[both] ** 2).mean())) for values in pair)
                rows.append(LawRow(int(rank), name, measured, exact))
    return rows


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
