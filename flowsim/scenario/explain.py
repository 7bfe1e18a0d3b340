"""Validation errors of the scenario classes as sentences for a user, each at its place in the text."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from flowsim.scenario.array_files import suggestion
from flowsim.scenario.tree import Tree, dotted
from flowsim.scenario.types import Path, repeated, shown

__all__ = ["explain", "yaml_path"]

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "dict_type": "a section of keys",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_PATTERNS = {
    "name": "must begin with a-z or 0-9 and contain only a-z, 0-9, _ and -",
    "sha256": "must be 64 hexadecimal digits",
    "device": "is not known here: one of auto, cpu, cuda, cuda:N, mps",
}


def yaml_path(model: type[BaseModel], loc: tuple[str | int, ...]) -> Path:
    """The place in the data that a pydantic location means: without the names of union members.

    Examples
    --------
    >>> from flowsim.scenario.model import Scenario
    >>> yaml_path(Scenario, ("target", "values", "values", 0, 1))
    ('target', 'values', 0, 1)
    """
    path: list[str | int] = []
    here: list[Any] = [model]
    for step in loc:
        if len(here) > 1:
            here = [part for part in here if step in _tags(part)]
            continue
        path.append(step)
        part = here[0] if here else Any
        if isinstance(step, int):
            here = list(_flat(get_args(part)[0])) if get_origin(part) is tuple else []
        else:
            fields = {name: info for one in _models(part) for name, info in one.model_fields.items()}
            here = (
                [below for below in _flat(fields[step].annotation) if below is not type(None)] if step in fields else []
            )
    return tuple(path)


def _tags(part: Any) -> list[str]:
    """What pydantic calls a member of one of the unions of a scenario."""
    if models := _models(part):
        return list(_literals(models[0].model_fields["kind"].annotation))
    return ["list"] if get_origin(part) is tuple else ["text"]


def explain(error: ValidationError, tree: Tree, model: type[BaseModel]) -> list[Path]:
    """Add every mistake of a validation error to the tree.

    Parameters
    ----------
    error : pydantic.ValidationError
        Of `model`, for the data of `tree`.
    tree : Tree
        Where mistakes are collected.
    model : type
        The class that refused.

    Returns
    -------
    list of tuple
        The paths of unknown keys: without them the data may be valid.
    """
    unknown = []
    for item in error.errors(include_url=False):
        kind, value, context = item["type"], item["input"], item.get("ctx", {})
        path = yaml_path(model, item["loc"])
        if kind == "extra_forbidden":
            unknown.append(path)
            _unknown_key(tree, model, path)
        elif kind == "missing":
            _missing(tree, model, path)
        elif kind == "findings":
            for finding in context["findings"]:
                tree.add((*path, *finding.at), finding.what, finding.hint)
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            _wrong_kind(tree, model, path, value)
        elif kind == "too_short" and value:
            continue
        elif kind == "literal_error":
            _wrong_word(tree, path, value, list(_literals(_annotation(model, path, tree.data))))
        else:
            tree.add(path, *_sentence(kind, path, value, context, item["msg"]))
    _repeated(tree)
    return unknown


def _repeated(tree: Tree) -> None:
    """Say which entries are given twice in lists that have other mistakes too; pydantic stops at those."""
    lists: list[tuple[Path, str]] = [(("adapter", "ranks"), "rank"), (("adapter", "seeds"), "seed")]
    lists.append((("checks",), "check"))
    entries = tree.data.get("schedules")
    for index in range(len(entries)) if isinstance(entries, list) else ():
        lists += [(("schedules", index, "windows"), "window")]
        lists += [(("schedules", index, "learning_rates"), "learning rate")]
    for path, noun in lists:
        values = _value_at(tree.data, path)
        if isinstance(values, list):
            for finding in repeated(values, noun):
                tree.add((*path, *finding.at), finding.what, finding.hint)


def _value_at(data: Any, path: Path) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _sentence(kind: str, path: Path, value: Any, context: dict[str, Any], message: str) -> tuple[str, str]:
    """What is wrong and what to do, for errors that need no look at the classes."""
    if kind in _WANTED:
        wanted = _WANTED[kind]
        hint = f"Write {wanted} here."
        if isinstance(value, str) and wanted.endswith("number"):
            hint = "Write it as 12 or 1e-3, without quotes and units."
        elif kind == "string_type" and isinstance(value, (int, float)):
            hint = "Put quotes around it."
        elif kind == "int_type" and isinstance(value, float) and value.is_integer():
            hint = f"Write {int(value)}."
        if isinstance(value, int) and not isinstance(value, bool) and kind == "float_type":
            return "is too large for a number", "Choose a number below 1e308."
        return f"should be {wanted}, not {_seen(value)}", hint
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = f"{words} {context[name]:g}" if isinstance(context[name], float) else f"{words} {context[name]}"
        return f"must be {bound}, not {shown(value)}", f"Choose a value {bound}."
    if kind == "finite_number":
        return f"must be finite, not {value}", "Write an ordinary number."
    if kind == "too_short":  # of the entries that are valid; the others are mistakes of their own
        return "must not be empty", "Give at least one entry."
    if kind == "too_long":
        wanted = context["max_length"]
        return f"has {len(value)} entries, {wanted} are wanted", f"Give {wanted} entries."
    if kind == "string_too_short":
        return "must not be empty", "Write the text, or leave the key out."
    if kind == "string_too_long":
        return f"is longer than {context['max_length']} characters", "Choose a shorter one."
    if kind == "string_pattern_mismatch":
        rule = _PATTERNS[str(path[-1])]
        hint = "Choose a name such as frobenius-2." if path[-1] == "name" else "Correct it."
        return f"{shown(value)} {rule}", hint
    return message, "Correct the value."


def _seen(value: Any) -> str:
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    return f"the text {shown(value)}" if isinstance(value, str) else shown(value)


def _unknown_key(tree: Tree, model: type[BaseModel], path: Path) -> None:
    word = str(path[-1])
    siblings = [name for part in _models(_annotation(model, path[:-1], tree.data)) for name in part.model_fields]
    # The same word elsewhere is meant rather than a similar one here; the nearest of several.
    elsewhere = [other for other in _all_paths(model, ()) if other[-1] == word]
    nearest = max(elsewhere, key=lambda other: _shared(other, path), default=None)
    hint = f" (did you mean {dotted(nearest)}?)" if nearest else suggestion(word, siblings)
    if nearest == path:  # a key of another kind
        hint = ""
    section = dotted(path[:-1])
    tree.add(
        path,
        f"unknown key{hint}",
        f"Keys {'of ' + section if section else 'are'}: {', '.join(siblings)}.",
        key=True,
    )


def _shared(one: Path, other: Path) -> int:
    """How many keys two paths begin with alike."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def _missing(tree: Tree, model: type[BaseModel], path: Path) -> None:
    if isinstance(path[-1], int):
        tree.add(path[:-1], "has too few entries, 2 are wanted", "Give 2 entries.")
        return
    described = [
        part.model_fields[path[-1]].description
        for part in _models(_annotation(model, path[:-1], tree.data))
        if path[-1] in part.model_fields
    ]
    meaning = f" ({described[0].rstrip('.')})" if described and described[0] else ""
    tree.add(path, "is required, but missing", f"Add {path[-1]}{meaning}.")


def _wrong_kind(tree: Tree, model: type[BaseModel], path: Path, value: Any) -> None:
    annotation = _annotation(model, path, tree.data, chosen=False)
    kinds = [word for part in _models(annotation) for word in _literals(part.model_fields["kind"].annotation)]
    if not kinds:  # `checks`: a word or a list of words
        _wrong_type(tree, path, value, "auto or a list of names")
    elif not isinstance(value, dict):
        others = "a list or " if any(get_origin(part) is tuple for part in _flat(annotation)) else ""
        _wrong_type(tree, path, value, f"{others}a section {{kind: ...}}", f"The kinds are: {', '.join(kinds)}.")
    elif "kind" not in value:
        tree.add((*path, "kind"), "is required, but missing", f"The kinds are: {', '.join(kinds)}.")
    else:
        _wrong_word(tree, (*path, "kind"), value["kind"], kinds)


def _wrong_type(tree: Tree, path: Path, value: Any, wanted: str, hint: str = "") -> None:
    tree.add(path, f"should be {wanted}, not {_seen(value)}", hint or f"Write {wanted}.")


def _wrong_word(tree: Tree, path: Path, value: Any, words: list[str]) -> None:
    if not isinstance(value, str):
        _wrong_type(tree, path, value, "a word", f"Choose one of: {', '.join(words)}.")
        return
    what = f"{shown(value)} is not known here{suggestion(value, words)}"
    tree.add(path, what, f"Choose {'one of: ' if len(words) > 1 else ''}{', '.join(words)}.")


def _flat(annotation: Any) -> Iterator[Any]:
    """The members of a (nested, annotated) union."""
    if get_origin(annotation) is Annotated:
        yield from _flat(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _flat(member)
    else:
        yield annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [part for part in _flat(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def _literals(annotation: Any) -> Iterator[str]:
    for part in _flat(annotation):
        if get_origin(part) is Literal:
            yield from get_args(part)


def _annotation(model: type[BaseModel], path: Path, data: Any, *, chosen: bool = True) -> Any:
    """The type that a path of `data` should have; with `chosen`, of a union only the kind given there."""
    here: Any = model
    for step in path:
        if isinstance(step, int):
            entries = [get_args(part) for part in _flat(here) if get_origin(part) is tuple]
            here = Union[tuple(members[0] for members in entries)] if entries else Any  # noqa: UP007
        else:
            fields: list[FieldInfo] = [
                part.model_fields[step] for part in _of_kind(_models(here), data) if step in part.model_fields
            ]
            here = fields[0].annotation if fields else Any
        data = _value_at(data, (step,))
    if not chosen:
        return here
    picked = _of_kind(_models(here), data)
    return Union[tuple(picked)] if picked else here  # noqa: UP007


def _of_kind(models: list[type[BaseModel]], data: Any) -> list[type[BaseModel]]:
    """Of several classes the one whose kind is that of `data`."""
    kind = data.get("kind") if isinstance(data, dict) else None
    fitting = [
        part
        for part in models
        if "kind" in part.model_fields and kind in list(_literals(part.model_fields["kind"].annotation))
    ]
    return fitting or models


def _all_paths(model: type[BaseModel], path: Path) -> Iterator[Path]:
    """Every key below a class that needs no list index, the shallow ones first."""
    for name in model.model_fields:
        yield (*path, name)
    for name, info in model.model_fields.items():
        for part in _models(info.annotation):
            yield from _all_paths(part, (*path, name))
