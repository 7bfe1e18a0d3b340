"""flowsim: the gradient-flow dynamics of LoRA, solved and checked against theory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flowsim.checks import check as check
    from flowsim.library import descend as descend
    from flowsim.library import simulate as simulate
    from flowsim.pipeline import run as run
    from flowsim.problem.custom import Custom as Custom
    from flowsim.problem.objectives import Adapter as Adapter
    from flowsim.problem.objectives import Frobenius as Frobenius
    from flowsim.problem.objectives import TraceSquared as TraceSquared
    from flowsim.trajectory.store import load as load

_HOMES = {
    "Frobenius": "flowsim.problem.objectives",
    "TraceSquared": "flowsim.problem.objectives",
    "Adapter": "flowsim.problem.objectives",
    "Custom": "flowsim.problem.custom",
    "simulate": "flowsim.library",
    "descend": "flowsim.library",
    "run": "flowsim.pipeline",
    "load": "flowsim.trajectory.store",
    "check": "flowsim.checks",
}

__all__ = [
    "Adapter",
    "Custom",
    "Frobenius",
    "TraceSquared",
    "__version__",
    "check",
    "descend",
    "load",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: `flowsim --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'flowsim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
