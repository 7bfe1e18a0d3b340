"""The few numbers of a start of which everything about a trace-squared trajectory is a function.

The halves u = B + C and v = B − C only shrink and grow by a factor each (`integrators.exact.trace_squared`), so their
norms, inner products and Gram matrices at time 0 say all there is to say, whatever n, r and the number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.linalg import matrix_norm

PART = 2**16  # entries of a factor that are worked on at once: their sums and differences stay in a cache


@dataclass(frozen=True, eq=False)
class Halves:
    """Numbers of a batch of factors, (S,) each, found when they are first asked for and then kept.

    A half that is zero to rounding of the other counts as zero: what rounding leaves of it would decide, after its
    escape time, where the flow goes.

    Attributes
    ----------
    B, C : Tensor, (S, q, r)
    """

    B: Tensor
    C: Tensor

    @cached_property
    def _norms(self) -> tuple[Tensor, ...]:
        """‖u‖ and ‖v‖ as they are, ‖B‖, ‖C‖ and ⟨B, C⟩."""
        return self._in_parts(
            lambda b, c: (matrix_norm(b + c), matrix_norm(b - c), matrix_norm(b), matrix_norm(c), (b * c).sum((-2, -1)))
        )

    @cached_property
    def _grams(self) -> tuple[Tensor, ...]:
        """‖uᵀu‖, ‖vᵀv‖, ‖uᵀv‖ and ‖½(uᵀv + vᵀu)‖ of the halves as they are."""

        def of(b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            u, v = b + c, b - c
            cross = u.mT @ v
            return matrix_norm(u.mT @ u), matrix_norm(v.mT @ v), matrix_norm(cross), matrix_norm(cross + cross.mT) / 2

        return self._in_parts(of)

    def _in_parts(self, numbers: Callable[[Tensor, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Numbers of all members, found for a few of them at a time."""
        found = (numbers(self.B[part], self.C[part]) for part in self.parts)
        return tuple(torch.cat(one) for one in zip(*found, strict=True))

    @property
    def parts(self) -> list[slice]:
        """The batch in parts that a cache holds."""
        members = max(1, PART // self.B[0].numel())
        return [slice(first, first + members) for first in range(0, len(self.B), members)]

    @property
    def u_as_is(self) -> Tensor:
        """‖u‖ with what rounding may have left of it."""
        return self._norms[0]

    @property
    def v_as_is(self) -> Tensor:
        """‖v‖ with what rounding may have left of it."""
        return self._norms[1]

    @cached_property
    def _noise(self) -> Tensor:
        return torch.finfo(self.B.dtype).eps * sum(self.B.shape[-2:]) * torch.hypot(self.u_as_is, self.v_as_is)

    @cached_property
    def u(self) -> Tensor:
        """‖u‖."""
        return torch.where(self.u_as_is > self._noise, self.u_as_is, 0.0)

    @cached_property
    def v(self) -> Tensor:
        """‖v‖."""
        return torch.where(self.v_as_is > self._noise, self.v_as_is, 0.0)

    @property
    def moving(self) -> Tensor:
        """Whether both halves are there, bool."""
        return (self.u > 0) & (self.v > 0)

    @property
    def b(self) -> Tensor:
        """‖B‖."""
        return self._norms[2]

    @property
    def c(self) -> Tensor:
        """‖C‖."""
        return self._norms[3]

    @property
    def inner(self) -> Tensor:
        """⟨B, C⟩."""
        return self._norms[4]

    @cached_property
    def zero_b(self) -> Tensor:
        """Whether B = 0, bool."""
        return _zero(self.B, self.b)

    @cached_property
    def zero_c(self) -> Tensor:
        """Whether C = 0, bool."""
        return _zero(self.C, self.c)

    @cached_property
    def gram_u(self) -> Tensor:
        """‖uᵀu‖."""
        return torch.where(self.u > 0, self._grams[0], 0.0)

    @cached_property
    def gram_v(self) -> Tensor:
        """‖vᵀv‖."""
        return torch.where(self.v > 0, self._grams[1], 0.0)

    @cached_property
    def cross(self) -> Tensor:
        """‖uᵀv‖."""
        return torch.where(self.moving, self._grams[2], 0.0)

    @property
    def imbalance(self) -> Tensor:
        """‖Q‖ = ½‖uᵀv + vᵀu‖."""
        return torch.where(self.moving, self._grams[3], 0.0)


def _zero(X: Tensor, size: Tensor) -> Tensor:
    """Whether every entry is zero: a norm that is zero may have underflowed."""
    found = size == 0
    return ~X.flatten(1).any(-1) if bool(found.any()) else found
