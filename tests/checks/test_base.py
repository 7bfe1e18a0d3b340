"""Verdicts and findings: what is worse than what, and what a number without a tolerance is worth."""

from __future__ import annotations

import math

import pytest

from flowsim.checks.base import SEVERITY, Finding, Verdict, judged, not_applicable, rank_of, unresolved, worst


def test_the_five_verdicts_from_best_to_worst() -> None:
    assert [str(v) for v in sorted(Verdict, key=SEVERITY.__getitem__)] == [
        "pass", "not_applicable", "not_reached", "unresolved", "fail",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("observed", "expected", "tolerance", "verdict"),
    [
        (1.0, 1.0, 0.0, "pass"),
        (1.0, 1.5, 0.5, "pass"),
        (1.0, 1.5000001, 0.5, "fail"),
        (0.5, 1.0000001, 0.5, "fail"),
        (math.nan, 1.0, 1.0, "fail"),
        (math.inf, 1.0, math.inf, "fail"),
        (1.0, math.nan, 1.0, "fail"),
        (1.0, 1.0, math.nan, "fail"),
    ],
)
def test_judged(observed: float, expected: float, tolerance: float, verdict: str) -> None:
    found = judged("flow", observed, expected, tolerance, "why")
    assert (found.verdict, found.reason, found.subject) == (verdict, "why", "flow")


@pytest.mark.parametrize("make", [not_applicable, unresolved])
def test_a_verdict_without_numbers_has_none(make: object) -> None:
    found = make("flow", "the reason")  # type: ignore[operator]
    assert all(math.isnan(x) for x in (found.observed, found.expected, found.tolerance))
    assert found.reason == "the reason" and found.strain == 0.0


def test_strain_is_the_distance_in_tolerances() -> None:
    assert judged("s", 3.0, 1.0, 0.5).strain == 4.0
    assert judged("s", 3.0, 1.0, 0.0).strain == 0.0
    assert judged("s", math.nan, 1.0, 1.0).strain == 0.0


def test_the_worst_finding_is_the_most_severe_then_the_most_strained() -> None:
    relaxed, strained = judged("a", 1.0, 1.0, 1.0), judged("b", 1.9, 1.0, 1.0)
    assert worst([relaxed, strained]) is strained
    assert worst([strained, unresolved("c", ""), relaxed]).subject == "c"
    assert worst([unresolved("c", ""), judged("d", 9.0, 1.0, 1.0)]).verdict is Verdict.FAIL
    assert rank_of(not_applicable("e", "")) < rank_of(Finding("f", 0, 0, 0, Verdict.NOT_REACHED))
