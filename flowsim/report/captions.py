"""Captions of the figures, as a paper prints them: what is shown, how to read it, and of which result."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from flowsim.report.complete import completeness as completeness
from flowsim.report.data import Result, number
from flowsim.report.words import counted, listed, printable, sentence, shortened
from flowsim.trajectory.files import write_text
from flowsim.trajectory.points import axes_of

if TYPE_CHECKING:
    from flowsim.report.options import Options
    from flowsim.report.plots import Drawing

FILE = "captions.md"
LONGEST_TITLE, LONGEST_POINT = 120, 200  # letters


def signed(said: str, tree: xr.DataTree) -> str:
    """A caption: what is said of the figure, then which result it shows."""
    return f"{said} {identity(tree)}"


def identity(tree: xr.DataTree) -> str:
    """Name, title, digest, objective with its coefficient, shape, ranks, seeds and completeness in one sentence."""
    attrs, result = tree.attrs, Result.of(tree)
    name, title = str(attrs.get("name", "")), str(attrs.get("title", ""))
    called = printable(f"{name}, “{shortened(title, LONGEST_TITLE)}”" if title and title != name else name)
    point = str(attrs.get("point", ""))
    parts = [
        objective(tree),
        shape(tree),
        f"rank{'s' * (len(result.ranks) > 1)} {listed(result.ranks)}",
        f"seed{'s' * (len(result.view.seeds) > 1)} {listed(result.view.seeds)}",
        str(attrs.get("shown", "")),
    ]
    at = f", at {printable(shortened(point, LONGEST_POINT))}" if point else ""
    of = f"Scenario {called} (digest {str(attrs['digest'])[:8]}{at})"
    return sentence(f"{of}: {', '.join(part for part in parts if part)}; {completeness(tree)}")


def objective(tree: xr.DataTree) -> str:
    """`f(W) = 0.5·‖W − W*‖²_F`; of a sweep over objectives nothing."""
    swept = {axis.path for axis in axes_of(tree)}
    if swept & {"objective", "objective.kind"}:
        return ""
    c = "c" if "objective.coefficient" in swept else number(float(tree.attrs["coefficient"]))
    norm = "(tr W)²" if tree.attrs["objective"] == "trace_squared" else "‖W − W*‖²_F"
    return f"f(W) = {c}·{norm}"


def shape(tree: xr.DataTree) -> str:
    """`W of 64 × 48`; of a sweep over shapes nothing; with the points of a sweep."""
    shapes = json.loads(str(tree.attrs.get("points", "[]")))
    count = math.prod(len(axis.values) for axis in axes_of(tree))
    size = "" if any(one != shapes[0] for one in shapes) else f"W of {tree.attrs['rows']} × {tree.attrs['columns']}"
    points = counted(count, "point") if axes_of(tree) else ""
    return ", ".join(part for part in (size, points) if part)


def of_loss(tree: xr.DataTree) -> str:
    """Of `loss_vs_rank`."""
    result = Result.of(tree)
    floor = result.theory("loss_floor")[:, 0]
    said = f"Final loss of the flow against the rank{_medians(result)}"
    if (floor > 0).any():
        said += "; squares: the floor, the lowest loss that the rank allows. "
        said += "Below: what is left above the floor, and the goal for it (dashed)."
    else:
        said += ", and the goal for it (dashed). The floor is 0 at every rank."
    if any(family.kind == "descent" for family in result.families):
        said += " Open marks beside: gradient descent, one for each learning rate."
    return said


def of_time(tree: xr.DataTree) -> str:
    """Of `loss_vs_time`."""
    result = Result.of(tree)
    return (
        f"Loss of the flow above the floor of each rank, over flow time{_medians(result)}. On a logarithmic axis an "
        "exponential fall is a straight line; the goal is a dotted line, or a grey band where it depends on the rank."
    )


def of_error(tree: xr.DataTree) -> str:
    """Of `relative_error_vs_rank`."""
    result = Result.of(tree)
    return (
        "Relative error of the update at the last time, measured against that of full fine-tuning, over the rank"
        f"{_medians(result)}; squares: the exact limit of these starts. Grey dashes fall like r^(−1/2)."
    )


def of_equivalence(tree: xr.DataTree) -> str:
    """Of `equivalence`."""
    seeds = _medians(Result.of(tree))
    return (
        "Largest distance over time between one way of updating A and B and another, against the step: descent and "
        f"windows against the flow, sequential against simultaneous descent{seeds}. Triangles have slopes 1 and 2; "
        "the lines through the points are first-order predictions, not fits."
    )


def of_modes(tree: xr.DataTree) -> str:
    """Of `singular_values`."""
    result = Result.of(tree)
    target = "; grey dashes: those of the difference W* − W0" if result.view.objective == "frobenius" else ""
    return (
        "Singular values of the update s·BA along the flow over time, a panel for each rank, "
        f"seed {result.view.seeds[0]}{target}. A mode that is being learnt rises from its start to a plateau."
    )


def of_imbalance(tree: xr.DataTree) -> str:
    """Of `imbalance`."""
    result = Result.of(tree)
    steps = " Descent and windows, shown beside it, do not conserve Q." if result.families else ""
    return (
        "Drift of the imbalance Q = BᵀB − AAᵀ from its start over flow time"
        f"{_medians(result, 'medians')}. The flow conserves Q: what it drifts is the solver's error, and has to stay "
        f"below the dotted line.{steps}"
    )


def _medians(result: Result, words: str = "medians with their range") -> str:
    seeds = len(result.view.seeds)
    return f", {words} over {seeds} seeds" if seeds > 1 else ""


def write_captions(path: Path, drawings: Sequence[Drawing], tree: xr.DataTree, options: Options) -> None:
    """Write caption and alternative text of every figure as Markdown, a heading for each.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    parts = [f"# Figures of {_escaped(printable(str(tree.attrs.get('name', ''))))}\n"]
    for one in drawings:
        caption, alt = _escaped(one.caption(tree, options)), _escaped(one.alt(tree, options))
        parts.append(f"## {one.name}\n\n{caption}\n\nAlternative text: {alt}\n")
    write_text(path, "\n".join(parts))


def _escaped(text: str) -> str:
    """Plain text as Markdown shows it: a user's title is no markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|" else letter for letter in text)
