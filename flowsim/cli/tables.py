"""Tables and JSON: the same bytes for the same result, one line a row where the output is not a terminal."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowsim.report.summary import law_rows, outcomes

if TYPE_CHECKING:
    import xarray

#: Where nobody looks at a width, no cell is folded or cut.
_PIPED_WIDTH = 10_000

_STYLES = {
    "pass": "green",
    "fail": "bold red",
    "not_reached": "yellow",
    "unresolved": "yellow",
    "not_applicable": "dim",
}


def number(value: Any, digits: int = 4) -> str:
    """A number as a table shows it; what is absent (None, NaN) is a dash.

    Examples
    --------
    >>> number(0.123456), number(float("nan")), number(3), number("r = 2")
    ('0.1235', '-', '3', 'r = 2')
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return value or "-"
    if isinstance(value, int):
        return str(value)
    value = float(value)
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def size(count: int) -> str:
    """Bytes for a reader.

    Examples
    --------
    >>> size(512), size(20480), size(3 * 2**30)
    ('512 B', '20.0 KiB', '3.0 GiB')
    """
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{count} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Render a table; the columns whose indices are in `right` are right-aligned."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((120, 40)).columns if terminal else _PIPED_WIDTH
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, legacy_windows=False)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for i, name in enumerate(columns):
        grid.add_column(name, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def verdict_summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row per check, its decisive verdict; below them why, for every check that did not pass."""
    cells = [
        [
            str(row["check"]),
            str(row["verdict"]),
            number(row["observed"]),
            number(row["expected"]),
            number(row["tolerance"]),
            str(row["count"]),
            str(row.get("measures", "")),
        ]
        for row in rows
    ]
    names = ["check", "verdict", "observed", "expected", "tolerance", "of all", "what is observed"]
    # A narrow terminal keeps what matters on one line each; a pipe gets everything.
    if sys.stdout.isatty() and (columns := shutil.get_terminal_size((120, 40)).columns) < 150:
        shown = 6 if columns >= 110 else 5
        names, cells = names[:shown], [row[:shown] for row in cells]
    reasons = [
        f"{row['check']}: {row['verdict']}: {_at(row)}{row['reason']}"
        for row in rows
        if row["verdict"] != "pass" and row["reason"]
    ]
    return "\n".join([table(names, cells, right=(2, 3, 4)), *([""] if reasons else []), *reasons])


def _at(row: Mapping[str, Any]) -> str:
    """Which point of a sweep a verdict speaks of: subjects of other results begin with a schedule."""
    point, slash, _ = str(row.get("subject", "")).partition("/flow/rank")
    return f"at {point}: " if slash and "=" in point else ""


def verdict_list(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every verdict, each with its subject and reason."""
    names = ["check", "subject", "verdict", "observed", "expected", "tolerance", "reason"]
    cells = [[number(row[name]) for name in names] for row in rows]
    return table(names, cells, right=(3, 4, 5))


def outcome_table(tree: xarray.DataTree) -> str:
    """One row per schedule: how its trajectories ended."""
    cells = [
        [label, ", ".join(f"{count} {word}" for word, count in counts.items())]
        for label, counts in outcomes(tree).items()
    ]
    return table(["schedule", "outcomes"], cells)


def law_table(tree: xarray.DataTree) -> str:
    """The laws of `law_rows`; empty where there are none."""
    cells = [
        [
            str(row.rank),
            row.start,
            number(row.measured, 7),
            number(row.exact, 7),
            "-" if math.isnan(row.ratio) else f"{row.ratio:.9f}",
        ]
        for row in law_rows(tree)
    ]
    names = ["rank", "start", "measured error", "exact error", "ratio"]
    return table(names, cells, right=(0, 2, 3, 4)) if cells else ""


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN becomes null, infinities the strings "inf" and "-inf".

    Examples
    --------
    >>> plain({"a": (1.0, float("nan")), "b": float("inf")})
    {'a': [1.0, None], 'b': 'inf'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def as_json(value: Any) -> str:
    """`value` as JSON text, with the keys in the order given."""
    return json.dumps(plain(value), indent=2, allow_nan=False)
