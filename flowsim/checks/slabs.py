"""Pieces of a result's variables, read when they are asked for: a result may be larger than memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

WHOLE = 2**21  # bytes; a variable up to this size is read at once: a read takes a millisecond, however small
KEPT = 2**26  # bytes of the pieces read last that are kept


class Slabs:
    """Read access to the variables of a tree, by leading places.

    Parameters
    ----------
    tree : DataTree
        In memory or opened lazily; nothing of it is changed, and nothing is cached in it.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree
        self._groups: dict[str, Mapping[Any, xr.Variable]] = {}
        self._kept: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
        self._bytes = 0

    def read(self, group: str, name: str, *places: int) -> np.ndarray:
        """The slab of a variable at the places of its first dimensions; not to be written into."""
        if (group, name, *places) in self._kept:
            self._kept.move_to_end((group, name, *places))
            return self._kept[group, name, *places]
        variable = self._variable(group, name)
        if places and variable.nbytes <= WHOLE:
            values: np.ndarray = self.read(group, name)[places]
            return values
        # An index makes a new variable: xarray would keep the numbers of the one it reads.
        values = variable[(*places, ...)].values
        self._keep((group, name, *places), values)
        return values

    def _variable(self, group: str, name: str) -> xr.Variable:
        if group not in self._groups:
            self._groups[group] = self._tree[group].to_dataset().variables
        return self._groups[group][name]

    def _keep(self, key: tuple[object, ...], values: np.ndarray) -> None:
        self._kept[key] = values
        self._bytes += values.nbytes
        while self._bytes > KEPT and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
