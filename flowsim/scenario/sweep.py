"""What a scenario sweeps: the axes of a result beside ranks and seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowsim.scenario.model import label_number

__all__ = ["TAKEN", "Axis", "axis_names"]

# Names of dimensions, coordinates and variables of a result; an axis must not be called so.
_TAKEN = """
schedule rank seed time mode side companion check kind update window learning_rate inner_steps name factor row
column against rtol_factor flow_time step subject observed expected tolerance verdict reason A B
loss excess_loss gradient_norm relative_error imbalance_drift flow_gap update_order_gap predicted_gap
predicted_order_gap richardson_residual richardson_drift richardson_order_drift richardson_order_residual
estimated_error factor_norm product_norm gram_sum_norm singular_value alignment loss_floor loss_limit
loss_reachable excess_rounding escape_time relative_error_limit relative_error_horizon relative_error_rounding
effective_rank orthonormal_error overlap convergence_rate convergence_power excess_constant stability_limit
sequential_stability_limit parameters spectral_gap energy missing_modes steps evaluations local_rate sharpness
multiplier end_multiplier further_time reach_time outcome method stepper choice distance factor_distance
loss_error companion_error companion_status
trajectory final baseline theory companions checks factors
"""
TAKEN = frozenset(_TAKEN.split())
_LARGEST = 2**63


@dataclass(frozen=True)
class Axis:
    """One swept key of a scenario: a dimension of its result.

    Attributes
    ----------
    path : str
        The key, as in ``adapter.init.std``.
    name : str
        Of the dimension: as few keys of the path's end as make it unique, joined by ``_``.
    values : tuple
        What the key takes, as written: numbers, text, mappings or lists.

    Examples
    --------
    >>> axis = Axis("adapter.init", "init", ({"kind": "kaiming"}, {"kind": "gaussian", "std": 0.1}))
    >>> axis.texts
    ('{kind: kaiming}', '{kind: gaussian, std: 0.1}')
    >>> Axis("adapter.init.std", "std", (1e-4, 1)).coordinate
    [0.0001, 1.0]
    """

    path: str
    name: str
    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Each value as one line of YAML, numbers as short as possible without losing a digit."""
        return tuple(_line(value) for value in self.values)

    @property
    def coordinate(self) -> list[int] | list[float] | list[str]:
        """The values as a coordinate: numbers of one type where all are numbers, else their texts."""
        if not all(_is_number(value) for value in self.values):
            return list(self.texts)
        if all(isinstance(value, int) and -_LARGEST <= value < _LARGEST for value in self.values):
            return list(self.values)
        return [float(value) for value in self.values]


def axis_names(paths: Sequence[str]) -> list[str]:
    """Short, distinct names of dimensions for key paths of which none lies above another.

    Examples
    --------
    >>> axis_names(["adapter.init.std", "solver.method", "pretrained.singular_values.0"])
    ['std', 'solver_method', 'singular_values_0']
    >>> axis_names(["adapter.init.std", "pretrained.std"])
    ['init_std', 'pretrained_std']
    """
    ends = [["_".join(path.split(".")[-count:]) for count in range(1, path.count(".") + 2)] for path in paths]
    names = []
    for index, mine in enumerate(ends):
        others = {end for other, theirs in enumerate(ends) if other != index for end in theirs}
        fitting = [end for end in mine if end not in TAKEN | others and not end[:1].isdigit()]
        names.append(fitting[0] if fitting else mine[-1])
    return names


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _line(value: Any) -> str:
    """Plain data as one line of YAML in flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_line(key)}: {_line(below)}" for key, below in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_line(below) for below in value) + "]"
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    return label_number(value) if _is_number(value) else json.dumps(value)


def _is_plain(text: str) -> bool:
    """Whether YAML reads the text as itself without quotes."""
    return re.fullmatch(r"[^\W\d](?:[\w ./-]*[\w./-])?", text) is not None and text.lower() not in (
        "null",
        "true",
        "false",
    )


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
