"""What a result file holds: what the layout of a result declares, without a run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from tables import code, plain, table

from flowsim.checks import COLUMNS
from flowsim.scenario.digest import digest_of
from flowsim.scenario.read import parse_scenario
from flowsim.sweep.campaign import Campaign
from flowsim.sweep.outcome import Outcome
from flowsim.trajectory.provenance import root_attributes, stamp

ABOUT = {
    "trajectory": "Everything that is recorded over time, for each schedule, rank and seed.",
    "final": "The same at the last time, and how each trajectory was solved and ended.",
    "baseline": "Full fine-tuning from the same start; along rank and seed where the start depends on them.",
    "theory": "From closed forms and singular values alone, never from the runs; NaN where theory is silent.",
    "companions": "The same flows solved again, looser, tighter or by another method, to measure the solver's error.",
    "factors/rank_1": "A and B, where `save.factors` asks for them; `factors/rank_2` has those of rank 2, …",
}


class Declared:
    """Takes the place of a file that a layout is declared in, and remembers what was declared."""

    def __init__(self) -> None:
        self.root: dict[str, object] = {}
        self.variables: dict[str, dict[str, list[list[str]]]] = {}  # of a group, by their dimensions
        self.coordinates: dict[str, list[list[str]]] = {}

    def attributes(self, found: Mapping[str, object]) -> None:
        """Attributes of the root."""
        self.root = dict(found)

    def group(self, name: str, _sizes: Mapping[str, int], coordinates: Mapping[str, xr.Variable]) -> None:
        """A group with its coordinates."""
        self.variables[name] = {}
        self.coordinates[name] = [
            [code(key), code(", ".join(map(str, one.dims))), code(one.attrs["units"]), plain(one.attrs["long_name"])]
            for key, one in coordinates.items()
        ]

    def declare(
        self, group: str, name: str, dims: tuple[str, ...], kind: type, attrs: Any, _chunks: Any = None
    ) -> None:
        """A variable."""
        units = "text" if kind is str else code(attrs["units"])
        row = [code(name), plain(attrs["long_name"]), units, code(attrs["formula"])]
        self.variables[group].setdefault(", ".join(dims), []).append(row)

    def put(self, *_: object) -> None:
        """Numbers are of no interest here."""


def tables() -> str:
    """Every group with its coordinates and variables, then the attributes of the root."""
    template = files("flowsim.cli").joinpath("templates/scenario.yaml").read_text(encoding="utf-8")
    text = template.replace("name: NAME", "name: mine") + "\nsave: {factors: all}\n"
    document = parse_scenario(text, name="mine.yaml", folder=Path())
    declared = Declared()
    attributes = root_attributes(document, digest_of(document), stamp(torch.device("cpu")), 0)
    Campaign(document, None).layout.declare(declared, attributes)  # type: ignore[arg-type]
    parts = [_group(name, about, declared) for name, about in ABOUT.items()]
    return "\n".join([*parts, _checks(), _root(declared.root)])


def _group(name: str, about: str, declared: Declared) -> str:
    parts = [f"## Group `/{name}`", about]
    for dims, rows in declared.variables[name].items():
        parts += [f"Along {code(dims)}:", table(["variable", "what it is", "units", "formula"], rows)]
    coordinates = table(["coordinate", "dimensions", "units", "what it is"], declared.coordinates[name])
    return "\n\n".join([*parts, "Coordinates:", coordinates])


def _checks() -> str:
    names = ", ".join(map(code, COLUMNS))
    about = "One entry along `check` for each judged instance: every verdict with its numbers and its reason."
    return f"## Group `/checks`\n\n{about}\nVariables: {names}. [What they state](checks.md).\n"


def _root(attributes: Mapping[str, object]) -> str:
    rows = [[code(name), code(_short(value))] for name, value in attributes.items()]
    about = "Of the root; here those of the scenario that `flowsim new mine` writes."
    return f"## Attributes\n\n{about}\n\n{table(['attribute', 'as in'], rows)}"


def _short(value: object) -> str:
    text = " ".join(str(value).split()).replace("`", "'")
    return text if len(text) <= 60 else text[:57] + "..."


def outcomes() -> str:
    """The words for how a trajectory ends."""
    return table(["outcome", "meaning"], [[code(one), one.meaning] for one in Outcome])
