"""The public names of flowsim, from its docstrings."""

from __future__ import annotations

import inspect

import flowsim
from flowsim import errors as all_errors


def functions() -> str:
    """Every public name: classes with their methods first, then functions."""
    names = [name for name in flowsim.__all__ if not name.startswith("_")]
    classes = [name for name in names if inspect.isclass(getattr(flowsim, name))]
    return "\n".join(
        [*(_entry("class", f"flowsim.{name}", "members") for name in classes)]
        + [_entry("function", f"flowsim.{name}") for name in names if name not in classes]
    )


def errors() -> str:
    """Every class of `flowsim.errors` that can be raised, with the exit code it stands for."""
    found = [
        one
        for one in vars(all_errors).values()
        if inspect.isclass(one) and issubclass(one, BaseException) and one.__module__ == all_errors.__name__
    ]
    return "\n".join(
        _entry("exception", f"flowsim.errors.{one.__name__}", "members", "show-inheritance") for one in found
    )


def _entry(kind: str, name: str, *options: str) -> str:
    lines = [f".. auto{kind}:: {name}", *(f"   :{option}:" for option in options)]
    heading = name.removeprefix("flowsim.").removeprefix("errors.")
    return "\n".join([f"### {heading}", "", "```{eval-rst}", *lines, "```", ""])
