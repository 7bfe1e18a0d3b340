"""What the scenario classes are made of: strict numbers and sequences, and how a class reports findings.

YAML knows lists only, so sequences are accepted as lists and kept as tuples; everything else is strict
(no text for a number, no ``true`` for 1), except that an integer is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

__all__ = [
    "Count",
    "Entries",
    "Finding",
    "Matrix2D",
    "NonNegative",
    "Part",
    "Positive",
    "Seed",
    "Sha256",
    "Shape",
    "Word",
    "distinct",
    "refuse",
    "repeated",
    "shown",
]

# A seed is stored as a signed 64-bit coordinate.
MAX_SEED = 2**63 - 1
# Beyond any matrix or grid that fits in memory; keeps later products of sizes small.
MAX_SIZE = 10_000_000

Path = tuple[str | int, ...]
T = TypeVar("T")


class Part(BaseModel):
    """Base of every class of a scenario: frozen, strict, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Finding:
    """Something wrong inside a part: where below it, what is wrong, what to do."""

    at: Path
    what: str
    hint: str


def refuse(findings: Sequence[Finding]) -> None:
    """Raise one validation error that carries all findings; return when there are none.

    Raises
    ------
    pydantic_core.PydanticCustomError
        Of type ``findings``, with the findings in its context.
    """
    if findings:
        text = "; ".join(finding.what for finding in findings).replace("{", "{{").replace("}", "}}")
        raise PydanticCustomError("findings", text, {"findings": tuple(findings)})


def shown(value: object) -> str:
    """A value as a short piece of a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "an integer of more than 20 digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:50] + "..." + text[-1]


def distinct(noun: str) -> Callable[[tuple[T, ...]], tuple[T, ...]]:
    """A validator that refuses an entry which is given twice.

    Parameters
    ----------
    noun : str
        What an entry is called, as in "rank 2 is given twice".
    """

    def check(values: tuple[T, ...]) -> tuple[T, ...]:
        refuse(repeated(values, noun))
        return values

    return check


def repeated(values: Sequence[Any], noun: str) -> list[Finding]:
    """Find the numbers and words that stand in a list twice."""
    first: set[Any] = set()
    findings = []
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            continue
        if value in first:
            findings.append(Finding((index,), f"{noun} {_bare(value)} is given twice", "Remove one of the two."))
        first.add(value)
    return findings[:20]


def _bare(value: Any) -> str:
    # The same words for 1 as written and for 1.0 as validated.
    return f"{value:.15g}" if isinstance(value, float) else value if isinstance(value, str) else shown(value)


def _rectangular(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Refuse rows of different lengths."""
    width = len(rows[0])
    refuse(
        [
            Finding(
                (index,),
                f"row {index} has {len(row)} entries, row 0 has {width}",
                "Give every row of the matrix the same number of entries.",
            )
            for index, row in enumerate(rows)
            if len(row) != width
        ][:20]
    )
    return rows


Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Shape = Annotated[tuple[Count, Count], Field(strict=False)]
Word = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]

# `Entries[X]`: at least one X, from a YAML list.
Entries = Annotated[tuple[T, ...], Field(strict=False, min_length=1)]
Matrix2D = Annotated[Entries[Entries[float]], AfterValidator(_rectangular)]


def kind_of(value: Any) -> Any:
    """Which member of a union of a list and kinds a value means: ``"list"`` or the kind it names."""
    if isinstance(value, (list, tuple)):
        return "list"
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
