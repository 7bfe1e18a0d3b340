"""What a phase diagram shows of a sweep: which keys span it, which ranks, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import xarray as xr

from flowsim.errors import InputError
from flowsim.report.canvas import drawable
from flowsim.report.cells import LONGEST, Direction
from flowsim.report.data import Array, Result
from flowsim.report.ends import Ends, flow_ends
from flowsim.report.words import shortened
from flowsim.scenario.sweep import Axis
from flowsim.trajectory.points import axes_of

RANK = "rank"
MOST_ROWS = 3  # of panels: ranks, or values of a third key
Chosen = tuple["Axis | str | None", "Axis | str | None"]  # keys for x and y; RANK; None: not asked for
MOST_SPELT, LONGEST_SPELT = 8, 90  # texts that the notes spell out, and their letters


@dataclass(frozen=True)
class Block:
    """One row of panels: its title, and the ends of the flow as (y, x) arrays."""

    title: str
    ends: Ends


@dataclass(frozen=True)
class Layout:
    """Two directions, rows of panels over them, and sentences on what is shown."""

    x: Direction
    y: Direction
    blocks: list[Block]
    notes: list[str]

    @property
    def seeds(self) -> int:
        """Number of seeds behind each cell."""
        return self.blocks[0].ends.seeds

    def together(self, name: str) -> Array:
        """A number of all blocks, (row, y, x)."""
        return np.stack([np.asarray(getattr(block.ends, name), dtype=float) for block in self.blocks])


def lay_out(result: Result, axes: Sequence[Axis], x: str = "", y: str = "") -> Layout:
    """Choose what is shown: the first two keys with several values, or the only one against the rank.

    A third key with few values, else few ranks, become rows of panels; all further keys are at their first value, and
    of many ranks the largest is shown.

    Parameters
    ----------
    x, y : str
        Keys, by name or path, or `rank`, for the two directions; empty: as above.

    Raises
    ------
    InputError
        If such a key is not swept, or both are the same.
    """
    chosen = (_key(axes, x), _key(axes, y))
    _check_differ(chosen, x)
    named = [key for key in chosen if isinstance(key, Axis)]
    several = named + [axis for axis in axes if len(axis.values) > 1 and axis not in named] or list(axes[:1])
    if RANK in chosen or len(several) == 1:
        layout, shown = _against_rank(result, several[0], axes, chosen), several[:1]
    else:
        if chosen[1] is not None and chosen[0] is None:  # the key of y came first
            several[:2] = several[1::-1]
        layout = _two_keys(result, several, axes, fixed=bool(named))
        shown = several[:3] if len(several) > 2 and len(several[2].values) <= MOST_ROWS else several[:2]
    fixed = [axis for axis in axes if axis not in shown and len(axis.values) > 1]
    if fixed:
        words = ", ".join(f"{axis.path} = {axis.texts[0]} (of {len(axis.values)})" for axis in fixed)
        layout.notes.append(drawable(f"Other keys at their first value: {words}."))
    for direction, way in ((layout.x, "left to right"), (layout.y, "top to bottom")):
        if direction.numbers is None and any(shortened(text, LONGEST) != text for text in direction.texts):
            spelt = [shortened(text, LONGEST_SPELT) for text in direction.texts[:MOST_SPELT]]
            more = f"; and {len(direction.texts) - MOST_SPELT} more" if len(direction.texts) > MOST_SPELT else ""
            layout.notes.append(drawable(f"{direction.label}, {way}: {'; '.join(spelt)}{more}."))
    return layout


def check_keys(tree: xr.DataTree, x: str, y: str) -> None:
    """Refuse keys that are not swept; arguments and errors as of `lay_out`, nothing is read."""
    axes = axes_of(tree)
    _check_differ((_key(axes, x), _key(axes, y)), x)


def _key(axes: Sequence[Axis], name: str) -> Axis | str | None:
    """The swept key of that name or path, `rank`, or None where no key is asked for."""
    if not name:
        return None
    names: dict[str, Axis | str] = {RANK: RANK} | {key: axis for axis in axes for key in (axis.path, axis.name)}
    if name in names:
        return names[name]
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    swept = ", ".join(axis.name for axis in axes)
    raise InputError(f"{name[:60]!r} is not swept here", f"{guess}The swept keys are: {swept}; and there is {RANK}.")


def _check_differ(chosen: Chosen, x: str) -> None:
    if chosen[0] is not None and chosen[0] == chosen[1]:
        raise InputError(f"{x[:60]!r} is asked for both directions", "Choose two keys, or one and rank.")


def _two_keys(result: Result, several: Sequence[Axis], axes: Sequence[Axis], *, fixed: bool) -> Layout:
    first, second, *others = several
    x, y = _direction(first), _direction(second)
    keys = [second, first]
    if not fixed and x.numbers is None and _longest(x) > _longest(y):  # long texts are easier to read beside the panels
        x, y, keys = y, x, keys[::-1]
    tree, top = result.view.tree, result.order[-1]

    def block(title: str, rank: int, at: dict[str, int]) -> Block:
        return Block(title, _ordered(flow_ends(tree, keys, rank, at), y, x))

    rest = {axis.name: 0 for axis in axes if axis not in keys}
    if others and len(others[0].values) <= MOST_ROWS:
        third = others[0]
        blocks = [
            block(drawable(f"{third.name} = {shortened(text, LONGEST)}"), top, {**rest, third.name: place})
            for place, text in enumerate(third.texts)
        ]
        return Layout(x, y, blocks, [f"Flow of rank {result.ranks[-1]}{_of(result.ranks)}."])
    if len(result.ranks) <= MOST_ROWS and len(several) == 2:
        pairs = list(zip(result.ranks, result.order, strict=True))
        blocks = [block(f"r = {rank}" if len(pairs) > 1 else "", place, rest) for rank, place in pairs]
        return Layout(x, y, blocks, [f"Flow of rank {result.ranks[0]}."] if len(pairs) == 1 else [])
    return Layout(x, y, [block("", top, rest)], [f"Flow of rank {result.ranks[-1]}{_of(result.ranks)}."])


def _against_rank(result: Result, key: Axis, axes: Sequence[Axis], chosen: Chosen) -> Layout:
    """One key and the rank: numbers of the key along x, texts along y, unless asked otherwise."""
    own = _direction(key)
    ranks = Direction.of("rank r", result.view.ranks, [str(rank) for rank in result.view.ranks])
    rest = {axis.name: 0 for axis in axes if axis is not key}
    ends = Ends.stacked([flow_ends(result.view.tree, [key], place, rest) for place in range(len(ranks.order))])
    turned = chosen[0] == RANK or isinstance(chosen[1], Axis)
    if turned or (own.numbers is None and chosen == (None, None)):
        ends = ends.arranged(lambda part: np.swapaxes(part, 0, 1))
        return Layout(ranks, own, [Block("", _ordered(ends, own, ranks))], [])
    return Layout(own, ranks, [Block("", _ordered(ends, ranks, own))], [])


def _direction(axis: Axis) -> Direction:
    """The cells of a key; of mappings, what they have in common is said once, beside the key."""
    if not all(isinstance(value, dict) for value in axis.values) or len(axis.values) < 2:
        return Direction.of(axis.path, axis.coordinate, axis.texts)
    first = axis.values[0]
    common = {key: value for key, value in first.items() if all(one.get(key, first) == value for one in axis.values)}
    rest = [{key: value for key, value in one.items() if key not in common} for one in axis.values]
    shared, *texts = (text[1:-1] for text in Axis(axis.path, axis.name, (common, *rest)).texts)
    label = f"{axis.path} ({shared})" if shared else axis.path
    return Direction.of(label, texts, [text or "–" for text in texts])


def _longest(direction: Direction) -> int:
    return max(len(text) for text in direction.texts) if direction.numbers is None else 0


def _ordered(ends: Ends, y: Direction, x: Direction) -> Ends:
    """Cells in the order in which they are drawn."""
    return ends.arranged(lambda part: part[np.ix_(y.order, x.order)])


def _of(ranks: Sequence[int]) -> str:
    return f", the largest of {len(ranks)} ranks" if len(ranks) > 1 else ""
