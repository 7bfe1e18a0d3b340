"""From tiles to the result file, strip by strip: never more in memory than a few tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from flowsim.sweep.companions import LABELS
from flowsim.sweep.layout import FACTORS, Layout, Place
from flowsim.sweep.outcome import Outcome
from flowsim.sweep.slabs import Slabs, blank
from flowsim.sweep.tiles import Tile

if TYPE_CHECKING:
    from flowsim.trajectory.draft import Writer

Index = tuple[int | slice, ...]
Told = tuple[str, str, str]


def strips(layout: Layout, tiles: Sequence[Tile]) -> Iterator[list[Tile]]:
    """Tiles that are written together: neighbouring ranks of one block of seeds of one point."""
    for _, strip in groupby(tiles, key=lambda tile: (tile.point, tile.first, tile.place // layout.gathered)):
        yield list(strip)


def put(
    layout: Layout, out: Writer, strip: Sequence[Tile], slabs: Sequence[Slabs], sound: Sequence[bool], told: set[Told]
) -> None:
    """Write the arrays of one strip of tiles where they belong.

    Parameters
    ----------
    sound : sequence of bool
        Which of them were solved.
    told : set
        What tiles say alike and one of them has said; added to.
    """
    first, last = strip[0], strip[-1]
    point = layout.point(first)
    at: dict[str, int | slice] = {"rank": slice(first.place, last.place + 1), "seed": slice(first.first, first.last)}
    for place in layout.places:
        if place.group == "companions":
            _put_companions(out, place, point, at, slabs)
        elif "seed" not in place.dims:
            _put_shared(layout, out, place, zip(strip, slabs, sound, strict=True), told)
        else:
            values = np.stack([_of(place, one) for one in slabs], axis=place.dims.index("rank"))
            out.put(place.group, place.name, (*point, *(at.get(dim, slice(None)) for dim in place.dims)), values)
    if layout.factors == "none":
        return
    for tile, one in zip(strip, slabs, strict=True):
        for name in FACTORS:
            index: Index = (*point, slice(None), at["seed"])
            out.put(f"factors/rank_{tile.rank}", name, index, one[f"factors/{name}"])


def _put_shared(
    layout: Layout, out: Writer, place: Place, tiles: Iterable[tuple[Tile, Slabs, bool]], told: set[Told]
) -> None:
    """What every seed, for a baseline every rank too, says alike: from the first tile that was solved."""
    for tile, one, sound in tiles:
        index: Index = (*layout.point(tile), *(tile.place if dim == "rank" else slice(None) for dim in place.dims))
        key = (place.group, place.name, str(index))
        if key not in told and (sound or place.name == "parameters"):
            out.put(place.group, place.name, index, np.asarray(one[f"{place.group}/{place.name}"][0]))
            told.add(key)


def _put_companions(
    out: Writer, place: Place, point: tuple[int, ...], at: Mapping[str, int | slice], slabs: Sequence[Slabs]
) -> None:
    """Those that were made; what is not written reads as NaN, and takes no room."""
    for row, label in enumerate(LABELS):
        found = [one.get(f"companions/{label}/{place.name}") for one in slabs]
        shapes = [one.shape for one in found if one is not None]
        if shapes:
            values = np.stack([blank(shapes[0], place.kind) if one is None else one for one in found])
            index = (*point, row, at["rank"], at["seed"], *(slice(None) for _ in place.dims[3:]))
            out.put(place.group, place.name, index, values)


def _of(place: Place, slabs: Slabs) -> np.ndarray:
    name = f"{place.group}/{place.name}"
    return slabs[f"trajectory/{place.name}"][:, :, -1] if place.is_last else slabs[name]


def fits(layout: Layout, tile: Tile, slabs: Slabs, shape: tuple[int, int]) -> bool:
    """Whether a tile holds all that it must and nothing else, in the right shapes and kinds; `shape` is (n, m)."""
    wanted, optional = contents(layout, tile, shape)
    if not wanted.keys() <= slabs.keys() or not slabs.keys() <= wanted.keys() | optional.keys():
        return False
    every = wanted | optional
    return all(
        values.shape == every[name][0] and values.dtype == blank((), every[name][1]).dtype
        for name, values in slabs.items()
    )


def failed(layout: Layout, tile: Tile, reason: str, shape: tuple[int, int]) -> Slabs:
    """The arrays of a tile that could not be computed: no numbers, and the word for it."""
    slabs = {name: blank(size, kind) for name, (size, kind) in contents(layout, tile, shape)[0].items()}
    slabs["theory/parameters"][:] = tile.rank * sum(shape)
    slabs["final/outcome"][:] = Outcome.FAILED.value
    slabs["final/reason"][:] = reason
    return slabs


Content = dict[str, tuple[tuple[int, ...], type]]


def contents(layout: Layout, tile: Tile, shape: tuple[int, int]) -> tuple[Content, Content]:
    """Shape and kind of each array that a tile must hold, and of each that it may hold."""
    sizes = layout.sizes | {"seed": tile.seeds, "factor": tile.rank, "row": shape[0], "column": shape[1]}
    wanted: Content = {}
    optional: Content = {}
    for place in layout.places:
        form = tuple(sizes[dim] for dim in place.in_tile), place.kind
        if place.group == "companions":
            optional |= {f"companions/{label}/{place.name}": form for label in LABELS}
        elif not place.is_last:
            wanted[f"{place.group}/{place.name}"] = form
    if layout.factors != "none":
        sizes["time"] = layout.sizes["time"] if layout.factors == "all" else 2
        wanted |= {f"factors/{name}": (tuple(sizes[dim] for dim in dims), float) for name, (dims, _) in FACTORS.items()}
    return wanted, optional
