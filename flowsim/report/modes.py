"""Singular values of s B A along the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.report.canvas import GREY, Colour, Sheet, axis_label, rank_looks, say_inside
from flowsim.report.data import Array, Result, some
from flowsim.report.marks import curve
from flowsim.report.options import Options
from flowsim.report.scales import time_axis, value_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS, MOST_MODES = 6, 10
DECADES = 5.0


def has_modes(tree: xr.DataTree) -> str:
    """Empty if there are singular values to draw, else why not."""
    result = Result.of(tree)
    if any(bool((result.path("singular_value", rank) > 0).any()) for rank in range(len(result.ranks))):
        return ""
    return "every singular value of s B A is zero or not finite (nothing moves)"


def singular_values(tree: xr.DataTree, options: Options) -> Figure:
    """Singular values of s B A along the flow, first seed, a panel per rank, with those of the difference."""
    result = Result.of(tree)
    places = some(len(result.ranks), MOST_PANELS)
    columns = min(len(places), 3 if options.roomy else 2)
    rows = -(-len(places) // columns)
    seed = result.view.seeds[0]
    sheet = Sheet(
        f"Singular values of the update along the flow, seed {seed}", 3.2 if rows == 1 else 2.2 * rows, rows, columns,
        options=options, sharex=True, sharey=True,
    )  # fmt: skip
    shown = [result.path("singular_value", place)[0, :, : result.ranks[place]] for place in places]  # (time, mode)
    targets = target_values(result)
    seen = np.concatenate([v.max(0, initial=0.0, where=np.isfinite(v)) for v in shown] + [targets[: max(result.ranks)]])
    for axes in sheet.axes:
        axes.set_visible(False)
    colours, numbered = _colours(max(result.ranks)), False
    for axes, place, modes in zip(sheet.axes, places, shown, strict=False):
        axes.set_visible(True)
        low, _ = value_axis(axes, np.append(seen, np.nanmax(seen, initial=0.0) / 30), options, decades=DECADES)
        early = time_axis(result, axes, options)
        numbered |= _modes(axes, result.times()[early:], modes[early:], targets, low, colours)
        axes.set_title(f"r = {result.ranks[place]}")
    sheet.body.supxlabel("flow time t (time)", fontsize=8)
    sheet.body.supylabel(
        axis_label(result.attrs("trajectory", "singular_value"), 40, "singular value of s·BA"), fontsize=8
    )
    if max(result.ranks[place] for place in places) > MOST_MODES:
        sheet.note(f"Of more than {MOST_MODES} modes, {MOST_MODES} are shown, the first and the last among them.")
    if np.isfinite(targets).any():
        part = "" if np.isfinite(targets).all() else ", as far as the floors of the ranks fix them"
        sheet.note(f"Thin dashes: singular values of the difference W* − W0{part}.")
    if numbered:
        sheet.note("Numbers at the right: modes.")
    for axes in sheet.axes[: len(places)]:
        axes.tick_params(labelbottom=True)
    return sheet.finish(result)


def target_values(result: Result) -> Array:
    """Singular values of the difference, (largest rank,), as far as the stored theory fixes them; NaN elsewhere.

    c Σ_{i>r} σ_i² and the energy of the first r are stored for every rank r of the scenario: their differences
    between consecutive ranks are c σ_r².
    """
    values = np.full(max(result.ranks), np.nan)
    if result.view.objective != "frobenius":
        return values
    floors = result.theory("loss_floor")
    if not np.isfinite(floors).all() or not (np.abs(floors - floors[:, :1]) <= 1e-12 * np.abs(floors)).all():
        return values
    floor, energy = floors[:, 0], result.theory("energy")[:, 0]
    usable = np.flatnonzero((floor > 0) & (energy < 1 - 1e-9))
    known: dict[int, float] = dict(zip(result.ranks, floor.tolist(), strict=True))
    if usable.size:
        known[0] = float(floor[usable[0]] / (1 - energy[usable[0]]))
    for rank in range(1, len(values) + 1):
        if rank in known and rank - 1 in known:
            square = (known[rank - 1] - known[rank]) / result.view.coefficient
            if square > 1e-12 * known.get(0, known[rank - 1]) / result.view.coefficient:
                values[rank - 1] = np.sqrt(square)
    return values


def _colours(count: int) -> list[Colour]:
    """A colour for each mode, the same in all panels; the first ones, which matter most, far apart."""
    shades = [colour for colour, _ in rank_looks(range(100))]
    return [shades[int(99 * np.log(mode) / np.log(max(count, 2)))] for mode in range(1, count + 1)]


def _modes(axes: Axes, times: Array, modes: Array, targets: Array, low: float, colours: list[Colour]) -> bool:
    """Curves of one panel, numbered at the right where they end within it; returns whether any is."""
    styles = ("-", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 0.8)))
    count = modes.shape[1]
    for value in targets[:count]:
        if np.isfinite(value):
            axes.axhline(value, color=GREY, linestyle=(0, (4, 3)), linewidth=0.7, zorder=1.5)
    for index in some(count, MOST_MODES):
        curve(axes, times, modes[:, index], color=colours[index], linestyle=styles[index % 4], linewidth=1.1)
    _, top = axes.get_ylim()
    groups: list[tuple[float, int, int]] = []  # height of the first, first and last mode: what ends close together
    for index in range(count):
        known = modes[np.isfinite(modes[:, index]), index]
        if not known.size or not low < known[-1] < top:
            continue
        height = float(axes.transAxes.inverted().transform(axes.transData.transform((times[-1], known[-1])))[1])
        if groups and groups[-1][0] - height < 0.09:
            groups[-1] = (*groups[-1][:2], index)
        else:
            groups.append((height, index, index))
    for height, first, last in groups:
        axes.annotate(
            f"{first + 1}" if first == last else f"{first + 1}–{last + 1}", (1.0, height), xycoords="axes fraction",
            xytext=(2, 0), textcoords="offset points", fontsize=6, color=colours[first], va="center",
            annotation_clip=False,
        )  # fmt: skip
    if not (modes > 0).any():
        say_inside(axes, "all are zero or not finite")
    return bool(groups)
