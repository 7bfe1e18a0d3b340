"""The first call of a user's own functions: every way in which they are unfit is told before anything is solved."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from flowsim.errors import FlowsimError, InputError

Function = Callable[[Tensor], Tensor]
NEARBY = 0.1  # distance of the second point of comparison, in units of the size of W0
DIRECTIONS = 4  # random directions in which central differences are taken
LONGEST = 200  # characters of a message of another package
USE_TORCH = "Use torch functions throughout (no NumPy, .item() or .detach()), or give gradient= as well."


def called(what: str, function: Function, W: Tensor) -> Tensor:
    """What the function returns, its own errors as two lines.

    Raises
    ------
    InputError
    """
    try:
        return function(W.clone())
    except FlowsimError:
        raise
    except Exception as error:
        raise InputError(
            f"{what}: stopped with {type(error).__name__}: {_said(error)}",
            f"It gets a torch matrix of shape {tuple(W.shape[-2:])}, {W.dtype} on {W.device}; "
            "its data must be of that dtype, on that device.",
        ) from error


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:LONGEST]


def autograd(value: Function, W: Tensor) -> Tensor:
    """∇f(W), (n, m), by torch.

    Raises
    ------
    InputError
        If torch cannot differentiate the function.
    """
    with torch.enable_grad():
        leaf = W.detach().clone().requires_grad_()
        try:
            result: object = value(leaf)
        except Exception as error:
            with torch.no_grad():
                called("value", value, W)  # its own mistake, if it fails without being differentiated too
            raise InputError(f"value: torch cannot differentiate it: {_said(error)}", USE_TORCH) from error
        if not isinstance(result, Tensor) or not result.requires_grad:
            raise InputError("value: torch cannot differentiate it: the result does not depend on W", USE_TORCH)
        try:
            (found,) = torch.autograd.grad(result, leaf, allow_unused=True)
        except RuntimeError as error:
            raise InputError(f"value: torch cannot differentiate it: {_said(error)}", USE_TORCH) from error
    if found is None:
        raise InputError("value: torch cannot differentiate it: the result does not depend on W", USE_TORCH)
    return found.detach()


def check_value(value: Function, W: Tensor) -> None:
    """Refuse a value that is no finite scalar of the dtype of W, or that changes from call to call."""
    first = _scalar(value, W)
    pairs = [(first, _scalar(value, W))]
    aside = W + NEARBY * _size(W) * _noise(W, 0)  # noise that multiplies W does not show at W0 = 0
    with torch.no_grad(), suppress(InputError):  # it may lie outside of where value is defined
        pairs.append((float(called("value", value, aside)), float(called("value", value, aside))))
    for one, other in pairs:
        # Sums in another order differ in their last digits; a draw differs in all of them.
        if abs(one - other) > torch.finfo(W.dtype).eps ** 0.5 * abs(one):
            raise InputError(
                f"value: is {one!r}, and {other!r} when called again with the same W",
                "Draw batches and noise once, outside of it.",
            )


def _scalar(value: Function, W: Tensor) -> float:
    with torch.no_grad():
        result = called("value", value, W)
    if not isinstance(result, Tensor):
        raise InputError(f"value: returned a {type(result).__name__}, not a torch tensor", USE_TORCH)
    if result.ndim:
        raise InputError(
            f"value: returned shape {tuple(result.shape)}, not a scalar",
            "Sum or average over all entries: f(W) is one number.",
        )
    _same_kind("value", result, W)
    number = float(result)
    if not torch.isfinite(result):
        raise InputError(f"value: is {number} at W0", "Give a W0 at which the loss is finite.")
    return number


def check_autograd(value: Function, W: Tensor) -> None:
    """Refuse a value whose gradient at W0 torch does not find, or that is not finite there."""
    _finite("value: its gradient", autograd(value, W), "Make value smooth there (a square root, norm or log at 0?).")


def check_gradient(value: Function, gradient: Function, W: Tensor) -> None:
    """Refuse a gradient that is not that of `value`, at W0 and at a point near by."""
    points = [W]
    aside = W + NEARBY * _size(W) * _noise(W, 0)
    with torch.no_grad():
        if bool(torch.isfinite(called("value", value, aside))):
            points.append(aside)
    given = [_matrix(gradient, point) for point in points]
    try:
        found = [autograd(value, point) for point in points]
    except InputError:
        for point, own in zip(points, given, strict=True):
            _against_differences(value, point, own)
        return
    scale = max(float(torch.linalg.matrix_norm(one)) for one in found)
    for own, other in zip(given, found, strict=True):
        _finite("value: its gradient", other, "Make value smooth there (a square root, norm or log at 0?).")
        off = own - other
        if float(torch.linalg.matrix_norm(off)) > torch.finfo(W.dtype).eps ** 0.5 * scale:
            row, column = divmod(int(off.abs().argmax()), W.shape[1])
            _refuse(
                f"differs from that of value by {float(torch.linalg.matrix_norm(off)):.3g}, of {scale:.3g}; "
                f"entry [{row}, {column}] is {float(own[row, column]):.6g}, {float(other[row, column]):.6g} by autograd"
            )


def _against_differences(value: Function, W: Tensor, given: Tensor) -> None:
    """Compare with central differences along random directions; two step sizes tell the error of the difference."""
    epsilon = torch.finfo(W.dtype).eps
    step = epsilon ** (1 / 3) * max(float(torch.linalg.matrix_norm(W)), _size(W))

    def slope(direction: Tensor, h: float) -> tuple[float, float]:
        with torch.no_grad():
            ahead, behind = (float(called("value", value, W + sign * h * direction)) for sign in (1, -1))
        return (ahead - behind) / (2 * h), (abs(ahead) + abs(behind)) * epsilon / h

    for seed in range(1, 1 + DIRECTIONS):
        direction = _noise(W, seed)
        direction = direction / torch.linalg.matrix_norm(direction)
        (near, rounding), (far, _) = slope(direction, step), slope(direction, 2 * step)
        own = float((given * direction).sum())
        # The difference's error is a third of its change, and rounding of a few dozen operations.
        room = abs(far - near) + 64 * rounding + epsilon**0.5 * abs(near)
        if not math.isfinite(room):
            _refuse("cannot be compared with value, which is not finite around W0")
        if abs(own - near) > room:
            _refuse(f"gives a slope of {own:.6g} along a direction in which value has {near:.6g} by differences")


def _refuse(what: str) -> None:
    raise InputError(
        f"gradient: {what}",
        "Return the matrix of ∂f/∂W_ij, of shape (n, m); or leave gradient out: torch then finds it.",
    )


def _matrix(gradient: Function, W: Tensor) -> Tensor:
    with torch.no_grad():
        result = called("gradient", gradient, W)
    if not isinstance(result, Tensor):
        raise InputError(f"gradient: returned a {type(result).__name__}, not a torch tensor", "Use torch functions.")
    if result.shape != W.shape:
        raise InputError(
            f"gradient: returned shape {tuple(result.shape)}, the weight has {tuple(W.shape)}",
            "Return the matrix of ∂f/∂W_ij.",
        )
    _same_kind("gradient", result, W)
    _finite("gradient", result, "Give a W0 at which the gradient is finite.")
    return result


def _same_kind(what: str, result: Tensor, W: Tensor) -> None:
    if result.dtype != W.dtype or result.device != W.device:
        raise InputError(
            f"{what}: returned {result.dtype} on {result.device} for a W of {W.dtype} on {W.device}",
            "Bring the data that it uses to the dtype and device of pretrained.",
        )


def _finite(what: str, result: Tensor, hint: str) -> None:
    if not bool(torch.isfinite(result).all()):
        raise InputError(f"{what}: has entries at W0 that are not finite", hint)


def _size(W: Tensor) -> float:
    """The size of an entry of W, or of a matrix of spectral norm near 1 where W is zero."""
    size = float(W.square().mean().sqrt())
    return size if size > 0 else max(W.shape) ** -0.5


def _noise(W: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(W.shape, generator=generator, dtype=torch.float64).to(W)
