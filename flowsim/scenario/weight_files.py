"""The files that a scenario names, each read once while the scenario is read, and remembered by form and sha256."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from flowsim.scenario.adapter import FileInit
from flowsim.scenario.array_files import WeightError, find_file
from flowsim.scenario.matrices import FileMatrix
from flowsim.scenario.start_files import StartForm, load_start_file
from flowsim.scenario.weights import load_matrix_file

__all__ = ["WeightFile", "WeightFiles"]

Shape = tuple[int, int]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class WeightFile:
    """A weight file that a scenario names.

    Attributes
    ----------
    where : str
        What it is: ``pretrained``, ``target``, ``target.by`` or ``adapter.init``.
    path : Path
        Where it was found.
    sha256 : str
        Of the whole file.
    size : int
        Bytes of its numbers in float64.
    """

    where: str
    path: Path
    sha256: str
    size: int


class WeightFiles:
    """What is known of weight files: each is read once, however many points of a sweep name it.

    Parameters
    ----------
    folder : Path
        What relative paths start from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._matrices: dict[FileMatrix, tuple[Shape, WeightFile] | WeightError] = {}
        self._starts: dict[FileInit, tuple[StartForm, WeightFile] | WeightError] = {}

    def matrix(self, spec: FileMatrix, where: str) -> tuple[Shape, WeightFile]:
        """The shape of the matrix that `spec` names, and its file.

        Raises
        ------
        WeightError
            If it cannot be used.
        """

        def read() -> tuple[Shape, WeightFile]:
            matrix, sha256 = load_matrix_file(spec, self.folder)
            shape = (matrix.shape[0], matrix.shape[1])
            return shape, WeightFile(where, find_file(spec, self.folder), sha256, matrix.nbytes)

        shape, file = _once(self._matrices, spec, read)
        return shape, replace(file, where=where)

    def start(self, spec: FileInit) -> tuple[StartForm, WeightFile]:
        """The form of the starts that `spec` names, and their file.

        Raises
        ------
        WeightError
            If it cannot be used.
        """

        def read() -> tuple[StartForm, WeightFile]:
            start, sha256 = load_start_file(spec, self.folder)
            return start.form, WeightFile("adapter.init", find_file(spec, self.folder), sha256, start.form.size)

        return _once(self._starts, spec, read)


def _once(known: dict[K, V | WeightError], spec: K, read: Callable[[], V]) -> V:
    """What `read` gives, or raises, the first time."""
    if spec not in known:
        try:
            known[spec] = read()
        except WeightError as error:
            known[spec] = error
    found = known[spec]
    if isinstance(found, WeightError):
        raise found.with_traceback(None)  # which would grow with every point
    return found
