"""From a scenario to its problem: the matrices, the objective's constants and the adapter at time 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from flowsim.errors import InputError
from flowsim.problem.initial import Start, adapter_scale, draw, is_deterministic, starts_at_pretrained
from flowsim.problem.spectra import SVD, Array, build_matrix, target_matrix
from flowsim.scenario.start_files import load_start_file

if TYPE_CHECKING:
    from flowsim.problem.initial import Origin
    from flowsim.scenario.read import Document

__all__ = ["Problem", "Start", "all_start_at_pretrained", "assemble"]


@dataclass(frozen=True, eq=False)
class Problem:
    """What a scenario asks to be solved, in numbers.

    Everything derived (singular value decompositions, starts) is computed when first asked for; the
    decompositions are kept.

    Attributes
    ----------
    document : Document
        The scenario that this problem belongs to.
    kind : str
        ``"frobenius"``, f(W) = c ||W - W*||_F^2, or ``"trace_squared"``, f(W) = c tr(W)^2.
    coefficient : float
        c.
    pretrained : ndarray
        ``(n, m)`` float64, W0 of the scenario. With ``pissa`` the weight that stays frozen is another one,
        see `frozen`. Shared by all starts, not to be written to.
    target : ndarray or None
        ``(n, m)`` float64, W*; None for ``trace_squared``.
    ranks : tuple of int
        The ranks to solve, as in the scenario.
    seeds : tuple of int
        The seeds of every rank, as in the scenario: the leading dimension of a `Start`.
    """

    document: Document
    kind: Literal["frobenius", "trace_squared"]
    coefficient: float
    pretrained: Array
    target: Array | None
    ranks: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), rows and columns of the weight."""
        n, m = self.pretrained.shape
        return n, m

    @property
    def deterministic_init(self) -> bool:
        """Whether every seed starts from the same factors."""
        return is_deterministic(self._origin)

    @property
    def start_is_pretrained(self) -> bool:
        """Whether W(0) is `pretrained` for every rank and seed, so that they share one baseline."""
        return starts_at_pretrained(self._origin, self.ranks, self.seeds)

    def scale(self, rank: int) -> float:
        """The adapter scale s at this rank."""
        return adapter_scale(self.document.scenario.adapter.scaling, rank)

    def start(self, rank: int) -> Start:
        """The adapter at time 0, all seeds stacked.

        Parameters
        ----------
        rank : int
            r, at least 1; it need not be one of `ranks`.

        Returns
        -------
        Start
            New factors A ``(S, r, m)`` and B ``(S, n, r)``, the scale and the frozen weight. Two calls give
            equal bits.

        Raises
        ------
        InputError
            If the init does not exist at this rank, or its file cannot be read.
        """
        return draw(self._origin, rank, self.seeds, self.scale(rank), self.pretrained, self._svd_of)

    def frozen(self, rank: int) -> Array:
        """The frozen weight ``(n, m)``: `pretrained`, or with ``pissa`` its residual at this rank."""
        if self.document.scenario.adapter.init.kind != "pissa":
            return self.pretrained
        return self.start(rank).pretrained

    @cached_property
    def pretrained_svd(self) -> SVD:
        """The SVD of `pretrained`."""
        return SVD.of(self.pretrained)

    def difference(self, rank: int) -> Array:
        """W* minus the frozen weight, ``(n, m)``: what s B A has to become.

        Parameters
        ----------
        rank : int
            r; it matters only with ``pissa``, whose frozen weight depends on it.

        Raises
        ------
        InputError
            If the objective has no target.
        """
        return self._wanted() - self.frozen(rank)

    def difference_svd(self, rank: int) -> SVD:
        """The SVD of `difference`, computed once (with ``pissa`` once per rank)."""
        if self.document.scenario.adapter.init.kind != "pissa":
            return self._difference_svd
        if rank not in self._residual_svds:
            self._residual_svds[rank] = SVD.of(self.difference(rank))
        return self._residual_svds[rank]

    @cached_property
    def _difference_svd(self) -> SVD:
        return SVD.of(self._wanted() - self.pretrained)

    @cached_property
    def _residual_svds(self) -> dict[int, SVD]:
        return {}

    @cached_property
    def _origin(self) -> Origin:
        return _origin_of(self.document)

    def _svd_of(self, name: Literal["pretrained", "difference"]) -> SVD:
        return self.pretrained_svd if name == "pretrained" else self._difference_svd

    def _wanted(self) -> Array:
        if self.target is None:
            raise InputError(
                "there is no difference W* - W0: a trace_squared objective has no target",
                "Use `of: pretrained`, or the frobenius objective.",
            )
        return self.target


def _origin_of(document: Document) -> Origin:
    """What a scenario says of A and B at time 0, a file that it names read."""
    init = document.scenario.adapter.init
    return load_start_file(init, document.folder)[0] if init.kind == "file" else init


def all_start_at_pretrained(document: Document) -> bool:
    """Whether W(0) is W0 at every point of a scenario, for all its ranks and seeds.

    Parameters
    ----------
    document : Document
        A scenario that was read without mistakes; each start file is read once.

    Raises
    ------
    InputError
        If a start file cannot be read.
    """
    adapter = document.scenario.adapter
    points: dict[object, Document] = {}
    for number, point in enumerate(document.points):
        init = point.scenario.adapter.init
        points.setdefault(init if init.kind == "file" else number, point)
    return all(starts_at_pretrained(_origin_of(point), adapter.ranks, adapter.seeds) for point in points.values())


def assemble(document: Document) -> Problem:
    """Build the matrices of a scenario.

    Parameters
    ----------
    document : Document
        A scenario that was read without mistakes.

    Returns
    -------
    Problem
        The problem in numbers; factors are drawn when `Problem.start` is called.

    Raises
    ------
    InputError
        If a weight file cannot be read, or a matrix is not finite or of another shape.
    """
    scenario = document.scenario
    pretrained = build_matrix(scenario.pretrained, document.shape, document.folder)
    target = None
    if scenario.objective.kind == "frobenius":
        # Without a target the wanted weight is zero: the low-rank approximation of -W0.
        target = (
            np.zeros(document.shape)
            if scenario.target is None
            else target_matrix(scenario.target, pretrained, document.folder)
        )
    return Problem(
        document=document,
        kind=scenario.objective.kind,
        coefficient=float(scenario.objective.coefficient),
        pretrained=pretrained,
        target=target,
        ranks=tuple(scenario.adapter.ranks),
        seeds=tuple(scenario.adapter.seeds),
    )
