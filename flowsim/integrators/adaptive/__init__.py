"""flowsim's own integrator: one resident driver for batches of trajectories, and steppers, a small file each."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.landscape import FrobeniusLandscape
from flowsim.integrators.adaptive.nearly_balanced import applicable, leading_condition
from flowsim.integrators.adaptive.radius import radius_of
from flowsim.integrators.adaptive.resting import Resting
from flowsim.integrators.adaptive.splitting import Splitting
from flowsim.integrators.adaptive.stabilised import Stabilised
from flowsim.integrators.adaptive.stepper import Field, Stepper
from flowsim.integrators.adaptive.tsit5 import Tsit5
from flowsim.integrators.base import rotated_bound, rounding_bound

STEPPERS = ("splitting4", "splitting6", "stabilised", "tsit5")
SECOND = {"splitting4": "stabilised", "splitting6": "stabilised"}  # what takes over where a stepper finds no way on
SIXTH = 3e-7  # rtol below which steps of six exact flows are the cheaper ones (measured: n = 64 and 256, r = 16 and 64)


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
    landscape = problem.landscape
    if name.startswith("splitting"):
        assert isinstance(landscape, FrobeniusLandscape), "`unsuited` refuses others"
        return Splitting(landscape.sigma, order=int(name[-1]), rtol=rtol, atol=atol, factors=factors)
    if name == "stabilised":
        stepper = Stabilised(field, problem.B, rtol=rtol, atol=atol, spectral_radius=radius_of(landscape))
        if isinstance(landscape, FrobeniusLandscape) and problem.rank <= landscape.pairs:
            return Resting(stepper, landscape.sigma, rtol=rtol, atol=atol, factors=factors)
        return stepper
    return Tsit5(field, problem.B, rtol=rtol, atol=atol)


def rounding_of(name: str, problem: Canonical, B: Tensor, C: Tensor, steps: Tensor) -> Tensor:
    """Bound (T, S) on the rounding of BCᵀ after `steps` (S,) of a stepper, (T, S, q, r) factors."""
    if not name.startswith("splitting"):
        return rounding_bound(B, C, 4 * (1 + steps))
    assert isinstance(problem.landscape, FrobeniusLandscape)
    start = torch.stack([problem.B, problem.C], dim=1)
    # One exact flow loses up to a third of the square of its leading rows' condition (measured), and the weights of an
    # extrapolation add up to less than three.
    lost = 48 + leading_condition(problem.landscape.sigma, start).square()
    return rotated_bound(B, C, lost * (1 + steps))


def unsuited(name: str, problem: Canonical, *, rtol: float) -> str:
    """Why a stepper cannot solve a batch, or an empty string."""
    if not name.startswith("splitting"):
        return ""
    if not isinstance(problem.landscape, FrobeniusLandscape):
        return "the splitting is one of the Frobenius flow"
    start = torch.stack([problem.B, problem.C], dim=1)
    reasons = [reason for reason in applicable(problem.landscape.sigma, start, rtol=rtol, even=False) if reason]
    return reasons[0] if reasons else ""


def suited(problem: Canonical, *, rtol: float, factors: bool) -> list[tuple[str, str]]:
    """For each member of a batch the stepper that suits it, and why."""
    landscape = problem.landscape
    if not isinstance(landscape, FrobeniusLandscape):
        return [("tsit5", "the trace has one time scale")] * problem.B.shape[0]
    start = torch.stack([problem.B, problem.C], dim=1)
    splitting = "splitting4" if rtol >= SIXTH else "splitting6"
    return [
        (splitting, "BᵀB − AAᵀ is nearly a multiple of the identity") if not reason else ("stabilised", reason)
        for reason in applicable(landscape.sigma, start, rtol=rtol)
    ]
