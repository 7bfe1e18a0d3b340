"""``--set key.path=value``: a scenario's data changed from the command line, mistakes located there."""

from __future__ import annotations

import re
from typing import Any

from flowsim.scenario.sweep_keys import spread_out
from flowsim.scenario.text import is_text, parse_tree
from flowsim.scenario.tree import Tree, dotted
from flowsim.scenario.types import Finding, Path, shown

__all__ = ["apply_override", "step_into"]


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
    swept = steps[0] == "sweep" and isinstance(tree.data.get("sweep"), (dict, type(None)))
    path = _reach_swept(tree, dots, steps[1:]) if swept and steps[1:] else _reach(tree, dots, (), steps)
    if path is None:
        return
    _forget(tree, path)
    _at(tree.data, path[:-1])[path[-1]] = part.data
    tree.places[path] = tree.keys[path] = dots
    if steps[0] == "sweep":
        spread_out(tree)


def _reach_swept(tree: Tree, dots: str, steps: list[str]) -> Path | None:
    """The path below ``sweep``, whose keys are whole paths; keys below the one that is set are taken away."""
    section = tree.data.get("sweep")
    if section is None:
        section = tree.data["sweep"] = {}
        tree.places[("sweep",)] = tree.keys[("sweep",)] = dots
    name = ".".join(steps)
    for key in list(section):
        if key.startswith(name + "."):
            del section[key]
            _forget(tree, ("sweep", key))
        elif name.startswith(key + ".") and isinstance(section[key], list):
            return _reach(tree, dots, ("sweep", key), name[len(key) + 1 :].split("."))
    return "sweep", name


def _forget(tree: Tree, path: Path) -> None:
    """Forget where `path` and what lies below it stood."""
    for places in (tree.places, tree.keys):
        for old in [old for old in places if old[: len(path)] == path]:
            del places[old]


def _reach(tree: Tree, dots: str, path: Path, steps: list[str]) -> Path | None:
    """The path that `steps` from `path` mean, with sections not there yet made; None after a mistake."""
    here = _at(tree.data, path)
    for number, word in enumerate(steps):
        last = number == len(steps) - 1
        step = step_into(here, path, word)
        if isinstance(step, Finding):
            tree.add_at(dots, (), step.what, step.hint)
            return None
        path = (*path, step)
        if isinstance(here, dict) and not last and here.get(step) is None:
            here[step] = {}
            tree.places[path] = tree.keys[path] = dots
        if not last:
            here = here[step]
    return path


def step_into(here: Any, path: Path, word: str) -> str | int | Finding:
    """The key or index that a word of a key path means in the data `here`, which stands at `path`."""
    if isinstance(here, dict):
        return word
    if not isinstance(here, list):
        return Finding(path, f"{dotted(path)} is {shown(here)}, which has no keys", f"Set {dotted(path)} itself.")
    if re.fullmatch(r"[0-9]{1,9}", word) and int(word) < len(here):
        return int(word)
    what = f"{dotted(path)} is a list of {len(here)}, and has no entry {word!r}"
    return Finding(path, what, f"Entries are counted from 0 to {len(here) - 1}.")


def _at(here: Any, path: Path) -> Any:
    for step in path:
        here = here[step]
    return here
