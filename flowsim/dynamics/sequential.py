"""The sequential flow: each factor follows its own exact flow for a window h, in turn.

With the other factor fixed both objectives are linear in the moving one, so its flow is solved exactly
(`Landscape.relax`) and the loss never rises for any h. `a_first` and `b_first` are of order 1 in h, the
`symmetric` composition (A for h/2, B for h, A for h/2; Strang 1968) of order 2.
"""

from __future__ import annotations

from torch import Tensor

from flowsim.dynamics.landscape import Landscape
from flowsim.dynamics.rounds import Step

ORDERS = ("a_first", "b_first", "symmetric")


def window_step(landscape: Landscape, update: str, window: float) -> Step:
    """One window of the sequential flow as a map (B, C) → (B, C); `window` in canonical time."""
    relax = landscape.relax

    def a_first(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C = relax(C, B, window)
        return relax(B, C, window), C

    def b_first(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        B = relax(B, C, window)
        return B, relax(C, B, window)

    def symmetric(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        C = relax(C, B, window / 2)
        B = relax(B, C, window)
        return B, relax(C, B, window / 2)

    return {"a_first": a_first, "b_first": b_first, "symmetric": symmetric}[update]
