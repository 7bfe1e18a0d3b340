"""Arguments of `simulate` and `descend`: what makes sense, and what is said of the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowsim.errors import InputError


def as_float64(value: Tensor) -> np.ndarray:
    """On the host, in float64."""
    array: np.ndarray = value.detach().cpu().to(torch.float64).numpy()
    return array


def increasing(times: Sequence[float] | np.ndarray) -> np.ndarray:
    """Flow times as an array (T,), or `InputError`."""
    try:
        grid = np.array(times, dtype=np.float64)  # a copy: torch warns of what is read-only
    except (TypeError, ValueError) as error:
        raise InputError("times: are not numbers", "Give increasing flow times, e.g. [0, 0.5, 1].") from error
    good = grid.ndim == 1 and grid.size > 0 and bool(np.isfinite(grid).all())
    if not good or grid[0] < 0 or bool((np.diff(grid) <= 0).any()):
        raise InputError(
            "times: must be finite, not negative and strictly increasing",
            "Give e.g. [0, 0.5, 1] or numpy.linspace(0, 10, 101).",
        )
    return grid


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        raise InputError(f"{name}: unknown {value!r}", f"Choose one of {', '.join(choices)}.")


def positive(name: str, value: float) -> None:
    """Refuse what is not a positive finite number."""
    try:
        good = math.isfinite(value) and value > 0
    except (TypeError, ValueError):
        good = False  # not a number at all
    if not good:
        raise InputError(f"{name}: is {value!r}, must be positive and finite", f"Choose a positive {name}.")


def whole(name: str, value: float, least: int) -> int:
    """A whole number of at least `least`, or `InputError`."""
    try:
        good = not isinstance(value, bool) and math.isfinite(value) and int(value) == value and value >= least
    except (TypeError, ValueError):
        good = False  # not a number at all
    if not good:
        raise InputError(f"{name}: is {value!r}", f"Give a whole number of at least {least}.")
    return int(value)
