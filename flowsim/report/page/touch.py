"""The numbers behind the chart that readers move through time: medians over seeds, few digits, a bounded size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup
from matplotlib.colors import to_hex

from flowsim.report.canvas import rank_looks
from flowsim.report.data import Array, Result, schedule_words, some, spread
from flowsim.report.modes import target_values
from flowsim.trajectory.points import axes_of

MOST_TIMES, MOST_RANKS, MOST_MODES = 121, 8, 8
MOST_NUMBERS = 60_000  # of all schedules together: half a megabyte
DIGITS = 4


def touchable(tree: xr.DataTree) -> tuple[Markup | None, int]:
    """What the chart needs as JSON, and how many schedules are left out; None where there is nothing to move through.

    Returns
    -------
    Markup
        `ranks` (with colour and marker as in the figures), `targets` (singular values of the difference, null where
        not known), `reach`, and for each of `schedules` its `label`, `times` and, a row a rank, `excess`, `loss`
        (rank, time) and `modes` (rank, time, mode).
    """
    if axes_of(tree):
        return None, 0
    result = Result.of(tree)
    if len(result.times()) < 2 or not result.has("trajectory", "loss"):
        return None, 0
    ranks = some(len(result.ranks), MOST_RANKS)
    modes = min(MOST_MODES, max(result.ranks))
    looks = rank_looks(result.ranks)
    numbers = min(len(result.times()), MOST_TIMES) * len(ranks) * (2 + modes)
    most = max(MOST_NUMBERS // numbers, 1)
    data = {
        "ranks": [
            {"rank": result.ranks[place], "colour": to_hex(looks[place][0]), "marker": looks[place][1]}
            for place in ranks
        ],
        "targets": _rounded(target_values(result)[:modes]),
        "seeds": len(result.view.seeds),
        "log": result.view.scenario.get("time", {}).get("spacing") == "log",
        "schedules": [_schedule(result, row, ranks, modes) for row in _chosen(result, most)],
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # A label may hold </script>.
    return Markup(text.replace("<", r"\u003c")), len(result.view.schedules) - len(data["schedules"])


def _chosen(result: Result, most: int) -> list[dict[str, Any]]:
    """The flow, then the largest and smallest step of each family, then the others; at most so many, in file order."""
    first = [0, *(family.places[0] for family in result.families), *(family.places[-1] for family in result.families)]
    order = dict.fromkeys([*first, *range(len(result.view.schedules))])
    kept = set(list(order)[:most])
    return [row for row in result.view.schedules if row["place"] in kept]


def _schedule(result: Result, row: dict[str, Any], ranks: list[int], modes: int) -> dict[str, Any]:
    place = int(row["place"])
    times = some(len(result.times(place)), MOST_TIMES)

    def median(name: str, rank: int) -> Array:
        return spread(result.path(name, rank, place)[:, times], axis=0).middle

    return {
        "label": schedule_words(row),
        "times": _rounded(result.times(place)[times]),
        "excess": [_rounded(median("excess_loss", rank)) for rank in ranks],
        "loss": [_rounded(median("loss", rank)) for rank in ranks],
        "modes": [_rounded(median("singular_value", rank)[:, : min(modes, result.ranks[rank])]) for rank in ranks],
    }


def _rounded(values: Array) -> Any:
    """Nested lists of few digits; None for what is not finite."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]
