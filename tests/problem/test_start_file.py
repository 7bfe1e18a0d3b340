"""Starts from a user's file: in numbers, through the whole pipeline, in a sweep, and on a worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from flowsim.checks import verdict_table
from flowsim.cli import main
from flowsim.errors import InputError
from flowsim.pipeline import execute
from flowsim.problem.assemble import all_start_at_pretrained, assemble
from flowsim.scenario import Document, parse_scenario
from flowsim.sweep.campaign import Campaign
from flowsim.sweep.sizes import sizes_of
from flowsim.sweep.tiles import clock, tiles_of
from flowsim.sweep.work import Job, forget, pinned, solve_job

TEXT = """\
name: own
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [7, 5], singular_values: [2.0, 1.2, 0.5], seed: 3}
adapter:
  ranks: [1, 2]
  seeds: SEEDS
  init: INIT
schedules:
  - {kind: flow}
  - {kind: flow, update: symmetric, windows: [0.1, 0.05, 0.025]}
time: {stop: 30.0, points: 61}
"""
OWN = "{kind: file, path: start.npz}"
SHORT = {"schedules": "[{kind: flow}]", "time": "{stop: 1.0, points: 3}"}
N, M, R = 7, 5, 2


def read(folder: Path, *, init: str = OWN, seeds: object = 2, more: str = "", **settings: Any) -> Document:
    text = TEXT.replace("SEEDS", str(seeds)).replace("INIT", init) + more
    return parse_scenario(text, name="own.yaml", folder=folder, overrides=[f"{k}={v}" for k, v in settings.items()])


def orthogonal_in_both_factors(seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of A and columns of B orthonormal up to scale: an init that flowsim has no name for."""
    A, B = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        A.append(0.3 * np.linalg.qr(rng.standard_normal((M, R)))[0].T)
        B.append(0.4 * np.linalg.qr(rng.standard_normal((N, R)))[0])
    return np.array(A), np.array(B)


def write(folder: Path, A: np.ndarray, B: np.ndarray) -> None:
    np.savez(folder / "start.npz", A=A, B=B)


def test_a_start_is_the_one_of_its_seeds_number(tmp_path: Path) -> None:
    A, B = orthogonal_in_both_factors(range(4))
    write(tmp_path, A, B)
    problem = assemble(read(tmp_path, seeds=[3, 1]))
    assert not problem.deterministic_init and not problem.start_is_pretrained
    for rank in (1, 2):
        start = problem.start(rank)
        assert np.array_equal(start.A, A[[3, 1], :rank]) and np.array_equal(start.B, B[[3, 1], :, :rank])
        assert start.A.flags.writeable and start.A.flags.c_contiguous
    with pytest.raises(InputError, match="rank 3 is too large"):
        problem.start(3)


def test_what_is_known_without_solving(tmp_path: Path) -> None:
    A, B = orthogonal_in_both_factors(range(2))
    write(tmp_path, A, B[0])
    assert not assemble(read(tmp_path)).deterministic_init
    write(tmp_path, A[0], B[0])
    assert assemble(read(tmp_path)).deterministic_init
    # B A is zero for seed 0, and for seed 1 at rank 1 only.
    B = np.zeros_like(B)
    B[1, :, 1] = 1.0
    write(tmp_path, A, B)
    for seeds, ranks, expected in [([0], [1, 2], True), ([1], [1], True), ([1], [2], False), ([0, 1], [1, 2], False)]:
        document = read(tmp_path, seeds=seeds, **{"adapter.ranks": ranks})
        assert assemble(document).start_is_pretrained is expected
        assert all_start_at_pretrained(document) is expected
    sweep = "sweep: {adapter.init: [{kind: kaiming}, {kind: file, path: start.npz}]}\n"
    assert not all_start_at_pretrained(read(tmp_path, more=sweep))
    assert all_start_at_pretrained(read(tmp_path, more=sweep, seeds=1))


def test_a_file_that_has_another_shape_by_now_is_refused(tmp_path: Path) -> None:
    A, B = orthogonal_in_both_factors(range(2))
    write(tmp_path, A, B)
    problem = assemble(read(tmp_path))
    write(tmp_path, A[..., :4], B)
    with pytest.raises(InputError, match="do not fit a weight of shape") as caught:
        problem.start(1)
    assert len(caught.value.lines()) == 2


def assert_same_numbers(first: xr.DataTree, second: xr.DataTree) -> None:
    assert set(first.groups) == set(second.groups)
    for group in first.groups:
        one, other = first[group].to_dataset(), second[group].to_dataset()
        xr.testing.assert_equal(one, other)
        assert all(one[name].dtype == other[name].dtype for name in one.variables)


def test_an_own_init_is_run_and_judged_like_any_other(tmp_path: Path) -> None:
    A, B = orthogonal_in_both_factors(range(2))
    write(tmp_path, A, B)
    document = read(tmp_path)
    done = execute(document, out=tmp_path / "out", plots=False)
    tree = done.tree
    rows = verdict_table(tree)
    assert {row["verdict"] for row in rows} <= {"pass", "not_applicable"}, rows
    assert {"equivalence", "eckart_young", "conservation", "accuracy"} <= {
        row["check"] for row in rows if row["verdict"] == "pass"
    }
    assert (tree["final"]["outcome"].sel(schedule="flow") == "reached").all()
    # Time 0 is the file's: the loss of W0 + BA.
    weight = assemble(document).pretrained
    for seed in (0, 1):
        expected = 0.5 * np.linalg.norm(weight + B[seed] @ A[seed]) ** 2
        found = tree["trajectory"]["loss"].sel(schedule="flow", rank=2, seed=seed).values[0]
        assert found == pytest.approx(expected, rel=1e-13)
    assert json.loads(tree.attrs["weights_sha256"]) == {"adapter.init": document.weights[0].sha256}
    assert execute(document, out=tmp_path / "out", plots=False).already_complete


def test_the_same_numbers_as_values_give_the_same_result(tmp_path: Path) -> None:
    A, B = orthogonal_in_both_factors([5])
    write(tmp_path, A[0], B[0])
    values = f"{{kind: values, A: {A[0].tolist()}, B: {B[0].tolist()}}}"
    given = [read(tmp_path, init=init, seeds=1, **SHORT) for init in (OWN, values)]
    # A start with an axis of seeds, and one for each rank, say the same too.
    np.savez(tmp_path / "ranks.npz", A_1=A[:, :1], B_1=B[0, :, :1], A_2=A[0], B_2=B)
    given.append(read(tmp_path, init="{kind: file, path: ranks.npz}", seeds=1, **SHORT))
    first, *others = (execute(document, out=tmp_path / "out", plots=False).tree for document in given)
    for other in others:
        assert_same_numbers(first, other)


def test_it_stands_in_a_sweep_beside_other_inits(tmp_path: Path) -> None:
    A, B = orthogonal_in_both_factors(range(2))
    write(tmp_path, A, 0 * B)
    sweep = "sweep: {adapter.init: [{kind: kaiming}, {kind: file, path: start.npz}]}\n"
    swept = execute(read(tmp_path, more=sweep, **SHORT), out=tmp_path / "out", plots=False).tree
    assert swept["baseline"]["loss"].dims == ("init", "time")
    alone = execute(read(tmp_path, **SHORT), out=tmp_path / "out", plots=False).tree
    loss = swept["trajectory"]["loss"]
    assert loss["init"].values.tolist() == ["{kind: kaiming}", "{kind: file, path: start.npz}"]
    assert np.array_equal(loss.values[1], alone["trajectory"]["loss"].values)
    assert not np.array_equal(loss.values[0], loss.values[1])


def test_a_dry_run_says_its_method_and_counts_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    A, B = orthogonal_in_both_factors(range(100))
    write(tmp_path, A, B)
    (tmp_path / "own.yaml").write_text(TEXT.replace("SEEDS", "2").replace("INIT", "{kind: kaiming}"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["run", "own.yaml", "--dry-run", "--json", "--set", f"adapter.init={OWN}"])
    assert done.exit_code == 0
    # Orthonormal rows and columns of unequal scale: BᵀB − AAᵀ is a multiple of the identity.
    assert [method for _, method, _ in json.loads(done.stdout)["methods"]] == ["exact (balanced)"] * 2

    def memory(document: Document) -> int:
        campaign = Campaign(document)
        return sizes_of(document, campaign.times, campaign.layout, campaign.tiles).worker

    other = read(tmp_path, init="{kind: gaussian, zero: none}")
    assert memory(read(tmp_path)) - memory(other) == A.nbytes + B.nbytes


def test_a_worker_refuses_another_file_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    A, B = orthogonal_in_both_factors(range(2))
    write(tmp_path, A, B)
    monkeypatch.chdir(tmp_path)
    document = read(Path(), **SHORT)
    tile = tiles_of(document, clock(document))[0]
    job = Job(pinned(document), tile, "ab", "cpu", None)
    monkeypatch.chdir("/")  # a worker stands elsewhere
    forget()
    solve_job(job)
    write(tmp_path, A, 2 * B)
    forget()
    with pytest.raises(InputError, match=r"start\.npz has sha256"):
        solve_job(job)
    forget()
