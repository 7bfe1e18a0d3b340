"""A runner for the commands, a small scenario, and stand-ins for what the commands call.

The stand-ins let these tests speak of the command line alone: what it passes on, prints and returns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result

from flowsim.cli import main

SCENARIO = """\
name: tiny
title: A tiny scenario
objective: {kind: frobenius, coefficient: 0.5}
pretrained: {kind: values, values: [[3, 0, 0], [0, 2, 0], [0, 0, 1], [0, 0, 0]]}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.1}}
time: {stop: 1.0, points: 3}
"""

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call ``flowsim`` with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args], prog_name="flowsim")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def verdict(check: str, word: str, subject: str = "flow") -> dict[str, Any]:
    return {
        "check": check,
        "subject": subject,
        "statement": "a statement",
        "reference": "a reference",
        "observed": 0.5,
        "expected": 0.25,
        "tolerance": float("nan") if word == "not_applicable" else 1e-9,
        "verdict": word,
        "reason": "" if word == "pass" else f"why {word}",
    }


@dataclass
class Stand:
    """What the stand-ins answer, and how they were called."""

    labels: tuple[str, ...] = ("flow", "descent/simultaneous/learning_rate=0.1")
    outcomes: dict[tuple[str, int, int], str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=lambda: [verdict("eckart_young", "pass")])
    already_complete: bool = False
    error: BaseException | None = None
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    judged: list[dict[str, Any]] = field(default_factory=list)

    def tree(self) -> xr.DataTree:
        ranks, seeds, times = [1, 2], [0, 1], [0.0, 1.0]
        over = ("schedule", "rank", "seed")
        words = [[[self.outcomes.get((label, r, s), "reached") for s in seeds] for r in ranks] for label in self.labels]
        coords = {"schedule": list(self.labels), "rank": ranks, "seed": seeds}
        reasons = np.full(np.shape(words), "because", dtype=object)
        ends = np.broadcast_to(np.array([2.5, 0.5])[:, None], np.shape(words)).copy()
        loss = np.stack([np.full(np.shape(words), 7.0), ends], axis=-1)
        final = xr.Dataset(
            {
                "outcome": (over, np.array(words, dtype=object)),
                "reason": (over, reasons),
                "loss": (over, ends),
                "relative_error": (over, np.full(np.shape(words), np.nan)),
            },
            coords,
        )
        theory = xr.Dataset(
            {
                "parameters": ("rank", [7, 14]),
                "energy": ("rank", [9 / 14, 13 / 14]),
                "loss_floor": ("rank", [2.5, 0.5]),
            },
            {"rank": ranks},
        )
        trajectory = xr.Dataset({"loss": ((*over, "time"), loss)}, {**coords, "time": times})
        resolved = '{"name": "tiny", "title": null, "objective": {"kind": "frobenius", "coefficient": 0.5}}'
        root = xr.Dataset(attrs={"digest": "0123456789abcdef", "resolved_scenario": resolved})
        groups = {
            "/": root,
            "trajectory": trajectory,
            "final": final,
            "theory": theory,
            "checks": xr.Dataset(),
        }
        return xr.DataTree.from_dict(groups)

    def execute(self, document: Any, **options: Any) -> Any:
        self.calls.append(("execute", {"document": document, **options}))
        if self.error is not None:
            raise self.error
        folder = options["out"] / "tiny-01234567"
        return Finished(folder=folder, file=folder / "tiny.nc", already_complete=self.already_complete)

    def plan(self, document: Any, device: str | None = None) -> Any:
        self.calls.append(("plan", {"document": document, "device": device}))
        return Plan()

    def load(self, path: Path) -> xr.DataTree:
        self.calls.append(("load", {"path": path}))
        if self.error is not None:
            raise self.error
        return self.tree()

    @contextmanager
    def open_result(self, path: Path) -> Iterator[xr.DataTree]:
        yield self.load(path)

    def check(self, tree: Any) -> xr.Dataset:
        self.calls.append(("check", {"tree": tree}))
        return xr.Dataset(attrs={"made": "again"})

    def verdict_table(self, tree: Any) -> list[dict[str, Any]]:
        self.judged.append(tree["checks"].attrs)
        return self.rows

    def summarize(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "count": f"1 {row['verdict']}"} for row in rows]

    def draw(self, tree: Any, folder: Path, **options: Any) -> list[Path]:
        self.calls.append(("draw", {"folder": folder, **options}))
        return [folder / f"loss_vs_rank.{form}" for form in options["formats"]]


@dataclass(frozen=True)
class Finished:
    folder: Path
    file: Path
    already_complete: bool


@dataclass(frozen=True)
class Sizes:
    states: int = 448
    worker: int = 419430400
    tiles: int = 10240
    file: int = 20480


@dataclass(frozen=True)
class Plan:
    name: str = "tiny"
    digest: str = "0123456789abcdef"
    folder_name: str = "tiny-01234567"
    trajectories: int = 4
    points: int = 1
    tiles: int = 2
    jobs: int = 2
    ranks: tuple[int, ...] = (1, 2)
    seeds: tuple[int, ...] = (0, 1)
    schedules: tuple[str, ...] = ("flow",)
    sizes: Sizes = field(default_factory=Sizes)
    methods: tuple[tuple[int, str, str], ...] = ((1, "exact", "balanced"), (2, "adaptive", "no closed form"))


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Put stand-ins in the place of everything that computes, stores or draws."""
    stand = Stand()
    places: dict[str, dict[str, Any]] = {
        "flowsim.pipeline": {"execute": stand.execute},
        "flowsim.sweep.plan": {"plan": stand.plan},
        "flowsim.checks": {
            "check": stand.check,
            "verdict_table": stand.verdict_table,
            "summarize": stand.summarize,
        },
        "flowsim.trajectory.store": {"load": stand.load, "open_result": stand.open_result},
        "flowsim.report.plots": {"draw": stand.draw, "FIGURES": {"loss_vs_rank": None, "loss_vs_time": None}},
    }
    for name, members in places.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return stand
