"""The table of stored variables: each is documented, and nothing else is stored."""

from __future__ import annotations

from typing import Any

import pytest

from flowsim.trajectory import variables

TABLES = {
    name: getattr(variables, name)
    for name in ("TRAJECTORY", "BASELINE", "THEORY", "FINAL_NUMBERS", "FINAL_WORDS", "COMPANIONS")
}
#: Names that users' notebooks rely on.
FROZEN = {
    "TRAJECTORY": "loss excess_loss gradient_norm relative_error imbalance_drift flow_gap update_order_gap "
    "predicted_gap estimated_error singular_value alignment",
    "BASELINE": "loss relative_error",
    "THEORY": "loss_floor loss_limit relative_error_limit convergence_rate stability_limit parameters energy",
    "FINAL_NUMBERS": "steps evaluations local_rate sharpness",
    "FINAL_WORDS": "outcome method reason",
}


@pytest.mark.parametrize("table", TABLES)
def test_every_variable_is_documented(table: str) -> None:
    for name, one in TABLES[table].items():
        attrs = one.attrs()
        assert set(attrs) == {"long_name", "units", "formula"}
        assert attrs["long_name"] and attrs["formula"], name
        assert attrs["units"] or table == "FINAL_WORDS", name
        assert one.extra in (None, "mode", "side")


@pytest.mark.parametrize("table", FROZEN)
def test_the_frozen_names_are_there(table: str) -> None:
    assert set(FROZEN[table].split()) <= set(TABLES[table])


def test_the_same_name_means_the_same_thing_everywhere() -> None:
    shared = set(variables.COMPANIONS) & set(variables.TRAJECTORY)
    assert shared and all(variables.COMPANIONS[name] is variables.TRAJECTORY[name] for name in shared)


def test_a_result_holds_the_variables_of_the_table(frobenius_run: Any) -> None:
    tree = frobenius_run.tree
    assert set(tree["trajectory"].data_vars) == {*variables.TRAJECTORY, "flow_time", "step"}
    final = {*variables.TRAJECTORY, "flow_time", "step", *variables.FINAL_WORDS, *variables.FINAL_NUMBERS}
    assert set(tree["final"].data_vars) == final
    assert set(tree["baseline"].data_vars) == set(variables.BASELINE)
    assert set(tree["theory"].data_vars) == set(variables.THEORY) | set(variables.THEORY_WORDS)
    assert set(tree["companions"].data_vars) == {*variables.COMPANIONS, "method"}
