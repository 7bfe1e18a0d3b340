"""Start files: A and B at time 0 as a user's own program has written them, in a .npz or .safetensors file.

The file holds ``A`` and ``B``, of which rank r takes the first r rows and columns; or ``A_4`` and ``B_4`` for rank 4,
and so on. Each array may have a leading axis of seeds, along which the seed's number is the index.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from flowsim.scenario.array_files import WeightError, as_float64, listed, not_real, read_arrays, suggestion

if TYPE_CHECKING:
    from flowsim.scenario.adapter import FileInit

__all__ = ["StartForm", "WrittenStart", "load_start_file"]

Array = npt.NDArray[np.float64]
Name = tuple[str, int | None]  # the factor, and the rank it is for; None: every rank up to its own

_FORMS = "Write A (R x m) and B (n x R), or A_4 and B_4 for rank 4 and so on; each may have a leading axis of seeds."


@dataclass(frozen=True)
class StartForm:
    """Which starts a file holds; no numbers.

    Attributes
    ----------
    file : str
        Its name.
    shapes : dict
        (factor, rank) -> shape, the rank None where ranks are nested.
    size : int
        Bytes of all arrays in float64.
    """

    file: str
    shapes: dict[Name, tuple[int, ...]]
    size: int

    @property
    def nested(self) -> bool:
        """Whether all ranks are the first rows and columns of one A and B."""
        return ("A", None) in self.shapes

    def has_rank(self, rank: int) -> bool:
        """Whether there is a start of this rank."""
        return rank <= self.shapes["A", None][-2] if self.nested else ("A", rank) in self.shapes

    def seeds(self, rank: int) -> int | None:
        """How many seeds there are of this rank; None: every seed starts alike."""
        pair = (self.shapes[self.key(factor, rank)] for factor in "AB")
        return next((shape[0] for shape in pair if len(shape) == 3), None)

    def key(self, factor: str, rank: int) -> Name:
        """Where the factor of a rank that there is stands in `shapes`."""
        return factor, None if self.nested else rank

    def rank_refusal(self, rank: int) -> tuple[str, str] | None:
        """What is wrong and what to do where there is no start of this rank, else None."""
        if self.has_rank(rank):
            return None
        if self.nested:
            most = self.shapes["A", None][-2]
            what = f"rank {rank} is too large: {self.file} has {most} rows of A and columns of B"
            return what, f"Use ranks up to {most}."
        there = sorted(other for factor, other in self.shapes if factor == "A" and other is not None)
        what = f"there is no start of rank {rank}: {self.file} has rank{'s' * (len(there) > 1)} {listed(there)}"
        return what, f"Add A_{rank} and B_{rank} to the file."

    def seed_refusal(self, rank: int, seed: int) -> tuple[str, str] | None:
        """The same of a seed of a rank that there is."""
        count = self.seeds(rank)
        if count is None or seed < count:
            return None
        only = "the seed 0 alone" if count == 1 else f"the seeds 0 to {count - 1}"
        where = "" if self.nested else f" of rank {rank}"
        return f"there is no start{where} for seed {seed}: {self.file} holds {count}, {only}", f"Use {only}."

    def shape_refusal(self, shape: tuple[int, int]) -> tuple[str, str] | None:
        """The same of the first factor that does not fit a weight of this shape."""
        n, m = shape
        for name, found in self.shapes.items():
            of_a = name[0] == "A"
            have, wanted, what = (found[-1], m, "columns") if of_a else (found[-2], n, "rows")
            if have != wanted:
                called = f"{_called(name)} of {self.file}"
                return f"{called} has {have} {what}, but the weight has {wanted}", f"Give it {wanted} {what}."
        return None


@dataclass(frozen=True, eq=False)
class WrittenStart:
    """The starts of a file, in numbers.

    Attributes
    ----------
    form : StartForm
    arrays : dict
        (factor, rank) -> float64 array of the form's shape.
    """

    form: StartForm
    arrays: dict[Name, Array]
    kind: Literal["file"] = "file"

    @property
    def deterministic(self) -> bool:
        """Whether every seed starts alike, at every rank."""
        return all(len(shape) == 2 for shape in self.form.shapes.values())

    def at(self, rank: int, seed: int) -> tuple[Array, Array]:
        """A (r, m) and B (n, r) of one rank and seed; views.

        Raises
        ------
        InputError
            If there is no such rank or seed.
        """
        refusal = self.form.rank_refusal(rank) or self.form.seed_refusal(rank, seed)
        if refusal is not None:
            raise WeightError(*refusal)
        A, B = (self.arrays[self.form.key(factor, rank)] for factor in "AB")
        A, B = (factor[seed] if factor.ndim == 3 else factor for factor in (A, B))
        return A[:rank], B[:, :rank]


def load_start_file(spec: FileInit, folder: Path) -> tuple[WrittenStart, str]:
    """Read the starts that an init ``file`` names.

    Parameters
    ----------
    spec : FileInit
        Path, and optionally package and sha256.
    folder : Path
        What a relative path starts from (the scenario's folder); ignored with `package`.

    Returns
    -------
    start : WrittenStart
        float64, finite; float16 and bfloat16 are widened exactly. Arrays of other names are not read.
    sha256 : str
        Of the whole file, 64 hexadecimal digits.

    Raises
    ------
    InputError
        If the file or package is missing or unreadable, has another sha256, is neither .npz nor .safetensors,
        or its arrays are not the finite floating-point factors of a start.
    """
    file = Path(spec.path).name
    found, digest = read_arrays(spec, folder, _factors_among, _two_or_three_dimensions)
    arrays: dict[Name, Array] = {}
    for called in list(found):
        array = found.pop(called)  # of large arrays only one is there twice
        if array.dtype.kind != "f":
            raise not_real(f"{called} of {file}", array.dtype, "floating-point numbers")
        arrays[_read(called)] = as_float64(array, f"{called} of {file}")
    shapes = {name: array.shape for name, array in arrays.items()}
    form = StartForm(file, shapes, sum(array.nbytes for array in arrays.values()))
    for rank in {rank for _, rank in shapes}:
        _refuse_unlike(form, rank)
    return WrittenStart(form, arrays), digest


def _read(called: str) -> Name:
    factor, _, rank = called.partition("_")
    return factor, int(rank) if rank else None


def _called(name: Name) -> str:
    return name[0] if name[1] is None else f"{name[0]}_{name[1]}"


def _factors_among(names: Sequence[str] | None, file: str) -> list[str]:
    """The names of factors in a file, in pairs and of one form."""
    if names is None:
        raise WeightError(f"{file} holds a single array, but a start has two, A and B", "Write both into a .npz file.")
    factors = sorted({name for name in names if re.fullmatch(r"[AB](_[1-9][0-9]{0,7})?", name)})
    if not factors:
        held = f"It holds: {listed(names)}. " if names else ""
        raise WeightError(f"{file} has no A and B", held + _FORMS)
    ranked = [name for name in factors if "_" in name]
    if ranked and len(ranked) < len(factors):
        what = f"{file} holds {', '.join(name for name in factors if '_' not in name)} and {listed(ranked)} too"
        raise WeightError(what, "Keep one of the two forms: A and B for all ranks, or a pair for each rank.")
    for name in factors:
        other = ("B" if name[0] == "A" else "A") + name[1:]
        if other not in factors:
            near = suggestion(other, [one for one in names if one not in factors])
            raise WeightError(f"{file} has {name}, but no {other}{near}", _FORMS)
    return factors


def _two_or_three_dimensions(shape: Sequence[int], name: str) -> None:
    if len(shape) not in (2, 3):
        what = f"{name} has shape {tuple(shape)}, not two dimensions, or three with an axis of seeds"
        raise WeightError(what, _FORMS)


def _refuse_unlike(form: StartForm, rank: int | None) -> None:
    """Refuse A and B that do not belong together."""
    a, b = (f"{_called((factor, rank))} of {form.file}" for factor in "AB")
    A, B = form.shapes["A", rank], form.shapes["B", rank]
    if rank is None and A[-2] != B[-1]:
        raise WeightError(f"{b} has {B[-1]} columns, but A has {A[-2]} rows", "Give B as many columns as A has rows.")
    for called, count, what in ((a, A[-2], "rows"), (b, B[-1], "columns")):
        if rank not in (None, count):
            raise WeightError(f"{called} has {count} {what}, but it is for rank {rank}", f"Give it {rank} {what}.")
    if len(A) == len(B) == 3 and A[0] != B[0]:
        what = f"{a} has {A[0]} seeds, but {b} has {B[0]}"
        raise WeightError(what, "Give both the same axis of seeds, or leave it out where all seeds share a factor.")
