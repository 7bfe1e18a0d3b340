"""The ``sweep`` section of a scenario: its keys in one form, and the axes that they mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from flowsim.scenario.sweep import Axis, axis_names
from flowsim.scenario.tree import Tree, dotted
from flowsim.scenario.types import Path, shown

__all__ = ["MAX_POINTS", "TOLD", "read_axes", "spread_out"]

# Each point is a run of its own.
MAX_POINTS = 10_000
# Mistakes of one kind that are told; the next ones look alike.
TOLD = 20
# No key of a scenario lies deeper.
_MAX_KEYS = 12

# What is the same at every point: why, and what to do instead.
_SAME = {
    "name": ("does not concern the numbers", "Leave it out: a sweep is one result with one name."),
    "title": ("does not concern the numbers", "Leave it out: a sweep is one result with one title."),
    "adapter.ranks": ("is a list already", "List the ranks in adapter.ranks: every point takes them all."),
    "adapter.seeds": ("is a list already", "Give the seeds in adapter.seeds: every point takes them all."),
    "schedules": ("is a list already", "List schedules, windows and learning_rates there: every point takes them all."),
    "time": ("is the same at every point", "Set time.stop to the longest: it holds the earlier times."),
    "checks": ("does not concern the numbers", "Set checks once: every point is judged by them."),
    "save": ("is the same at every point", "Set it once: every point is stored alike."),
    "compute.device": ("does not concern the numbers", "Set it once, or choose it for each run with --device."),
    "compute.threads": ("does not concern the numbers", "Set it once."),
    "sweep": ("a sweep holds no other", "List the keys side by side: every combination of their values is a point."),
}


def spread_out(tree: Tree) -> None:
    """Bring the keys of ``sweep`` into one form: ``adapter: {init: {std: [1]}}`` is ``adapter.init.std: [1]``.

    Parameters
    ----------
    tree : Tree
        Its data and places are changed; a key that is given twice is added to its mistakes.
    """
    section = tree.data.get("sweep")
    if not isinstance(section, dict) or not any(isinstance(value, dict) and value for value in section.values()):
        return
    flat: dict[str, Any] = {}
    moved: dict[Path, Path] = {}
    for old, value in list(_leaves(section, ("sweep",))):
        name = ".".join(map(str, old[1:]))
        new: Path = ("sweep", name)
        if name in flat:
            tree.add(old, "the key is given twice", "Remove one of the two.", key=True)
            continue
        flat[name] = value
        moved[old] = new
    tree.data["sweep"] = flat
    longest = max(map(len, moved))
    for places in (tree.places, tree.keys):
        above = {new: _nearest(places, old) for old, new in moved.items()}
        for old in [old for old in places if old[:1] == ("sweep",) and len(old) > 1]:
            place = places.pop(old)
            end = next((end for end in range(2, longest + 1) if old[:end] in moved), None)
            if end is not None:
                places[moved[old[:end]] + old[end:]] = place
        for new, nearest in above.items():
            if nearest is not None:
                places.setdefault(new, nearest)
    for old in [old for old in tree.refused if old[:1] == ("sweep",)]:
        end = next((end for end in range(2, longest + 1) if old[:end] in moved), None)
        if end is not None:
            tree.refused.add(moved[old[:end]] + old[end:])


def _leaves(section: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    """Whatever is not a section of keys, with its path."""
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _nearest(places: dict[Path, tuple[int, int] | str], path: Path) -> tuple[int, int] | str | None:
    """Where `path` stands, or else the place above it: a value from ``--set`` has one place only."""
    return next((places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in places), None)


def read_axes(tree: Tree) -> tuple[Axis, ...]:
    """Read the axes of the ``sweep`` section.

    Parameters
    ----------
    tree : Tree
        Data whose ``sweep`` was spread out. Whatever is wrong with a key or its list, whatever the other
        keys of the scenario are, is added to its mistakes.

    Returns
    -------
    tuple of Axis
        In the order of the text, without those that were refused. Whether a key exists and its values are
        valid is not known yet.
    """
    section = tree.data.get("sweep")
    if section is None:
        return ()
    if not isinstance(section, dict):
        what = f"should be a section of keys, not {'a list' if isinstance(section, list) else shown(section)}"
        tree.add(("sweep",), what, "Write keys with lists of values, such as adapter.init.std: [0.01, 0.1, 1].")
        return ()
    if not section:
        tree.add(("sweep",), "must not be empty", "Name a key and its values, or remove sweep.")
    good = [name for name, values in section.items() if _is_swept(tree, name, values)]
    good = [name for name in good if not _lies_above(tree, name, list(section))]
    points = math.prod(len(section[name]) for name in good)
    if points > MAX_POINTS:
        what = f"asks for {points if points < 10**15 else 'more than 10^15'} points, at most {MAX_POINTS} are allowed"
        tree.add(("sweep",), what, "Sweep fewer keys or values, in several scenarios.")
    names = axis_names(good)
    # Of too many points one is looked at.
    return tuple(
        Axis(path, name, tuple(section[path][:1] if points > MAX_POINTS else section[path]))
        for path, name in zip(good, names, strict=True)
    )


def _is_swept(tree: Tree, name: str, values: Any) -> bool:
    """Whether a key may be swept, and over these values."""
    path: Path = ("sweep", name)
    steps = name.split(".")
    if not all(steps) or len(steps) > _MAX_KEYS:
        what = "is not the path of a key" if not all(steps) else "unknown key: no key lies so deep"
        tree.add(path, what, "Write it as in adapter.init.std.", key=True)
        return False
    for same, (why, hint) in _SAME.items():
        if name == same or name.startswith(same + "."):
            what = why if same == "sweep" else f"cannot be swept: {dotted(tuple(same.split('.')))} {why}"
            tree.add(path, what, hint, key=True)
            return False
        if same.startswith(name + "."):
            hint = {"adapter": "adapter.init or adapter.scaling", "compute": "compute.dtype"}[name]
            tree.add(path, f"cannot be swept as a whole: it holds {same}", f"Sweep {hint}.", key=True)
            return False
    if not isinstance(values, list) or not values:
        if path not in tree.refused:
            seen = "nothing" if values is None else "a section of keys" if isinstance(values, dict) else shown(values)
            what = "must not be empty" if isinstance(values, list) else f"should be a list of values, not {seen}"
            tree.add(path, what, "Write the values in a list, such as [0.01, 0.1, 1].")
        # What the values would have been is not known, so that nothing is said of their absence.
        tree.refused.add(tuple(steps))
        return False
    _add_repeated(tree, path, values)
    return True


def _add_repeated(tree: Tree, path: Path, values: list[Any]) -> None:
    first: dict[Any, int] = {}
    repeated = [index for index, value in enumerate(values) if first.setdefault(_comparable(value), index) != index]
    for index in repeated[:TOLD]:
        if (*path, index) not in tree.refused:
            what = f"{shown(values[index])} is given twice, as entry {first[_comparable(values[index])]} already"
            tree.add((*path, index), what, "Remove one of the two.")


def _comparable(value: Any) -> Any:
    """What is equal for equal values only: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return ("dict", frozenset((key, _comparable(below)) for key, below in value.items()))
    if isinstance(value, list):
        return ("list", tuple(map(_comparable, value)))
    return (isinstance(value, bool), value)


def _lies_above(tree: Tree, name: str, names: list[str]) -> bool:
    below = next((other for other in names if other.startswith(name + ".")), None)
    if below is not None:
        what = f"cannot be swept together with {dotted((below,))}, which lies in it"
        tree.add(("sweep", name), what, "Write the keys below into each value, or sweep only one of the two.", key=True)
    return below is not None
