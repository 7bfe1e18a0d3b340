"""Every error flowsim raises on purpose: one base class, an exit code each, two lines for the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class FlowsimError(Exception):
    """Base of all errors that flowsim reports.

    Parameters
    ----------
    message : str
        What is wrong, and where.
    hint : str
        What to do about it.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come from other processes too, whatever their classes take to be made."""
        return _restored, (type(self), self.args, self.__dict__)

    def lines(self) -> list[str]:
        """The lines a user sees: what is wrong, then what to do."""
        return [self.message, f"  {self.hint}"] if self.hint else [self.message]


def _restored(kind: type[FlowsimError], arguments: tuple[Any, ...], state: dict[str, Any]) -> FlowsimError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(state)
    return error


class InputError(FlowsimError):
    """A file or value given by the user cannot be used."""

    exit_code = 2


class HypothesisError(InputError):
    """An exact solution was demanded where its hypothesis is false."""


class OutputError(FlowsimError):
    """A result cannot be written."""

    exit_code = 4


class ResultError(InputError):
    """A stored result cannot be read, or is not one of flowsim's."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C; says how far it is and how to go on."""

    exit_code = 130

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def lines(self) -> list[str]:
        """The lines a user sees."""
        return [self.message, f"  {self.hint}"]


@dataclass(frozen=True)
class Mistake:
    """One mistake in a scenario: where it stands, what is wrong, what to do."""

    where: str
    what: str
    hint: str = ""


class ScenarioError(InputError):
    """A scenario is refused; carries every mistake found in it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(f"{m.where}: {m.what}" for m in self.mistakes))

    def lines(self) -> list[str]:
        """Two lines per mistake."""
        rows = []
        for mistake in self.mistakes:
            rows.append(f"{mistake.where}: {mistake.what}")
            if mistake.hint:
                rows.append(f"  {mistake.hint}")
        return rows
