"""The gradient flow of LoRA, and how gradient descent departs from it to first order in the step.

The flow: B' = pull(B, C), C' = pull(C, B) (canonical; in the user's letters A' = −sBᵀ∇f, B' = −s∇fAᵀ). It splits
into F_A, which moves C = Aᵀ alone, and F_B, which moves B alone.

First variation (backward error analysis of Euler's method, Hairer, Lubich & Wanner 2006, ch. IX): an iteration
with step η stays at y_k = y(t) + η·e1(t) + O(η²), where e1' = F'e1 + F1, e1(0) = 0, and F1 depends on the order of
the updates. Every F1 here is a combination of four fields, X'Y being the derivative of field X along Y:
F_A'F_A, F_B'F_B, F_A'F_B, F_B'F_A. The equation is linear, so one solve with the four as sources serves every
schedule; `sources_of` gives the combinations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.landscape import Landscape

SOURCES = ("AA", "BB", "AB", "BA")


def velocity(landscape: Landscape, Z: Tensor) -> Tensor:
    """Right-hand side of the flow; Z stacks (B, C) as (..., 2, q, r)."""
    return landscape.pull(Z, Z.flip(-3))


def variation_velocity(landscape: Landscape, state: Tensor) -> Tensor:
    """Right-hand side of the flow together with its four first variations.

    `state` is (..., 5, 2, q, r): Z, then the responses to the sources in the order of `SOURCES`.
    """
    Z, responses = state[..., 0, :, :, :], state[..., 1:, :, :, :]
    B, C = Z.unbind(-3)
    pull_b, pull_c = landscape.pull(B, C), landscape.pull(C, B)
    zero = torch.zeros_like(B)
    derivative = landscape.pull_derivative
    fields = [
        (zero, derivative(C, B, pull_c, zero)),
        (derivative(B, C, pull_b, zero), zero),
        (zero, derivative(C, B, zero, pull_b)),
        (derivative(B, C, zero, pull_c), zero),
    ]
    sources = torch.stack([torch.stack(pair, dim=-3) for pair in fields], dim=-4)
    dB, dC = responses.unbind(-3)
    # The base state gets a dimension for the four responses, so that trailing shapes align.
    B4, C4 = B[..., None, :, :].expand_as(dB), C[..., None, :, :].expand_as(dC)
    linear = torch.stack([derivative(B4, C4, dB, dC), derivative(C4, B4, dC, dB)], dim=-3)
    drift = torch.stack([pull_b, pull_c], dim=-3)[..., None, :, :, :]
    return torch.cat([drift, linear + sources], dim=-4)


def sources_of(kind: str, update: str, inner_steps: int = 1) -> tuple[float, float, float, float] | None:
    """Weights of the four sources in F1, per unit of the window h (descent: h = k·η).

    Parameters
    ----------
    kind : "flow" or "descent"
    update : "simultaneous", "a_first", "b_first" or "symmetric"
    inner_steps : int
        k, the Euler steps on one factor before the other moves.

    Returns
    -------
    tuple or None
        Weights in the order of `SOURCES`; None for the symmetric window, whose leading error is of order h².
    """
    euler = 0.0 if kind == "flow" else 1.0 / (2 * inner_steps)
    if update == "simultaneous":
        # k simultaneous steps of η are k plain Euler steps: −½F'F per unit of η, not of k·η.
        return (-euler, -euler, -euler, -euler)
    if update == "a_first":
        return (-euler, -euler, -0.5, 0.5)
    if update == "b_first":
        return (-euler, -euler, 0.5, -0.5)
    return None


def combine(responses: Tensor, weights: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """The leading coefficient e1 = (e1_B, e1_C) from the four responses (..., 4, 2, q, r)."""
    weight = responses.new_tensor(weights)[:, None, None, None]
    e_b, e_c = (responses * weight).sum(-4).unbind(-3)
    return e_b, e_c
