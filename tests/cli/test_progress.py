"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing where it is not wanted."""

from __future__ import annotations

import sys

import pytest

from flowsim.cli import progress as module
from flowsim.cli.progress import Lines, pace, progress


def test_nothing_where_it_is_not_wanted() -> None:
    with progress(False) as tick:
        assert tick is None


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    lines = Lines(clock=lambda: now)
    lines("", 40, 1000)  # forty were finished by an earlier run: they say nothing of the rate
    for step in range(1, 26):
        now = 100.0 + step
        lines("rank 4", 40 + 2 * step, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "60 of 1000 trajectories, 2 a second, about 8 min left (rank 4)",
        "80 of 1000 trajectories, 2 a second, about 8 min left (rank 4)",
    ]


def test_a_short_run_prints_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(True) as tick:
        assert tick is not None
        for done in range(100):
            tick("rank 1", done, 100)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress(True) as tick:
        assert tick is not None
        tick("", 2, 8)
        tick("[rank] 1: flow", 4, 8)
    out, err = capsys.readouterr()
    assert out == "" and "[rank] 1: flow" in err and "4/8" in err


@pytest.mark.parametrize(
    ("rate", "left", "words"),
    [(1.0, 60, "60 s"), (1.0, 600, "10 min"), (0.1, 7200, "20.0 h"), (1e-12, 10**9, "h left")],
)
def test_what_is_left(rate: float, left: int, words: str) -> None:
    assert words in pace(rate, left)


def test_the_interval_is_that_of_a_log() -> None:
    assert module.LINE_SECONDS >= 5
