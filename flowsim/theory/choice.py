r"""Which rank to choose: what each rank costs, and what it can reach at best, before anything is solved.

Frobenius: by the theorem of Eckart, Young and Mirsky an update of rank r leaves a loss of at least
:math:`c\sum_{i>r}\sigma_i^2`, with :math:`\sigma_i` the singular values of the difference W* - W0.
Trace-squared: the floor is 0 at every rank; the singular values of the full update, a multiple of the
identity, are all equal.

References
----------
Eckart, C. and Young, G. (1936). The approximation of one matrix by another of lower rank. Psychometrika 1.
doi:10.1007/BF02288367
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowsim.problem.assemble import Problem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RankChoice:
    """One rank, by what it costs and what it can reach.

    Attributes
    ----------
    rank : int
        r.
    parameters : int
        Trained numbers, r(n + m).
    share : float
        `parameters` over the n m of full fine-tuning; above 1 the adapter is the larger one.
    energy : float
        C(r), the part of the squared singular values that the first r carry; NaN where all are zero.
    loss_floor : float
        The least loss that this rank can reach.
    loss_start : float
        The loss at time 0, the median over seeds.
    """

    rank: int
    parameters: int
    share: float
    energy: float
    loss_floor: float
    loss_start: float

    @property
    def excess(self) -> float:
        """`loss_floor` as a part of `loss_start`."""
        return excess_part(self.loss_floor, self.loss_start)


@dataclass(frozen=True)
class Choice:
    """The ranks of a scenario side by side, and the smallest that is good enough.

    Attributes
    ----------
    rows : tuple of RankChoice
        The ranks of the scenario, in its order.
    within : float
        The wanted excess, a fraction of the loss at time 0.
    smallest : int or None
        The smallest rank whose floor lies within it; None where no rank that was looked at does.
    looked_at : str
        Which ranks were looked at: ``"every rank"``, or ``"the ranks of the scenario"`` where the singular
        values depend on the rank (the init ``pissa``).
    """

    rows: tuple[RankChoice, ...]
    within: float
    smallest: int | None
    looked_at: str


def adapter_parameters(rank: int, shape: tuple[int, int]) -> int:
    """The trained numbers of an adapter, r(n + m).

    Examples
    --------
    >>> adapter_parameters(4, (64, 48))
    448
    """
    return rank * sum(shape)


def significant(singular_values: Array, shape: tuple[int, int]) -> Array:
    """Singular values, descending, with those that are rounding of the largest set to zero.

    Parameters
    ----------
    singular_values : ndarray
        ``(k,)``, descending.
    shape : tuple of int
        (n, m) of their matrix; the threshold is epsilon * max(n, m) * sigma_1.
    """
    if singular_values.size == 0:
        return singular_values
    threshold = np.finfo(np.float64).eps * max(shape) * singular_values[0]
    return np.where(singular_values > threshold, singular_values, 0.0)


def loss_floors(singular_values: Array, coefficient: float) -> Array:
    r"""The Eckart-Young floors :math:`c\sum_{i>r}\sigma_i^2` for r = 0, 1, ..., k.

    Parameters
    ----------
    singular_values : ndarray
        ``(k,)``, descending.
    coefficient : float
        c.

    Returns
    -------
    ndarray
        ``(k + 1,)``; added up from the smallest, so that no digit of a small tail is lost.

    Examples
    --------
    >>> loss_floors(np.array([2.0, 1.0]), 0.5).tolist()
    [2.5, 0.5, 0.0]
    """
    tails = np.cumsum(singular_values[::-1] ** 2)[::-1]
    floors: Array = coefficient * np.append(tails, 0.0)
    return floors


def energies(singular_values: Array) -> Array:
    r"""The energies :math:`C(r) = \sum_{i\le r}\sigma_i^2 / \sum_i\sigma_i^2` for r = 0, 1, ..., k.

    Parameters
    ----------
    singular_values : ndarray
        ``(k,)``, descending.

    Returns
    -------
    ndarray
        ``(k + 1,)``; NaN where all singular values are zero.

    Examples
    --------
    >>> energies(np.array([2.0, 1.0])).tolist()
    [0.0, 0.8, 1.0]
    """
    if not np.any(singular_values):
        return np.full(singular_values.size + 1, np.nan)
    # Squares of ratios: neither over- nor underflow, whatever the scale.
    squares = (singular_values / singular_values[0]) ** 2
    sums = np.append(0.0, np.cumsum(squares))
    shares: Array = sums / sums[-1]
    return shares


def excess_part(loss: float, loss_start: float) -> float:
    """A loss as a part of the loss at time 0; both are excesses, for full fine-tuning reaches 0.

    Examples
    --------
    >>> excess_part(0.5, 2.0), excess_part(0.0, 0.0)
    (0.25, 0.0)
    """
    if loss == 0:
        return 0.0
    return float(loss / loss_start) if loss_start > 0 else float("inf")


def smallest_rank(ranks: Sequence[int], excesses: Sequence[float], within: float) -> int | None:
    """The smallest rank whose excess is at most `within`; None where there is none.

    Examples
    --------
    >>> smallest_rank([1, 2, 4], [0.9, 0.2, 0.01], 0.25)
    2
    >>> smallest_rank([1, 2], [0.9, float("nan")], 0.25) is None
    True
    """
    enough = [rank for rank, excess in zip(ranks, excesses, strict=True) if excess <= within]
    return min(enough, default=None)


def choose(problem: Problem, within: float) -> Choice:
    """Compare the ranks of a problem, and find the smallest with a loss floor within a wanted excess.

    Parameters
    ----------
    problem : Problem
        An assembled scenario; nothing is solved.
    within : float
        The wanted excess over full fine-tuning, a fraction of the loss at time 0.

    Returns
    -------
    Choice
        One row per rank of the scenario, and the smallest rank.
    """
    rows = tuple(_row(problem, rank) for rank in problem.ranks)
    if _depends_on_rank(problem):
        ranks: Sequence[int] = [row.rank for row in rows]
        excesses = [row.excess for row in rows]
    else:
        ranks = range(1, min(problem.shape) + 1)
        start = rows[0].loss_start
        floors = _spectrum(problem, 1)[1]
        excesses = [excess_part(floors[rank], start) for rank in ranks]
    return Choice(
        rows=rows,
        within=within,
        smallest=smallest_rank(ranks, excesses, within),
        looked_at="the ranks of the scenario" if _depends_on_rank(problem) else "every rank",
    )


def _depends_on_rank(problem: Problem) -> bool:
    """Whether the frozen weight, and with it the difference, is another one at each rank."""
    return problem.kind == "frobenius" and problem.document.scenario.adapter.init.kind == "pissa"


def _row(problem: Problem, rank: int) -> RankChoice:
    energy, floors = _spectrum(problem, rank)
    kept = min(rank, len(floors) - 1)
    n, m = problem.shape
    parameters = adapter_parameters(rank, problem.shape)
    return RankChoice(
        rank=rank,
        parameters=parameters,
        share=parameters / (n * m),
        energy=float(energy[kept]),
        loss_floor=float(floors[kept]),
        loss_start=_loss_start(problem, rank),
    )


def _spectrum(problem: Problem, rank: int) -> tuple[Array, Array]:
    """The energies and floors of every rank, ``(k + 1,)`` each, with the weight frozen at `rank`."""
    if problem.kind == "trace_squared":
        k = min(problem.shape)
        return energies(np.ones(k)), np.zeros(k + 1)
    values = significant(problem.difference_svd(rank).S, problem.shape)
    return energies(values), loss_floors(values, problem.coefficient)


def _loss_start(problem: Problem, rank: int) -> float:
    """f(W(0)), the median over seeds."""
    if problem.start_is_pretrained:
        return _loss(problem, problem.pretrained)
    start = problem.start(rank)
    products = (start.scale * B @ A for A, B in zip(start.A, start.B, strict=True))
    return float(np.median([_loss(problem, start.pretrained + product) for product in products]))


def _loss(problem: Problem, weight: Array) -> float:
    if problem.target is None:
        return float(problem.coefficient * np.trace(weight) ** 2)
    return float(problem.coefficient * np.linalg.norm(weight - problem.target) ** 2)
