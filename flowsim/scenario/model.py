"""A scenario as frozen classes: the single source of its keys, defaults and schema.

Field names are the keys of the YAML file. W = W0 + s B A, with W0 = `pretrained` ``(n, m)``,
A ``(r, m)``, B ``(n, r)``; see the README's glossary for the words.
"""

from __future__ import annotations

import math
import sys
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from flowsim.scenario.adapter import (
    Adapter,
    ConstantScaling,
    FileInit,
    GaussianInit,
    Init,
    KaimingInit,
    LoraScaling,
    OrthogonalInit,
    PissaInit,
    RsloraScaling,
    Scaling,
    SpectralInit,
    ValuesInit,
)
from flowsim.scenario.matrices import (
    FileMatrix,
    FlatValues,
    GaussianMatrix,
    GeometricValues,
    Matrix,
    PowerValues,
    ShiftTarget,
    SingularValues,
    SpectrumMatrix,
    Target,
    ValuesMatrix,
    ZerosMatrix,
)
from flowsim.scenario.types import (
    Count,
    Entries,
    Finding,
    NonNegative,
    Part,
    Positive,
    distinct,
    refuse,
)

__all__ = [
    "CHECKS",
    "METHODS",
    "Adapter",
    "Compute",
    "ConstantScaling",
    "DescentSchedule",
    "FileInit",
    "FileMatrix",
    "FlatValues",
    "FlowSchedule",
    "GaussianInit",
    "GaussianMatrix",
    "GeometricValues",
    "Init",
    "KaimingInit",
    "LoraScaling",
    "Matrix",
    "Objective",
    "OrthogonalInit",
    "PissaInit",
    "PowerValues",
    "RsloraScaling",
    "Save",
    "Scaling",
    "Scenario",
    "Schedule",
    "ShiftTarget",
    "SingularValues",
    "Solver",
    "SpectralInit",
    "SpectrumMatrix",
    "Target",
    "Time",
    "ValuesInit",
    "ValuesMatrix",
    "ZerosMatrix",
    "label_number",
]

Update = Literal["simultaneous", "a_first", "b_first"]
FlowUpdate = Literal["simultaneous", "a_first", "b_first", "symmetric"]
CheckName = Literal[
    "equivalence",
    "descent_follows_flow",
    "eckart_young",
    "alignment",
    "zero_loss",
    "relative_error_law",
    "inverse_sqrt_rank",
    "closed_form",
    "conservation",
    "monotone_loss",
    "convergence_rate",
    "stability",
    "accuracy",
]
CHECKS: tuple[str, ...] = CheckName.__args__  # type: ignore[attr-defined]
# After the three that choose: flowsim's own steppers, then torchdiffeq's explicit ones with an error estimate.
Method = Literal[
    "auto",
    "exact",
    "adaptive",
    "splitting4",
    "splitting6",
    "stabilised",
    "tsit5",
    "dopri5",
    "dopri8",
    "bosh3",
    "fehlberg2",
    "adaptive_heun",
]
METHODS: tuple[str, ...] = Method.__args__  # type: ignore[attr-defined]


def label_number(value: float) -> str:
    """A number inside a label: as short as possible without losing a digit.

    Examples
    --------
    >>> label_number(0.05), label_number(2.0), label_number(0.12345678)
    ('0.05', '2', '0.12345678')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


class Objective(Part):
    """What is minimised: c ||W - W*||_F^2 or c tr(W)^2."""

    kind: Literal["frobenius", "trace_squared"] = Field(
        description="frobenius: c ||W - W*||_F^2; trace_squared: c tr(W)^2, W square."
    )
    coefficient: Positive = Field(default=0.5, description="c.")


class FlowSchedule(Part):
    """Gradient flow: both factors at once, or each in turn for a window of time."""

    kind: Literal["flow"]
    update: FlowUpdate = Field(default="simultaneous", description="Which factor moves when.")
    windows: Annotated[Entries[Positive], AfterValidator(distinct("window"))] | None = Field(
        default=None, description="Windows h of flow time; for every update but simultaneous."
    )

    @model_validator(mode="after")
    def _windows_where_needed(self) -> Self:
        findings = []
        if self.update == "simultaneous" and self.windows is not None:
            hint = "Remove windows, or set update to a_first, b_first or symmetric."
            findings.append(Finding(("windows",), "the simultaneous flow has no windows", hint))
        if self.update != "simultaneous" and self.windows is None:
            what = f"a flow with update {self.update} needs windows"
            findings.append(Finding((), what, "Add windows, such as [0.2, 0.1, 0.05]."))
        refuse(findings)
        return self

    def labels(self) -> list[tuple[str, str, float | None]]:
        """The (label, update, window) of every trajectory of this schedule; window None if simultaneous."""
        if self.windows is None:
            return [("flow", self.update, None)]
        return [(f"flow/{self.update}/window={label_number(h)}", self.update, h) for h in self.windows]


class DescentSchedule(Part):
    """Gradient descent: both factors at once, or k steps on one before the other moves."""

    kind: Literal["descent"]
    update: Update = Field(default="simultaneous", description="Which factor moves when.")
    learning_rates: Annotated[Entries[Positive], AfterValidator(distinct("learning rate"))] = Field(
        description="Learning rates, one trajectory each."
    )
    inner_steps: Count = Field(default=1, description="Steps k on one factor before the other moves.")

    def labels(self) -> list[tuple[str, str, float | None]]:
        """The (label, update, learning_rate) of every trajectory of this schedule."""
        tail = "" if self.inner_steps == 1 else f"/inner_steps={self.inner_steps}"
        return [
            (f"descent/{self.update}/learning_rate={label_number(rate)}{tail}", self.update, rate)
            for rate in self.learning_rates
        ]


Schedule = Annotated[FlowSchedule | DescentSchedule, Field(discriminator="kind")]


class Time(Part):
    """Where in flow time the trajectories are recorded."""

    stop: Positive = Field(description="Last flow time.")
    points: Annotated[int, Field(ge=2, le=10_000_000)] = Field(
        default=101, description="Recorded times, 0 and stop included."
    )
    spacing: Literal["linear", "log"] = Field(
        default="linear", description="linear, or log: 0, then geometric from first to stop."
    )
    first: Positive | None = Field(default=None, description="First time after 0, with spacing log.")

    @model_validator(mode="after")
    def _first_where_needed(self) -> Self:
        findings = []
        log = self.spacing == "log"
        if log and self.first is None:
            findings.append(Finding((), "log spacing needs first", "Add first, such as 1e-3: the first time after 0."))
        if log and self.points < 3:
            what = "log spacing needs 3 points or more: 0, first and stop"
            findings.append(Finding(("points",), what, "Give more points."))
        if not log and self.first is not None:
            findings.append(Finding(("first",), "linear spacing has no first", "Remove it, or write spacing: log."))
        if self.first is not None and self.first >= self.stop:
            what = f"first ({self.first:g}) must be smaller than stop ({self.stop:g})"
            findings.append(Finding(("first",), what, "Choose a smaller first or a larger stop."))
        elif not self._distinct():
            what = f"{self.points} times this close together are not distinct numbers"
            findings.append(Finding(("points",), what, "Give fewer points or a larger stop."))
        refuse(findings)
        return self

    def _distinct(self) -> bool:
        """Whether neighbouring times differ, by many units of rounding."""
        if self.spacing == "linear" or self.first is None or self.points < 3:
            return self.stop / (self.points - 1) >= sys.float_info.min
        return math.log(self.stop / self.first) / (self.points - 2) > 1e-12 and self.first >= sys.float_info.min


class Solver(Part):
    """How the flow is solved."""

    method: Method = Field(
        default="auto",
        description="auto: the closed form where one holds, else adaptive, which picks a stepper; or a method's name.",
    )
    rtol: Annotated[float, Field(gt=0, lt=1)] = Field(default=1e-9, description="Relative tolerance.")
    atol: NonNegative = Field(default=1e-12, description="Absolute tolerance.")


class Compute(Part):
    """Where and in which precision."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = Field(
        default="auto", description="auto, cpu, cuda, cuda:N or mps."
    )
    dtype: Literal["float64", "float32"] = Field(default="float64", description="Precision of the states.")
    threads: Annotated[int, Field(ge=1, le=4096)] = Field(default=1, description="Threads of the host.")


class Save(Part):
    """What else is stored."""

    factors: Literal["none", "ends", "all"] = Field(
        default="none", description="Store A and B: never, at the first and last time, or at every time."
    )


def _text_or_list(value: Any) -> str | None:
    return "list" if isinstance(value, (list, tuple)) else "text" if isinstance(value, str) else None


Checks = Annotated[
    Annotated[Literal["auto"], Tag("text")]
    | Annotated[Entries[CheckName], AfterValidator(distinct("check")), Tag("list")],
    Discriminator(_text_or_list),
]


# In a file sections may stand for the dots of a path; here a key is the whole path.
Sweep = Annotated[
    dict[str, list[Any]],
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "anyOf": [{"type": "array", "minItems": 1}, {"type": "object", "minProperties": 1}]
            },
        }
    ),
]


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        refuse([Finding((), "must be one line without control characters", "Write plain text.")])
    return text


class Scenario(Part):
    """A flowsim scenario: which weight is adapted, to what end, from which starts, by which rules."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)] = Field(
        description="Names the result: lower-case letters, digits, _ and -."
    )
    title: Annotated[str, Field(max_length=500), AfterValidator(_one_line)] | None = Field(
        default=None, description="One line for a reader."
    )
    objective: Objective = Field(description="What is minimised.")
    pretrained: Matrix = Field(description="W0, the frozen weight.")
    target: Target | None = Field(
        default=None, description="W*, the wanted weight; default zeros; not with trace_squared."
    )
    adapter: Adapter = Field(description="The adapter s B A.")
    schedules: Entries[Schedule] = Field(
        default=(FlowSchedule(kind="flow"),), description="How the factors move; default: the flow alone."
    )
    time: Time = Field(description="Where in flow time the trajectories are recorded.")
    reach: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-6, description="reached means: excess loss at most reach times the excess loss at time 0."
    )
    solver: Solver = Field(default=Solver(), description="How the flow is solved.")
    compute: Compute = Field(default=Compute(), description="Where and in which precision.")
    checks: Checks = Field(default="auto", description="auto: every check that speaks of this scenario; or a list.")
    save: Save = Field(default=Save(), description="What else is stored.")
    sweep: Sweep | None = Field(
        default=None,
        description="Key paths with lists of values, as in adapter.init.std: [0.01, 0.1]; every combination is run.",
    )
