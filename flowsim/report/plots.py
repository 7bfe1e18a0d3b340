"""Pictures of a stored result: which figures there are, and how they reach the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from flowsim.errors import InputError
from flowsim.report.canvas import house_style
from flowsim.report.equivalence import equivalence, has_gaps
from flowsim.report.error import has_error, relative_error_vs_rank
from flowsim.report.imbalance import has_drift, imbalance
from flowsim.report.loss_rank import has_loss, loss_vs_rank
from flowsim.report.loss_time import loss_vs_time
from flowsim.report.modes import has_modes, singular_values
from flowsim.report.phase_diagram import has_sweep, phase_diagram
from flowsim.trajectory.files import cannot_write, replacing
from flowsim.trajectory.points import axes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Drawing:
    """One kind of figure.

    Attributes
    ----------
    title : str
        What it shows, in a few words.
    lacks : callable
        (tree) -> what this result lacks for it, empty if nothing.
    make : callable
        (tree) -> matplotlib Figure; to be called inside `house_style`.
    of_sweep : bool
        Whether it shows a whole sweep; all others show one point.
    """

    name: str
    title: str
    lacks: Callable[[xr.DataTree], str]
    make: Callable[[xr.DataTree], Figure]
    of_sweep: bool = False

    def missing(self, tree: xr.DataTree) -> str:
        """Why it cannot be drawn of this result, empty if it can."""
        if axes_of(tree) and not self.of_sweep:
            return "it shows one point, and this result is a sweep"
        return self.lacks(tree)

    def applies(self, tree: xr.DataTree) -> bool:
        """Whether this result has what the figure shows."""
        return not self.missing(tree)

    def draw(self, tree: xr.DataTree) -> Figure:
        """The figure of this result, on a canvas of its own; the tree stays as it is."""
        with house_style():
            return self.make(tree)


FIGURES: Mapping[str, Drawing] = {
    drawing.name: drawing
    for drawing in (
        Drawing("loss_vs_rank", "Final loss against rank", has_loss, loss_vs_rank),
        Drawing("loss_vs_time", "Excess loss over time", has_loss, loss_vs_time),
        Drawing("relative_error_vs_rank", "Relative error against rank", has_error, relative_error_vs_rank),
        Drawing("equivalence", "Gap against step", has_gaps, equivalence),
        Drawing("singular_values", "Singular values over time", has_modes, singular_values),
        Drawing("imbalance", "Drift of the imbalance", has_drift, imbalance),
        Drawing("phase_diagram", "Phase diagram of the flow", has_sweep, phase_diagram, of_sweep=True),
    )
}


def draw(
    tree: xr.DataTree, folder: Path, figures: Sequence[str] | None = None, formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Draw figures of a result into a folder.

    Parameters
    ----------
    tree : DataTree
        A result, or one point of a sweep as `flowsim.trajectory.points.point_of` gives it, in memory or opened lazily;
        not changed.
    folder : Path
        Created if it is not there.
    figures : sequence of str, optional
        Names; by default all figures that this result has something for: of a sweep its phase diagram.
    formats : sequence of str
        Of `png`, `svg`, `pdf`.

    Returns
    -------
    list of Path
        What was written, each file whole: the same result gives the same bytes.

    Raises
    ------
    InputError
        A figure or format that does not exist, or a figure for which the result lacks the data.
    OutputError
        If the folder or a file cannot be written.
    """
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it remarks on the fixed dates of PDF fonts
    chosen = _chosen(tree, figures)
    for form in formats:
        if form not in FORMATS:
            raise InputError(f"there is no format {form!r}", f"The formats are: {', '.join(FORMATS)}.")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(Path(folder), error) from error
    paths = []
    for drawing in chosen:
        with house_style():
            figure = drawing.make(tree)
            for form in dict.fromkeys(formats):
                path = Path(folder) / f"{drawing.name}.{form}"
                with replacing(path) as temporary:
                    figure.savefig(temporary, format=form, metadata=_metadata(form, drawing.title))
                paths.append(path)
    return paths


def _chosen(tree: xr.DataTree, names: Sequence[str] | None) -> list[Drawing]:
    if names is None:
        return [drawing for drawing in FIGURES.values() if drawing.applies(tree)]
    chosen = []
    for name in dict.fromkeys(names):
        if name not in FIGURES:
            raise InputError(f"there is no figure {name!r}", f"The figures are: {', '.join(FIGURES)}.")
        why = FIGURES[name].missing(tree)
        if why:
            there = ", ".join(one.name for one in FIGURES.values() if one.applies(tree)) or "none"
            raise InputError(f"figure {name!r} cannot be drawn: {why}", f"Of this result there are: {there}.")
        chosen.append(FIGURES[name])
    return chosen


def _metadata(form: str, title: str) -> dict[str, Any]:
    """Metadata without a date or the drawing library's version."""
    if form == "png":
        return {"Software": "flowsim", "Title": title}
    if form == "svg":
        return {"Creator": "flowsim", "Title": title, "Date": None}
    return {"Creator": "flowsim", "Producer": None, "Title": title, "CreationDate": None}
