"""Tables: the same text everywhere but on a terminal, and nothing cut."""

from __future__ import annotations

import sys
from io import StringIO
from typing import Any

import click
import numpy as np
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


def test_measured_and_exact_errors_stand_side_by_side(trace_run: Any, frobenius_run: Any) -> None:
    """Root mean squares over the seeds of a rank, and the start with orthonormal rows: √(n/r − 1) at the end."""
    lines = [line.split() for line in tables.law_table(trace_run.tree).splitlines()[2:]]
    assert [line[0] for line in lines] == ["1", "1", "2", "2", "4", "4"]
    run = trace_run.tree["final"]["relative_error"].values[0]
    for place, line in enumerate(lines):
        measured, exact, ratio = map(float, line[-3:])
        assert ratio == pytest.approx(1.0, abs=1e-6) and measured == pytest.approx(exact, rel=1e-6)
        rank = (1, 2, 4)[place // 2]
        if place % 2:
            assert line[1:3] == ["orthonormal", "rows"] and exact == pytest.approx(np.sqrt(8 / rank - 1), rel=1e-3)
        else:
            assert line[1:4] == ["gaussian,", "4", "seeds"]
            assert measured == pytest.approx(np.sqrt(np.mean(run[place // 2] ** 2)), rel=1e-6)
    assert tables.law_table(frobenius_run.tree) == ""


def test_a_law_without_numbers_has_no_table(trace_tree: Any) -> None:
    trace_tree["theory"]["relative_error_horizon"].values[:] = np.nan
    trace_tree["theory"]["orthonormal_error"].values[1:] = np.nan
    text = tables.law_table(trace_tree)
    assert "gaussian" not in text and text.count("orthonormal rows") == 1
    trace_tree["theory"]["orthonormal_error"].values[:] = np.nan
    assert tables.law_table(trace_tree) == ""


def test_a_sweep_has_no_law_of_its_own(trace_tree: Any) -> None:
    """Its attributes are those of its first point."""
    trace_tree.attrs["sweep"] = '[{"path": "adapter.init.std", "name": "std", "values": [1, 2]}]'
    assert tables.law_table(trace_tree) == ""
