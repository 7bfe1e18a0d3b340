"""The two objectives of the theory, and the adapter that moves: what a user hands to `simulate`.

Both objectives are functions of the weight W = W0 + s·B·A with W0 frozen:

* Frobenius: f(W) = c·‖W − W*‖²_F, the low-rank approximation loss (Eckart & Young 1936);
* trace-squared: f(W) = c·(tr W)², square W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from flowsim.errors import InputError

MatrixLike = np.ndarray | Tensor
Decompose = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def as_matrix(value: MatrixLike, name: str, *, dims: tuple[int, ...] = (2,)) -> Tensor:
    """Turn an array into a floating tensor of its own precision, or say what is wrong with it.

    Lists are read by NumPy's rules, integers become float64; floating input keeps its dtype and device.
    """
    try:
        # Contiguous, and a copy of what is read-only: torch warns of such an array.
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.require(value, requirements=["C", "W"]))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: is not an array of numbers", "Give a NumPy array or a torch tensor.") from error
    if tensor.ndim not in dims:
        wanted = " or ".join(str(d) for d in dims)
        raise InputError(f"{name}: has {tensor.ndim} dimensions, {wanted} wanted", "Give a matrix.")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InputError(f"{name}: is of type {tensor.dtype}", "Give real numbers.")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    if tensor.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{name}: is of type {tensor.dtype}", "Convert it to float64 (or float32) first.")
    if tensor.numel() == 0:
        raise InputError(f"{name}: is empty, of shape {tuple(tensor.shape)}", "Every side must be at least 1.")
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name}: contains numbers that are not finite", "Remove NaN and infinities.")
    return tensor.detach()


def _same_kind(first: Tensor, second: Tensor, names: str) -> None:
    if first.dtype != second.dtype or first.device != second.device:
        raise InputError(
            f"{names}: are {first.dtype} on {first.device} and {second.dtype} on {second.device}",
            "Give both in one dtype and on one device; flowsim converts neither silently.",
        )


def _positive(value: float, name: str) -> float:
    try:
        good = math.isfinite(value) and value > 0
    except (TypeError, ValueError):
        good = False  # not a number at all
    if not good:
        raise InputError(f"{name}: is {value!r}, must be a positive finite number", "Choose a positive value.")
    return float(value)


def thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (n, p), singular values (p,) and Vᵀ (p, m) of a matrix."""
    U, values, Vh = torch.linalg.svd(matrix, full_matrices=False)
    return U, values, Vh


@dataclass(frozen=True)
class SingularSystem:
    """Thin singular value decomposition of the difference, largest value first.

    Attributes
    ----------
    U : Tensor, (n, p)
    values : Tensor, (p,)
        Singular values; those at or below ε·max(n, m)·‖·‖, of the difference or of what it is the difference of, are
        exactly zero (numerical rank), and those that differ by no more than that of the difference are equal: the
        rounding of a decomposition must not break a tie.
    V : Tensor, (m, p)
    """

    U: Tensor
    values: Tensor
    V: Tensor


class Frobenius:
    """f(W) = c·‖W − W*‖²_F.

    Parameters
    ----------
    pretrained, target : array or tensor, (n, m)
        W0 and W*.
    coefficient : float
        c > 0; ½ by default.
    decompose : callable
        How the thin SVD of the difference is found (`svd_cache` remembers it).

    Raises
    ------
    InputError
        If shapes, dtypes or devices differ, or a value is not finite.
    """

    kind = "frobenius"

    def __init__(
        self, pretrained: MatrixLike, target: MatrixLike, coefficient: float = 0.5, *,
        decompose: Decompose = thin_svd,
    ) -> None:  # fmt: skip
        self.decompose = decompose
        self.pretrained = as_matrix(pretrained, "pretrained")
        self.target = as_matrix(target, "target")
        self.coefficient = _positive(coefficient, "coefficient")
        _same_kind(self.pretrained, self.target, "pretrained and target")
        if self.pretrained.shape != self.target.shape:
            raise InputError(
                f"target: has shape {tuple(self.target.shape)}, pretrained {tuple(self.pretrained.shape)}",
                "Both must have the same shape (n, m).",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.pretrained.shape[0], self.pretrained.shape[1]

    @property
    def curvature(self) -> float:
        """κ = 2c, the one eigenvalue of the Hessian of f in W."""
        return 2 * self.coefficient

    def value(self, W: Tensor) -> Tensor:
        """f(W), W of shape (..., n, m)."""
        return self.coefficient * (W - self.target).square().sum((-2, -1))

    def gradient(self, W: Tensor) -> Tensor:
        """∇f(W) = 2c(W − W*), of the shape of W."""
        return self.curvature * (W - self.target)

    @cached_property
    def singular_system(self) -> SingularSystem:
        """The SVD of Δ = W* − W0, computed once and shared by every adapter."""
        U, values, Vh = self.decompose(self.target - self.pretrained)
        return SingularSystem(U, self.numerical(values), Vh.mT.contiguous())

    def numerical(self, values: Tensor) -> Tensor:
        """Singular values (p,) of the difference, largest first, with zeros and ties as in `SingularSystem`."""
        clean = torch.where(values > self.lost(values[0]), values, torch.zeros_like(values))
        return _with_ties(clean, float(torch.finfo(values.dtype).eps * max(self.shape) * values[0]))

    def lost(self, largest: Tensor) -> Tensor:
        """The size at or below which a singular value is rounding, 0-d, from the largest one."""
        # A difference of large matrices carries their rounding; that from zero is exact.
        return torch.finfo(largest.dtype).eps * max(self.shape) * torch.maximum(largest, self._subtracted)

    @cached_property
    def _subtracted(self) -> Tensor:
        """The larger norm of the two matrices, 0-d; zero where one of them is zero, and nothing is subtracted."""
        sizes = torch.stack([torch.linalg.matrix_norm(X) for X in (self.target, self.pretrained)])
        return torch.where((sizes > 0).all(), sizes.max(), torch.zeros_like(sizes[0]))


def _with_ties(values: Tensor, rounding: float) -> Tensor:
    """Values (p,), largest first, with those within `rounding` of the first of their group set to its mean."""
    out, start = values.clone(), 0
    host = values.tolist()
    for end in range(1, len(host) + 1):
        if end == len(host) or host[start] - host[end] > rounding:
            if end - start > 1:
                out[start:end] = values[start:end].mean()
            start = end
    return out


class TraceSquared:
    """f(W) = c·(tr W)² for square W.

    Parameters
    ----------
    pretrained : array or tensor, (n, n)
    coefficient : float
        c > 0; ½ by default.

    Raises
    ------
    InputError
        If W0 is not square, or a value is not finite.
    """

    kind = "trace_squared"

    def __init__(self, pretrained: MatrixLike, coefficient: float = 0.5) -> None:
        self.pretrained = as_matrix(pretrained, "pretrained")
        self.coefficient = _positive(coefficient, "coefficient")
        if self.pretrained.shape[0] != self.pretrained.shape[1]:
            raise InputError(
                f"pretrained: has shape {tuple(self.pretrained.shape)}",
                "The trace-squared objective needs a square matrix.",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.pretrained.shape[0], self.pretrained.shape[1]

    @property
    def curvature(self) -> float:
        """κ = 2c; the Hessian of f in W is κ·vec(I)vec(I)ᵀ."""
        return 2 * self.coefficient

    def value(self, W: Tensor) -> Tensor:
        """f(W), W of shape (..., n, n)."""
        return self.coefficient * W.diagonal(dim1=-2, dim2=-1).sum(-1).square()

    def gradient(self, W: Tensor) -> Tensor:
        """∇f(W) = 2c·tr(W)·I, of the shape of W."""
        trace = W.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        return self.curvature * trace * torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)


Objective = Frobenius | TraceSquared


class Weighted(Protocol):
    """Anything with a frozen weight."""

    pretrained: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""


class Adapter:
    """The trainable factors: W = W0 + scale·B·A.

    Parameters
    ----------
    A : array or tensor, (r, m) or (batch, r, m)
    B : array or tensor, (n, r) or (batch, n, r)
    scale : float
        s > 0, α/r in the usual LoRA convention (Hu et al. 2021, arXiv 2106.09685).

    Raises
    ------
    InputError
        If shapes do not fit each other, or a value is not finite.
    """

    def __init__(self, A: MatrixLike, B: MatrixLike, scale: float = 1.0) -> None:
        self.A = as_matrix(A, "A", dims=(2, 3))
        self.B = as_matrix(B, "B", dims=(2, 3))
        self.scale = _positive(scale, "scale")
        _same_kind(self.A, self.B, "A and B")
        if self.A.ndim != self.B.ndim or self.A.shape[:-2] != self.B.shape[:-2]:
            raise InputError(
                f"A and B: have shapes {tuple(self.A.shape)} and {tuple(self.B.shape)}",
                "Both must have the same leading batch dimension, or none.",
            )
        if self.A.shape[-2] != self.B.shape[-1]:
            raise InputError(
                f"A and B: A has {self.A.shape[-2]} rows, B {self.B.shape[-1]} columns",
                "A is (rank, m) and B is (n, rank).",
            )

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return int(self.A.shape[-2])

    @property
    def batched(self) -> bool:
        """Whether there is a leading batch dimension."""
        return self.A.ndim == 3

    def fits(self, objective: Weighted) -> None:
        """Refuse an adapter whose shape, dtype or device is not the objective's."""
        n, m = objective.shape
        if (self.B.shape[-2], self.A.shape[-1]) != (n, m):
            raise InputError(
                f"adapter: B·A is {self.B.shape[-2]} × {self.A.shape[-1]}, the weight is {n} × {m}",
                "A is (rank, m) and B is (n, rank).",
            )
        _same_kind(self.A, objective.pretrained, "adapter and pretrained")
