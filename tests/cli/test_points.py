"""``--at KEY=VALUE``: which point is meant, and what is said where none is."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsim.cli.points import example, folder_of, places_at, said
from flowsim.errors import InputError
from flowsim.scenario.sweep import Axis

STD = Axis("adapter.init.std", "std", (1e-4, 1e-2, 1))
INIT = Axis("adapter.init", "init", ({"kind": "kaiming"}, {"kind": "gaussian", "std": 0.1}))
METHOD = Axis("solver.method", "solver_method", ("tsit5", "splitting4", "yes", True))
ALONE = Axis("reach", "reach", (1e-6,))


@pytest.mark.parametrize(
    ("axes", "settings", "places"),
    [
        ([STD], ["std=0.01"], (1,)),
        ([STD], ["adapter.init.std = 1e-2"], (1,)),
        ([STD, ALONE], ["std=1.0"], (2, 0)),
        ([STD, ALONE], ["reach=0.000001", "std=1"], (2, 0)),
        ([STD], ["std=1", "adapter.init.std=1.0"], (2,)),
        ([INIT], ["init={kind: gaussian, std: 1e-1}"], (1,)),
        ([INIT, METHOD], ["solver_method=splitting4", "init={kind: kaiming}"], (0, 1)),
        ([METHOD], ["solver.method=true"], (3,)),
        ([METHOD], ["solver.method='yes'"], (2,)),
        ([Axis("a", "a", (1, True))], ["a=true"], (1,)),
        ([Axis("a", "a", (1, True))], ["a=1.0"], (0,)),
        ([ALONE], ["reach=1e-06"], (0,)),
    ],
)
def test_a_point_by_its_values(axes: list[Axis], settings: list[str], places: tuple[int, ...]) -> None:
    assert places_at(axes, settings) == places


@pytest.mark.parametrize(
    ("axes", "settings", "what", "hint"),
    [
        ([], ["std=1"], "nothing is swept here", "Leave --at out."),
        ([STD], ["std=0.02"], "no such value of adapter.init.std", "Did you mean 0.01? It takes 0.0001, 0.01, 1."),
        ([STD], ["std=1000000"], "no such value", "Did you mean 1?"),
        ([STD], [f"std=1{'0' * 400}"], "no such value", "It takes 0.0001"),
        ([STD], ["std=nan"], "no such value", "It takes 0.0001"),
        ([STD], ["std="], "no such value", "It takes 0.0001"),
        ([STD], ["std={"], "no such value", "It takes 0.0001"),
        ([METHOD], ["solver_method=spliting4"], "no such value", "Did you mean splitting4?"),
        ([STD], ["sdt=1"], "'sdt' is not swept here", "Did you mean std? The swept keys are: std (adapter.init.std)."),
        ([STD], ["std"], "not of the form KEY=VALUE", "Write --at std=0.0001."),
        ([STD], ["std=1", "std=0.01"], "another value before", "Name each key once."),
        ([STD, INIT], ["std=1"], "leaves adapter.init open", "--at init=…, one of {kind: kaiming}, {kind: gaussian"),
        (
            [Axis("a", "a", tuple(range(50)))],
            ["a=70"],
            "no such value",
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … 49 (50 values)",
        ),
    ],
)
def test_what_is_no_point(axes: list[Axis], settings: list[str], what: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        places_at(axes, settings)
    first, second = caught.value.lines()
    assert what in first and hint in second


def test_examples_are_points() -> None:
    assert example([STD, ALONE]) == "--at std=0.0001"
    assert example([ALONE]) == "--at reach=1e-06"
    assert example([INIT]) == "--at 'init={kind: kaiming}'"
    assert said([STD, ALONE], (1, 0)) == "std = 0.01, reach = 1e-06"


@given(st.lists(st.text(max_size=200), min_size=2, max_size=4, unique=True))
def test_folders_are_safe_and_distinct(texts: list[str]) -> None:
    axis = Axis("pretrained.path", "path", tuple(texts))
    names = [folder_of([axis], (place,)) for place in range(len(texts))]
    assert len(set(names)) == len(texts)
    for name in names:
        assert len(PurePosixPath(name).parts) == len(PureWindowsPath(name).parts) == 1
        assert name.isprintable() and len(name) <= 90 and name not in (".", "..") and name.startswith("path=")
        assert not set(name) & set('<>:"/\\|?* ') and not name.endswith(".")
