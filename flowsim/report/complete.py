"""How much of a result is there: trajectories that failed, were not run, stopped early or diverged."""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr

from flowsim.report.words import counted
from flowsim.sweep.outcome import Outcome

LOST = (Outcome.FAILED, Outcome.NOT_RUN)
EARLY = (Outcome.STEP_UNDERFLOW, Outcome.MAX_STEPS)


def completeness(tree: xr.DataTree) -> str:
    """Whether every trajectory of a result came to its end, in words without a full stop.

    Parameters
    ----------
    tree : DataTree
        A result, one point of a sweep, or a subset of its ranks and seeds; in memory or opened lazily.

    Returns
    -------
    str
        Such as `all 380 trajectories complete`, `12 of 380 trajectories diverged`, or
        `3 of 380 trajectories failed or were not run; 1 tile missing`.
    """
    total, found = _counts(tree)
    if not found:
        return f"all {total} trajectories complete" if total != 1 else "its one trajectory is complete"
    (first, word), *rest = found
    parts = [f"{first} of {counted(total, 'trajectory', 'trajectories')} {word}"]
    parts += [f"{count} {word}" for count, word in rest]
    tiles = _tiles(tree)
    if tiles and any("failed" in word for _, word in found):
        parts.append(f"{counted(tiles, 'tile')} missing")
    return "; ".join(parts)


def completeness_in_short(tree: xr.DataTree) -> str:
    """The same for a footer: `380 trajectories`, or `12 of 380 trajectories diverged`."""
    total, found = _counts(tree)
    if not found:
        return counted(total, "trajectory complete", "trajectories complete")
    return completeness(tree)


def _counts(tree: xr.DataTree) -> tuple[int, list[tuple[int, str]]]:
    """All trajectories, and how many of them did not come to their end in which way, the gravest first."""
    words: Counter[str] = Counter()
    outcome = tree["final"].dataset["outcome"].variable
    for place in range(outcome.shape[0]):  # a piece at a time: a sweep may have many
        words.update(map(str, np.asarray(outcome[place].values).ravel().tolist()))
    known = {str(word) for word in Outcome}
    found = [
        (sum(words[str(word)] for word in LOST), "failed or were not run"),
        (sum(words[str(word)] for word in EARLY), "stopped before the last time"),
        (words[str(Outcome.DIVERGED)], "diverged"),
        (sum(count for word, count in words.items() if word not in known), "ended in a way that is not known"),
    ]
    return sum(words.values()), [(count, word) for count, word in found if count]


def _tiles(tree: xr.DataTree) -> int:
    """Tiles of the whole run that could not be computed."""
    try:
        return max(int(tree.attrs.get("failed_tiles", 0)), 0)
    except (TypeError, ValueError):
        return 0
