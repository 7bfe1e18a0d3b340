"""A part of a result: some of its ranks and seeds, taken out without reading a number."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from flowsim.errors import InputError
from flowsim.report.words import counted, listed

MOST_LISTED = 12  # of what there is, in a message


def subset(tree: xr.DataTree, ranks: Sequence[int] = (), seeds: Sequence[int] = ()) -> xr.DataTree:
    """Take some ranks and seeds out of a result.

    Parameters
    ----------
    tree : DataTree
        In memory or opened lazily; not changed, and no number of it is read.
    ranks, seeds : sequence of int
        What to keep, in any order; empty: all.

    Returns
    -------
    DataTree
        A result like any other, its root attribute `shown` saying what of the whole it is; the tree itself where
        everything is kept.

    Raises
    ------
    InputError
        A rank or seed that is not in the result.
    """
    final = tree["final"].dataset
    places: dict[str, list[int]] = {}
    for dim, wanted in (("rank", ranks), ("seed", seeds)):
        there = [int(value) for value in final[dim].values]
        for one in wanted:
            if one not in there:
                raise _unknown(dim, one, there)
        if wanted and set(wanted) != set(there):
            places[dim] = [place for place, value in enumerate(there) if value in set(wanted)]
    if not places:
        return tree
    groups = {node.path: _taken(node.to_dataset(inherit=False), places) for node in tree.subtree}
    part = xr.DataTree.from_dict(groups)
    part.attrs = {**tree.attrs, "shown": _said(part, places, dict(final.sizes))}
    return part


def _taken(group: xr.Dataset, places: dict[str, list[int]]) -> xr.Dataset:
    """The places that are kept, along the dimensions that a group has."""
    picks: dict[str, slice | list[int]] = {}
    for dim, kept in places.items():
        run = kept == list(range(kept[0], kept[0] + len(kept)))
        picks[dim] = slice(kept[0], kept[-1] + 1) if run else kept  # a slice is one read of the file
    return group.isel(picks, missing_dims="ignore")


def _said(part: xr.DataTree, places: dict[str, list[int]], sizes: dict[object, int]) -> str:
    """`only ranks 1, 2 of the 5`, for footers and captions."""
    final = part["final"].dataset
    said = []
    for dim in places:
        values = sorted(int(value) for value in final[dim].values)
        said.append(f"{dim}{'s' * (len(values) > 1)} {listed(values)} of the {sizes[dim]}")
    return "only " + " and ".join(said)


def _unknown(dim: str, one: int, there: Sequence[int]) -> InputError:
    nearest = min(there, key=lambda value: (abs(value - one), value))
    names = ", ".join(map(str, sorted(there)[:MOST_LISTED])) + (", …" if len(there) > MOST_LISTED else "")
    return InputError(
        f"there is no {dim} {one} in this result",
        f"Did you mean {nearest}? It has {counted(len(there), dim)}: {names}.",
    )
