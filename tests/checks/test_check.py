"""Which checks judge a result, that judging solves nothing, and how findings are put into tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from flowsim.checks import CHECKS, COLUMNS, check, summarize, verdict_table
from flowsim.errors import ResultError
from flowsim.scenario.model import CHECKS as NAMES
from flowsim.scenario.sweep import Axis
from tests.trajectory.sweeping import side_by_side

FLOW_ALONE = """\
name: alone
objective: {kind: frobenius}
pretrained: {kind: values, values: [[2, 0], [0, 1]]}
adapter: {ranks: [1], init: {kind: gaussian, std: 0.5}}
time: {stop: 1.0, points: 3}
"""


def test_there_is_one_check_for_each_name_of_a_scenario() -> None:
    assert set(CHECKS) == set(NAMES)
    assert all(one.statement and one.reference and one.measures for one in CHECKS.values())


def test_everything_that_applies_passes(frobenius_run: Any, trace_run: Any, judge: Any) -> None:
    for run in (frobenius_run, trace_run):
        rows = judge(run.tree)
        excused = ("no closed form", "too few times above the noise")
        bad = [row for row in rows if row["verdict"] != "pass" and not str(row["reason"]).startswith(excused)]
        assert not bad
        assert all(
            np.isfinite([r["observed"], r["expected"], r["tolerance"]]).all() for r in rows if r["verdict"] == "pass"
        )


def test_auto_takes_the_checks_that_speak_of_the_scenario(frobenius_run: Any, trace_run: Any, solve: Any) -> None:
    def names(tree: xr.DataTree) -> set[str]:
        return {str(name) for name in tree["checks"]["name"].values}

    own = {"zero_loss", "relative_error_law", "inverse_sqrt_rank"}
    assert names(frobenius_run.tree) == set(CHECKS) - own
    assert names(trace_run.tree) == set(CHECKS) - {"eckart_young", "alignment"}
    assert names(solve(FLOW_ALONE).tree) == set(CHECKS) - own - {"equivalence", "descent_follows_flow", "stability"}


def test_a_list_is_obeyed_and_what_it_cannot_judge_is_named(solve: Any) -> None:
    asked = ["zero_loss", "equivalence", "descent_follows_flow", "relative_error_law", "inverse_sqrt_rank", "accuracy"]
    tree = solve(FLOW_ALONE + f"checks: [{', '.join(asked)}]\n").tree
    rows = verdict_table(tree)
    assert [row["check"] for row in rows] == asked
    assert [row["verdict"] for row in rows] == ["not_applicable"] * 5 + ["pass"]
    reasons = {row["check"]: row["reason"] for row in rows}
    assert reasons["zero_loss"] == "the objective is not trace_squared"
    assert reasons["equivalence"] == "there is no sequential schedule"
    assert reasons["descent_follows_flow"] == "there is no descent schedule"
    other = FLOW_ALONE.replace("frobenius", "trace_squared") + "checks: [eckart_young]\n"
    assert verdict_table(solve(other).tree)[0]["reason"] == "the objective is not frobenius"


@pytest.mark.parametrize("which", ["frobenius_run", "trace_run"])
@pytest.mark.parametrize("form", ["tree", "folder", "file", "text"])
def test_the_file_alone_gives_the_stored_verdicts(
    which: str, form: str, request: pytest.FixtureRequest, no_solving: None
) -> None:
    run = request.getfixturevalue(which)
    file = next(run.folder.glob("*.nc"))
    source = {"tree": run.tree, "folder": run.folder, "file": file, "text": str(file)}[form]
    stored = run.tree["checks"].to_dataset()
    xr.testing.assert_identical(check(source), stored)


def test_what_is_stored_in_the_file_is_what_was_judged(frobenius_run: Any) -> None:
    from flowsim.trajectory.store import load

    assert verdict_table(load(frobenius_run.folder))
    xr.testing.assert_identical(
        load(frobenius_run.folder)["checks"].to_dataset(), frobenius_run.tree["checks"].to_dataset()
    )


def test_the_group_has_the_columns_of_a_verdict(frobenius_run: Any) -> None:
    group = check(frobenius_run.tree)
    assert tuple(group.data_vars) == COLUMNS
    assert group.sizes == {"check": len(group["name"])}
    for name in COLUMNS:
        assert {"long_name", "units", "formula"} <= set(group[name].attrs)
        assert group[name].dtype == (np.float64 if name in ("observed", "expected", "tolerance") else object)
    assert set(group["verdict"].values) <= {"pass", "not_applicable", "not_reached", "unresolved", "fail"}


def test_a_path_that_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        check(tmp_path / "none.nc")


def test_the_table_repeats_the_group(frobenius_run: Any) -> None:
    rows = verdict_table(frobenius_run.tree)
    group = frobenius_run.tree["checks"]
    assert len(rows) == group.sizes["check"]
    assert set(rows[0]) == {"check", *COLUMNS[1:]}
    assert all(isinstance(row[name], float) for row in rows for name in ("observed", "expected", "tolerance"))
    assert [row["subject"] for row in rows] == [str(s) for s in group["subject"].values]


def test_no_findings_give_an_empty_table(frobenius_tree: Any) -> None:
    frobenius_tree["checks"] = xr.DataTree(xr.Dataset())
    assert verdict_table(frobenius_tree) == []


def test_the_summary_shows_the_worst_of_each_check(frobenius_run: Any) -> None:
    rows = verdict_table(frobenius_run.tree)
    spoilt = next(row for row in rows if row["check"] == "conservation")
    spoilt |= {"verdict": "fail", "reason": "spoilt"}
    short = {str(row["check"]): row for row in summarize(rows)}
    assert set(short) == {row["check"] for row in rows}
    own = [row for row in rows if row["check"] == "conservation"]
    assert short["conservation"]["reason"] == "spoilt"
    assert short["conservation"]["count"] == f"{len(own) - 1} pass, 1 fail"
    assert short["closed_form"]["verdict"] == "not_applicable"
    assert short["closed_form"]["count"] == "1 pass, 1 not_applicable"
    passing = [row for row in rows if row["check"] == "eckart_young"]
    tightest = max(passing, key=lambda row: abs(row["observed"] - row["expected"]) / row["tolerance"])  # type: ignore[operator]
    assert short["eckart_young"]["subject"] == tightest["subject"]


STD = Axis("adapter.init.std", "std", (0.5, 1e-4, 2))
LABELS = ("std=0.5", "std=0.0001", "std=2")


def test_each_point_of_a_sweep_is_judged_by_itself(frobenius_run: Any, frobenius_tree: Any, no_solving: None) -> None:
    frobenius_tree["trajectory"]["loss"].values[0, 1, 0, -1] += 1.0
    points = [frobenius_run.tree, frobenius_tree, frobenius_run.tree]
    swept = check(side_by_side(points, [STD]))
    start = 0
    for label, tree in zip(LABELS, points, strict=True):
        own = check(tree)
        part = swept.isel(check=slice(start, start + own.sizes["check"]))
        labelled = [f"{label}/{subject}" for subject in own["subject"].values]
        xr.testing.assert_identical(part, own.assign(subject=own["subject"].copy(data=np.array(labelled, object))))
        start += own.sizes["check"]
    assert start == swept.sizes["check"]


def test_the_summary_of_a_sweep_counts_all_points_and_names_the_worst(frobenius_tree: Any, frobenius_run: Any) -> None:
    frobenius_tree["trajectory"]["loss"].values[0, 1, 0, -1] += 1.0
    tree = side_by_side([frobenius_run.tree, frobenius_tree, frobenius_run.tree], [STD])
    tree["checks"] = xr.DataTree(check(tree))
    short = {str(row["check"]): row for row in summarize(verdict_table(tree))}
    worst = short["eckart_young"]
    assert (worst["subject"], worst["verdict"]) == ("std=0.0001/flow/rank=2/seed=0", "fail")
    assert worst["count"] == "5 pass, 1 fail"
    assert str(short["monotone_loss"]["subject"]).startswith("std=")


def test_a_point_is_judged_by_its_own_constants(frobenius_run: Any) -> None:
    """What an excess loss allows the subspaces is divided by the coefficient: that of the point."""
    axis = Axis("objective.coefficient", "coefficient", (0.7, 0.001))
    tree = side_by_side([frobenius_run.tree] * 2, [axis])
    rows = [
        row for row in verdict_table(xr.DataTree.from_dict({"/checks": check(tree)})) if row["check"] == "alignment"
    ]
    tolerances = [row["tolerance"] for row in rows]
    assert tolerances[2] > 100 * tolerances[0]  # type: ignore[operator]
    assert [str(row["subject"]).split("/")[0] for row in rows] == ["coefficient=0.7"] * 2 + ["coefficient=0.001"] * 2
