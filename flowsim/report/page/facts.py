"""What the page says of a result, as plain rows: the template decides how it looks."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from flowsim.checks import CHECKS, summarize, verdict_table
from flowsim.checks.base import SEVERITY, Verdict
from flowsim.report.data import Result, some
from flowsim.report.page.texts import amount, shown, words
from flowsim.report.summary import LawRow, incomplete, law_rows, point_rows, result_ranks
from flowsim.scenario.sweep import Axis
from flowsim.sweep.outcome import Outcome
from flowsim.trajectory.points import axes_of

Row = dict[str, Any]
WORST_FIRST = sorted(SEVERITY, key=SEVERITY.__getitem__, reverse=True)
MOST_FINDINGS = 150  # of one check; the command line lists all
MOST_POINTS = 400
MOST_LINES = 12
SAMPLES = 5  # times in the table of losses


@dataclass(frozen=True)
class Card:
    """One check: its decisive finding, and all others behind it.

    Attributes
    ----------
    row : dict
        Of `summarize`.
    findings : list of dict
        Those that are shown, the worst first.
    left : int
        How many are not.
    """

    row: Row
    findings: list[Row]
    left: int

    @property
    def name(self) -> str:
        """Of the check."""
        return str(self.row["check"])

    @property
    def verdict(self) -> Verdict:
        """The decisive one."""
        return Verdict(str(self.row["verdict"]))

    @property
    def formula(self) -> str:
        """LaTeX; empty where this version knows no such check."""
        return CHECKS[self.name].formula if self.name in CHECKS else ""

    @property
    def passes(self) -> str:
        """When the numbers pass; empty where this version knows no such check."""
        return CHECKS[self.name].passes if self.name in CHECKS else ""


@dataclass(frozen=True)
class Facts:
    """A result for a reader.

    Attributes
    ----------
    tree : DataTree
        A result, or one point of a sweep; may be opened lazily.
    file, sha256 : str
        Name and hash of the file that holds it.
    point : str
        Which point of a sweep.
    """

    tree: xr.DataTree
    file: str
    sha256: str
    point: str = ""

    @cached_property
    def attrs(self) -> Row:
        """Root attributes; texts that hold JSON as what they hold."""
        found = {str(key): value for key, value in self.tree.attrs.items()}
        for key in ("versions", "weights_sha256", "resolved_scenario", "points"):
            found[key] = json.loads(str(found[key]))
        return found

    @cached_property
    def axes(self) -> list[Axis]:
        """What is swept; empty without a sweep."""
        return axes_of(self.tree)

    @property
    def name(self) -> str:
        """Of the scenario."""
        return str(self.attrs["name"])

    @property
    def title(self) -> str:
        """Of the scenario, else its name."""
        return str(self.attrs["resolved_scenario"].get("title") or self.name)

    @property
    def digest(self) -> str:
        """First eight digits."""
        return str(self.attrs["digest"])[:8]

    @cached_property
    def subject(self) -> list[str]:
        """What was computed, in a few words each."""
        shapes = {tuple(shape) for shape in self.attrs["points"]}
        norm = {"frobenius": "‖W − W*‖²", "trace_squared": "(tr W)²"}.get(str(self.attrs["objective"]), "?")
        swept = {axis.path for axis in self.axes}
        c = "c" if "objective.coefficient" in swept else shown(float(self.attrs["coefficient"]))
        count = int(np.prod([len(axis.values) for axis in self.axes]))
        facts = [
            "" if swept & {"objective", "objective.kind"} else f"f(W) = {c}·{norm}",
            f"{self.attrs['rows']} × {self.attrs['columns']}" if len(shapes) == 1 or not self.axes else "",
            f"rank {_listed(self.ranks)}" if len(self.ranks) == 1 else f"ranks {_listed(self.ranks)}",
            amount(self.tree["final"].sizes["seed"], "seed"),
            amount(self.tree["final"].sizes["schedule"], "schedule"),
            f"a sweep of {amount(count, 'point')}" if self.axes else "",
            self.point,
        ]
        return [fact for fact in facts if fact]

    @cached_property
    def ranks(self) -> list[int]:
        """In the order of storage."""
        return [int(rank) for rank in self.tree["final"].to_dataset()["rank"].values]

    @cached_property
    def cards(self) -> list[Card]:
        """The checks, the worst verdict first."""
        rows = verdict_table(self.tree)
        own: dict[str, list[Row]] = {}
        for row in rows:
            own.setdefault(str(row["check"]), []).append(row)
        cards = []
        for row in summarize(rows):
            found = sorted(own[str(row["check"])], key=lambda one: -SEVERITY[Verdict(str(one["verdict"]))])
            cards.append(Card(row, found[:MOST_FINDINGS], max(len(found) - MOST_FINDINGS, 0)))
        return sorted(cards, key=lambda card: -SEVERITY[card.verdict])

    @cached_property
    def incomplete(self) -> list[str]:
        """A line for every flow that did not complete, and everything that failed or was not run."""
        return incomplete(self.tree)

    @cached_property
    def headline(self) -> tuple[str, str]:
        """The verdict that colours the page, and a sentence of all of them."""
        counts = Counter(card.verdict for card in self.cards)
        if not counts:
            return str(Verdict.UNRESOLVED), "No check was asked for."
        worst = str(next(verdict for verdict in WORST_FIRST if counts[verdict]))
        if worst == Verdict.NOT_APPLICABLE and counts[Verdict.PASS]:
            worst = str(Verdict.PASS)
        if worst in (Verdict.PASS, Verdict.NOT_APPLICABLE) and self.unreached:
            worst = "mixed"  # what was stated holds, but not everything went well
        said = {
            Verdict.PASS: ("passes", "pass"), Verdict.FAIL: ("fails", "fail"),
            Verdict.UNRESOLVED: ("is unresolved", "are unresolved"),
            Verdict.NOT_REACHED: ("is not reached yet", "are not reached yet"),
            Verdict.NOT_APPLICABLE: ("does not apply", "do not apply"),
        }  # fmt: skip
        total = sum(counts.values())
        if counts[Verdict.PASS] == total:
            return worst, "The one check passes." if total == 1 else f"All {total} checks pass."
        parts = [f"{counts[v]} {said[v][counts[v] > 1]}" for v in WORST_FIRST if counts[v]]
        return worst, f"Of {amount(total, 'check')} {_and(parts)}."

    @cached_property
    def unreached(self) -> str:
        """What became of the trajectories that did not reach their floor, as a sentence; empty if all did."""
        flows, others = Counter[str](), Counter[str]()
        for row in self.endings:
            for word, count in row["counts"]:
                (flows if row["label"].split("/")[0] == "flow" else others)[word] += count * row["schedules"]
        said = []
        for name, counts in (("flow", flows), ("descent", others)):
            left = [f"{count} {words(word)}" for word, count in counts.most_common() if word != "reached"]
            if left:
                said.append(
                    f"Of {amount(sum(counts.values()), name)} {counts['reached']} reached their floor: {_and(left)}."
                )
        return " ".join(said)

    @cached_property
    def meanings(self) -> list[tuple[str, str]]:
        """Words of verdicts on the page and what they mean."""
        there = {card.verdict for card in self.cards}
        return [(str(one), one.meaning) for one in WORST_FIRST if one in there]

    @cached_property
    def endings(self) -> list[Row]:
        """How many trajectories ended how, and a reason for each word but `reached`.

        One row per schedule; those that differ in their step alone, and of which the same is to be said, share one.
        """
        final = self.tree["final"].to_dataset()
        rows: list[Row] = []
        for place, label in enumerate(map(str, final["schedule"].values)):
            own = final[["outcome", "reason"]].isel(schedule=place)
            outcomes, reasons = (own[name].values.astype(str).ravel() for name in ("outcome", "reason"))
            counts = Counter(outcomes.tolist()).most_common()
            why = {word: reasons[outcomes == word][0] for word, _ in counts if word != "reached"}
            family, _, step = label.rpartition("/")
            if rows and not why and step and (rows[-1]["family"], rows[-1]["counts"]) == (family, counts):
                rows[-1]["label"] += f", {step.partition('=')[2]}"
                rows[-1]["schedules"] += 1
                continue
            row = {"label": label, "family": "" if why else family, "counts": counts, "reasons": why, "schedules": 1}
            rows.append(row)
        return rows

    @cached_property
    def outcome_meanings(self) -> list[tuple[str, str]]:
        """Words of outcomes on the page and what they mean; of a newer flowsim's words nothing is known."""
        there = {word for row in self.endings for word, _ in row["counts"]}
        return [(str(one), one.meaning) for one in Outcome if str(one) in there]

    @cached_property
    def rank_rows(self) -> list[Row]:
        """Theory beside the flow for every rank; empty for a sweep."""
        return [] if self.axes else result_ranks(self.tree)

    @cached_property
    def laws(self) -> list[LawRow]:
        """Trace-squared: measured and exact relative errors."""
        return law_rows(self.tree)

    @cached_property
    def losses(self) -> tuple[list[float], list[tuple[int, list[float]]]]:
        """Loss of the flow at a few times: the times, and a row for every rank, medians over seeds."""
        result = Result.of(self.tree)
        places = some(len(result.times()), SAMPLES)
        values = result.over_seeds("loss").middle[:, places]
        return result.times()[places].tolist(), list(zip(result.ranks, values.tolist(), strict=True))

    @cached_property
    def methods(self) -> list[Row]:
        """How the flow of each rank was solved, and why; ranks of which the same is to be said share a row."""
        flow = self.tree["final"].to_dataset().isel(schedule=0)
        groups: dict[tuple[str, ...], list[tuple[int, int, int]]] = {}
        for place, rank in enumerate(self.ranks):
            own = flow[["method", "stepper", "choice", "steps", "evaluations"]].isel(rank=place)
            columns = (own[name].values.ravel().tolist() for name in own.data_vars)
            for method, stepper, choice, steps, evaluations in zip(*columns, strict=True):
                key = (str(method), str(stepper), str(choice))
                groups.setdefault(key, []).append((rank, int(steps), int(evaluations)))
        return [
            {
                "ranks": _listed(sorted({rank for rank, _, _ in rows})),
                "method": method, "stepper": stepper, "choice": choice,
                "steps": _range([steps for _, steps, _ in rows]),
                "evaluations": _range([evaluations for _, _, evaluations in rows]),
            }
            for (method, stepper, choice), rows in groups.items()
        ]  # fmt: skip

    @cached_property
    def companions(self) -> list[Row]:
        """What was solved again as evidence, by which methods, against what."""
        group = self.tree["companions"].to_dataset()
        rows = []
        for place, label in enumerate(map(str, group["companion"].values)):
            own = group.isel(companion=place)
            methods = sorted({str(one) for one in own["method"].values.ravel()} - {""})
            if methods:
                rows.append({
                    "label": label, "methods": ", ".join(methods), "against": str(own["against"].values),
                    "rtol": float(self.attrs["rtol"]) * float(own["rtol_factor"].values),
                })  # fmt: skip
        return rows

    @cached_property
    def points(self) -> tuple[list[Row], int]:
        """Of a sweep: its points as rows, those with the worst verdicts first where not all are shown, and the rest."""
        if not self.axes:
            return [], 0
        texts = itertools.product(*(axis.texts for axis in self.axes))
        names = [axis.name for axis in self.axes]
        rows = [
            row | {"texts": dict(zip(names, own, strict=True))}
            for row, own in zip(point_rows(self.tree), texts, strict=True)
        ]
        if len(rows) > MOST_POINTS:
            rows = sorted(rows, key=lambda row: -max((SEVERITY[Verdict(v)] for v in row["verdicts"]), default=0))
        return rows[:MOST_POINTS], max(len(rows) - MOST_POINTS, 0)

    @cached_property
    def sources(self) -> list[str]:
        """Where the statements on the page come from, each once."""
        parts = (part.strip() for card in self.cards for part in str(card.row["reference"]).split(";"))
        return [part for part in dict.fromkeys(parts) if re.search(r"\b(1[89]|20)\d\d\b", part)]

    @property
    def command(self) -> str:
        """What makes the same result again, in the folder of this one."""
        changes = json.loads(str(self.attrs.get("overrides", "[]")))
        return " ".join(["flowsim run scenario.yaml", *(f"--set {shlex.quote(one)}" for one in changes)])

    @property
    def example(self) -> str:
        """Options that name the first point of a sweep."""
        return " ".join(f"--at {shlex.quote(f'{axis.name}={axis.texts[0]}')}" for axis in self.axes)

    @cached_property
    def lost(self) -> str:
        """Which medians are not over all seeds, as a sentence; empty if all are."""
        loss = self.tree["final"].to_dataset()["loss"].isel(schedule=0).transpose("rank", ...).values
        known = np.isfinite(loss).reshape(len(self.ranks), -1).sum(1)
        all_of = loss[0].size
        short = [
            f"rank {rank}: {count} of {all_of}" for rank, count in zip(self.ranks, known, strict=True) if count < all_of
        ]
        return f"Seeds with a final loss, {', '.join(short)}: medians are over these." if short else ""

    @property
    def bibtex(self) -> str:
        """An entry for this result."""
        version = self.attrs["flowsim_version"]
        return (
            f"@software{{flowsim,\n  title = {{flowsim: the gradient-flow dynamics of LoRA}},\n"
            f"  author = {{{{flowsim authors}}}},\n  version = {{{version}}},\n"
            f"  note = {{Scenario {self.name}, digest {self.attrs['digest']}}}\n}}"
        )


def _listed(numbers: Sequence[int]) -> str:
    numbers = list(numbers)
    if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    if len(numbers) > MOST_LINES:
        return f"{', '.join(map(str, numbers[: MOST_LINES - 2]))}, … {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
