"""The gallery: small scenarios in which a naive tool is wrong, and what flowsim has to say about each.

The table holds the outcome of every schedule, rank and seed, and the verdict of every check, in the exact words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowsim.checks import verdict_table
from flowsim.checks.base import SEVERITY, Verdict
from flowsim.scenario.read import read_scenario
from flowsim.scenario.schema import schema_text

FOLDER = Path(__file__).resolve().parents[1] / "scenarios" / "gallery"
FILES = sorted(FOLDER.glob("*.yaml"))
STAYS = "stationary_elsewhere"
NOT = "not_applicable"
SOUND = {"closed_form": "pass", "conservation": "pass", "monotone_loss": "pass", "accuracy": "pass"}
DESCENT = {"eckart_young": "pass", "conservation": "pass", "monotone_loss": "pass", "stability": "pass"}
DESCENDING = "descent/simultaneous/learning_rate="
FOLLOWING = "descent/a_first/learning_rate="

ByRank = str | dict[int, str]


@dataclass(frozen=True)
class Expected:
    """What one scenario must give.

    Attributes
    ----------
    outcomes : dict
        By rank, of the flow: one word, or one word a seed.
    verdicts : dict
        By check: one word, or one word a rank (its worst finding).
    schedules : dict
        By label of a schedule other than the flow: its outcome at every rank and seed.
    reasons : dict
        By rank: a regular expression that the flow's reason must match, for every seed that has this outcome.
    """

    outcomes: dict[int, str | tuple[str, ...]]
    verdicts: dict[str, ByRank]
    schedules: dict[str, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)


def all_reached(*ranks: int) -> dict[int, str | tuple[str, ...]]:
    return dict.fromkeys(ranks, "reached")


def each(verdict: ByRank, *checks: str) -> dict[str, ByRank]:
    return {name: verdict for name in checks}


ENDS_ELSEWHERE = each(NOT, "eckart_young", "convergence_rate", "alignment")
LOST = {1: NOT, 2: NOT, 3: "pass"}
LAW = SOUND | {"zero_loss": "pass", "relative_error_law": "pass", "convergence_rate": "pass"}
SADDLE = SOUND | {
    "zero_loss": NOT, "relative_error_law": "pass", "inverse_sqrt_rank": NOT, "convergence_rate": NOT,
}  # fmt: skip
APPROACHED = SOUND | {"eckart_young": "pass", "convergence_rate": "pass", "alignment": "pass"}

TABLE: dict[str, Expected] = {
    "missing_direction": Expected(
        {1: STAYS, 2: STAYS, 3: "reached"},
        SOUND | each(LOST, "eckart_young", "convergence_rate", "alignment"),
        reasons={1: r"(direction|mode)s? 1\b", 2: r"(direction|mode)s? 1\b"},
    ),
    "missing_direction_rotated": Expected(
        {1: STAYS, 2: STAYS, 3: "reached"},
        SOUND | each(LOST, "eckart_young", "convergence_rate", "alignment"),
        reasons={1: r"round", 2: r"round"},
    ),
    "missing_direction_roundoff": Expected(
        {1: STAYS},
        SOUND | ENDS_ELSEWHERE | {"closed_form": "unresolved", "accuracy": "unresolved"},
        reasons={1: r"round.*\b(1[5-9]|2[0-3])\b"},
    ),
    "tie": Expected(all_reached(1, 2, 3), APPROACHED | {"alignment": {1: "pass", 2: NOT, 3: "pass"}}),
    "near_tie_short": Expected(
        {1: "reached", 2: "not_yet"},
        SOUND | each({1: "pass", 2: "not_reached"}, "eckart_young", "convergence_rate", "alignment"),
    ),
    "near_tie_long": Expected(all_reached(1, 2), APPROACHED),
    "rank_above": Expected(all_reached(2, 3, 4), APPROACHED | {"alignment": {2: "pass", 3: NOT, 4: NOT}}),
    "rank_above_balanced": Expected(
        {2: "reached", 3: "not_yet", 4: "not_yet"},
        SOUND
        | {
            "eckart_young": {2: "pass", 3: "not_reached", 4: "not_reached"},
            "alignment": {2: "pass", 3: NOT, 4: NOT},
            "convergence_rate": "pass",  # at ranks 3 and 4 by its power law
        },
    ),
    "wrong_determinant": Expected(
        {3: (STAYS, "reached", STAYS, STAYS, "reached", "reached")},
        SOUND | ENDS_ELSEWHERE,
        reasons={3: r"determinant"},
    ),
    "zero_difference": Expected(
        all_reached(1, 2),
        SOUND | ENDS_ELSEWHERE | {"eckart_young": "pass", "closed_form": NOT, "accuracy": NOT},
    ),
    "zero_difference_moving": Expected(
        {1: "not_yet", 2: "not_yet"},
        SOUND | {"eckart_young": "not_reached", "alignment": NOT, "convergence_rate": "pass"},
    ),
    "plateaus": Expected(all_reached(1, 3), APPROACHED),
    "plateau_short": Expected(
        {1: "reached", 3: "not_yet"},
        SOUND | each({1: "pass", 3: "not_reached"}, "eckart_young", "convergence_rate", "alignment"),
    ),
    "plateau_unbalanced": Expected(
        {1: "reached", 2: "not_yet"},
        SOUND
        | each({1: "pass", 2: "not_reached"}, "eckart_young", "alignment")
        | {"closed_form": {1: "pass", 2: NOT}, "convergence_rate": {1: "unresolved", 2: "not_reached"}},
        reasons={2: r"plateau: mode 2"},
    ),
    "trace_balanced": Expected({1: STAYS, 2: STAYS}, SADDLE),
    "trace_zero_start": Expected({1: STAYS, 2: STAYS}, SADDLE | {"closed_form": NOT, "accuracy": NOT}),
    "trace_pissa": Expected({1: STAYS, 2: STAYS}, SADDLE, reasons={1: r"round", 2: r"round"}),
    "law_gaussian": Expected(all_reached(1, 2, 4, 8), LAW | {"inverse_sqrt_rank": "pass"}),
    "law_orthonormal": Expected(all_reached(1, 2, 4, 8), LAW | {"inverse_sqrt_rank": "pass"}),
    "law_broken": Expected(all_reached(1, 2, 4, 8), LAW | {"inverse_sqrt_rank": NOT}),
    "law_broken_half": Expected(all_reached(1, 2, 4, 8), LAW | {"inverse_sqrt_rank": NOT}),
    "descent_below": Expected(
        all_reached(1, 2), DESCENT, {f"{DESCENDING}0.48": "reached", f"{FOLLOWING}0.7": "reached"}
    ),
    "descent_above": Expected(
        all_reached(1, 2), DESCENT, {f"{DESCENDING}0.52": "left_minimum", f"{DESCENDING}1.8": "diverged"}
    ),
    "descent_sequential": Expected(
        all_reached(1), DESCENT, {f"{FOLLOWING}0.98": "reached", f"{FOLLOWING}1.02": "diverged"}
    ),
    "descent_catapult": Expected(all_reached(1), DESCENT, {f"{DESCENDING}0.445": "reached"}),
    "wide": Expected(all_reached(2, 4), APPROACHED),
    "tall": Expected(all_reached(2, 4), APPROACHED),
}

Entry = Callable[[str], Any]


@pytest.fixture
def result(gallery_result: Entry) -> Entry:
    """The result of a scenario, solved once for these tests and those of the page."""
    return gallery_result


def items() -> list[Any]:
    """(file, item) for every entry of the table: an item is a rank, a schedule, a check, or a rank's reason."""
    entries = []
    for name, want in TABLE.items():
        found = [f"rank {rank}" for rank in want.outcomes] + list(want.schedules) + list(want.verdicts)
        for item in [*found, *(f"reason {rank}" for rank in want.reasons)]:
            entries.append(pytest.param(name, item, id=f"{name}-{item}"))
    return entries


@pytest.mark.parametrize(("name", "item"), items())
def test_what_flowsim_says(name: str, item: str, result: Entry) -> None:
    want, tree = TABLE[name], result(name)
    final = tree["final"].dataset.sel(schedule="flow")
    if item.startswith("rank "):
        word = want.outcomes[int(item[5:])]
        found = [str(one) for one in final["outcome"].sel(rank=int(item[5:])).values]
        assert found == ([word] * len(found) if isinstance(word, str) else list(word))
    elif item.startswith("reason "):
        here = final.sel(rank=int(item[7:]))
        wanted = [str(one) for one in here["reason"].values[here["outcome"].values.astype(str) != "reached"]]
        assert wanted
        assert all(re.search(want.reasons[int(item[7:])], reason) for reason in wanted), wanted
    elif item in want.schedules:
        outcome = tree["final"].dataset["outcome"].sel(schedule=item)
        assert {str(one) for one in outcome.values.flat} == {want.schedules[item]}
    else:
        verdicts = want.verdicts[item]
        rows = [row for row in verdict_table(tree) if row["check"] == item]
        assert rows
        by_rank = {"": verdicts} if isinstance(verdicts, str) else {f"/rank={r}": v for r, v in verdicts.items()}
        for part, verdict in by_rank.items():
            own = [row for row in rows if part in f"{row['subject']}/"]
            assert own
            worst = max(own, key=lambda row: SEVERITY[Verdict(str(row["verdict"]))])
            assert worst["verdict"] == verdict, f"{worst['subject']}: {worst['reason']}"
            if isinstance(verdicts, str):
                assert {row["verdict"] for row in own} == {verdict}


def test_every_file_is_in_the_table() -> None:
    assert {path.stem for path in FILES} == set(TABLE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid_and_says_what_it_shows(path: Path) -> None:
    import jsonschema
    from ruamel.yaml import YAML

    document = read_scenario(path)
    assert document.scenario.name == path.stem
    assert document.scenario.title
    assert document.warnings == ()
    jsonschema.validate(YAML(typ="safe", pure=True).load(path), json.loads(schema_text()))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../schema.json"
    comment = "\n".join(line for line in lines if line.startswith("#"))
    assert "What a naive tool gets wrong" in comment
    assert "What to look for" in comment


@pytest.mark.parametrize("name", ["missing_direction", "missing_direction_rotated"])
def test_what_is_left_of_a_missing_direction(name: str, result: Entry) -> None:
    """Without the first direction: (2) in place of (4), (2, 1) in place of (4, 2); excess ½(16 − 4), ½(16 − 1)."""
    excess = result(name)["final"].dataset["excess_loss"].sel(schedule="flow", seed=0)
    np.testing.assert_allclose(excess.sel(rank=[1, 2]), [6.0, 7.5], atol=1e-6)


def test_the_sign_of_the_determinant_decides(result: Entry) -> None:
    """Reached exactly where det(B0·A0) and det Δ have one sign; the others lose σ_n."""
    from flowsim.problem.assemble import assemble

    tree = result("wrong_determinant")
    problem = assemble(read_scenario(FOLDER / "wrong_determinant.yaml"))
    assert problem.target is not None
    wanted = np.sign(np.linalg.det(problem.target - problem.pretrained))
    start = problem.start(3)
    same = np.sign(np.linalg.det(start.B @ start.A)) == wanted
    final = tree["final"].dataset.sel(schedule="flow", rank=3)
    assert 0 < same.sum() < same.size
    assert [str(one) == "reached" for one in final["outcome"].values] == same.tolist()
    np.testing.assert_allclose(final["excess_loss"].values[~same], 0.5 * 0.5**2, atol=1e-7)


def test_imbalance_lifts_the_obstruction(tmp_path: Path) -> None:
    """Square, full rank, B = 0: every seed reaches the floor, the determinant is free to choose its sign."""
    from flowsim.pipeline import execute

    changes = ("adapter.init.zero=B", "checks=[eckart_young]", "time.stop=40.0")
    document = read_scenario(FOLDER / "wrong_determinant.yaml", changes)
    tree = execute(document, out=tmp_path, device="cpu", plots=False).tree
    assert {str(one) for one in tree["final"].dataset["outcome"].values.flat} == {"reached"}


def test_plateaus_end_when_theory_says(result: Entry) -> None:
    """σ_i is half learnt at ln(σ_i/s0 − 1)/(2σ_i), s0 = 1e-16."""
    run = result("plateaus")["trajectory"].dataset.sel(schedule="flow", rank=3, seed=0)
    times = run["time"].values
    for mode, sigma in ((1, 4.0), (2, 2.0), (3, 0.5)):
        predicted = np.log(sigma / 1e-16 - 1) / (2 * sigma)
        grown = run["singular_value"].sel(mode=mode).values
        place = int(np.argmax(grown > sigma / 2))
        # The logistic curve is straight in ln(s/(σ − s)): interpolation there is exact.
        logit = np.log(grown[place - 1 : place + 1] / (sigma - grown[place - 1 : place + 1]))
        crossing = np.interp(0.0, logit, times[place - 1 : place + 1])
        assert crossing == pytest.approx(predicted, rel=1e-6)


def test_a_plateau_without_a_closed_form_ends_when_flowsim_says(result: Entry, tmp_path: Path) -> None:
    """The forecast at t = 12 against a run to t = 60: mode 2 passes half of its value within a few percent of it."""
    from flowsim.pipeline import execute

    forecast = result("plateau_unbalanced")["final"].dataset["further_time"].sel(schedule="flow", rank=2).values
    changes = ("time.stop=60.0", "time.points=601", "adapter.ranks=[2]", "checks=[eckart_young]")
    document = read_scenario(FOLDER / "plateau_unbalanced.yaml", changes)
    tree = execute(document, out=tmp_path, device="cpu", plots=False).tree
    assert {str(one) for one in tree["final"].dataset["outcome"].values.flat} == {"reached"}
    run = tree["trajectory"].dataset.sel(schedule="flow", rank=2, mode=2)
    learnt = [float(run["time"][int(np.argmax(run["singular_value"].sel(seed=s).values > 0.25))]) for s in (0, 1)]
    np.testing.assert_allclose(12.0 + forecast, learnt, rtol=0.05)


def test_float32_and_float64_leave_a_saddle_at_their_own_times(tmp_path: Path) -> None:
    """The same rotated start: at t = 14 rounding has taken float32 to the best limit, float64 not yet."""
    from flowsim.pipeline import execute

    found = {}
    for dtype in ("float32", "float64"):
        changes = (f"compute.dtype={dtype}", "solver.rtol=1e-5", "solver.atol=1e-7", "adapter.ranks=[1]")
        changes += ("time.stop=14.0", "checks=[eckart_young]", "solver.method=dopri5")
        document = read_scenario(FOLDER / "missing_direction_roundoff.yaml", changes)
        tree = execute(document, out=tmp_path, device="cpu", plots=False).tree
        final, theory = tree["final"].dataset.isel(schedule=0, rank=0, seed=0), tree["theory"].dataset
        found[dtype] = str(final["outcome"].values), float(theory["escape_time"].values.flat[0])
        if str(final["outcome"].values) == "reached":
            assert "only rounding leaves that limit" in str(final["reason"].values)
    assert found["float32"][0] == "reached" and found["float32"][1] < 14.0
    assert found["float64"][0] == "stationary_elsewhere" and found["float64"][1] > 14.0


def test_the_loss_of_superfluous_directions(result: Entry) -> None:
    """Δ = 0, singular values 1 at the start: the loss is exactly ½r/(1 + 2t)². Balanced r > ρ: (r − ρ)/(8t²)."""
    run = result("zero_difference_moving")["trajectory"].dataset.sel(schedule="flow")
    for rank in (1, 2):
        exact = 0.5 * rank / (1 + 2 * run["time"].values) ** 2
        np.testing.assert_allclose(run["loss"].sel(rank=rank), np.broadcast_to(exact, (2, exact.size)), rtol=1e-10)
    run = result("rank_above_balanced")["final"].dataset["excess_loss"].sel(schedule="flow")
    for rank in (3, 4):
        # 1/s = 1/s0 + 2t for each direction: below the power law at any time, by 1/(2·s0·t) of it at most.
        ratio = run.sel(rank=rank).values * 8 * 40.0**2 / (rank - 2)
        assert np.all((ratio > 0.4) & (ratio < 1.0))


# In exact arithmetic, from closed forms or from a run that goes far enough: time still needed, by rank, all seeds.
FURTHER = {
    "near_tie_short": {2: (83.8, 52.6)},
    "rank_above_balanced": {3: (173.1, 178.9), 4: (270.4, 264.8)},
    "zero_difference_moving": {1: (399.5, 399.5), 2: (399.5, 399.5)},
    "plateau_short": {3: (25.06,)},
}


@pytest.mark.parametrize("name", list(FURTHER))
def test_how_much_longer(name: str, result: Entry) -> None:
    final = result(name)["final"].dataset.sel(schedule="flow")
    for rank, wanted in FURTHER[name].items():
        np.testing.assert_allclose(final["further_time"].sel(rank=rank).values, wanted, rtol=0.05)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("tie", {1: 2.0, 2: 2.0, 3: 2.0}),
        ("rank_above", dict.fromkeys((2, 3, 4), 2 * (np.sqrt(1 + 0.25**2 / 4) - 0.125))),
        ("rank_above_balanced", {2: 2.0, 3: np.nan, 4: np.nan}),
        ("wide", {2: 2.0, 4: 1.0}),
        ("tall", {2: 2.0, 4: 1.0}),
        ("plateaus", {1: 16.0, 3: 2.0}),
    ],
)
def test_predicted_rates(name: str, rates: dict[int, float], result: Entry) -> None:
    """2ν of each case; `tie` is slightly imbalanced, λ = −0.09."""
    theory = result(name)["theory"].dataset["convergence_rate"]
    for rank, rate in rates.items():
        np.testing.assert_allclose(theory.sel(rank=rank).values, rate, rtol=1e-2 if name == "tie" else 1e-6)


def test_a_tie_has_no_best_subspace(result: Entry) -> None:
    """At the tie there is nothing to be aligned with; elsewhere the subspace is found."""
    alignment = result("tie")["final"].dataset["alignment"].sel(schedule="flow", side="left")
    np.testing.assert_allclose(alignment.sel(rank=[1, 3]), 1.0, atol=1e-6)
    assert np.isnan(alignment.sel(rank=2).values).all()


def test_nothing_to_learn_has_no_relative_error(result: Entry) -> None:
    tree = result("zero_difference")
    assert np.isnan(tree["trajectory"].dataset["relative_error"].values).all()
    assert (tree["trajectory"].dataset["loss"].values == 0).all()


def test_nothing_to_learn_ends_where_it_starts(result: Entry) -> None:
    """Nothing moves from a minimum, whatever the imbalance: the limit of the loss is known."""
    assert (result("zero_difference")["theory"].dataset["loss_limit"].values == 0).all()


@pytest.mark.parametrize(
    ("name", "losses"),
    [("trace_balanced", (2.0, 2.0)), ("trace_zero_start", (2.0, 2.0)), ("trace_pissa", (1.125, 0.245))],
)
def test_losses_of_the_saddles(name: str, losses: tuple[float, float], result: Entry) -> None:
    final = result(name)["final"].dataset["loss"].sel(schedule="flow", seed=0)
    np.testing.assert_allclose(final, losses, rtol=1e-6)


def test_two_laws_with_their_constants(result: Entry) -> None:
    """Orthonormal rows: e² = n/r − 1 without scatter. Gaussian: mean (n − 1)(n + 2)/(rn + 2), above it."""
    n = 24
    gaussian, orthonormal = (
        result(name)["final"].dataset["relative_error"].sel(schedule="flow") ** 2
        for name in ("law_gaussian", "law_orthonormal")
    )
    for rank in (1, 2, 4, 8):
        np.testing.assert_allclose(orthonormal.sel(rank=rank), n / rank - 1, rtol=1e-5)
        mean = (n - 1) * (n + 2) / (rank * n + 2)
        variance = 4 * n**2 * (n - 1) * (n + 2) * (rank - 1) * (rank + 2)
        variance /= (rank * n + 2) ** 2 * (rank * n + 4) * (rank * n + 6)
        draws = gaussian.sel(rank=rank).values
        assert abs(draws.mean() - mean) <= 4 * np.sqrt(variance / draws.size) + 1e-5 * mean


def test_descent_is_thrown_into_a_flatter_minimum(result: Entry) -> None:
    final = result("descent_catapult")["final"].dataset["sharpness"].sel(rank=1, seed=0)
    assert final.sel(schedule="flow") > 2 / 0.445 > final.sel(schedule=f"{DESCENDING}0.445")
