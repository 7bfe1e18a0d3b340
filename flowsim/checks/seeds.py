"""From the seeds of a rank to its findings: the worst one that was computed, and a word on those that were not."""

from __future__ import annotations

from collections.abc import Callable

from flowsim.checks.base import Finding, unresolved, worst
from flowsim.checks.view import FLOW, View


def worst_seed(view: View, rank: int, judge: Callable[[int], Finding], label: int | str = FLOW) -> list[Finding]:
    """The worst finding over the seeds of a rank that were computed, and what `lost` says of the others.

    Parameters
    ----------
    judge : callable
        Judges one seed, by its place.
    label : int or str
        What is judged: a schedule by its place, or a name.
    """
    found = [judge(seed) for seed in view.solved(rank)]
    return ([worst(found)] if found else []) + lost(view, rank, label)


def lost(view: View, rank: int, label: int | str = FLOW) -> list[Finding]:
    """One unresolved finding for the seeds of a rank that were not computed; none where all were."""
    solved = set(view.solved(rank))
    missing = [seed for seed in range(len(view.seeds)) if seed not in solved]
    if not missing:
        return []
    reason = str(view.final("reason", FLOW, rank)[missing[0]])
    count = f"{len(missing)} of {len(view.seeds)} seeds were not computed" if len(view.seeds) > 1 else "not computed"
    return [unresolved(view.subject(label, rank, missing[0]), f"{count}: {reason}")]
