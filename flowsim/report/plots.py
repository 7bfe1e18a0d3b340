"""Pictures of a stored result: which figures there are, and how they reach the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from flowsim.errors import InputError
from flowsim.report import alt_texts, captions
from flowsim.report.canvas import house_style
from flowsim.report.equivalence import equivalence, has_gaps
from flowsim.report.error import has_error, relative_error_vs_rank
from flowsim.report.imbalance import has_drift, imbalance
from flowsim.report.loss_rank import has_loss, loss_vs_rank
from flowsim.report.loss_time import loss_vs_time
from flowsim.report.modes import has_modes, singular_values
from flowsim.report.options import DEFAULT, Options
from flowsim.report.phase_diagram import has_sweep, phase_diagram
from flowsim.report.phase_layout import check_keys
from flowsim.report.phase_words import alt_of_phases, caption_of_phases
from flowsim.report.subset import subset
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
        (tree, options) -> matplotlib Figure; to be called inside `house_style`.
    reads : callable
        (tree, options) -> what is shown and how to read it, the beginning of the caption.
    tells : callable
        (tree, options) -> alternative text.
    of_sweep : bool
        Whether it shows a whole sweep; all others show one point.
    scales : str
        Axes whose scale may be chosen, of `x` and `y`.
    """

    name: str
    title: str
    lacks: Callable[[xr.DataTree], str]
    make: Callable[[xr.DataTree, Options], Figure]
    reads: Callable[[xr.DataTree, Options], str]
    tells: Callable[[xr.DataTree, Options], str]
    of_sweep: bool = False
    scales: str = ""

    def missing(self, tree: xr.DataTree) -> str:
        """Why it cannot be drawn of this result, empty if it can."""
        if axes_of(tree) and not self.of_sweep:
            return "it shows one point, and this result is a sweep"
        return self.lacks(tree)

    def applies(self, tree: xr.DataTree) -> bool:
        """Whether this result has what the figure shows."""
        return not self.missing(tree)

    def draw(self, tree: xr.DataTree, options: Options = DEFAULT) -> Figure:
        """The figure of this result, on a canvas of its own; the tree stays as it is."""
        with house_style():
            return self.make(tree, options)

    def caption(self, tree: xr.DataTree, options: Options = DEFAULT) -> str:
        """What is shown, how to read it, and of which result: the caption of a paper, plain text on one line."""
        return captions.signed(self.reads(tree, options), tree)

    def alt(self, tree: xr.DataTree, options: Options = DEFAULT) -> str:
        """What a reader who cannot see the figure has to know, in numbers; plain text on one line."""
        return self.tells(tree, options)


def _plain(words: Callable[[xr.DataTree], str]) -> Callable[[xr.DataTree, Options], str]:
    """Words that do not depend on how the figure is drawn."""
    return lambda tree, _options: words(tree)


FIGURES: Mapping[str, Drawing] = {
    drawing.name: drawing
    for drawing in (
        Drawing(
            "loss_vs_rank", "Final loss against rank", has_loss, loss_vs_rank,
            _plain(captions.of_loss), _plain(alt_texts.of_loss), scales="xy",
        ),
        Drawing(
            "loss_vs_time", "Excess loss over time", has_loss, loss_vs_time,
            _plain(captions.of_time), _plain(alt_texts.of_time), scales="xy",
        ),
        Drawing(
            "relative_error_vs_rank", "Relative error against rank", has_error, relative_error_vs_rank,
            _plain(captions.of_error), _plain(alt_texts.of_error), scales="xy",
        ),
        Drawing(
            "equivalence", "Gap against step", has_gaps, equivalence,
            _plain(captions.of_equivalence), _plain(alt_texts.of_equivalence),
        ),
        Drawing(
            "singular_values", "Singular values over time", has_modes, singular_values,
            _plain(captions.of_modes), _plain(alt_texts.of_modes), scales="xy",
        ),
        Drawing(
            "imbalance", "Drift of the imbalance", has_drift, imbalance,
            _plain(captions.of_imbalance), _plain(alt_texts.of_imbalance), scales="xy",
        ),
        Drawing(
            "phase_diagram", "Phase diagram of the flow", has_sweep, phase_diagram,
            caption_of_phases, alt_of_phases, of_sweep=True,
        ),
    )
}  # fmt: skip


def draw(
    tree: xr.DataTree,
    folder: Path,
    figures: Sequence[str] | None = None,
    formats: Sequence[str] = ("png", "svg"),
    options: Options = DEFAULT,
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
    options : Options
        Size, resolution, scales, and the ranks and seeds to show.

    Returns
    -------
    list of Path
        What was written, each file whole: the same result gives the same bytes. Where all figures are drawn, the last
        one is `captions.md`, with caption and alternative text of each.

    Raises
    ------
    InputError
        A figure, format, rank, seed or key that does not exist, a figure for which the result lacks the data, or one
        that cannot be drawn as the options say.
    OutputError
        If the folder or a file cannot be written.
    """
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it remarks on the fixed dates of PDF fonts
    tree = subset(tree, options.ranks, options.seeds)
    chosen = _chosen(tree, figures)
    _check(chosen, tree, options, named=figures is not None)
    for form in formats:
        if form not in FORMATS:
            raise InputError(f"there is no format {form!r}", f"The formats are: {', '.join(FORMATS)}.")
    drawn = [(drawing, drawing.draw(tree, options)) for drawing in chosen]  # first: a size may turn out too small
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(Path(folder), error) from error
    paths = []
    for drawing, figure in drawn:
        caption = drawing.caption(tree, options)
        for form in dict.fromkeys(formats):
            path = Path(folder) / f"{drawing.name}.{form}"
            with house_style(), replacing(path) as temporary:
                metadata = _metadata(form, drawing.title, caption, str(tree.attrs["digest"]))
                figure.savefig(temporary, format=form, dpi=options.dpi, metadata=metadata)
            paths.append(path)
    if figures is None and chosen:
        paths.append(Path(folder) / captions.FILE)
        captions.write_captions(paths[-1], chosen, tree, options)
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


def _check(chosen: Sequence[Drawing], tree: xr.DataTree, options: Options, *, named: bool) -> None:
    """Refuse options that a named figure, or all of several, cannot follow.

    Raises
    ------
    InputError
        Says which figure has no such choice, and which have.
    """
    if options.log is not None:
        fixed = [one for one in chosen if not one.scales]
        if fixed and (named or len(fixed) == len(chosen)):
            able = ", ".join(one.name for one in FIGURES.values() if one.scales)
            raise InputError(
                f"figure {fixed[0].name!r} has no choice of scales: they are part of what it shows",
                f"Leave --log out; the figures that have this choice are: {able}.",
            )
    if options.x or options.y:
        if any(one.of_sweep for one in chosen):
            check_keys(tree, options.x, options.y)
        if chosen and (named or not any(one.of_sweep for one in chosen)) and not all(one.of_sweep for one in chosen):
            other = next(one for one in chosen if not one.of_sweep)
            raise InputError(
                f"figure {other.name!r} has no choice of swept keys for its axes",
                "Leave --x and --y out: they are for the phase_diagram of a sweep.",
            )


def _metadata(form: str, title: str, caption: str, digest: str) -> dict[str, Any]:
    """Title, caption and digest, without a date or the drawing library's version."""
    if form == "png":
        return {"Software": "flowsim", "Title": title, "Description": caption, "Digest": digest}
    if form == "svg":
        return {"Creator": "flowsim", "Title": title, "Description": caption, "Identifier": digest, "Date": None}
    return {
        "Creator": "flowsim", "Producer": None, "Title": title, "Subject": caption, "Keywords": digest,
        "CreationDate": None,
    }  # fmt: skip
