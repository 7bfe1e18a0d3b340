"""The same conclusions in any coordinates and in any batch.

A start of the gallery is written out in numbers and solved as it is; rotated, W → U W Vᵀ, B → U B, A → A Vᵀ (with one
U = V for trace-squared, which keeps the trace); and in another gauge, B → B O, A → Oᵀ A. A batch of seeds is held
against its seeds one by one. Outcomes and verdicts must be the same words, losses the same numbers within the errors
that the runs state of themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from flowsim.checks import verdict_table
from flowsim.checks.base import SEVERITY, Verdict
from flowsim.checks.view import View
from flowsim.problem.assemble import assemble
from flowsim.scenario.read import parse_scenario

GALLERY = Path(__file__).resolve().parents[1] / "scenarios" / "gallery"
NAMES = sorted(path.stem for path in GALLERY.glob("*.yaml"))
DRAWS = 3  # seeds of a start that are tried
UNBOUNDED = ("left_minimum", "diverged")  # rounding grows without bound there, and words are all there is

# The default suite takes a few starts that differ most; `make slow` takes all.
QUICK = [
    ("descent_below", 2, 0),
    ("law_orthonormal", 2, 1),
    ("missing_direction", 2, 0),
    ("plateau_short", 3, 0),
    ("rank_above", 3, 0),
    ("tie", 3, 0),
    ("trace_balanced", 2, 0),
    ("trace_pissa", 1, 0),
    ("wrong_determinant", 3, 0),
]
QUICK_BATCHES = ["near_tie_short"]

# Zeros that a rotation turns into rounding: once it has grown, how far two solvers agree is chance.
LEAKING = ("missing_direction", "missing_direction_rotated", "missing_direction_roundoff")

Data = dict[str, Any]
Arrays = dict[str, np.ndarray]
Rows = list[dict[str, Any]]


def gallery(name: str) -> Data:
    data: Data = YAML(typ="safe", pure=True).load(GALLERY / f"{name}.yaml")
    return data


def starts(name: str) -> Iterator[tuple[str, int, int]]:
    """(name, rank, seed) of a scenario's starts, of every rank and the first seeds."""
    adapter = gallery(name)["adapter"]
    seeds = range(min(adapter.get("seeds", 1), DRAWS))
    yield from ((name, rank, seed) for rank in adapter["ranks"] for seed in seeds)


def arrays(name: str, rank: int, seed: int) -> Arrays:
    document = parse_scenario((GALLERY / f"{name}.yaml").read_text("utf-8"), name=name, folder=GALLERY)
    problem = assemble(document)
    start = problem.start(rank)
    given = {"pretrained": start.pretrained, "A": start.A[seed], "B": start.B[seed]}
    return given if problem.target is None else given | {"target": problem.target}


def haar(rng: np.random.Generator, size: int) -> np.ndarray:
    """Uniform on O(size), but −1 at size 1, where 1 would be no rotation at all."""
    if size == 1:
        return -np.eye(1)
    q, upper = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diagonal(upper))


def rotated(given: Arrays, rng: np.random.Generator) -> Arrays:
    left = haar(rng, len(given["B"]))
    right = haar(rng, given["A"].shape[1]) if "target" in given else left
    turned = {name: left @ given[name] @ right.T for name in ("pretrained", "target") if name in given}
    return turned | {"A": given["A"] @ right.T, "B": left @ given["B"]}


def gauged(given: Arrays, rng: np.random.Generator) -> Arrays:
    turn = haar(rng, len(given["A"]))
    return given | {"A": turn.T @ given["A"], "B": given["B"] @ turn}


def written(name: str, rank: int, given: Arrays) -> str:
    """The scenario at one rank, its matrices and its start written out; JSON is YAML."""
    data = gallery(name)
    values = {key: array.tolist() for key, array in given.items()}
    data |= {key: {"kind": "values", "values": values[key]} for key in ("pretrained", "target") if key in values}
    data["adapter"] |= {"ranks": [rank], "seeds": 1, "init": {"kind": "values", "A": values["A"], "B": values["B"]}}
    return json.dumps(data)


def outcomes(tree: Any, place: int = 0) -> dict[tuple[str, int], str]:
    """By schedule and rank, of the seed at this place."""
    final = tree["final"].dataset["outcome"].isel(seed=place)
    labels, ranks = final["schedule"].values, final["rank"].values
    return {(str(s), int(r)): str(final.sel(schedule=s, rank=r).item()) for s in labels for r in ranks}


def words(rows: Rows, *excused: str) -> list[tuple[str, str, str]]:
    return [(row["check"], row["subject"], row["verdict"]) for row in rows if row["check"] not in excused]


def assert_equal_losses(one: Any, other: Any, place: int = 0) -> None:
    """Losses of a run of one seed, and of the seed at this place of another run, within their own stated errors."""
    first, second = View(one), View(other)
    n, m = one.attrs["rows"], one.attrs["columns"]
    for (label, rank), outcome in outcomes(one).items():
        if outcome in UNBOUNDED:
            continue
        at = first.labels.index(label), first.ranks.index(rank)
        loss, same = first.trajectory("loss", *at)[0], second.trajectory("loss", *at)[place]
        # Beside the solvers' errors a loss has the rounding of the data: a sum of squares of n + m terms. A mode that
        # is there by rounding alone grows from ε to order 1 at the escape time.
        escape = np.fmin(first.theory("escape_time", at[1])[0], second.theory("escape_time", at[1])[place])
        grown = np.clip(1 - first.times / escape, 0.0, 1.0) if escape > 0 else 1.0
        rounding = (n + m) * first.epsilon**grown * loss[0]
        with np.errstate(over="ignore"):
            allowed = first.loss_error(*at)[0] + second.loss_error(*at)[place] + rounding
        assert (np.abs(loss - same) <= allowed).all(), label


@pytest.fixture(scope="module")
def as_it_is() -> dict[str, Any]:
    """Results of starts that are not rotated, by the text that made them."""
    return {}


def with_slow(cases: list[Any], quick: list[Any]) -> list[Any]:
    def mark(case: Any) -> Any:
        values = case if isinstance(case, tuple) else (case,)
        marks = [] if case in quick else [pytest.mark.slow]
        return pytest.param(*values, id="-".join(map(str, values)), marks=marks)

    return [mark(case) for case in cases]


CHANGES = {"rotated": rotated, "gauged": gauged}
ALL = [(*start, change) for name in NAMES for start in starts(name) for change in CHANGES]


@pytest.mark.parametrize(
    ("name", "rank", "seed", "change"), with_slow(ALL, [(*start, change) for start in QUICK for change in CHANGES])
)
def test_no_coordinates_change_a_conclusion(
    name: str, rank: int, seed: int, change: str, solve: Any, as_it_is: dict[str, Any]
) -> None:
    given = arrays(name, rank, seed)
    text = written(name, rank, given)
    if text not in as_it_is:
        as_it_is[text] = solve(text).tree
    one = as_it_is[text]
    other = solve(written(name, rank, CHANGES[change](given, np.random.default_rng([rank, seed])))).tree
    excused = ("closed_form", "accuracy") if name in LEAKING and change == "rotated" else ()
    assert outcomes(other) == outcomes(one)
    assert words(verdict_table(other), *excused) == words(verdict_table(one), *excused)
    assert_equal_losses(one, other)


def worst(rows: Rows) -> dict[tuple[str, str], str]:
    """The worst verdict of each check at each rank, of the checks that look at every seed."""
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        subject, _, seed = row["subject"].partition("/seed=")
        # Some companions are made for the first seed of a batch alone.
        if seed and row["check"] != "accuracy" and not subject.startswith("integrated"):
            key = row["check"], subject
            found[key] = max(found.get(key, "pass"), row["verdict"], key=lambda word: SEVERITY[Verdict(word)])
    return found


def assert_batch_is_its_members(batch: Any, alone: list[Any]) -> None:
    """Every seed ends and is judged as it is alone, and a check says of a rank the worst that it says of its seeds."""
    rows = verdict_table(batch)
    own = [verdict_table(tree) for tree in alone]
    for place, (tree, found) in enumerate(zip(alone, own, strict=True)):
        assert outcomes(batch, place) == outcomes(tree)
        seed = f"/seed={tree['trajectory']['seed'].item()}"
        assert {row for row in words(rows) if row[1].endswith(seed)} <= set(words(found))
        assert_equal_losses(tree, batch, place)
    assert worst(rows) == worst([row for found in own for row in found])


BATCHES = [name for name in NAMES if gallery(name)["adapter"].get("seeds", 1) > 1]


@pytest.mark.parametrize("name", with_slow(BATCHES, QUICK_BATCHES))
def test_a_batch_of_seeds_is_its_members(name: str, solve: Any) -> None:
    data = gallery(name)
    seeds = list(range(min(data["adapter"]["seeds"], 2 * DRAWS)))

    def of(some: list[int]) -> Any:
        return solve(json.dumps(data | {"adapter": data["adapter"] | {"seeds": some}})).tree

    assert_batch_is_its_members(of(seeds), [of([seed]) for seed in seeds])


@pytest.mark.parametrize("which", with_slow(["frobenius", "trace"], ["frobenius"]))
def test_a_batch_with_every_kind_of_schedule_is_its_members(
    which: str, request: pytest.FixtureRequest, solve: Any
) -> None:
    """The small shared runs: adaptive and exact, windows and descents, with scale and coefficient."""
    text, batch = (request.getfixturevalue(f"{which}_{what}") for what in ("text", "run"))
    data = YAML(typ="safe", pure=True).load(text)
    alone = []
    for seed in range(data["adapter"]["seeds"]):
        data["adapter"]["seeds"] = [seed]
        alone.append(solve(json.dumps(data)).tree)
    assert_batch_is_its_members(batch.tree, alone)


@pytest.mark.slow
def test_a_start_that_rounding_alone_lets_escape_ends_alike_in_all_coordinates(solve: Any) -> None:
    given = arrays("missing_direction", 1, 0)
    ends = {outcomes(solve(written("missing_direction", 1, given)).tree)["flow", 1]}
    for draw in range(24):
        turned = rotated(given, np.random.default_rng(draw))
        ends.add(outcomes(solve(written("missing_direction", 1, turned)).tree)["flow", 1])
    assert len(ends) == 1
