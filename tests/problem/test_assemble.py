"""From a scenario to its problem: matrices, constants, starts, and what is computed only once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Spec

import numpy as np
import pytest

from flowsim.errors import InputError
from flowsim.problem import assemble as module
from flowsim.problem.assemble import assemble
from flowsim.problem.spectra import SVD
from flowsim.scenario.model import Scenario

EPS = np.finfo(np.float64).eps
PRETRAINED = Spec(
    kind="spectrum",
    singular_values=Spec(kind="geometric", ratio=0.5, scale=4.0),
    symmetric=False,
    seed=0,
)
GAUSSIAN = Spec(kind="gaussian", std=0.5, zero="B", nested=True)
CONSTANT = Spec(kind="constant", value=1.0)
LORA = Spec(kind="lora", alpha=16)
RSLORA = Spec(kind="rslora", alpha=16)
SPECTRAL = {"kind": "spectral", "power": 0.5, "scale": 1.0}


def document(
    *,
    objective="frobenius",
    shape=(6, 5),
    pretrained=PRETRAINED,
    target=None,
    init=GAUSSIAN,
    ranks=(1, 2),
    seeds=(0, 1, 2),
    scaling=CONSTANT,
):
    scenario = Spec(
        objective=Spec(kind=objective, coefficient=0.5),
        pretrained=pretrained,
        target=target,
        adapter=Spec(ranks=ranks, seeds=seeds, init=init, scaling=scaling),
    )
    return Spec(scenario=scenario, shape=shape, folder=Path())


@pytest.fixture
def decompositions(monkeypatch):
    """Counts the singular value decompositions that are computed."""
    seen = []
    of = SVD.of

    def counted(matrix):
        seen.append(matrix)
        return of(matrix)

    monkeypatch.setattr(module.SVD, "of", counted)
    return seen


def test_the_constants_are_those_of_the_scenario():
    given = document(ranks=(4, 2), seeds=(7, 3))
    problem = assemble(given)
    assert problem.document is given
    assert (problem.kind, problem.coefficient, problem.shape) == ("frobenius", 0.5, (6, 5))
    assert (problem.ranks, problem.seeds) == ((4, 2), (7, 3))
    assert problem.pretrained.dtype == problem.target.dtype == np.float64


def test_the_target_is_zero_where_none_is_given():
    problem = assemble(document())
    assert not problem.target.any()
    assert np.array_equal(problem.difference(1), -problem.pretrained)


def test_a_target_is_built_with_a_stream_of_its_own():
    problem = assemble(document(target=PRETRAINED))
    found = np.linalg.svd(problem.target, compute_uv=False)
    np.testing.assert_allclose(found, [4, 2, 1, 0.5, 0.25], rtol=0, atol=100 * EPS)
    assert not np.allclose(problem.target, problem.pretrained)


def test_a_shift_is_the_difference():
    by = Spec(kind="values", values=np.eye(6, 5).tolist())
    problem = assemble(document(target=Spec(kind="shift", by=by)))
    np.testing.assert_allclose(problem.difference(1), np.eye(6, 5), rtol=0, atol=10 * EPS)


def test_trace_squared_has_no_target():
    problem = assemble(document(objective="trace_squared", shape=(5, 5)))
    assert problem.kind == "trace_squared"
    assert problem.target is None
    for ask in (problem.difference, problem.difference_svd):
        with pytest.raises(InputError, match="no target"):
            ask(1)
    init = Spec(**SPECTRAL, of="difference", b=0.0)
    with pytest.raises(InputError, match="no target"):
        assemble(document(objective="trace_squared", shape=(5, 5), init=init)).start(1)


def test_a_start_has_one_member_per_seed_in_the_order_of_the_scenario():
    first, second = assemble(document(seeds=(7, 3))).start(2), assemble(document(seeds=(3,))).start(2)
    assert first.A.shape == (2, 2, 5)
    assert first.B.shape == (2, 6, 2)
    assert np.array_equal(first.A[1], second.A[0])


def test_starts_repeat_and_do_not_depend_on_the_other_ranks():
    problem = assemble(document(ranks=(1, 2, 4)))
    assert np.array_equal(problem.start(2).A, problem.start(2).A)
    assert np.array_equal(problem.start(2).A, assemble(document(ranks=(2,))).start(2).A)
    assert problem.start(2).pretrained is problem.pretrained


@pytest.mark.parametrize(("scaling", "expected"), [(LORA, (16.0, 4.0)), (RSLORA, (16.0, 8.0))])
def test_the_scale_follows_the_rank(scaling, expected):
    problem = assemble(document(scaling=scaling, ranks=(1, 4)))
    assert (problem.scale(1), problem.scale(4)) == expected
    assert (problem.start(1).scale, problem.start(4).scale) == expected


@pytest.mark.parametrize("scaling", [CONSTANT, LORA])
def test_pissa_freezes_the_residual_of_each_rank(scaling, decompositions):
    problem = assemble(document(init=Spec(kind="pissa"), scaling=scaling, ranks=(1, 3)))
    for rank in (1, 3):
        start = problem.start(rank)
        for A, B in zip(start.A, start.B, strict=True):
            at_zero = start.pretrained + start.scale * (B @ A)
            np.testing.assert_allclose(at_zero, problem.pretrained, rtol=0, atol=50 * EPS)
        assert np.array_equal(problem.frozen(rank), start.pretrained)
        assert np.array_equal(problem.difference(rank), problem.target - start.pretrained)
        tail = np.append(4 * 0.5 ** np.arange(rank, 5), np.zeros(rank))
        np.testing.assert_allclose(problem.difference_svd(rank).S, tail, rtol=0, atol=100 * EPS)
        assert problem.difference_svd(rank) is problem.difference_svd(rank)
    assert problem.start_is_pretrained
    assert problem.deterministic_init
    assert len(decompositions) == 3  # W0 once, the difference once per rank


@pytest.mark.parametrize("of", ["pretrained", "difference"])
def test_one_decomposition_serves_all_ranks(of, decompositions):
    init = Spec(**SPECTRAL, of=of, b=0.1)
    problem = assemble(document(init=init))
    assert not decompositions
    for rank in (1, 2, 3):
        problem.start(rank)
    svd = problem.pretrained_svd if of == "pretrained" else problem.difference_svd(2)
    assert len(decompositions) == 1
    A = problem.start(3).A[0]
    np.testing.assert_allclose(A @ A.T, np.diag(svd.S[:3]), rtol=0, atol=100 * EPS)


def test_random_inits_decompose_nothing(decompositions):
    problem = assemble(document())
    problem.start(2)
    assert problem.start_is_pretrained
    assert not problem.deterministic_init
    assert not decompositions


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (Spec(kind="kaiming", zero="A", nested=True), True),
        (Spec(kind="kaiming", zero="none", nested=True), False),
        (Spec(**SPECTRAL, of="pretrained", b=0.0), True),
        (Spec(**SPECTRAL, of="pretrained", b=1.0), False),
    ],
)
def test_the_start_is_pretrained_where_the_product_is_zero(init, expected):
    problem = assemble(document(init=init))
    assert problem.start_is_pretrained is expected
    start = problem.start(2)
    assert (not np.any(start.B @ start.A)) is expected


MATRICES = [
    {"kind": "zeros", "shape": [5, 5]},
    {"kind": "values", "values": np.eye(5).tolist()},
    {"kind": "gaussian", "shape": [5, 5], "std": 0.1, "seed": 3},
    {"kind": "spectrum", "shape": [5, 5], "singular_values": [3, 2, 1]},
    {
        "kind": "spectrum",
        "shape": [5, 5],
        "singular_values": {"kind": "power", "exponent": 1},
        "symmetric": True,
    },
    {"kind": "spectrum", "shape": [5, 5], "singular_values": {"kind": "geometric", "ratio": 0.5}},
    {"kind": "spectrum", "shape": [5, 5], "singular_values": {"kind": "flat", "value": 2.0}},
    {"kind": "file", "path": "w.npy"},
]
INITS = [
    None,
    {"kind": "gaussian"},
    {"kind": "orthogonal", "zero": "none", "nested": False},
    {"kind": "spectral", "of": "difference", "power": 0.5, "b": 0.1},
    {"kind": "pissa"},
    {"kind": "values", "A": np.eye(3, 5).tolist(), "B": np.eye(5, 3).tolist()},
]


@pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: matrix["kind"])
@pytest.mark.parametrize("init", INITS, ids=lambda init: init["kind"] if init else "default")
def test_every_matrix_and_init_of_a_real_scenario(matrix, init, tmp_path):
    np.save(tmp_path / "w.npy", np.arange(25.0).reshape(5, 5))
    adapter = {"ranks": [1, 3], "seeds": 2, "scaling": {"kind": "lora", "alpha": 2}}
    scenario = Scenario.model_validate(
        {
            "name": "all",
            "objective": {"kind": "frobenius"},
            "pretrained": matrix,
            "target": {"kind": "shift", "by": matrix},
            "adapter": adapter if init is None else adapter | {"init": init},
            "time": {"stop": 1.0},
        }
    )
    problem = assemble(Spec(scenario=scenario, shape=(5, 5), folder=tmp_path))
    assert problem.coefficient == 0.5
    for rank in problem.ranks:
        start = problem.start(rank)
        assert (start.A.shape, start.B.shape, start.scale) == ((2, rank, 5), (2, 5, rank), 2 / rank)
        assert start.A.any() or matrix["kind"] == "zeros"


def test_assembling_needs_no_torch():
    code = "import sys, flowsim.problem.assemble; print({'torch', 'scipy', 'xarray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
