"""The points of a sweep: each a scenario of its own, looked at before anything is run.

Points share whatever parts of a scenario they have in common, so that ten thousand of them are read in seconds.
A mistake is told once, at the value that brings it: first each value alone, the other keys at their first, then
the combinations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from flowsim.scenario.explain import explain
from flowsim.scenario.fit import Look, resolve
from flowsim.scenario.model import Scenario
from flowsim.scenario.override import step_into
from flowsim.scenario.parts import Parts, salvage, section_model
from flowsim.scenario.sweep import Axis
from flowsim.scenario.sweep_keys import TOLD
from flowsim.scenario.tree import Tree, dotted
from flowsim.scenario.types import Finding, Path
from flowsim.scenario.weight_files import WeightFiles

__all__ = ["Point", "read_points"]

Places = tuple[int, ...]
# Values of scenarios that are kept at once.
MAX_COPIED = 10_000_000
# Path, what is wrong, what to do, and whether the key is meant.
Said = tuple[Path, str, str, bool]


@dataclass(frozen=True)
class Point:
    """One scenario of a sweep, or the only one.

    Attributes
    ----------
    scenario : Scenario
        Valid, without its sweep; defaults that depend on the shape are not filled in.
    look : Look
        Its shape, warnings and weight files.
    """

    scenario: Scenario
    look: Look


def read_points(tree: Tree, axes: Sequence[Axis], files: WeightFiles) -> list[Point]:
    """Validate a scenario at every point of its sweep.

    Parameters
    ----------
    tree : Tree
        Its data; whatever is wrong at any point is added to its mistakes.
    axes : sequence of Axis
        What is swept; without axes the scenario itself is the only point.
    files : WeightFiles
        Reads weight files.

    Returns
    -------
    list of Point
        In row-major order, the last axis fastest; empty after a mistake.
    """
    return _Reader(tree, axes, files).read()


@dataclass(frozen=True)
class _Swept:
    """An axis and the place in the data that its values fill; the first `there` keys of it stand in the scenario."""

    axis: Axis
    path: Path
    there: int

    @property
    def section(self) -> str:
        return str(self.path[0])


@dataclass
class _PointTree(Tree):
    """The data of one point; what is said about it is kept, to be told where the user wrote it."""

    said: list[Said] = field(default_factory=list)

    def add(self, path: Path, what: str, hint: str, *, key: bool = False) -> None:
        """Keep a mistake."""
        self.said.append((path, what, hint, key))


class _NoPlace(Exception):
    """A key path leads through a value that has no keys; carries the finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


def _put(here: Any, steps: Sequence[str], value: Any, path: Path = ()) -> tuple[Any, Path]:
    """Data with a value at a key path, copied only along the path; and the path by keys and indices."""
    step = step_into(here, path, steps[0])
    if isinstance(step, Finding):
        raise _NoPlace(step)
    path = (*path, step)
    below = value
    if len(steps) > 1:
        old = here.get(step) if isinstance(here, dict) else here[step]
        below, path = _put({} if old is None else old, steps[1:], value, path)
    copied = here.copy()
    copied[step] = below
    return copied, path


def _length_there(data: Any, path: Path) -> int:
    """How many keys of a path lead to something in the data."""
    for number, step in enumerate(path):
        data = data.get(step) if isinstance(data, dict) else data[step]
        if data is None:
            return number
    return len(path)


def _count(value: Any) -> int:
    """How many values plain data holds."""
    if isinstance(value, dict):
        return 1 + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


class _Reader:
    """Validates the points of one scenario."""

    def __init__(self, tree: Tree, axes: Sequence[Axis], files: WeightFiles) -> None:
        self.tree, self.files = tree, files
        self.first: dict[str, Any] = {name: value for name, value in tree.data.items() if name != "sweep"}
        self.swept: list[_Swept] = []
        for axis in axes:
            try:
                self.first, path = _put(self.first, axis.path.split("."), axis.values[0])
            except _NoPlace as error:
                tree.add(("sweep", axis.path), error.finding.what, "Correct the key.", key=True)
                continue
            self.swept.append(_Swept(axis, path, _length_there(tree.data, path)))
            tree.places[path] = tree.places.get(("sweep", axis.path), (1, 1))
        self.too_large = False
        # Data and value of each section that a sweep changes, by the places of the axes that change it.
        self.sections: dict[tuple[str, Places], tuple[Any, tuple[Any, ...]]] = {}

    def read(self) -> list[Point]:
        """All points; none after a mistake."""
        start = (0,) * len(self.swept)
        tree = self._tree()
        scenario, parts = _validate(tree)
        look = resolve(parts, tree, self.files)
        told = dict.fromkeys(self._written(one, start) for one in tree.said)
        for path, what, hint, key in told:
            self.tree.add(path, what, hint, key=key)
        self._refuse_copies()
        for number, one in enumerate(self.swept):
            if one.section in Scenario.model_fields and not self.too_large:
                self._try_values(number, one, parts, told)
        if self.tree.mistakes or scenario is None:
            return []
        points = self._combine(scenario) if self.swept else [Point(scenario, look)]
        if scenario.save.factors != "none" and len({point.look.shape for point in points}) > 1:
            what = "factors of different shapes cannot be stored in one result"
            self.tree.add(("save", "factors"), what, "Write none here, or sweep no shape.")
        return [] if self.tree.mistakes else points

    def _refuse_copies(self) -> None:
        """Refuse a sweep inside a large matrix: its section is kept once for each combination in it."""
        for name in dict.fromkeys(one.section for one in self.swept):
            inside = [one.axis for one in self.swept if one.section == name]
            copies = math.prod(len(axis.values) for axis in inside)
            size = _count(self.first[name]) + sum(max(map(_count, axis.values)) for axis in inside)
            if copies * size > MAX_COPIED:
                self.too_large = True
                what = f"makes {copies} copies of {dotted((name,))} with up to {size} values each: too many to keep"
                self.tree.add(("sweep", inside[0].path), what, "Put large matrices into .npy files.", key=True)

    def _try_values(self, number: int, one: _Swept, parts: Parts, told: Collection[Said]) -> None:
        """Look at each value of one axis, the other axes at their first."""
        wrong = 0
        for place in range(1, len(one.axis.values)):
            places = tuple(place if other == number else 0 for other in range(len(self.swept)))
            tree = self._tree()
            valid = self._section(one.section, places, tree)
            if valid:
                resolve(parts.replaced(one.section, valid[0]), tree, self.files)
            here: Path = ("sweep", one.axis.path, place)
            written = dict.fromkeys(self._written(said, places) for said in tree.said)
            new = [said for said in written if said not in told]
            for path, what, hint, key in new:
                if path[: len(here)] == here:
                    self.tree.add(path, what, hint, key=key)
                elif path == here[:-1]:  # of the section that the key has made: `what` says where in it
                    self.tree.add(here, f"with this value, {what}", hint)
                else:
                    self.tree.add(here, f"with this value, {dotted(path)}: {what}", hint)
            wrong += bool(new)
            if wrong == TOLD:
                what = f"{TOLD} of its values are wrong, and those after them were not looked at"
                self.tree.add(here[:2], what, "Correct these first.", key=True)
                return

    def _combine(self, first: Scenario) -> list[Point]:
        """Look at every combination of values; each value alone is known to be right."""
        names = list(dict.fromkeys(one.section for one in self.swept))
        points: list[Point] = []
        told: set[Said] = set()
        for places in itertools.product(*(range(len(one.axis.values)) for one in self.swept)):
            tree = self._tree()
            sections = {name: self._section(name, places, tree) for name in names}
            if all(sections.values()):
                scenario = first.model_copy(update={name: valid[0] for name, valid in sections.items()})
                look = resolve(Parts.of(scenario), tree, self.files)
                points.append(Point(scenario, look))
            new = [one for one in (self._written(one, places) for one in tree.said) if one not in told]
            told.update(new)
            for path, what, hint, key in new:
                self.tree.add(path, f"{what} (at {self._label(places)})", hint, key=key)
            if len(told) >= TOLD:
                what = f"{len(told)} mistakes in combinations of values, and those after them were not looked at"
                self.tree.add(("sweep",), what, "Correct these first.", key=True)
                break
        return points

    def _tree(self) -> _PointTree:
        return _PointTree(self.tree.name, self.first, places=self.tree.places)

    def _section(self, name: str, places: Places, tree: _PointTree) -> tuple[Any, ...]:
        """A section at a point, alone in a tuple; an empty tuple if it is not valid, which is said once.

        The tree is given the data of the section.
        """
        mine = tuple(place if one.section == name else 0 for one, place in zip(self.swept, places, strict=True))
        if (name, mine) in self.sections:
            data, valid = self.sections[name, mine]
            tree.data = {**tree.data, name: data}
            return valid
        whole = {name: self.first[name]}
        for one, place in zip(self.swept, mine, strict=True):
            if place:
                whole, _ = _put(whole, one.axis.path.split("."), one.axis.values[place])
        tree.data = {**tree.data, **whole}
        valid = ()
        try:
            valid = (getattr(section_model(name).model_validate(whole), name),)
        except ValidationError as error:
            explain(error, tree, Scenario)
        self.sections[name, mine] = (whole[name], valid)
        return valid

    def _written(self, said: Said, places: Places) -> Said:
        """What is said of a point as it is told: at the place of the swept value, if it concerns one."""
        path, what, hint, key = said
        for one, place in zip(self.swept, places, strict=True):
            swept: Path = ("sweep", one.axis.path)
            if path[: len(one.path)] == one.path:
                if not (key and path == one.path):
                    swept = (*swept, place, *path[len(one.path) :])
                return swept, what, hint, key
            made = one.path[: one.there + 1]  # the section that the sweep has put there
            if path[: len(made)] == made:
                return swept, f"{dotted(path)}: {what}", hint, True
        return said

    def _label(self, places: Places) -> str:
        return "/".join(
            f"{one.axis.name}={one.axis.texts[place]}" for one, place in zip(self.swept, places, strict=True)
        )


def _validate(tree: Tree) -> tuple[Scenario | None, Parts]:
    """The scenario, or None after mistakes; and whichever parts of it are valid, to look at further."""
    try:
        scenario = Scenario.model_validate(tree.data)
    except ValidationError as error:
        unknown = explain(error, tree, Scenario)
        return None, salvage(tree.data, unknown)
    return scenario, Parts.of(scenario)
