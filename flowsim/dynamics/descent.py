"""Gradient descent on the factors, simultaneous and sequential, as Euler steps of the canonical flow.

One round is k = `inner_steps` steps on both factors. Simultaneous: both gradients at the same point.
`a_first`: k steps on A with B fixed, then k steps on B at the new A; `b_first` the reverse. A learning rate η on
the user's factors is the canonical step sκη (see `coordinates`).
"""

from __future__ import annotations

from torch import Tensor

from flowsim.dynamics.landscape import Landscape
from flowsim.dynamics.rounds import Step

ORDERS = ("simultaneous", "a_first", "b_first")


def descent_step(landscape: Landscape, update: str, step: float, inner_steps: int = 1) -> Step:
    """One round of gradient descent as a map (B, C) → (B, C); `step` is the canonical step."""
    pull = landscape.pull

    def advance(X: Tensor, Y: Tensor) -> Tensor:
        for _ in range(inner_steps):
            X = X + step * pull(X, Y)
        return X

    def simultaneous(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(inner_steps):
            B, C = B + step * pull(B, C), C + step * pull(C, B)
        return B, C

    def a_first(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C = advance(C, B)
        return advance(B, C), C

    def b_first(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        B = advance(B, C)
        return B, advance(C, B)

    return {"simultaneous": simultaneous, "a_first": a_first, "b_first": b_first}[update]
