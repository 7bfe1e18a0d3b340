"""Tables: the same text everywhere but on a terminal, and nothing cut."""

from __future__ import annotations

import sys
from io import StringIO

import click
import pytest

from flowsim.cli import tables


def test_piped_tables_are_plain_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, term in (("20", "dumb"), ("300", "xterm-256color")):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("TERM", term)
        long = "a [b] :smile: " * 20 + "end"
        text = tables.table(["check", "n"], [[long, "1"], ["pass", "10"]], right=[1])
        assert text.splitlines()[2] == f"{long}    1"
        assert text.splitlines()[3].split() == ["pass", "10"]
        assert "\x1b" not in text


def test_on_a_terminal_a_table_fits_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    text = click.unstyle(tables.table(["check"], [["word " * 20]]))
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("word") == 20


def test_no_progress_bar_without_a_terminal() -> None:
    with tables.progress_bar(True) as tick:
        assert tick is None


def test_a_progress_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with tables.progress_bar(False) as tick:
        assert tick is None
    with tables.progress_bar(True) as tick:
        assert tick is not None
        tick("rank 1", 1, 2)
        tick("rank 2", 2, 2)
    assert "rank 2" in terminal.getvalue()
