"""The page: an overview, and one section for each scenario, by theme."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.gallery.compare import difference
from tests.gallery.section import cut_result_part, section, title_of
from tests.gallery.table import ENTRIES, LEFT_OUT, ROOT, THEMES

PAGE = ROOT / "docs" / "gallery.md"
COMMAND = "make gallery"

HEAD = f"""\
<!-- Written by `{COMMAND}` from the comments of scenarios/*.yaml and from their results: change those. -->

# Gallery

Every scenario that comes with flowsim, with the figure that says most about it. The words are those at the head of
each file; captions, numbers, verdicts and outcomes are those of its result. `{COMMAND}` runs all of them and writes
this page, and a test fails where the page no longer says what they give.

`flowsim run` puts all figures of a scenario into the folder `figures/` of its result. A verdict is one word on a
statement of theory: pass, not_applicable (a hypothesis is false here), not_reached (the horizon is too short),
unresolved (the solver's own error is too close) or fail. An outcome is one word on how a trajectory ended. The number
behind a word says how often it was given.
"""


def whole_page(shown: Mapping[str, str]) -> str:
    """The Markdown of the page around the result parts, by scenario."""
    overview = []
    parts = []
    for theme in THEMES:
        overview.append(f"- [{theme.title}](#{slug(theme.title)})")
        overview += [f"  - [{title_of(entry)}](#{slug(title_of(entry))})" for entry in theme.entries]
        parts.append(f"## {theme.title}\n\n{theme.sentence}\n")
        parts += [section(entry, shown[entry.name]) for entry in theme.entries]
    left_out = [f"- `scenarios/{name}.yaml`: {why}." for name, why in LEFT_OUT.items()]
    parts.append("\n".join(["## Not shown here", "", *left_out, ""]))
    return "\n".join([HEAD, "\n".join(overview) + "\n", *parts])


def sections_of(page: str) -> dict[str, str]:
    """The sections of a page by scenario, found by the command each one ends with."""
    found = {}
    for part in re.split(r"^(?=#{2,3} )", page, flags=re.MULTILINE):
        if part.startswith("### ") and (end := re.search(r"^`flowsim run \S*?(\w+)\.yaml`", part, flags=re.MULTILINE)):
            found[end[1]] = part
    return found


def result_parts_of(page: str) -> dict[str, str]:
    """The result parts that a page holds, by scenario."""
    return {name: cut_result_part(text) for name, text in sections_of(page).items()}


def stale(there: str, now: str) -> str:
    """Why a text of the page is not what would be written now, with what to do; empty if it is."""
    found = difference(there, now)
    return f"docs/gallery.md is not what the scenarios give now: {found}\n  write it again: {COMMAND}" if found else ""


def stale_section(page: str, name: str, shown: str | None = None) -> str:
    """Why the section of one scenario is not true; without `shown` only what its file says is compared."""
    text = sections_of(page).get(name, "")
    part = cut_result_part(text) if shown is None else shown
    # The blank line between two sections belongs to neither.
    return stale(text.rstrip(), section(ENTRIES[name], part).rstrip())


def slug(heading: str) -> str:
    """The anchor that code hosts and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
