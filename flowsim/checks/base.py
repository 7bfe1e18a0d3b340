"""What a check is: a statement of theory, judged on a stored result, with one of five verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The five verdicts, from the best to the worst."""

    PASS = "pass"
    NOT_APPLICABLE = "not_applicable"
    NOT_REACHED = "not_reached"
    UNRESOLVED = "unresolved"
    FAIL = "fail"

    @property
    def meaning(self) -> str:
        """What the word says of a statement."""
        return _MEANINGS[self]

    @property
    def help(self) -> str:
        """What helps where a statement has this verdict; empty where nothing is needed."""
        return _HELP[self]


_HELP = {
    Verdict.PASS: "",
    Verdict.NOT_APPLICABLE: "nothing has to be done; another start or objective would put the statement to the test",
    Verdict.NOT_REACHED: "a longer time.stop",
    Verdict.UNRESOLVED: "a tighter solver.rtol, more time points, or for the checks of steps a smaller third step size",
    Verdict.FAIL: "the same run at a tighter solver.rtol, and with solver.method dopri8; what stays is worth a report",
}

_MEANINGS = {
    Verdict.PASS: "the statement holds, within the tolerance",
    Verdict.NOT_APPLICABLE: "a hypothesis of the statement is false here; the reason names it",
    Verdict.NOT_REACHED: "the horizon is too short to tell; the reason says how much longer it has to be",
    Verdict.UNRESOLVED: "the numbers at hand cannot decide: the solver's own error is too close to what is tested",
    Verdict.FAIL: "the statement does not hold",
}


SEVERITY = {verdict: place for place, verdict in enumerate(Verdict)}


@dataclass(frozen=True)
class Finding:
    """One judged instance of a check.

    Attributes
    ----------
    subject : str
        Schedule, rank and seed judged.
    observed, expected, tolerance : float
        NaN where the verdict needs no number.
    """

    subject: str
    observed: float
    expected: float
    tolerance: float
    verdict: Verdict
    reason: str = ""

    @property
    def strain(self) -> float:
        """|observed − expected| in units of the tolerance, 0 where it is not defined."""
        if not self.tolerance > 0 or not math.isfinite(self.observed - self.expected):
            return 0.0
        return abs(self.observed - self.expected) / self.tolerance


def not_applicable(subject: str, reason: str) -> Finding:
    """A hypothesis of the statement is false; `reason` names it."""
    return Finding(subject, math.nan, math.nan, math.nan, Verdict.NOT_APPLICABLE, reason)


def unresolved(subject: str, reason: str) -> Finding:
    """The numbers at hand cannot decide; `reason` says what is missing."""
    return Finding(subject, math.nan, math.nan, math.nan, Verdict.UNRESOLVED, reason)


def judged(subject: str, observed: float, expected: float, tolerance: float, reason: str = "") -> Finding:
    """Pass if observed is within tolerance of expected; numbers that are not finite fail."""
    good = math.isfinite(observed) and abs(observed - expected) <= tolerance
    return Finding(subject, observed, expected, tolerance, Verdict.PASS if good else Verdict.FAIL, reason)


def worst(findings: Iterable[Finding]) -> Finding:
    """The most severe finding; among equals the most strained."""
    return max(findings, key=rank_of)


def rank_of(finding: Finding) -> tuple[int, float]:
    """Sort key: severity of the verdict, then strain."""
    return SEVERITY[finding.verdict], finding.strain
