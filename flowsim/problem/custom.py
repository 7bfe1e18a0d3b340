"""Any objective f(W): by its value alone, differentiated by torch, or by value and gradient.

What the flow A' = −s·Bᵀ∇f(W), B' = −s·∇f(W)·Aᵀ shares with those of the two objectives of the theory holds of every
differentiable f: conservation of Q and a loss that never rises. Closed forms, floors and rates do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from flowsim.errors import InputError
from flowsim.problem import first_call
from flowsim.problem.first_call import Function, called
from flowsim.problem.objectives import Frobenius, MatrixLike, TraceSquared, as_matrix

AT_ONCE = 4_000_000  # entries of all matrices that are evaluated together: bounds the memory of a batch
LONGEST_NAME = 80


class Custom:
    """An objective of the user's own.

    Parameters
    ----------
    value : callable
        f: takes one matrix W (n, m) as a torch tensor and returns a tensor of no dimension, of the same dtype.
    gradient : callable, optional
        ∇f: takes the same and returns (n, m). Without it torch differentiates `value`.
    pretrained : array or tensor, (n, m)
        W0, which also says dtype and device.
    floor : float, optional
        A lower bound of f, such as 0; the excess loss is counted from it, and is NaN without one.
    name : str
        What results call it.

    Raises
    ------
    InputError
        If `value` is no differentiable, deterministic, scalar function of W at W0, or `gradient` is not its gradient.

    Notes
    -----
    Both functions are called at W0 when the object is made, and a given gradient is held there, and at one point near
    by, against autograd (central differences where torch cannot differentiate `value`). Half of the digits of the dtype
    must agree.

    Both are applied to many matrices at once by `torch.func.vmap`, or one by one where that refuses.

    Examples
    --------
    >>> import torch
    >>> from flowsim import Custom
    >>> W0 = torch.zeros(3, 2, dtype=torch.float64)
    >>> objective = Custom(lambda W: torch.logaddexp(W, -W).sum(), pretrained=W0, name="log cosh")
    >>> objective.gradient(W0 + 1).shape
    torch.Size([3, 2])
    """

    kind = "custom"

    def __init__(
        self, value: Function, gradient: Function | None = None, *, pretrained: MatrixLike,
        floor: float | None = None, name: str = "custom",
    ) -> None:  # fmt: skip
        self.name = _line(name)
        self.pretrained = as_matrix(pretrained, "pretrained")
        self.floor = _bound(floor)
        for what, function in (("value", value), ("gradient", gradient)):
            if not callable(function) and (what == "value" or function is not None):
                raise InputError(f"{what}: is {function!r}, not a function", "Give a function of one torch matrix.")
        self._value, self._given = value, gradient
        first_call.check_value(value, self.pretrained)
        if gradient is None:
            first_call.check_autograd(value, self.pretrained)
        else:
            first_call.check_gradient(value, gradient, self.pretrained)
        self._values_at_once = _batches(value, self.pretrained)
        self._slope: Function = torch.func.grad(value) if gradient is None else gradient
        self._slopes_at_once = _batches(self._slope, self.pretrained)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.pretrained.shape[0], self.pretrained.shape[1]

    def value(self, W: Tensor) -> Tensor:
        """f(W), (...), of W (..., n, m); NaN where W is not finite."""

        def one_by_one(batch: Tensor) -> Tensor:
            return torch.stack([self._value(W) for W in batch])

        return self._over(W, (), one_by_one, self._value if self._values_at_once else None)

    def gradient(self, W: Tensor) -> Tensor:
        """∇f(W), of the shape of W (..., n, m); NaN where W is not finite."""

        def one_by_one(batch: Tensor) -> Tensor:
            if self._given is not None:
                return torch.stack([self._given(W) for W in batch])
            return torch.stack([first_call.autograd(self._value, W) for W in batch])

        return self._over(W, self.shape, one_by_one, self._slope if self._slopes_at_once else None)

    def _over(self, W: Tensor, shape: tuple[int, ...], one_by_one: Function, at_once: Function | None) -> Tensor:
        """Apply to all finite matrices of a batch, in shares that fit into memory."""
        W = torch.as_tensor(W)
        if tuple(W.shape[-2:]) != self.shape:
            raise InputError(f"W: has shape {tuple(W.shape)}", f"Give matrices of shape {self.shape}.")
        flat = W.detach().reshape(-1, *self.shape)
        finite = torch.isfinite(flat).all(-1).all(-1)
        out = flat.new_full((len(flat), *shape), math.nan)
        share = max(1, AT_ONCE // self.pretrained.numel())
        found = []
        for part in torch.split(flat[finite], share) if bool(finite.any()) else ():
            together = at_once is not None and len(part) > 1
            function = torch.func.vmap(at_once) if together and at_once is not None else one_by_one
            with torch.no_grad():
                result = called(f"objective {self.name}", function, part)
            if result.shape != (len(part), *shape) or result.dtype != flat.dtype:
                what = f"returned {result.dtype} of shape {tuple(result.shape[1:])}, {flat.dtype} of {shape} was wanted"
                raise InputError(f"objective {self.name}: {what}", "Return the same type and shape for every W.")
            found.append(result.detach())
        if found:
            out[finite] = torch.cat(found)
        return out.reshape((*W.shape[:-2], *shape))

    def on(self, device: torch.device) -> Custom:
        """The same objective with W0 on that device; what `value` holds has to lie there too.

        Raises
        ------
        InputError
            If the functions do not work there.
        """
        if device == self.pretrained.device:
            return self
        W0 = self.pretrained.to(device)
        return Custom(self._value, self._given, pretrained=W0, floor=self.floor, name=self.name)


AnyObjective = Frobenius | TraceSquared | Custom


def _line(name: object) -> str:
    if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name.strip() == name:
        return name
    raise InputError(
        f"name: is {str(name)[:LONGEST_NAME]!r}", f"Give one line of text of at most {LONGEST_NAME} characters."
    )


def _bound(floor: float | None) -> float | None:
    if floor is None:
        return None
    try:
        good = not isinstance(floor, bool) and math.isfinite(floor)
    except (TypeError, ValueError, OverflowError):
        good = False  # not a number at all
    if not good:
        raise InputError(f"floor: is {floor!r}, must be a finite number", "Give a lower bound of the loss, or none.")
    return float(floor)


def _batches(function: Callable[[Tensor], Tensor], W: Tensor) -> bool:
    """Whether `vmap` applies a function to many matrices, at full speed and with the same result."""
    both = torch.stack([W, W])
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error")  # vmap warns where it falls back to a slow loop
            found = torch.func.vmap(function)(both)
            alone = function(W.clone())
    except Exception:  # whatever it is: one by one works, `first_call` has seen to that
        return False
    same = found.shape == (2, *alone.shape) and found.dtype == alone.dtype
    return same and torch.allclose(found, torch.stack([alone, alone]), rtol=torch.finfo(W.dtype).eps ** 0.5, atol=0.0)
