"""``--set key.path=value``: a scenario's data changed from the command line, mistakes located there."""

from __future__ import annotations

import re
from typing import Any

from flowsim.scenario.text import is_text, parse_tree
from flowsim.scenario.tree import Tree, dotted
from flowsim.scenario.types import Path, shown

__all__ = ["apply_override"]


def apply_override(tree: Tree, setting: str) -> None:
    """Apply one ``key.path=value`` to the data of a scenario.

    Parameters
    ----------
    tree : Tree
        Its data, a dict, is changed in place; what is wrong with the setting is added to its mistakes.
    setting : str
        The path by keys and list indices, the value in YAML.
    """
    dots, equals, text = setting.partition("=")
    dots = dots.strip()
    steps = dots.split(".")
    if not equals or not all(steps) or not is_text(setting):
        tree.add_at(setting, (), "is not of the form key.path=value", "Write it as in --set time.stop=10.")
        return
    part = parse_tree(text, setting)
    if part.mistakes:
        for _, mistake in part.mistakes:
            tree.add_at(dots, (), mistake.what, mistake.hint)
        return
    path = _reach(tree, dots, steps)
    if path is None:
        return
    parent = _at(tree.data, path[:-1])
    for places in (tree.places, tree.keys):
        for old in [old for old in places if old[: len(path)] == path]:
            del places[old]
    parent[path[-1]] = part.data
    tree.places[path] = tree.keys[path] = dots


def _reach(tree: Tree, dots: str, steps: list[str]) -> Path | None:
    """The path that `steps` mean, with sections that are not there yet made; None after a mistake."""
    here = tree.data
    path: Path = ()
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if isinstance(here, list):
            if not re.fullmatch(r"[0-9]{1,9}", step) or int(step) >= len(here):
                what = f"{dotted(path)} is a list of {len(here)}, and has no entry {step!r}"
                tree.add_at(dots, (), what, f"Entries are counted from 0 to {len(here) - 1}.")
                return None
            path = (*path, int(step))
        elif isinstance(here, dict):
            path = (*path, step)
            if not last and here.get(step) is None:
                here[step] = {}
                tree.places[path] = tree.keys[path] = dots
        else:
            what = f"{dotted(path)} is {shown(here)}, which has no keys"
            tree.add_at(dots, (), what, f"Set {dotted(path)} itself.")
            return None
        if not last:
            here = here[path[-1]]
    return path


def _at(here: Any, path: Path) -> Any:
    for step in path:
        here = here[step]
    return here
