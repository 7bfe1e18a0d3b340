"""The digest of a scenario: equal for scenarios that ask for the same, however they are written down."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from flowsim.scenario.model import Scenario
    from flowsim.scenario.read import Document

__all__ = ["digest_of", "folder_name"]

DIGEST_LETTERS = 8  # of a folder's name


def digest_of(document: Document) -> str:
    """Sha256 of a resolved scenario and of the weight files it names.

    Parameters
    ----------
    document : Document
        A scenario that was read.

    Returns
    -------
    str
        64 hexadecimal digits. Comments, layout, the order of keys, defaults written out and the device make
        no difference, nor does a value that a sweep overwrites; everything else in the scenario does, its title
        and the order of a sweep included, and so does every byte of a weight file.
    """
    first = document.points[0].scenario.model_dump(mode="json")
    del first["compute"]["device"], first["sweep"]
    asked: dict[str, Any] = {"scenario": first, "weights": [[file.where, file.sha256] for file in document.weights]}
    if document.axes:
        asked["sweep"] = _resolved_axes(document)
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _resolved_axes(document: Document) -> list[Any]:
    """Each swept key with its values in order, as validated: the other keys at their first."""
    axes = []
    stride = len(document.points)
    for axis in document.axes:
        stride //= len(axis.values)
        points = document.points[: stride * len(axis.values) : stride]
        axes.append([axis.path, [_value_at(point.scenario, axis.path) for point in points]])
    return axes


def _value_at(scenario: Scenario, path: str) -> Any:
    here: Any = scenario
    for step in path.split("."):
        here = here[int(step)] if isinstance(here, tuple) else getattr(here, step)
    return here.model_dump(mode="json") if isinstance(here, BaseModel) else here


def folder_name(document: Document) -> str:
    """`<name>-<digest8>`: the folder of a scenario's result."""
    return f"{document.scenario.name}-{digest_of(document)[:DIGEST_LETTERS]}"
