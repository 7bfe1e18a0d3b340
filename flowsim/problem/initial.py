"""The adapter at time 0: the factors A and B of every seed, and the weight that stays frozen.

A drawn factor depends on (seed, purpose), and on the rank only if ranks are not nested: never on the
position of a seed, on other seeds, or on which other ranks a scenario asks for. Nested ranks share one
draw at unit scale, filled row by row, of which rank r takes the first r rows (B: columns), bit for bit;
for ``orthogonal`` up to rounding, because the QR factorisation of r vectors is rounded as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from flowsim.errors import InputError
from flowsim.problem.spectra import SVD, Array, Purpose, haar, refuse_nonfinite, stream

if TYPE_CHECKING:
    from flowsim.scenario.model import (
        GaussianInit,
        KaimingInit,
        OrthogonalInit,
        PissaInit,
        Scaling,
        SpectralInit,
        ValuesInit,
    )
    from flowsim.scenario.start_files import WrittenStart

    RandomInit = KaimingInit | GaussianInit | OrthogonalInit
    # What the scenario says of A and B, a file that it names read.
    Origin = RandomInit | SpectralInit | PissaInit | ValuesInit | WrittenStart

SvdOf = Callable[[Literal["pretrained", "difference"]], SVD]


@dataclass(frozen=True, eq=False)
class Start:
    """The adapter at time 0 for one rank, all seeds stacked, and the weight it is added to.

    W(0) = pretrained + scale * B[j] @ A[j] for the seed at position j.

    Attributes
    ----------
    rank : int
        r.
    A : ndarray
        ``(S, r, m)`` float64, S the number of seeds.
    B : ndarray
        ``(S, n, r)`` float64.
    scale : float
        s, the adapter scale at this rank.
    pretrained : ndarray
        ``(n, m)``, the frozen weight: W0 of the scenario, or with ``pissa`` its residual. Shared, not to be
        written to.
    """

    rank: int
    A: Array
    B: Array
    scale: float
    pretrained: Array


def adapter_scale(scaling: Scaling, rank: int) -> float:
    """The adapter scale s: a constant, alpha / r (``lora``) or alpha / sqrt(r) (``rslora``).

    Parameters
    ----------
    scaling : model
        ``adapter.scaling`` of the scenario.
    rank : int
        r.

    Returns
    -------
    float
        s in W = W0 + s B A.
    """
    if scaling.kind == "constant":
        return float(scaling.value)
    if scaling.kind == "lora":
        return float(scaling.alpha) / rank
    return float(scaling.alpha) / math.sqrt(rank)


def is_deterministic(init: Origin) -> bool:
    """Whether every seed starts from the same factors."""
    if init.kind == "file":
        return init.deterministic
    return init.kind not in ("kaiming", "gaussian", "orthogonal")


def starts_at_pretrained(init: Origin, ranks: Sequence[int], seeds: Sequence[int]) -> bool:
    """Whether W(0) is W0 of the scenario, for every one of these ranks and seeds.

    Parameters
    ----------
    init : model or WrittenStart
        ``adapter.init`` of the scenario, a file that it names read.
    ranks, seeds : sequence of int
        Those in question (``values`` and ``file`` may start at W0 for some and not for others).

    Returns
    -------
    bool
        True if B0 A0 = 0 exactly, or if the product is taken out of the frozen weight (``pissa``).
    """
    if init.kind == "pissa":
        return True
    if init.kind == "spectral":
        return init.b == 0.0 or init.scale == 0.0
    if init.kind == "values":
        A, B = np.asarray(init.A, dtype=np.float64), np.asarray(init.B, dtype=np.float64)
        return not any(_any_product(A[:rank], B[:, :rank]) for rank in ranks)
    if init.kind == "file":
        return not any(_any_product(*init.at(rank, seed)) for rank in ranks for seed in seeds)
    return (
        init.zero != "none"
        or (init.kind == "gaussian" and init.std == 0.0)
        or (init.kind == "orthogonal" and init.scale == 0.0)
    )


def _any_product(A: Array, B: Array) -> bool:
    """Whether B A is not zero."""
    return bool(A.any() and B.any() and np.any(B @ A))


def draw(init: Origin, rank: int, seeds: Sequence[int], scale: float, pretrained: Array, svd_of: SvdOf) -> Start:
    """Make the adapter at time 0.

    Parameters
    ----------
    init : model or WrittenStart
        ``adapter.init`` of the scenario, a file that it names read.
    rank : int
        r.
    seeds : sequence of int
        One start per seed, in this order. A deterministic init repeats the same start.
    scale : float
        The adapter scale s > 0 at this rank; the shares of ``pissa`` depend on it.
    pretrained : ndarray
        ``(n, m)``, W0 of the scenario.
    svd_of : callable
        Gives the SVD of W0 (``"pretrained"``) or of W* - W0 (``"difference"``); called only if the init
        is made of singular vectors.

    Returns
    -------
    Start
        The factors of every seed, and the frozen weight.

    Raises
    ------
    InputError
        If this init does not exist at this rank (more singular or orthonormal vectors, or more written
        rows, than there are) or for one of these seeds, or if it is beyond float64.
    """
    n, m = pretrained.shape
    frozen = pretrained
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if init.kind == "spectral":
            A, B = _repeat(_spectral(init, svd_of(init.of), rank), len(seeds))
        elif init.kind == "pissa":
            one = _pissa(svd_of("pretrained"), rank, scale)
            A, B = _repeat(one, len(seeds))
            # Not U S Vt of the other singular triplets: this way W(0) is W0 to one rounding of each entry.
            frozen = pretrained - scale * (one[1] @ one[0])
        elif init.kind == "values":
            A, B = _repeat(_written(init, rank, (n, m)), len(seeds))
        elif init.kind == "file":
            A, B = _from_file(init, rank, seeds, (n, m))
        else:
            A, B = _random(init, rank, seeds, (n, m))
    for name, array in (("A", A), ("B", B), ("the frozen weight", frozen)):
        refuse_nonfinite(array, f"init {init.kind}: {name} at rank {rank}")
    return Start(rank, A, B, scale, frozen)


def _repeat(factors: tuple[Array, Array], seeds: int) -> tuple[Array, Array]:
    """One copy per seed. Copies, since torch refuses to share a view that may not be written to."""
    A, B = factors
    return np.repeat(A[None], seeds, axis=0), np.repeat(B[None], seeds, axis=0)


def _random(init: RandomInit, rank: int, seeds: Sequence[int], shape: tuple[int, int]) -> tuple[Array, Array]:
    """A (S, r, m) and B (S, n, r), the factor named by ``zero`` being zero."""
    n, m = shape
    A, B = np.zeros((len(seeds), rank, m)), np.zeros((len(seeds), n, rank))
    for position, seed in enumerate(seeds):
        if init.zero != "A":
            A[position] = _rows(init, seed, Purpose.A, rank, m)
        if init.zero != "B":
            B[position] = _rows(init, seed, Purpose.B, rank, n).T
    return A, B


def _rows(init: RandomInit, seed: int, purpose: Purpose, rank: int, length: int) -> Array:
    """The rows of A, or the columns of B as rows: ``(rank, length)``."""
    # NumPy fills in C order from one stream, so the first r rows do not depend on how many follow.
    rng = stream(seed, purpose) if init.nested else stream(seed, purpose, rank)
    if init.kind == "kaiming":
        return rng.uniform(-1.0, 1.0, size=(rank, length)) / math.sqrt(length)
    if init.kind == "gaussian":
        std = 1.0 / rank if init.std is None else init.std
        return std * rng.standard_normal((rank, length))
    return haar(rng, length, rank, init.scale).T


def _spectral(init: SpectralInit, svd: SVD, rank: int) -> tuple[Array, Array]:
    """A = scale S_r^power V_r^T and B = b U_r S_r^power."""
    _refuse_missing(rank, svd.S.size, "spectral")
    weight = svd.S[:rank] ** init.power
    return init.scale * weight[:, None] * svd.Vt[:rank], init.b * svd.U[:, :rank] * weight


def _pissa(svd: SVD, rank: int, scale: float) -> tuple[Array, Array]:
    """A = (S_r/s)^(1/2) V_r^T and B = U_r (S_r/s)^(1/2): s B A = U_r S_r V_r^T, Q0 = 0 to rounding."""
    _refuse_missing(rank, svd.S.size, "pissa")
    share = np.sqrt(svd.S[:rank] / scale)
    return share[:, None] * svd.Vt[:rank], svd.U[:, :rank] * share


def _written(init: ValuesInit, rank: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    """The first r rows of the written A and columns of the written B."""
    n, m = shape
    A, B = np.array(init.A, dtype=np.float64), np.array(init.B, dtype=np.float64)
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != m or B.shape[0] != n:
        raise _unfit(A, B, shape)
    _refuse_missing(rank, min(A.shape[0], B.shape[1]), "values")
    return A[:rank], B[:, :rank]


def _from_file(start: WrittenStart, rank: int, seeds: Sequence[int], shape: tuple[int, int]) -> tuple[Array, Array]:
    """A (S, r, m) and B (S, n, r) of these seeds, by their numbers."""
    n, m = shape
    pairs = [start.at(rank, seed) for seed in seeds]
    A, B = pairs[0]
    if A.shape[1] != m or B.shape[0] != n:
        raise _unfit(A, B, shape)
    return np.stack([A for A, _ in pairs]), np.stack([B for _, B in pairs])


def _unfit(A: Array, B: Array, shape: tuple[int, int]) -> InputError:
    return InputError(
        f"init A {A.shape} and B {B.shape} do not fit a weight of shape {shape}",
        f"A needs rows of {shape[1]} numbers, and B needs {shape[0]} rows.",
    )


def _refuse_missing(rank: int, available: int, kind: str) -> None:
    if rank > available:
        raise InputError(
            f"init {kind} has {available} directions, which is too few for rank {rank}",
            f"Use ranks up to {available}, or a random init.",
        )
