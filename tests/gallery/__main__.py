"""Run the scenarios of the gallery again and write docs/gallery.md with its pictures.

    python -m tests.gallery [NAME ...]

With names only those scenarios are run; the other sections keep what they show.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flowsim.errors import FlowsimError
from tests.gallery.notes import NotesError
from tests.gallery.page import PAGE, result_parts_of, whole_page
from tests.gallery.pictures import FOLDER, draw_picture, orphans
from tests.gallery.runs import solved
from tests.gallery.section import result_part
from tests.gallery.table import ENTRIES


def write(names: Sequence[str]) -> None:
    """Run these scenarios, draw them, and write the page."""
    began = time.perf_counter()
    shown = result_parts_of(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
    with tempfile.TemporaryDirectory(prefix="gallery-") as scratch:  # never an older result of other code
        for place, name in enumerate(names, start=1):
            clock, entry = time.perf_counter(), ENTRIES[name]
            tree = solved(entry, Path(scratch))
            path = draw_picture(entry, tree, FOLDER)
            shown[name] = result_part(entry, tree)
            size, seconds = path.stat().st_size / 1000, time.perf_counter() - clock
            print(f"{place:2}/{len(names)} {name:28} {entry.figure:24} {size:4.0f} kB {seconds:6.1f} s", flush=True)
    PAGE.write_text(whole_page(shown), encoding="utf-8")
    for name in orphans(FOLDER):
        (FOLDER / name).unlink()
    total = sum(path.stat().st_size for path in FOLDER.iterdir()) / 1e6
    print(f"{PAGE}: {len(shown)} scenarios, {total:.1f} MB of pictures, {time.perf_counter() - began:.0f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gallery", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all without a name")
    names = list(dict.fromkeys(parser.parse_args(arguments).names))
    there = result_parts_of(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
    if unknown := [name for name in names if name not in ENTRIES]:
        parser.error(f"there is no scenario {', '.join(unknown)} in the gallery; there are: {', '.join(ENTRIES)}")
    if names and (missing := [name for name in ENTRIES if name not in {*names, *there}]):
        parser.error(f"the page lacks {', '.join(missing)}: name them too, or none")
    try:
        write(names or list(ENTRIES))
    except (FlowsimError, NotesError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
