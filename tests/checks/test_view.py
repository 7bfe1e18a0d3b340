"""Read access to a result: names, places and the few derived numbers, against the arrays themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowsim.checks.view import FLOW, View, largest, largest_over_time


@pytest.fixture
def view(frobenius_tree: Any) -> View:
    return View(frobenius_tree)


def test_the_scenario_and_its_constants(view: View, trace_run: Any) -> None:
    assert (view.objective, view.coefficient, view.rows) == ("frobenius", 0.7, 6)
    assert view.scenario["adapter"]["init"] == {"kind": "gaussian", "std": 0.5, "zero": "B", "nested": True}
    assert (view.ranks, view.seeds) == ([1, 2], [0, 1])
    assert view.epsilon == np.finfo(np.float64).eps
    assert View(trace_run.tree).objective == "trace_squared"


def test_schedules_carry_their_step(view: View) -> None:
    rows = {row["label"]: row for row in view.schedules}
    assert list(rows) == view.labels and view.labels[FLOW] == "flow"
    assert np.isnan(rows["flow"]["duration"])
    assert rows["flow/a_first/window=0.025"]["duration"] == 0.025
    assert rows["descent/b_first/learning_rate=0.02"]["duration"] == 0.02


def test_variables_are_found_by_place(view: View) -> None:
    stored = view.tree["trajectory"]["loss"].values
    np.testing.assert_array_equal(view.trajectory("loss", 2, 1), stored[2, 1])
    np.testing.assert_array_equal(view.final("steps", 2, 1), view.tree["final"]["steps"].values[2, 1])
    assert view.theory("loss_floor", 1).shape == view.theory("loss_limit", 1).shape == (2,)
    assert view.companion_seeds("integrated", 0) == [0] and view.companion_seeds("integrated", 1) == []
    assert view.companion_seeds("loose_10", 1) == [0, 1]
    assert view.subject(FLOW, 1) == "flow/rank=2" and view.subject("integrated", 0, 1) == "integrated/rank=1/seed=1"


def test_the_unit_of_distance_is_the_largest_update_of_the_flow(view: View) -> None:
    norms = view.tree["trajectory"]["product_norm"].values
    np.testing.assert_array_equal(view.size(1), norms[0, 1].max(-1))
    norms[0, 1, 0] = np.nan
    assert View(view.tree).size(1)[0] == 0.0


def test_the_loss_inherits_the_error_of_the_update(view: View, trace_tree: Any) -> None:
    """|f(W + E) − f(W)| ≤ loss_error for every E of the estimated size: a bound on both objectives."""
    for tree, gradient in ((view.tree, 1.0), (trace_tree, 8.0)):
        error = tree["trajectory"]["estimated_error"].values
        error[FLOW, 0] = 1e-2
        one = View(tree)
        delta, kappa = 1e-2 * one.size(0)[:, None], 2 * one.coefficient
        loss = one.trajectory("loss", FLOW, 0)
        rise = np.sqrt(2 * kappa * gradient * loss) * delta + kappa * gradient * delta**2 / 2
        np.testing.assert_allclose(one.loss_error(FLOW, 0), rise, rtol=1e-12)
        np.testing.assert_array_equal(one.last_loss_error(FLOW, 0), one.loss_error(FLOW, 0)[:, -1])
        error[FLOW, 0] = np.nan
        assert np.isnan(View(tree).loss_error(FLOW, 0)).all()
        tree["trajectory"]["product_norm"].values[FLOW, 0] = 0.0
        np.testing.assert_array_equal(View(tree).loss_error(FLOW, 0), 0.0)


def test_incomplete_names_what_ended_early(view: View) -> None:
    assert view.incomplete(1, 0, "loose_10", "loose_100", "tight") == ""
    view.tree["companions"]["product_norm"].values[1, 1, 0, -1] = np.nan
    view = View(view.tree)
    assert view.incomplete(1, 0, "loose_10") == ""
    assert view.incomplete(1, 0, "loose_10", "loose_100") == "the companion solve loose_100 did not complete"
    view.tree["trajectory"]["product_norm"].values[FLOW, 1, 0, -1] = np.nan
    view = View(view.tree)
    assert view.incomplete(1, 0).startswith("the flow did not complete: ")
    assert view.incomplete(1, 1) == ""


def test_numbers_of_schedules_and_companions_over_time(view: View) -> None:
    loss, distance = view.tree["trajectory"]["loss"].values, view.tree["companions"]["distance"].values
    np.testing.assert_array_equal(view.first(2, "loss", 1), loss[2, 1, :, 0])
    np.testing.assert_array_equal(view.last(2, "loss", 1), loss[2, 1, :, -1])
    np.testing.assert_array_equal(view.largest(2, "loss", 1), loss[2, 1].max(-1))
    np.testing.assert_array_equal(view.largest("loose_100", "distance", 1), distance[1, 1].max(-1))
    assert view.complete("loose_100", 1).all() and not view.complete("integrated", 1).any()
    np.testing.assert_array_equal(view.has_companion("integrated", 0), [True, False])


def test_largest_ignores_nan() -> None:
    assert largest(np.array([1.0, np.nan, 3.0])) == 3.0
    assert largest(np.array([1.0, np.inf])) == np.inf
    assert np.isnan(largest(np.array([np.nan])))
    rows = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [-np.inf, np.nan, np.nan], [-2.0, -1.0, np.inf]])
    np.testing.assert_array_equal(largest_over_time(rows), [3.0, np.nan, -np.inf, np.inf])
