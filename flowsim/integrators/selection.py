"""The choice of a method for each trajectory, with its reason: what structure it has decides."""

from __future__ import annotations

from dataclasses import dataclass

from flowsim.dynamics.coordinates import Canonical
from flowsim.dynamics.invariants import balance
from flowsim.dynamics.landscape import TraceLandscape
from flowsim.errors import HypothesisError, InputError
from flowsim.integrators import adaptive, engine
from flowsim.integrators.exact import mode_aligned

METHODS = ("auto", "exact", "adaptive", *adaptive.STEPPERS, *engine.METHODS)

NOT_BALANCED = (
    "BᵀB − AAᵀ is not a multiple of the identity, and the factors are not aligned with the singular modes "
    "(no closed form is known)"
)
EXACT_HINT = "Use solver auto, rank 1, or an init that has a closed form (orthogonal, or spectral of the difference)."
_FORMS = {
    "riccati": "trace-squared has a closed form for every start",
    "balanced": "BᵀB − AAᵀ is a multiple of the identity",
    "mode_aligned": "the factors are aligned with the singular modes",
}
AS_ASKED = "as the scenario asks"


@dataclass(frozen=True)
class Choice:
    """How one trajectory is solved.

    Attributes
    ----------
    method : str
        In the user's words: exact, adaptive, or the name that was asked for.
    stepper : str
        A closed form, a stepper of `adaptive`, or a torchdiffeq method.
    reason : str
        Why.
    """

    method: str
    stepper: str
    reason: str


def closed_form_holds(problem: Canonical) -> list[bool]:
    """Say for each member of the batch whether a closed form of the flow exists.

    Trace-squared: always. Frobenius: rank 1 always, otherwise where BᵀB − AAᵀ = λI to rounding, or where each
    singular mode of Δ has its own direction of the factor space (mode-aligned), with any imbalance.
    """
    return [family is not None for family in closed_forms(problem)]


def closed_forms(problem: Canonical) -> list[str | None]:
    """Name of the closed form that holds for each member: riccati, balanced, mode_aligned, or None."""
    batch = problem.B.shape[0]
    if isinstance(problem.landscape, TraceLandscape):
        return ["riccati"] * batch
    _, aligned = mode_aligned.directions(problem.B, problem.C)
    _, even = balance(problem.B, problem.C)
    even = even | (problem.rank == 1)
    # Aligned first: no sub-steps, and its states are the flow's own.
    return [
        "mode_aligned" if one else "balanced" if other else None
        for one, other in zip(aligned.tolist(), even.tolist(), strict=True)
    ]


def choose(problem: Canonical, method: str, *, rtol: float, factors: bool) -> list[Choice]:
    """How each member of a batch is solved.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    rtol : float
    factors : bool
        Whether A and B themselves are wanted, or products only.

    Raises
    ------
    HypothesisError
        `exact` where no closed form exists, a splitting where it does not apply.
    InputError
        Unknown method.
    """
    batch = problem.B.shape[0]
    if method not in METHODS:
        raise InputError(f"solver: unknown method {method!r}", f"Choose one of {', '.join(METHODS)}.")
    if method not in ("auto", "exact", "adaptive"):
        unsuited = adaptive.unsuited(method, problem, rtol=rtol)
        if unsuited:
            raise HypothesisError(f"solver {method}: rank {problem.rank}: {unsuited}", "Use solver auto or adaptive.")
        return [Choice(method, method, AS_ASKED)] * batch
    forms: list[str | None] = [None] * batch if method == "adaptive" else closed_forms(problem)
    if method == "exact" and None in forms:
        raise HypothesisError(f"solver exact: rank {problem.rank}: {NOT_BALANCED}", EXACT_HINT)
    choices = [Choice("exact", form, _FORMS[form]) if form is not None else None for form in forms]
    if None not in choices:
        return [one for one in choices if one is not None]
    steppers = adaptive.suited(problem, rtol=rtol, factors=factors)
    return [
        one if one is not None else Choice("adaptive", stepper, reason)
        for one, (stepper, reason) in zip(choices, steppers, strict=True)
    ]
