"""The valid parts of a scenario, so that one mistake does not hide those in the other parts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from flowsim.scenario.model import (
    Adapter,
    Compute,
    DescentSchedule,
    FlowSchedule,
    Objective,
    Save,
    Scenario,
    Schedule,
    Solver,
    Time,
)
from flowsim.scenario.types import Part, Path

__all__ = ["Parts", "salvage", "section_model"]


# Sections whose keys are looked at one by one, so that a mistake in one key does not hide another.
_DIVIDED: dict[str, type[Part]] = {
    "objective": Objective,
    "adapter": Adapter,
    "time": Time,
    "solver": Solver,
    "compute": Compute,
    "save": Save,
}


class _OneSchedule(Part):
    entry: Schedule


@dataclass(frozen=True)
class Parts:
    """Sections of a scenario by their dotted path; one that is not valid is absent.

    Attributes
    ----------
    sections : dict
        ``pretrained``, ``target`` ..., and the keys of some sections, as in ``adapter.ranks``.
    schedules : dict
        Position -> schedule.
    """

    sections: dict[str, Any]
    schedules: dict[int, FlowSchedule | DescentSchedule] = field(default_factory=dict)

    @classmethod
    def of(cls, scenario: Scenario) -> Parts:
        """All parts of a valid scenario."""
        sections: dict[str, Any] = {name: getattr(scenario, name) for name in Scenario.model_fields}
        for section, model in _DIVIDED.items():
            for name in model.model_fields:
                sections[f"{section}.{name}"] = getattr(sections[section], name)
        return cls(sections, dict(enumerate(scenario.schedules)))

    def replaced(self, name: str, value: Any) -> Parts:
        """The same parts with another value of a section that is not `schedules`."""
        keys = _DIVIDED[name].model_fields if name in _DIVIDED else ()
        below = {f"{name}.{key}": getattr(value, key) for key in keys}
        return Parts({**self.sections, name: value, **below}, self.schedules)

    def get(self, name: str) -> Any:
        """A section, or None if it is not valid."""
        return self.sections.get(name)


def salvage(data: dict[str, Any], unknown: Sequence[Path]) -> Parts:
    """Validate each section on its own.

    Parameters
    ----------
    data : dict
        A scenario that is not valid as a whole.
    unknown : sequence of tuple
        Paths of unknown keys, which are left out.

    Returns
    -------
    Parts
        Whatever is valid by itself.
    """
    data = copy.deepcopy(data)
    for path in unknown:
        _remove(data, path)
    sections = _valid_fields(Scenario, data)
    for section, model in _DIVIDED.items():
        below = data.get(section, {})
        if isinstance(below, dict):
            sections |= {f"{section}.{name}": value for name, value in _valid_fields(model, below).items()}
    schedules = {}
    written = data.get("schedules", [])
    if "schedules" in sections:
        schedules = dict(enumerate(sections["schedules"]))
    elif isinstance(written, list):
        for index, entry in enumerate(written):
            found = _validated(_OneSchedule, {"entry": entry})
            if found is not None:
                schedules[index] = found.entry
    return Parts(sections, schedules)


def _valid_fields(model: type[BaseModel], data: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, info in model.model_fields.items():
        one = _validated(_one_field(name, info), {name: data[name]} if name in data else {})
        if one is not None:
            found[name] = getattr(one, name)
    return found


@cache
def section_model(name: str) -> type[BaseModel]:
    """A class with a single section of a scenario, which is valid or not by itself."""
    return _one_field(name, Scenario.model_fields[name])


def _one_field(name: str, info: FieldInfo) -> type[BaseModel]:
    definition: Any = (info.annotation, info)
    return create_model("One", __base__=Part, **{name: definition})


def _validated(model: type[BaseModel], data: dict[str, Any]) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _remove(data: Any, path: Path) -> None:
    for step in path[:-1]:
        data = data[step]
    del data[path[-1]]
