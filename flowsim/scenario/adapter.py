"""The adapter s B A of a scenario: ranks, seeds, A and B at time 0, and the scale s."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

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
    Word,
    distinct,
    refuse,
    shown,
)

__all__ = [
    "Adapter",
    "ConstantScaling",
    "FileInit",
    "GaussianInit",
    "Init",
    "KaimingInit",
    "LoraScaling",
    "OrthogonalInit",
    "PissaInit",
    "RsloraScaling",
    "Scaling",
    "SpectralInit",
    "ValuesInit",
]

Zero = Literal["A", "B", "none"]

_ZERO = "The factor that starts at zero; none: both are drawn."
_NESTED = "All ranks of a seed share one draw at unit scale; rank r takes its first r rows."


class KaimingInit(Part):
    """PEFT's default: A uniform on +-1/sqrt(m)."""

    kind: Literal["kaiming"]
    zero: Zero = Field(default="B", description=_ZERO)
    nested: bool = Field(default=True, description=_NESTED)


class GaussianInit(Part):
    """Independent normal entries of mean 0."""

    kind: Literal["gaussian"]
    std: NonNegative | None = Field(default=None, description="Standard deviation; default 1/rank.")
    zero: Zero = Field(default="B", description=_ZERO)
    nested: bool = Field(default=True, description=_NESTED)


class OrthogonalInit(Part):
    """A = scale times orthonormal rows, Haar distributed."""

    kind: Literal["orthogonal"]
    scale: float = Field(default=1.0, description="Length of a row.")
    zero: Zero = Field(default="B", description=_ZERO)
    nested: bool = Field(default=True, description=_NESTED)


def _zero_or_half(value: float) -> float:
    if value not in (0.0, 0.5):
        refuse([Finding((), f"must be 0 or 0.5, not {value:g}", "Choose 0 or 0.5.")])
    return value


class SpectralInit(Part):
    """A = scale S_r^power V_r^T, B = b U_r S_r^power, from the leading singular triplets of a matrix."""

    kind: Literal["spectral"]
    of: Literal["pretrained", "difference"] = Field(description="Whose singular vectors: W0 or W* - W0.")
    power: Annotated[float, AfterValidator(_zero_or_half)] = Field(
        default=0.0, description="0 or 0.5.", json_schema_extra={"enum": [0, 0.5]}
    )
    scale: float = Field(default=1.0, description="Factor of A.")
    b: float = Field(default=0.0, description="Factor of B.")


class PissaInit(Part):
    """s B A = U_r S_r V_r^T of W0 in equal shares; the residual is frozen, so that W starts at W0."""

    kind: Literal["pissa"]


class ValuesInit(Part):
    """Factors written out; rank r takes the first r rows of A and columns of B."""

    kind: Literal["values"]
    A: Matrix2D = Field(description="R x m, R at least the largest rank.")
    B: Matrix2D = Field(description="n x R.")


class FileInit(Part):
    """Factors A and B, or A_4 and B_4 for rank 4 and so on, in a .npz or .safetensors file (never a pickle).

    A is R x m and B n x R, rank r taking the first r rows and columns; a leading axis is that of seeds, by number.
    """

    kind: Literal["file"]
    path: Word = Field(description="Relative to the scenario or, with `package`, inside that installed distribution.")
    package: Word | None = Field(
        default=None, description="Installed distribution that holds the file; it is not imported."
    )
    sha256: Sha256 | None = Field(default=None, description="Checksum that the file must have, 64 hexadecimal digits.")


Init = Annotated[
    KaimingInit | GaussianInit | OrthogonalInit | SpectralInit | PissaInit | ValuesInit | FileInit,
    Field(discriminator="kind"),
]


class ConstantScaling(Part):
    """The scale s is one number for all ranks."""

    kind: Literal["constant"]
    value: Positive = Field(default=1.0, description="s.")


class LoraScaling(Part):
    """The scale s is alpha / rank."""

    kind: Literal["lora"]
    alpha: Positive = Field(description="s = alpha / rank.")


class RsloraScaling(Part):
    """The scale s is alpha / sqrt(rank)."""

    kind: Literal["rslora"]
    alpha: Positive = Field(description="s = alpha / sqrt(rank).")


Scaling = Annotated[ConstantScaling | LoraScaling | RsloraScaling, Field(discriminator="kind")]

# More seeds than this are a slip of the keyboard, and would only fill memory here.
MAX_SEEDS = 1_000_000


def _seed_list(value: Any) -> Any:
    """A count of seeds as the seeds it means."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_SEEDS:
            what = "must be at least 1 seed" if value < 1 else f"must be at most {MAX_SEEDS} seeds"
            refuse([Finding((), what, "8 means the seeds 0 to 7; a list names them.")])
        return tuple(range(value))
    if not isinstance(value, (list, tuple)):
        what = f"should be a whole number or a list of seeds, not {shown(value)}"
        refuse([Finding((), what, "8 means the seeds 0 to 7; a list names them.")])
    return value


Ranks = Annotated[Entries[Count], AfterValidator(distinct("rank"))]
Seeds = Annotated[
    Entries[Seed],
    AfterValidator(distinct("seed")),
    BeforeValidator(
        _seed_list,
        json_schema_input_type=Annotated[int, Field(ge=1, le=MAX_SEEDS)] | Annotated[list[Seed], Field(min_length=1)],
    ),
]


class Adapter(Part):
    """The adapter s B A: its ranks, seeds, start and scale."""

    ranks: Ranks = Field(description="Ranks r to solve.")
    seeds: Seeds = Field(default=(0,), description="How many seeds (8 means 0 to 7), or a list of them.")
    init: Init = Field(default=KaimingInit(kind="kaiming"), description="A and B at time 0.")
    scaling: Scaling = Field(default=ConstantScaling(kind="constant"), description="The scale s.")
