"""From the text of a scenario to a `Document`: parsed, validated, its shapes and files looked at.

Nothing is computed here. A scenario is either refused with every mistake that can be found, each with the
place where it stands, or it is safe to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowsim.errors import InputError, Mistake, ScenarioError
from flowsim.scenario.model import Scenario
from flowsim.scenario.override import apply_override
from flowsim.scenario.points import Point, read_points
from flowsim.scenario.sweep import Axis
from flowsim.scenario.sweep_keys import read_axes, spread_out
from flowsim.scenario.text import parse_tree
from flowsim.scenario.tree import Tree
from flowsim.scenario.weight_files import WeightFile, WeightFiles

__all__ = ["Document", "WeightFile", "parse_scenario", "read_scenario"]

# A scenario with a 1000 x 1000 matrix written out has about this size; reading it takes a minute.
MAX_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Document:
    """A scenario that was read without mistakes.

    Attributes
    ----------
    scenario : Scenario
        Resolved: every default filled in. Of a sweep: that of its first point, with the sweep.
    text : str
        As written, without overrides.
    path : Path or None
        Of the file; None for text.
    warnings : tuple of str
        What is allowed but worth saying.
    weights : tuple of WeightFile
        The weight files it names, with their sha256; of a sweep those of all points, each once.
    shape : tuple of int
        (n, m), rows and columns of the weight; of a sweep those of its first point.
    folder : Path
        What relative paths of weight files start from.
    overrides : tuple of str
        The ``key.path=value`` settings that were applied.
    axes : tuple of Axis
        What is swept; empty without a sweep.
    swept : tuple of Document
        The points of a sweep; empty without one. Ask `points`.
    """

    scenario: Scenario
    text: str
    path: Path | None
    warnings: tuple[str, ...]
    weights: tuple[WeightFile, ...]
    shape: tuple[int, int]
    folder: Path
    overrides: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    swept: tuple[Document, ...] = field(default=(), repr=False)

    @property
    def points(self) -> tuple[Document, ...]:
        """Every point of the sweep as a scenario of its own, the last axis fastest; without a sweep this one."""
        return self.swept or (self,)


def read_scenario(path: Path | str, overrides: Sequence[str] = ()) -> Document:
    """Read a scenario file.

    Parameters
    ----------
    path : Path or str
        A YAML file in UTF-8.
    overrides : sequence of str
        ``key.path=value`` settings, the value in YAML, as in ``"adapter.ranks=[1, 2]"``.

    Returns
    -------
    Document
        The scenario, resolved.

    Raises
    ------
    InputError
        If the file cannot be read as text.
    ScenarioError
        If anything in it is wrong, with every mistake that was found.
    """
    path = Path(path)
    text = _text_of(path)
    return _document(text, str(path), path, path.parent, tuple(overrides))


def parse_scenario(text: str, *, name: str, folder: Path | str, overrides: Sequence[str] = ()) -> Document:
    """Read a scenario from text.

    Parameters
    ----------
    text : str
        YAML 1.2.
    name : str
        What messages call the text, usually a file name.
    folder : Path or str
        What relative paths of weight files start from.
    overrides : sequence of str
        As in `read_scenario`.

    Returns
    -------
    Document
        The scenario, resolved; its path is None.

    Raises
    ------
    ScenarioError
        If anything in it is wrong, with every mistake that was found.
    """
    return _document(text, name, None, Path(folder), tuple(overrides))


def _text_of(path: Path) -> str:
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is not a file name", "Give the path of a scenario.")
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file", "Check the path; `flowsim new NAME` writes one.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, not a scenario", "Give the path of a YAML file.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", "Check the file.") from error
    if len(raw) > MAX_BYTES:
        raise InputError(
            f"{path}: larger than {MAX_BYTES // 2**20} MiB",
            "Put large matrices into a .npy file and name it there.",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        mistake = Mistake(f"{path}:{line}:{column}", "this is not UTF-8 text", "Save the scenario as UTF-8 text.")
        raise ScenarioError([mistake]) from error


def _document(text: str, name: str, path: Path | None, folder: Path, overrides: tuple[str, ...]) -> Document:
    tree = parse_tree(text, name)
    axes: tuple[Axis, ...] = ()
    points: list[Point] = []
    warnings: list[str] = []
    if isinstance(tree.data, dict):
        spread_out(tree)
        for setting in overrides:
            apply_override(tree, setting)
        axes = read_axes(tree)
        warnings = _without_effect(tree, axes)
        points = read_points(tree, axes, WeightFiles(folder))
    elif not tree.mistakes:
        empty = tree.data is None
        what = "the scenario is empty" if empty else "a scenario is a mapping of keys to values"
        tree.add((), what, "`flowsim new NAME` writes an example.")
    if tree.mistakes or not points:
        raise ScenarioError(tree.sorted_mistakes())
    documents = [_point(point, path, folder) for point in points]
    first = documents[0]
    if not axes:
        return replace(first, text=text, overrides=overrides)
    warnings += [warning for one in documents for warning in one.warnings]
    # Defaults that follow from a shape are written out only where all points have the same.
    one_shape = all(one.shape == first.shape for one in documents)
    scenario = first.scenario if one_shape else points[0].scenario
    return replace(
        first,
        scenario=scenario.model_copy(update={"sweep": {axis.path: list(axis.values) for axis in axes}}),
        text=text,
        warnings=tuple(dict.fromkeys(warnings)),
        weights=tuple(dict.fromkeys(file for one in documents for file in one.weights)),
        overrides=overrides,
        axes=axes,
        swept=tuple(documents),
    )


def _point(point: Point, path: Path | None, folder: Path) -> Document:
    look = point.look
    assert look.shape is not None, "a scenario without mistakes has a shape"
    return Document(
        scenario=look.fill(point.scenario),
        text="",
        path=path,
        warnings=tuple(look.warnings),
        weights=tuple(look.weights),
        shape=look.shape,
        folder=folder,
    )


def _without_effect(tree: Tree, axes: Sequence[Axis]) -> list[str]:
    """Warnings of settings that the sweep overwrites; that a file's value is overwritten is what a sweep is for."""
    settings = dict.fromkeys(place for place in tree.places.values() if isinstance(place, str))
    return [
        f"--set {setting}: the sweep of {axis.path} overwrites it"
        for setting in settings
        for axis in axes
        if setting == axis.path or setting.startswith(axis.path + ".")
    ]
