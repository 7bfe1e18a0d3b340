"""The matrices a scenario may name: W0 (`pretrained`), W* (`target`), and the spectra they may have."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from flowsim.scenario.types import (
    Count,
    Entries,
    Finding,
    Matrix2D,
    NonNegative,
    Part,
    Positive,
    Seed,
    Sha256,
    Shape,
    Word,
    kind_of,
    refuse,
)

__all__ = [
    "FileMatrix",
    "FlatValues",
    "GaussianMatrix",
    "GeometricValues",
    "Matrix",
    "PowerValues",
    "ShiftTarget",
    "SingularValues",
    "SpectrumMatrix",
    "Target",
    "ValuesMatrix",
    "ZerosMatrix",
]


class ZerosMatrix(Part):
    """The zero matrix."""

    kind: Literal["zeros"]
    shape: Shape | None = Field(
        default=None, description="Rows and columns [n, m]; may be left out where the other matrix fixes it."
    )


class ValuesMatrix(Part):
    """A matrix written out, row by row."""

    kind: Literal["values"]
    values: Matrix2D = Field(description="The rows, each a list of numbers.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns (n, m)."""
        return len(self.values), len(self.values[0])


class GaussianMatrix(Part):
    """Independent normal entries of mean 0."""

    kind: Literal["gaussian"]
    shape: Shape = Field(description="Rows and columns [n, m].")
    std: NonNegative = Field(default=1.0, description="Standard deviation of an entry.")
    seed: Seed = Field(default=0, description="Seed of the draw.")


class PowerValues(Part):
    """Singular values scale * i**(-exponent), i = 1, 2, ..., min(n, m)."""

    kind: Literal["power"]
    exponent: float = Field(description="How fast the values fall.")
    scale: Positive = Field(default=1.0, description="The first value.")


class GeometricValues(Part):
    """Singular values scale * ratio**(i - 1), i = 1, 2, ..., min(n, m)."""

    kind: Literal["geometric"]
    ratio: Positive = Field(description="Each value over the one before it.")
    scale: Positive = Field(default=1.0, description="The first value.")


class FlatValues(Part):
    """Equal singular values; the others are zero."""

    kind: Literal["flat"]
    value: NonNegative = Field(description="The common value.")
    count: Count | None = Field(default=None, description="How many there are; default min(n, m).")


SingularValues = Annotated[
    Annotated[Entries[NonNegative], Tag("list")]
    | Annotated[PowerValues, Tag("power")]
    | Annotated[GeometricValues, Tag("geometric")]
    | Annotated[FlatValues, Tag("flat")],
    Discriminator(kind_of),
]


class SpectrumMatrix(Part):
    """Random singular vectors with chosen singular values."""

    kind: Literal["spectrum"]
    shape: Shape = Field(description="Rows and columns [n, m].")
    singular_values: SingularValues = Field(
        description="A list, followed by zeros, or {kind: power|geometric|flat, ...}."
    )
    symmetric: bool = Field(
        default=False, description="Equal left and right singular vectors: positive semi-definite, square."
    )
    seed: Seed = Field(default=0, description="Seed of the singular vectors.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        n, m = self.shape
        findings = []
        if self.symmetric and n != m:
            findings.append(
                Finding(
                    ("symmetric",),
                    f"a symmetric matrix is square, not {n} x {m}",
                    "Give shape two equal numbers.",
                )
            )
        findings += _spectrum_findings(self.singular_values, min(n, m))
        refuse(findings)
        return self


def _spectrum_findings(spec: Any, available: int) -> list[Finding]:
    """What is wrong with singular values for a matrix that has `available` of them."""
    given = len(spec) if isinstance(spec, tuple) else getattr(spec, "count", None)
    if given is not None and given > available:
        at = ("singular_values",) if isinstance(spec, tuple) else ("singular_values", "count")
        return [
            Finding(
                at,
                f"{given} singular values, but a matrix of this shape has {available}",
                "Give at most min(n, m) of them, or enlarge the shape.",
            )
        ]
    last = np.float64(available)
    with np.errstate(over="ignore", under="ignore"):
        if isinstance(spec, PowerValues):
            largest, name = spec.scale * last**-spec.exponent, "exponent"
        elif isinstance(spec, GeometricValues):
            largest, name = spec.scale * np.float64(spec.ratio) ** (last - 1.0), "ratio"
        else:
            return []
    if np.isfinite(largest):
        return []
    return [
        Finding(
            ("singular_values", name),
            f"the last of {available} singular values is too large for a number",
            f"Choose a smaller scale or another {name}.",
        )
    ]


class FileMatrix(Part):
    """A matrix in a .npy, .npz or .safetensors file (never a pickle)."""

    kind: Literal["file"]
    path: Word = Field(description="Relative to the scenario or, with `package`, inside that installed distribution.")
    tensor: Word | None = Field(default=None, description="Its name in a file that holds several.")
    package: Word | None = Field(
        default=None, description="Installed distribution that holds the file; it is not imported."
    )
    sha256: Sha256 | None = Field(default=None, description="Checksum that the file must have, 64 hexadecimal digits.")


Matrix = Annotated[
    ZerosMatrix | ValuesMatrix | GaussianMatrix | SpectrumMatrix | FileMatrix, Field(discriminator="kind")
]


class ShiftTarget(Part):
    """W* = W0 + by."""

    kind: Literal["shift"]
    by: Matrix = Field(description="The matrix that is added to W0.")


Target = Annotated[
    ZerosMatrix | ValuesMatrix | GaussianMatrix | SpectrumMatrix | FileMatrix | ShiftTarget,
    Field(discriminator="kind"),
]
