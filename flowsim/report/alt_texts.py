"""Alternative texts: what a reader who cannot see a figure has to know of it, in numbers from the result."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowsim.checks.view import FLOW
from flowsim.report.data import Array, Family, Result, largest_over_time, number, spread
from flowsim.report.equivalence import PANELS, curves_of, shown_rank
from flowsim.report.modes import target_values
from flowsim.report.words import counted, listed, sentence

MOST_FAMILIES = 6  # comparisons that are told one by one
MOST_MODES = 5


def of_loss(tree: xr.DataTree) -> str:
    """Of `loss_vs_rank`."""
    result = Result.of(tree)
    finals, floor = spread(result.finals("loss")).middle, result.theory("loss_floor")[:, 0]
    said = [
        f"Chart of the final loss over the rank{_over_seeds(result)}",
        course("the final loss", finals, _at_ranks(result)),
        _floors(result, finals, floor),
    ]
    limits = np.asarray(result.limit_excess() > result.goals())
    if limits.any():
        said.append(f"theory sends {_ranks(result, limits)} to a limit above the floor")
    return _joined(said, result)


def of_time(tree: xr.DataTree) -> str:
    """Of `loss_vs_time`."""
    result = Result.of(tree)
    times, last = result.times(), len(result.ranks) - 1
    said = [
        f"Chart of the excess loss of {_ranks(result)} over flow time 0 to {number(times[-1])}{_over_seeds(result)}"
    ]
    start, end = spread(result.starts("excess_loss")).middle, spread(result.finals("excess_loss")).middle
    for place in dict.fromkeys((0, last)):
        what = f"at rank {result.ranks[place]} the excess loss"
        ends = np.array([start[place], end[place]])
        said.append(course(what, ends, ["t = 0", f"t = {number(times[-1])}"]))
    said.append(_reached(result))
    return _joined(said, result)


def of_error(tree: xr.DataTree) -> str:
    """Of `relative_error_vs_rank`."""
    result = Result.of(tree)
    values, exact = result.finals("relative_error"), result.theory("relative_error_limit")
    said = [
        f"Chart of the relative error over the rank{_over_seeds(result)}",
        course("the relative error", spread(values).middle, _at_ranks(result)),
    ]
    known = np.isfinite(values) & np.isfinite(exact) & (exact > 0)
    if known.any():
        with np.errstate(over="ignore"):
            ratio = np.where(known, values, 1.0) / np.where(known, exact, 1.0)
        away = float(np.abs(ratio - 1).max())
        said.append(f"it differs from the exact limit of its start by at most {number(away)} of it")
    return _joined(said, result)


def of_equivalence(tree: xr.DataTree) -> str:
    """Of `equivalence`."""
    result = Result.of(tree)
    place = shown_rank(result)
    said, families = [f"Chart of gaps against the step at rank {result.ranks[place]}{_over_seeds(result)}"], []
    for panel in PANELS:
        for curve in curves_of(result, panel, place):
            steps = [f"step {number(float(step))}" for step in curve.family.steps]
            way = curve.family.label.partition(", ")[2]
            what = f"{panel.title.replace(chr(10), ' ')}, {way}: the gap"
            families.append(course(what, curve.measured.middle, steps))
    said += families[:MOST_FAMILIES]
    if len(families) > MOST_FAMILIES:
        said.append(f"{len(families) - MOST_FAMILIES} more comparisons are shown")
    return _joined(said if families else [*said, "no gap is positive and finite"], result)


def of_modes(tree: xr.DataTree) -> str:
    """Of `singular_values`."""
    result = Result.of(tree)
    place = len(result.ranks) - 1
    rank, times = result.ranks[place], result.times()
    path = result.path("singular_value", place)[0, :, :rank]
    known = np.isfinite(path).all(-1)
    said = [f"Charts of the singular values of s·BA of {_ranks(result)} over flow time 0 to {number(times[-1])}"]
    if known.any():
        last = int(np.flatnonzero(known)[-1])
        said.append(f"at rank {rank} they are {_values(path[last])} at t = {number(times[last])}")
    else:
        said.append(f"at rank {rank} none is finite")
    targets = target_values(result)[:rank]
    if np.isfinite(targets).any():
        said.append(f"those of the difference are {_values(targets)}")
    return _joined(said, result)


def of_imbalance(tree: xr.DataTree) -> str:
    """Of `imbalance`."""
    result = Result.of(tree)
    said = [
        f"Chart of the drift of the imbalance over flow time 0 to {number(result.times()[-1])}{_over_seeds(result)}"
    ]
    flow = _drifts(result, FLOW)
    known = np.isfinite(flow)
    if known.any():
        top = int(np.argmax(np.where(known, flow, -np.inf)))
        said.append(f"along the flow it is at most {number(float(flow[top]))}, at rank {result.ranks[top]}")
    else:
        said.append("along the flow it is not finite")
    for family in result.families[:MOST_FAMILIES]:
        said += _drift_of(result, family)
    return _joined(said, result)


def _drift_of(result: Result, family: Family) -> list[str]:
    """The drift of one family at the largest rank, for its largest and smallest step."""
    ends = list(dict.fromkeys((0, len(family.places) - 1)))
    drifts = [float(_drifts(result, family.places[end])[-1]) for end in ends]
    steps = [f"step {number(float(family.steps[end]))}" for end in ends]
    return [course(f"{family.label}, rank {result.ranks[-1]}: the drift", np.array(drifts), steps)]


def _drifts(result: Result, schedule: int) -> Array:
    """(rank,) the largest drift over time, median over seeds."""
    paths = [largest_over_time(result.path("imbalance_drift", rank, schedule)) for rank in range(len(result.ranks))]
    return spread(np.stack(paths)).middle


def course(what: str, values: Array, places: Sequence[str]) -> str:
    """How numbers go from the first finite one to the last: `the loss falls from 4.9 at rank 1 to 0.04 at rank 5`."""
    known = [int(place) for place in np.flatnonzero(np.isfinite(values))]
    if not known:
        return f"{what} is not finite"
    first, last = known[0], known[-1]
    start, end = number(float(values[first])), number(float(values[last]))
    shown = {number(float(values[place])) for place in known}
    if len(shown) == 1:
        return f"{what} is {start} at {places[first]}" if first == last else f"{what} is {start} throughout"
    pairs = list(itertools.pairwise(values[known].tolist()))
    ends = f"from {start} at {places[first]} to {end} at {places[last]}"
    if all(one >= other for one, other in pairs) or all(one <= other for one, other in pairs):
        return f"{what} {'falls' if values[last] < values[first] else 'rises'} {ends}"
    low, high = (number(float(pick(values[known]))) for pick in (np.min, np.max))
    return f"{what} goes {ends}, between {low} and {high}"


def _floors(result: Result, finals: Array, floor: Array) -> str:
    """Which ranks are on their floor, and how the others ended."""
    words = result.outcomes()
    done = (words == "reached").all(-1)
    if not np.isfinite(floor).any():
        return ""
    if done.all():
        return f"all {counted(len(done), 'rank')} lie on their floor" if len(done) > 1 else "it lies on its floor"
    ends = {str(word): np.asarray((words == word).any(-1)) for word in sorted(set(words.flat) - {"reached"})}
    rest = "; ".join(f"{word.replace('_', ' ')}: {_ranks(result, hit)}" for word, hit in ends.items())
    return f"{int(done.sum())} of {counted(len(done), 'rank')} lie on their floor with every seed; {rest}"


def _reached(result: Result) -> str:
    """When the goal is reached, by rank."""
    if not result.has("final", "reach_time"):
        return "no run reaches the goal"
    times = result.finals("reach_time")
    arrived = np.asarray(np.isfinite(times).all(-1))
    middle = np.where(arrived, spread(times).middle, np.nan)
    places = [f"rank {rank}" for rank in result.ranks]
    said = course("the time to reach the goal", middle, places) if arrived.any() else ""
    late = "" if arrived.all() else f"not all seeds of {_ranks(result, ~arrived)} reach the goal"
    return "; ".join(part for part in (said, late) if part)


def _values(values: Array) -> str:
    """The first few numbers."""
    texts = [number(float(value)) if np.isfinite(value) else "unknown" for value in values[:MOST_MODES]]
    return ", ".join(texts) + (f" and {len(values) - MOST_MODES} more" if len(values) > MOST_MODES else "")


def _at_ranks(result: Result) -> list[str]:
    return [f"rank {rank}" for rank in result.ranks]


def _ranks(result: Result, where: NDArray[np.bool_] | None = None) -> str:
    """`ranks 1–5`, or those of them that a mask picks."""
    ranks = result.ranks if where is None else [r for r, hit in zip(result.ranks, where, strict=True) if hit]
    return f"rank{'s' * (len(ranks) != 1)} {listed(ranks)}"


def _over_seeds(result: Result) -> str:
    seeds = len(result.view.seeds)
    return f" (medians over {seeds} seeds)" if seeds > 1 else ""


def _joined(said: list[str], result: Result) -> str:
    return " ".join(sentence(part) for part in [*said, *result.endings()] if part)
