"""Results of the scenarios of the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.gallery.table import Entry

if TYPE_CHECKING:
    import xarray as xr


def solved(entry: Entry, out: Path) -> xr.DataTree:
    """The result of a scenario below `out`: solved there once, by whichever process comes first."""
    from filelock import FileLock

    from flowsim.pipeline import AUTO, execute
    from flowsim.scenario.read import read_scenario

    with FileLock(out / f"{entry.name}.lock"):
        jobs = 1 if entry.is_small else AUTO
        return execute(read_scenario(entry.path), out=out, device="cpu", plots=False, jobs=jobs).tree
