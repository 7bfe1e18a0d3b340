"""An objective of the user's own: what it computes, and every function that is refused."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowsim import Adapter, Custom
from flowsim.errors import InputError

W0 = torch.linspace(-1.0, 2.0, 12, dtype=torch.float64).reshape(4, 3)
TARGET = W0.flip(0)
EPS = float(torch.finfo(torch.float64).eps)


def square(W: Tensor) -> Tensor:
    return 0.5 * (W - TARGET.to(W)).square().sum()


def slope(W: Tensor) -> Tensor:
    return W - TARGET


def nuclear(W: Tensor) -> Tensor:
    return torch.linalg.svdvals(W).square().sum() + W.exp().sum()


def stepwise(W: Tensor) -> Tensor:
    """Data-dependent control flow: vmap refuses it."""
    return W.square().sum() if float(W.detach().sum()) > 0 else 2 * W.square().sum()


@pytest.mark.parametrize("value", [square, nuclear, stepwise])
@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3)])
def test_a_batch_is_every_matrix_alone(value: Any, lead: tuple[int, ...]) -> None:
    W = torch.randn(*lead, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    objective = Custom(value, pretrained=W0)
    alone = W.reshape(-1, 4, 3)
    torch.testing.assert_close(objective.value(W).reshape(-1), torch.stack([value(one) for one in alone]))
    leaf = alone.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sum(value(one) for one in leaf), leaf)
    torch.testing.assert_close(objective.gradient(W).reshape(-1, 4, 3), expected)
    assert objective.gradient(W).shape == W.shape and not objective.gradient(W).requires_grad


def test_shares_of_a_large_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim.problem import custom

    W = torch.randn(7, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    objective = Custom(nuclear, pretrained=W0)
    whole = objective.value(W), objective.gradient(W)
    monkeypatch.setattr(custom, "AT_ONCE", 25)  # two matrices
    torch.testing.assert_close((objective.value(W), objective.gradient(W)), whole)


def test_numbers_that_are_not_finite_never_reach_the_functions() -> None:
    def strict(W: Tensor) -> Tensor:
        assert bool(torch.isfinite(W.detach()).all())
        return W.square().sum()

    objective = Custom(strict, lambda W: 2 * W, pretrained=W0)
    W = torch.stack([W0, W0 * math.inf, W0])
    assert torch.isnan(objective.value(W)).tolist() == [False, True, False]
    assert torch.isnan(objective.gradient(W)).all(-1).all(-1).tolist() == [False, True, False]


def test_a_function_may_change_its_argument() -> None:
    def spoils(W: Tensor) -> Tensor:
        out = W.square().sum()
        W.mul_(0)
        return out

    objective = Custom(spoils, lambda W: W.mul_(2), pretrained=W0)
    W = torch.stack([W0, 2 * W0])
    assert objective.value(W).tolist() == pytest.approx([float(W0.square().sum()), 4 * float(W0.square().sum())])
    torch.testing.assert_close(objective.gradient(W), torch.stack([2 * W0, 4 * W0]))
    torch.testing.assert_close(W, torch.stack([W0, 2 * W0]))


def test_gradients_are_found_under_no_grad_and_parameters_of_a_model_are_left_alone() -> None:
    layer = torch.nn.Linear(4, 1).double()
    with torch.no_grad():
        objective = Custom(lambda W: layer(W.mT).square().sum(), pretrained=W0)
        assert float(objective.gradient(W0).abs().max()) > 0
    assert layer.weight.grad is None


def test_float32_stays_float32() -> None:
    objective = Custom(square, pretrained=W0.float())
    assert objective.value(W0.float()).dtype == objective.gradient(W0.float()).dtype == torch.float32


def numpy_inside(W: Tensor) -> Tensor:
    return torch.tensor(float(np.square(W.detach().numpy() - TARGET.numpy()).sum() / 2), dtype=torch.float64)


def test_a_value_that_torch_cannot_differentiate_takes_a_gradient() -> None:
    """Central differences then judge it."""
    Custom(numpy_inside, slope, pretrained=W0)
    with pytest.raises(InputError, match=r"gives a slope of .* by differences"):
        Custom(numpy_inside, lambda W: 1.0001 * slope(W), pretrained=W0)


WRONG = {
    "twice": lambda W: 2 * slope(W),
    "a little": lambda W: (1 + 1e-6) * slope(W),
    "sign": lambda W: -slope(W),
    "one entry": lambda W: slope(W) + torch.eye(4, 3, dtype=torch.float64) * (W != W0) * 1e-3,
    "of another function": lambda W: W,
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_gradient_is_refused_with_numbers(kind: str) -> None:
    with pytest.raises(InputError, match=r"gradient: differs .* by \d.*, of \d.*; entry \[\d, \d\] is .* by autograd"):
        Custom(square, WRONG[kind], pretrained=W0)


def test_a_gradient_right_to_rounding_is_taken() -> None:
    Custom(square, lambda W: slope(W) * (1 + 4 * EPS), pretrained=W0)
    Custom(square, slope, pretrained=TARGET)  # stationary: all of it is rounding
    Custom(lambda W: W.sum() * 0, lambda W: 0 * W, pretrained=W0)


def draws(W: Tensor) -> Tensor:
    return (W * torch.rand(W.shape, dtype=W.dtype)).sum()


def raises(W: Tensor) -> Tensor:
    raise KeyError("no such layer\nsecond line")


def undefined(W: Tensor) -> Tensor:
    return (W - W0).square().sum().sqrt()  # 0/0 in its gradient at W0


VALUES: dict[str, tuple[Any, str]] = {
    "vector": (lambda W: W.sum(0), r"value: returned shape \(3,\), not a scalar"),
    "one entry": (lambda W: W.sum().reshape(1), r"value: returned shape \(1,\), not a scalar"),
    "float": (lambda W: float(W.sum()), "value: returned a float, not a torch tensor"),
    "None": (lambda W: None, "value: returned a NoneType"),
    "NumPy": (lambda W: np.sum(W.detach().numpy()), "value: returned a float64, not a torch tensor"),
    "NumPy of a leaf": (lambda W: torch.as_tensor(W.numpy().sum()), "torch cannot differentiate it"),
    "detached": (lambda W: W.detach().sum(), "torch cannot differentiate it: the result does not depend on W"),
    "rounded": (lambda W: (W > 0).sum().to(W.dtype), "torch cannot differentiate it"),
    "constant": (lambda W: torch.ones((), dtype=W.dtype), "the result does not depend on W"),
    "other parameter": (lambda W: torch.ones((), dtype=W.dtype, requires_grad=True) * 2, "does not depend on W"),
    "in place": (lambda W: W.sub_(1).square().sum(), "torch cannot differentiate it: a leaf Variable"),
    "NaN": (lambda W: W.sum() * math.nan, "value: is nan at W0"),
    "infinite": (lambda W: W.sum() / 0, "value: is inf at W0"),
    "complex": (lambda W: W.sum() * 1j, "value: returned torch.complex128"),
    "float32": (lambda W: W.float().sum(), "value: returned torch.float32 on cpu for a W of torch.float64"),
    "integers": (lambda W: W.long().sum(), "value: returned torch.int64"),
    "mixed": (lambda W: (torch.ones(2, 4) @ W).sum(), "value: stopped with RuntimeError"),
    "shapes": (lambda W: (torch.ones(2, 9, dtype=W.dtype) @ W).sum(), "value: stopped with RuntimeError"),
    "random": (draws, "value: is .*, and .* when called again"),
    "raises": (raises, "value: stopped with KeyError: 'no such layer"),
    "not differentiable there": (undefined, "value: its gradient: has entries at W0 that are not finite"),
    "no function": (3.0, "value: is 3.0, not a function"),
    "nothing": (None, "value: is None, not a function"),
    "arguments": (lambda W, b: W.sum(), "value: stopped with TypeError"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_an_unfit_value_is_refused_in_two_lines(kind: str) -> None:
    value, said = VALUES[kind]
    with pytest.raises(InputError, match=said) as caught:
        Custom(value, pretrained=W0)
    assert len(caught.value.lines()) == 2 and all(0 < len(line) < 400 for line in caught.value.lines())
    assert "\n" not in "".join(caught.value.lines())


GRADIENTS: dict[str, tuple[Any, str]] = {
    "transposed": (lambda W: slope(W).mT, r"gradient: returned shape \(3, 4\), the weight has \(4, 3\)"),
    "NumPy": (lambda W: slope(W).numpy(), "gradient: returned a ndarray"),
    "float32": (lambda W: slope(W).float(), "gradient: returned torch.float32"),
    "NaN": (lambda W: slope(W) * math.nan, "gradient: has entries at W0 that are not finite"),
    "raises": (raises, "gradient: stopped with KeyError"),
    "no function": (W0, r"gradient: is tensor"),
}


@pytest.mark.parametrize("kind", GRADIENTS)
def test_an_unfit_gradient_is_refused(kind: str) -> None:
    gradient, said = GRADIENTS[kind]
    with pytest.raises(InputError, match=said):
        Custom(square, gradient, pretrained=W0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pretrained": [[1.0, math.nan]]}, "pretrained"),
        ({"pretrained": np.array([[1.0, math.inf]])}, "pretrained: contains numbers that are not finite"),
        ({"pretrained": np.ones(3)}, "pretrained: has 1 dimensions"),
        ({"pretrained": np.ones((0, 3))}, "pretrained: is empty"),
        ({"pretrained": "weights.npy"}, "pretrained: is not an array"),
        ({"pretrained": W0.half()}, "pretrained: is of type torch.float16"),
        ({"floor": math.nan}, "floor: is nan"),
        ({"floor": math.inf}, "floor: is inf"),
        ({"floor": "zero"}, "floor: is 'zero'"),
        ({"floor": True}, "floor: is True"),
        ({"floor": 10**400}, "floor: is"),
        ({"name": ""}, "name: is ''"),
        ({"name": "two\nlines"}, "name: is"),
        ({"name": "x" * 5000}, "name: is"),
        ({"name": 3}, "name: is '3'"),
        ({"name": "\x1b[31mred"}, "name: is"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        Custom(lambda W: W.sum(), **({"pretrained": W0} | arguments))
    assert all(len(line) < 600 for line in caught.value.lines())


def test_an_error_of_the_function_later_on_is_two_lines() -> None:
    def fails_far_out(W: Tensor) -> Tensor:
        if float(W.detach().abs().max()) > 5:
            raise ValueError("out of range")
        return W.square().sum()

    objective = Custom(fails_far_out, pretrained=W0, name="narrow")
    with pytest.raises(InputError, match="objective narrow: stopped with ValueError: out of range"):
        objective.value(10 * W0)


def test_an_adapter_must_fit() -> None:
    objective = Custom(square, pretrained=W0)
    with pytest.raises(InputError, match="the weight is 4 × 3"):
        Adapter(np.ones((2, 4)), np.ones((4, 2))).fits(objective)


def test_vmap_that_warns_of_a_slow_loop_is_not_used() -> None:
    def warns(W: Tensor) -> Tensor:
        if W.__class__ is not Tensor or torch._C._functorch.is_batchedtensor(W):
            warnings.warn("There is a performance drop", UserWarning, stacklevel=1)
        return W.square().sum()

    assert Custom(warns, pretrained=W0)._values_at_once is False


def test_noise_that_multiplies_the_weight_is_noticed() -> None:
    """At W0 = 0, the usual start, it does not show."""
    with pytest.raises(InputError, match="when called again"):
        Custom(lambda W: ((W * torch.rand_like(W)) ** 2).sum() + 1, pretrained=np.zeros((2, 3)))


def test_a_gradient_that_cannot_be_compared_is_refused() -> None:
    def value(W: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(np.sqrt(W.detach().numpy()).sum())

    with np.errstate(invalid="ignore"), pytest.raises(InputError, match="cannot be compared"):
        Custom(value, gradient=lambda W: torch.full_like(W, -123.0), pretrained=np.zeros((2, 2)))


def test_a_weight_of_another_shape_is_refused() -> None:
    objective = Custom(lambda W: (W**2).sum(), pretrained=np.zeros((3, 2)))
    for wrong in (torch.zeros(2, 3), torch.zeros(6)):
        for ask in (objective.value, objective.gradient):
            with pytest.raises(InputError, match="has shape"):
                ask(wrong)
    assert float(objective.value(np.ones((3, 2)))) == 6.0


def test_a_gradient_that_is_empty_as_a_container_is_used() -> None:
    class Empty:
        asked = 0

        def __len__(self) -> int:
            return 0

        def __call__(self, W: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            return 2 * W

    given = Empty()
    objective = Custom(lambda W: (W**2).sum(), gradient=given, pretrained=np.zeros((3, 2)))
    before = given.asked
    objective.gradient(torch.ones(4, 3, 2, dtype=torch.float64))
    assert given.asked > before
