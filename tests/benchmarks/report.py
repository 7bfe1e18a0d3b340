"""The table on the terminal, as Markdown and as JSON, with the machine and the command it comes from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.lines import Line

HEAD = ("work", "engine", "threads", "seconds", "evaluations", "error", "memory", "ratio", "note")
PACKAGES = ("numpy", "scipy", "torch", "torchdiffeq", "torchode", "diffrax", "jax")
ROOT = Path(__file__).resolve().parents[2]


def cells(line: Line) -> tuple[str, ...]:
    """One line as text."""
    ratio = "" if line.ratio is None else f"{line.ratio:.3g}×"
    if line.wanted is not None:
        ratio += f" (≥ {line.wanted:g}×)" + ("" if line.ratio is not None and line.ratio >= line.wanted else " MISSED")
    return (
        line.work,
        line.engine,
        "" if line.threads is None else str(line.threads),
        "" if line.seconds is None else f"{line.seconds:.3g}",
        "" if line.evaluations is None else f"{line.evaluations}",
        "" if line.error is None else f"{line.error:.1e}" + (" (A, B)" if line.factors else ""),
        "" if line.peak is None else f"{line.peak / 2**20:.0f} MiB",
        ratio,
        line.note,
    )


def terminal(lines: Sequence[Line]) -> str:
    """Aligned columns."""
    rows = [HEAD, *map(cells, lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([text[0], "─" * max(map(len, text)), *text[1:]])


def markdown(lines: Sequence[Line], about: dict[str, object]) -> str:
    """A table to be pasted, below it where it comes from."""
    rows = ["| " + " | ".join(row) + " |" for row in (HEAD, ("---",) * len(HEAD), *map(cells, lines))]
    machine = ", ".join(f"{name} {value}" for name, value in dict(about["versions"]).items())  # type: ignore[call-overload]
    origin = f"{about['date']}, {about['machine']}, load {about['load']} before; {machine}; `{about['command']}`"
    return "\n".join([*rows, "", origin, ""])


def origin() -> dict[str, object]:
    """When, where and by which command."""
    names = (*PACKAGES, "jaxlib")
    found = {"python": platform.python_version()} | {name: known for name in names if (known := _version(name))}
    arguments = shlex.join(sys.argv[1:])
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()}",
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
        "versions": found,
        "revision": _revision(),
        "command": f"python -m tests.benchmarks {arguments}".rstrip(),
    }


def write(lines: Sequence[Line], about: dict[str, object], folder: Path) -> tuple[Path, Path]:
    """`<date>.json` and `<date>.md` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = str(about["date"]).replace(" UTC", "").replace(" ", "-").replace(":", "")
    numbers, page = folder / f"{stem}.json", folder / f"{stem}.md"
    whole = {**about, "lines": [asdict(line) for line in lines]}
    numbers.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_text(markdown(lines, about), encoding="utf-8")
    return numbers, page


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown memory"


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
