"""From the text of a scenario to a `Document`: parsed, validated, its shapes and files looked at.

Nothing is computed here. A scenario is either refused with every mistake that can be found, each with the
place where it stands, or it is safe to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from flowsim.errors import InputError, Mistake, ScenarioError
from flowsim.scenario.explain import explain
from flowsim.scenario.fit import Look, WeightFile, resolve
from flowsim.scenario.model import Scenario
from flowsim.scenario.override import apply_override
from flowsim.scenario.parts import Parts, salvage
from flowsim.scenario.text import parse_tree
from flowsim.scenario.tree import Tree

__all__ = ["Document", "WeightFile", "parse_scenario", "read_scenario"]

# A scenario with a 1000 x 1000 matrix written out has about this size; reading it takes a minute.
MAX_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Document:
    """A scenario that was read without mistakes.

    Attributes
    ----------
    scenario : Scenario
        Resolved: every default filled in.
    text : str
        As written, without overrides.
    path : Path or None
        Of the file; None for text.
    warnings : tuple of str
        What is allowed but worth saying.
    weights : tuple of WeightFile
        The weight files it names, with their sha256.
    shape : tuple of int
        (n, m), rows and columns of the weight.
    folder : Path
        What relative paths of weight files start from.
    overrides : tuple of str
        The ``key.path=value`` settings that were applied.
    """

    scenario: Scenario
    text: str
    path: Path | None
    warnings: tuple[str, ...]
    weights: tuple[WeightFile, ...]
    shape: tuple[int, int]
    folder: Path
    overrides: tuple[str, ...] = ()


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
    scenario: Scenario | None = None
    look: Look | None = None
    if isinstance(tree.data, dict):
        for setting in overrides:
            apply_override(tree, setting)
        scenario, parts = _validate(tree)
        look = resolve(parts, tree, folder)
    elif not tree.mistakes:
        empty = tree.data is None
        what = "the scenario is empty" if empty else "a scenario is a mapping of keys to values"
        tree.add((), what, "`flowsim new NAME` writes an example.")
    if tree.mistakes or scenario is None or look is None or look.shape is None:
        raise ScenarioError(tree.sorted_mistakes())
    return Document(
        scenario=look.fill(scenario),
        text=text,
        path=path,
        warnings=tuple(look.warnings),
        weights=tuple(look.weights),
        shape=look.shape,
        folder=folder,
        overrides=overrides,
    )


def _validate(tree: Tree) -> tuple[Scenario | None, Parts]:
    """The scenario, or None after mistakes; and whichever parts of it are valid, to look at further."""
    try:
        scenario = Scenario.model_validate(tree.data)
    except ValidationError as error:
        unknown = explain(error, tree, Scenario)
        return None, salvage(tree.data, unknown)
    return scenario, Parts.of(scenario)
