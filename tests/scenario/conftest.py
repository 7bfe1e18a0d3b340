"""A small valid scenario to spoil, and what a user would read about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowsim.errors import ScenarioError
from flowsim.scenario import Document, parse_scenario

SMALL = """\
name: small
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [6, 4], std: 1.0, seed: 0}
target: {kind: zeros}
adapter:
  ranks: [1, 2]
  seeds: 2
  init: {kind: gaussian, std: 0.1}
schedules:
  - {kind: flow}
  - {kind: flow, update: a_first, windows: [0.2, 0.1]}
  - {kind: descent, learning_rates: [0.1, 0.05]}
time: {stop: 10.0, points: 11}
"""

Read = Callable[..., Document]
Refused = Callable[..., list[str]]


@pytest.fixture
def small() -> str:
    """The text of a valid scenario, 6 x 4."""
    return SMALL


def _changed(changes: tuple[tuple[str, str], ...]) -> str:
    text = SMALL
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the small scenario"
        text = text.replace(old, new)
    return text


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read the small scenario after replacing pieces of its text."""

    def run(*changes: tuple[str, str], overrides: tuple[str, ...] = ()) -> Document:
        return parse_scenario(_changed(changes), name="s.yaml", folder=tmp_path, overrides=overrides)

    return run


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """The lines a user sees for the small scenario with pieces of its text replaced, or for another text."""

    def run(*changes: tuple[str, str], text: str | None = None, overrides: tuple[str, ...] = ()) -> list[str]:
        written = _changed(changes) if text is None else text
        with pytest.raises(ScenarioError) as caught:
            parse_scenario(written, name="s.yaml", folder=tmp_path, overrides=overrides)
        assert caught.value.exit_code == 2
        mistakes = caught.value.mistakes
        assert mistakes and all(mistake.what and mistake.hint for mistake in mistakes)
        lines = caught.value.lines()
        assert len(lines) == 2 * len(mistakes), "two lines for each mistake"
        assert all("\n" not in line for line in lines)
        return lines

    return run
