"""Seeds that were never computed: each check says so, and judges the others as if they stood alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.checks import CHECKS, check
from flowsim.checks.view import View
from flowsim.scenario.sweep import Axis
from tests.trajectory.sweeping import side_by_side

WHY = "the worker was lost (signal 9)"
Key = tuple[Any, ...]


def lose(tree: xr.DataTree, rank: int, seeds: Sequence[int]) -> xr.DataTree:
    """The tree without anything of these seeds of one rank, by their places."""
    everything = len(seeds) == tree.sizes["seed"] if "seed" in tree.sizes else len(seeds) == tree["final"].sizes["seed"]
    for node in tree.subtree:
        if node.path in ("/", "/checks", "/factors"):
            continue
        for name, variable in node.to_dataset(inherit=False).data_vars.items():
            if name == "parameters" or "rank" not in variable.dims or ("seed" not in variable.dims and not everything):
                continue
            at = tuple({"rank": rank, "seed": list(seeds)}.get(str(dim), slice(None)) for dim in variable.dims)
            nothing = {"f": np.nan, "i": 0}.get(variable.dtype.kind, "")
            node.dataset[name].values[at] = nothing
    at = (slice(None), rank, list(seeds))
    tree["final"]["outcome"].values[at], tree["final"]["reason"].values[at] = "failed", WHY
    return tree


def rows(tree: xr.DataTree, *, without: str = "") -> dict[str, list[Key]]:
    """By check: every finding, numbers as text so that NaN equals NaN."""
    group = check(tree)
    found: dict[str, list[Key]] = {name: [] for name in CHECKS}
    names = ("subject", "verdict", "reason", "observed", "expected", "tolerance")
    for name, *row in zip(group["name"].values, *(group[name].values for name in names), strict=True):
        if not without or without not in row[2]:
            found[name].append(tuple(map(str, row)))
    return found


def of_rank(found: list[Key], rank: int) -> list[Key]:
    return [row for row in found if f"/rank={rank}" in row[0]]


def all_draws(name: str) -> bool:
    """Whether a check needs every draw of every rank at once."""
    return name == "inverse_sqrt_rank"


@pytest.mark.parametrize(("run", "seeds"), [("frobenius_tree", [1]), ("trace_tree", [1, 3]), ("trace_tree", [2])])
def test_the_others_are_judged_as_if_they_stood_alone(
    run: str, seeds: list[int], request: pytest.FixtureRequest
) -> None:
    tree = request.getfixturevalue(run)
    before = rows(tree)
    ranks = View(tree).ranks
    others = [seed for seed in range(len(View(tree).seeds)) if seed not in seeds]
    alone = rows(tree.isel(seed=others))
    lose(tree, 1, seeds)
    after, spared = rows(tree), rows(tree, without=WHY)
    for name in CHECKS:
        if all_draws(name):
            continue
        for rank in ranks:
            wanted = alone if rank == ranks[1] else before
            assert of_rank(spared[name], rank) == of_rank(wanted[name], rank), (name, rank)
        new = [row for row in after[name] if row not in spared[name]]
        assert bool(new) == bool(before[name]), name
        for subject, verdict, reason, *_ in new:
            assert verdict == "unresolved" and subject.endswith(f"/rank={ranks[1]}/seed={seeds[0]}")
            assert reason == f"{len(seeds)} of {len(View(tree).seeds)} seeds were not computed: {WHY}"


@pytest.mark.parametrize("run", ["frobenius_tree", "trace_tree"])
def test_of_a_rank_that_was_lost_nothing_is_said_but_that(run: str, request: pytest.FixtureRequest) -> None:
    tree = request.getfixturevalue(run)
    before, ranks = rows(tree), View(tree).ranks
    after = rows(lose(tree, 0, range(len(View(tree).seeds))))
    for name in CHECKS:
        if all_draws(name):
            continue
        assert [row for rank in ranks[1:] for row in of_rank(after[name], rank)] == [
            row for rank in ranks[1:] for row in of_rank(before[name], rank)
        ]
        said = of_rank(after[name], ranks[0])
        assert bool(said) == bool(before[name])
        assert all(row[1] == "unresolved" and row[2].endswith(WHY) for row in said), name


@pytest.mark.parametrize("run", ["frobenius_tree", "trace_tree"])
def test_where_all_was_lost_every_check_is_unresolved(run: str, request: pytest.FixtureRequest) -> None:
    tree = request.getfixturevalue(run)
    asked = {name for name, found in rows(tree).items() if found}
    for rank in range(len(View(tree).ranks)):
        lose(tree, rank, range(len(View(tree).seeds)))
    after = rows(tree)
    assert {name for name, found in after.items() if found} == asked
    assert {(row[1], row[2].endswith(WHY)) for found in after.values() for row in found} == {("unresolved", True)}


def test_a_law_of_all_draws_needs_them_all(trace_tree: Any) -> None:
    [(subject, verdict, reason, *_)] = rows(lose(trace_tree, 2, [1]))["inverse_sqrt_rank"]
    assert (subject, verdict, reason) == ("flow", "unresolved", f"the flow did not complete: {WHY}")


def test_a_companion_that_was_lost_is_not_taken_for_a_missing_closed_form(trace_tree: Any) -> None:
    """Of a rank one seed is integrated as well; without it the others still have their closed form."""
    said = of_rank(rows(lose(trace_tree, 1, [0]))["closed_form"], 2)
    assert said == [("flow/rank=2/seed=0", "unresolved", f"1 of 4 seeds were not computed: {WHY}", *["nan"] * 3)]


def test_a_lone_seed_is_not_counted(frobenius_tree: Any) -> None:
    tree = lose(frobenius_tree.isel(seed=[1]), 0, [0])
    [lost, _] = rows(tree)["eckart_young"]
    assert lost[:3] == ("flow/rank=1/seed=1", "unresolved", f"not computed: {WHY}")


def test_in_a_sweep_other_points_do_not_notice(frobenius_tree: Any, frobenius_run: Any) -> None:
    spoilt = lose(frobenius_tree, 1, [0, 1])
    usual, broken = rows(frobenius_run.tree), rows(spoilt)
    axis = Axis("pretrained.seed", "pretrained_seed", (3, 4, 5))
    found = rows(side_by_side([frobenius_run.tree, spoilt, frobenius_run.tree], [axis]))
    for name in CHECKS:
        assert found[name] == [
            (f"pretrained_seed={value}/{subject}", *rest)
            for value, wanted in ((3, usual), (4, broken), (5, usual))
            for subject, *rest in wanted[name]
        ]
