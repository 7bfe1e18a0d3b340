"""flowsim's own integrator: one resident driver for batches of trajectories, and steppers, a small file each."""

from __future__ import annotations

from flowsim.dynamics.coordinates import Canonical
from flowsim.integrators.adaptive.stepper import Field, Stepper
from flowsim.integrators.adaptive.tsit5 import Tsit5

STEPPERS = ("tsit5",)


def stepper_of(name: str, problem: Canonical, field: Field, *, rtol: float, atol: float, factors: bool) -> Stepper:
    """The stepper of that name for the flow of a problem.

    Parameters
    ----------
    name : str
        One of `STEPPERS`.
    field : callable
        Right-hand side of the flow for stacked factors (S, 2, q, r).
    factors : bool
        Whether A and B themselves are wanted, or products only.
    """
    return Tsit5(field, problem.B, rtol=rtol, atol=atol)


def suited(problem: Canonical, *, rtol: float, factors: bool) -> list[tuple[str, str]]:
    """For each member of a batch the stepper that suits it, and why."""
    return [("tsit5", "no closed form holds")] * problem.B.shape[0]
