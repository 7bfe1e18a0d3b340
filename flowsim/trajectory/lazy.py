"""A stored result as an xarray tree that reads only what is asked for.

xarray's own way through h5netcdf gives the same tree, five times slower, and would open what is not to be trusted.
Nothing is kept once it has been read: a tree may be larger than memory.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from flowsim.errors import ResultError
from flowsim.trajectory.structure import Stored, Structure

DTYPES = {float: np.dtype(np.float64), int: np.dtype(np.int64), str: np.dtype(object)}


def tree_of(file: h5py.File, structure: Structure, name: str) -> xr.DataTree:
    """The tree of an open file; `name` is how messages call it."""
    groups = {}
    for path, group in structure.groups.items():
        variables = {
            key: xr.Variable(one.dims, _lazily(file[f"/{path}/{key}"], one, f"{name}: {path}/{key}"), one.attrs)
            for key, one in group.variables.items()
        }
        coordinates = {key for key in variables if key in group.dims or key in group.coordinates}
        groups[f"/{path}"] = xr.Dataset(
            {key: one for key, one in variables.items() if key not in coordinates},
            {key: one for key, one in variables.items() if key in coordinates},
            group.attrs,
        )
    return xr.DataTree.from_dict(groups)


def _lazily(dataset: h5py.Dataset, stored: Stored, name: str) -> indexing.LazilyIndexedArray:
    return indexing.LazilyIndexedArray(_OnDisk(dataset, stored, name))


class _OnDisk(BackendArray):
    """One variable in a file."""

    def __init__(self, dataset: h5py.Dataset, stored: Stored, name: str) -> None:
        self._dataset, self._name, self._text = dataset, name, stored.kind is str
        self.shape, self.dtype = stored.shape, DTYPES[stored.kind]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    def __deepcopy__(self, memo: object) -> _OnDisk:
        return self  # it never changes, and an open file has no copy

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        if not self._dataset:
            raise ValueError(f"{self._name}: read after its file was closed")
        try:
            return np.asarray((self._dataset.asstr() if self._text else self._dataset)[key], dtype=self.dtype)
        except Exception as error:  # whatever h5py makes of damaged data
            raise ResultError(
                f"{self._name}: cannot be read: {error}", "Run the scenario again with --force."
            ) from error
