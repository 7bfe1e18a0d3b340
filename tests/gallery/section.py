"""The section of one scenario: what its file says, and what its result shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.gallery.notes import LOOK, WRONG, read_notes
from tests.gallery.table import ROOT, Entry

if TYPE_CHECKING:
    import xarray as xr

PICTURES = "gallery"  # beside the page
FEW_SCHEDULES = 4  # whose outcomes are listed one by one
_CODE = re.compile(r"(`[^`]*`)")
_NAMES = re.compile(  # names with an underscore, file names, dotted keys of a scenario
    r"(?<![\w.])(?:(?:[a-z]+\.)*[a-z]+(?:_[a-z]+)+(?:\.[a-z]+)*|[a-z]+(?:\.[a-z]+){2,})\b"
)


def title_of(entry: Entry) -> str:
    """The scenario's own title."""
    from flowsim.scenario.read import read_scenario

    return str(read_scenario(entry.path).scenario.title)


def section(entry: Entry, shown: str) -> str:
    """The Markdown of one scenario around the part that `result_part` made."""
    notes, link = read_notes(entry.path), entry.path.relative_to(ROOT).as_posix()
    parts = [f"### {title_of(entry)}", *(escaped(one) for one in notes.intro)]
    if notes.wrong:
        parts.append(f"**{WRONG}.** {escaped(notes.wrong)}")
    items = [f"- {_name(where)}: {escaped(what)}" for where, what in notes.looks]
    parts += ["\n".join([f"**{LOOK}.**", "", *items]), shown, f"`flowsim run {link}` ([the scenario](../{link}))"]
    return "\n\n".join(parts) + "\n"


def result_part(entry: Entry, tree: xr.DataTree) -> str:
    """What a result shows: the picture with its words, the verdicts, the outcomes."""
    from flowsim.report.plots import FIGURES
    from flowsim.report.summary import outcomes

    drawing = FIGURES[entry.figure]
    alt = _bracketed(_one_line(drawing.alt(tree)))
    parts = [
        f"![{alt}]({PICTURES}/{entry.name}.png)",
        f"*Figure.* {escaped(_one_line(drawing.caption(tree)))}",
        f"**Verdicts.** {verdict_line(tree)}",
        f"**Outcomes.** {outcome_line(outcomes(tree))}",
    ]
    return "\n\n".join(parts)


def cut_result_part(text: str) -> str:
    """The part of a section that `result_part` made; empty if there is none."""
    found = re.search(r"^!\[.*?(?=\n\n`flowsim run )", text, flags=re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def verdict_line(tree: xr.DataTree) -> str:
    """How many verdicts of each kind every check has, the worst first; checks that pass throughout at the end."""
    from flowsim.checks import verdict_table
    from flowsim.checks.base import SEVERITY, Verdict

    counts: dict[str, Counter[Verdict]] = {}
    for row in verdict_table(tree):
        counts.setdefault(str(row["check"]), Counter())[Verdict(str(row["verdict"]))] += 1
    severe = sorted(counts.items(), key=lambda item: -max(SEVERITY[word] for word in item[1]))
    parts = []
    for check, words in severe:
        if set(words) != {Verdict.PASS}:
            worst_first = sorted(words.items(), key=lambda item: -SEVERITY[item[0]])
            parts.append(f"`{check}` " + ", ".join(f"{word} {count}" for word, count in worst_first))
    passed = [f"`{check}` {words.total()}" for check, words in severe if set(words) == {Verdict.PASS}]
    parts += [f"pass throughout: {', '.join(passed)}"] if passed else []
    return "; ".join(parts) + "." if parts else "none."


def outcome_line(outcomes: Mapping[str, Mapping[str, int]]) -> str:
    """How the trajectories ended: the flow, then every other schedule, or all of them together where they are many."""
    others = {label: words for label, words in outcomes.items() if label != "flow"}
    if len(others) > FEW_SCHEDULES:
        together: Counter[str] = Counter()
        for words in others.values():
            together.update(words)
        others = {f"the {len(others)} other schedules": dict(together.most_common())}
    rows = {"flow": outcomes["flow"], **others}
    said = (f"{label}: " + ", ".join(f"{word} {n}" for word, n in words.items()) for label, words in rows.items())
    return "; ".join(said) + "."


def escaped(text: str) -> str:
    """Plain text as Markdown: signs of layout are escaped, names of the program set as code if they are not."""
    parts = _CODE.split(text)  # every second one is code already
    parts[::2] = [_NAMES.sub(r"`\g<0>`", re.sub(r"([*<\[\]`])", r"\\\1", part)) for part in parts[::2]]
    return "".join(parts)


def _name(where: str) -> str:
    return f"`{where}`" if re.fullmatch(r"[a-z_]+", where) else escaped(where)


def _bracketed(text: str) -> str:
    return re.sub(r"([\[\]])", r"\\\1", text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
