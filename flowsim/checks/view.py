"""A stored result as the checks see it: arrays by name, and the few derived numbers they share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
import xarray as xr

from flowsim.checks.rules import fall_of
from flowsim.checks.slabs import Slabs
from flowsim.sweep.outcome import Outcome
from flowsim.sweep.schedules import stability_name

FLOW = 0  # place of the simultaneous flow along `schedule`

Source = int | str  # a schedule by its place, or a companion by its label
Asked = TypeVarTuple("Asked")
Answer = TypeVar("Answer")


def remembered(method: Callable[[View, *Asked], Answer]) -> Callable[[View, *Asked], Answer]:
    """Keep every answer: for what takes many numbers to find and is small, such as one number a seed."""

    @wraps(method)
    def asked(self: View, *args: *Asked) -> Answer:
        key = (method.__name__, *args)
        if key not in self.answers:
            self.answers[key] = method(self, *args)
        answer: Answer = self.answers[key]
        return answer

    return asked


@dataclass(frozen=True)
class View:
    """Read access to one result that is no sweep; nothing is solved here.

    Numbers are read by pieces, and what is found of them is kept: a change of the tree calls for a new view.
    """

    tree: xr.DataTree

    @cached_property
    def slabs(self) -> Slabs:
        """Where the numbers come from."""
        return Slabs(self.tree)

    @cached_property
    def answers(self) -> dict[tuple[object, ...], Any]:
        """What `remembered` methods have found."""
        return {}

    @cached_property
    def scenario(self) -> dict[str, Any]:
        """The resolved scenario."""
        loaded: dict[str, Any] = json.loads(str(self.tree.attrs["resolved_scenario"]))
        return loaded

    @property
    def objective(self) -> str:
        """`frobenius` or `trace_squared`."""
        return str(self.tree.attrs["objective"])

    @property
    def coefficient(self) -> float:
        """c."""
        return float(self.tree.attrs["coefficient"])

    @property
    def rows(self) -> int:
        """n."""
        return int(self.tree.attrs["rows"])

    @property
    def epsilon(self) -> float:
        """Machine epsilon of the computation."""
        return float(np.finfo(str(self.tree.attrs["dtype"])).eps)

    @cached_property
    def ranks(self) -> list[int]:
        """Ranks in the order of storage."""
        return [int(r) for r in self.slabs.read("trajectory", "rank")]

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds in the order of storage."""
        return [int(s) for s in self.slabs.read("trajectory", "seed")]

    @cached_property
    def labels(self) -> list[str]:
        """Schedule labels in the order of storage."""
        return [str(s) for s in self.slabs.read("trajectory", "schedule")]

    @cached_property
    def times(self) -> np.ndarray:
        """Nominal times, (time,)."""
        return self.slabs.read("trajectory", "time")

    @cached_property
    def rounds(self) -> np.ndarray:
        """Recorded rounds, (schedule, time)."""
        return self.slabs.read("trajectory", "step")

    @cached_property
    def schedules(self) -> list[dict[str, Any]]:
        """kind, update, window, learning_rate, inner_steps and duration of each schedule."""
        names = ("kind", "update", "window", "learning_rate", "inner_steps")
        columns = {name: self.slabs.read("trajectory", name) for name in names}
        rows = []
        for place, label in enumerate(self.labels):
            row: dict[str, Any] = {"label": label, "place": place} | {n: v[place] for n, v in columns.items()}
            row["duration"] = (
                float(row["learning_rate"]) * int(row["inner_steps"])
                if row["kind"] == "descent"
                else float(row["window"])
            )
            rows.append(row)
        return rows

    def trajectory(self, name: str, schedule: int, rank: int) -> np.ndarray:
        """(seed, time) of a trajectory variable, by places."""
        return self.slabs.read("trajectory", name, schedule, rank)

    def companion(self, label: str, name: str, rank: int) -> np.ndarray:
        """(seed, time) of a companion variable; NaN where it was not made."""
        return self.slabs.read("companions", name, self._companions[label], rank)

    def numbers(self, source: Source, name: str, rank: int) -> np.ndarray:
        """(seed, time) of a variable that schedules and companions have."""
        if isinstance(source, str):
            return self.companion(source, name, rank)
        return self.trajectory(name, source, rank)

    @remembered
    def first(self, source: Source, name: str, rank: int) -> np.ndarray:
        """(seed,) at the first time."""
        return self.numbers(source, name, rank)[:, 0].copy()

    @remembered
    def last(self, source: Source, name: str, rank: int) -> np.ndarray:
        """(seed,) at the last time."""
        return self.numbers(source, name, rank)[:, -1].copy()

    @remembered
    def largest(self, source: Source, name: str, rank: int) -> np.ndarray:
        """(seed,) the largest over time, ignoring NaN; NaN if there is none."""
        return largest_over_time(self.numbers(source, name, rank))

    @remembered
    def complete(self, source: Source, rank: int) -> np.ndarray:
        """(seed,) whether the numbers go on to the last time."""
        known: np.ndarray = ~np.isnan(self.numbers(source, "product_norm", rank)).any(-1)
        return known

    @remembered
    def final(self, name: str, schedule: int, rank: int) -> np.ndarray:
        """(seed,) of a final variable."""
        return self.slabs.read("final", name, schedule, rank)

    @remembered
    def theory(self, name: str, rank: int) -> np.ndarray:
        """(seed,) of a theory variable."""
        values = self.slabs.read("theory", name, rank)
        return values if values.ndim else np.full(len(self.seeds), values)

    @remembered
    def companion_seeds(self, label: str, rank: int) -> list[int]:
        """Places of the seeds for which a companion was made."""
        methods = self.slabs.read("companions", "method", self._companions[label], rank)
        return [place for place, method in enumerate(methods) if str(method)]

    @remembered
    def has_companion(self, label: str, rank: int) -> np.ndarray:
        """(seed,) whether a companion was made."""
        made = np.zeros(len(self.seeds), dtype=bool)
        made[self.companion_seeds(label, rank)] = True
        return made

    @remembered
    def solved(self, rank: int) -> list[int]:
        """Places of the seeds that were computed, whatever came out; of the others nothing is known."""
        failed = self.final("outcome", FLOW, rank) == str(Outcome.FAILED)
        nothing = np.isnan(self.largest(FLOW, "product_norm", rank))
        return [int(place) for place in np.flatnonzero(~(failed & nothing))]

    def incomplete(self, rank: int, seed: int, *labels: str) -> str:
        """Why numbers of the flow or of its named companions end before the last time; empty where they do not."""
        if not self.complete(FLOW, rank)[seed]:
            return f"the flow did not complete: {self.final('reason', FLOW, rank)[seed]}"
        for label in labels:
            if not self.complete(label, rank)[seed]:
                return f"the companion solve {label} did not complete"
        return ""

    def fall(self, rank: int, seed: int, near: str, far: str) -> tuple[float, str]:
        """How a companion's change falls per tenfold rtol (NaN at the level of rounding), and why that is no evidence.

        `near` and `far` name the companions at 10 and 100 times rtol; the rule is `rules.fall_of`.
        """
        if why := self.incomplete(rank, seed, near, far):
            return math.nan, why
        first, second = (float(self.largest(label, "distance", rank)[seed]) for label in (near, far))
        return fall_of(first, second, float(self.largest(near, "estimated_error", rank)[seed]))

    def unproven(self, rank: int, seed: int) -> str:
        """Why the solver's own estimate of a flow's error is not to be trusted; empty where it is."""
        for near, far in (("loose_10", "loose_100"), ("integrated_10", "integrated_100")):
            if self.has_companion(near, rank)[seed] and (why := self.fall(rank, seed, near, far)[1]):
                return why
        return ""

    def escaped(self, rank: int, seed: int) -> str:
        """Said of a flow that reached a limit which theory excludes, because rounding led it there; else empty."""
        escape = float(self.theory("escape_time", rank)[seed])
        if str(self.final("outcome", FLOW, rank)[seed]) != "reached" or not math.isfinite(escape):
            return ""
        return f"theory excludes this limit; rounding led to it, from about t = {escape:.4g} in this dtype"

    def scale(self, rank: int) -> float:
        """The adapter scale s of a rank, by its place."""
        scaling = self.scenario["adapter"]["scaling"]
        if scaling["kind"] == "constant":
            return float(scaling["value"])
        return float(scaling["alpha"]) / float(self.ranks[rank]) ** (1.0 if scaling["kind"] == "lora" else 0.5)

    @remembered
    def size(self, rank: int) -> np.ndarray:
        """max_t ‖s·BA_flow‖_F, (seed,): the unit of all distances."""
        norms = self.trajectory("product_norm", FLOW, rank)
        return np.where(np.isnan(norms), 0.0, norms).max(-1)

    def loss_error(self, source: Source, rank: int) -> np.ndarray:
        """Error of a loss (seed, time) that the estimated error of its BA allows.

        With δ = ‖error of s·BA‖ and ‖Hessian in W‖ ≤ κg: |Δf| ≤ ‖∇f‖δ + κgδ²/2, ‖∇f‖² ≤ 2κgf (g = 1, or n for
        trace-squared).
        """
        loss, error = self.numbers(source, "loss", rank), self.numbers(source, "estimated_error", rank)
        size = self.size(rank)[:, None]
        delta = np.where(size > 0, error * size, 0.0)
        bound = 2 * self.coefficient * (self.rows if self.objective == "trace_squared" else 1)
        return np.sqrt(2 * bound * np.maximum(loss, 0.0)) * delta + bound * delta**2 / 2

    @remembered
    def last_loss_error(self, source: Source, rank: int) -> np.ndarray:
        """(seed,) `loss_error` at the last time."""
        return self.loss_error(source, rank)[:, -1].copy()

    @remembered
    def unstable(self, schedule: int, rank: int) -> np.ndarray:
        """Where descent cannot stay at the flow's minimum, (seed,): its multiplier, or its rate, is above the limit."""
        multiplier, row = self.final("multiplier", schedule, rank), self.schedules[schedule]
        name = stability_name(str(row["update"]), int(row["inner_steps"]))
        limit = self.theory(name, rank) if name else math.nan
        above = row["learning_rate"] > limit
        return np.where(np.isfinite(multiplier), multiplier > 1, above)

    def subject(self, schedule: int | str, rank: int, seed: int | None = None) -> str:
        """`label/rank=r/seed=s`."""
        label = self.labels[schedule] if isinstance(schedule, int) else schedule
        tail = "" if seed is None else f"/seed={self.seeds[seed]}"
        return f"{label}/rank={self.ranks[rank]}{tail}"

    @cached_property
    def _companions(self) -> dict[str, int]:
        return {str(label): place for place, label in enumerate(self.slabs.read("companions", "companion"))}


def largest(values: np.ndarray) -> float:
    """The largest entry, ignoring NaN; NaN if there is none."""
    finite = values[~np.isnan(values)]
    return float(finite.max()) if finite.size else math.nan


def largest_over_time(values: np.ndarray) -> np.ndarray:
    """`largest` of every row, (seed,) of (seed, time)."""
    unknown = np.isnan(values)
    top: np.ndarray = np.where(unknown.all(-1), math.nan, np.where(unknown, -math.inf, values).max(-1))
    return top
