"""From numbers and words of a batch to the dataset that `simulate` and `descend` return."""

from __future__ import annotations

import numpy as np
import xarray as xr
from torch import Tensor

from flowsim.integrators.base import Solution
from flowsim.trajectory.variables import FINAL_NUMBERS, FINAL_WORDS, OF_ANY_OBJECTIVE

FACTORS = {"A": ("time", "factor", "column"), "B": ("time", "row", "factor")}


def assemble(
    numbers: dict[str, np.ndarray], endings: list[tuple[str, str]], solution: Solution, times: np.ndarray,
    factors: tuple[Tensor, Tensor] | None, about: dict[str, object],
) -> xr.Dataset:  # fmt: skip
    """The dataset over `batch` and `time`.

    Parameters
    ----------
    numbers : dict of ndarray, (T, S)
    endings : list of (outcome, reason), (S,)
    times : ndarray, (T,)
    factors : tuple of Tensor, (T, S, r, m) and (T, S, n, r), or None
        A and B of the user.
    about : dict
        Attributes.
    """
    words = {
        "outcome": [str(outcome) for outcome, _ in endings],
        "reason": [reason for _, reason in endings],
        "method": solution.method,
        "stepper": solution.stepper,
        "choice": solution.choice,
    }
    counts = {"steps": solution.steps, "evaluations": solution.evaluations}
    data: dict[str, xr.Variable] = {}
    for name, value in zip("AB", factors or (), strict=False):
        attrs = {"long_name": f"factor {name}", "units": "weight0.5", "formula": "W = W0 + s B A"}
        data[name] = xr.Variable(("batch", *FACTORS[name]), value.detach().movedim(0, 1).cpu().numpy(), attrs)
    for name, rows in numbers.items():
        data[name] = xr.Variable(("batch", "time"), rows.T, OF_ANY_OBJECTIVE[name].attrs())
    for name, entries in words.items():
        data[name] = xr.Variable(("batch",), np.array(entries, dtype=object), FINAL_WORDS[name].attrs())
    for name, entries_ in counts.items():
        data[name] = xr.Variable(("batch",), np.array(entries_, dtype=np.int64), FINAL_NUMBERS[name].attrs())
    about |= {"device": solution.B.device.type, "dtype": str(solution.B.dtype).removeprefix("torch.")}
    coords = {"time": ("time", times, {"long_name": "flow time", "units": "time"})}
    return xr.Dataset(data, coords, about)
