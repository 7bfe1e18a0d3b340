"""The benchmarks compute what they say: references, errors, every engine, every claim, at small sizes and untimed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import child, claims, race, report
from tests.benchmarks.child import Child, Failed, Timing, TooSlow
from tests.benchmarks.engines import BASELINE, PEERS, Sample, Setting, missing
from tests.benchmarks.errors import factor_error, product_error
from tests.benchmarks.lines import Line, extrapolated, slope
from tests.benchmarks.reference import reference
from tests.benchmarks.table import RACES
from tests.benchmarks.work import Basis, Work
from tests.oracles import reference as oracle

SMALL = Work(12, (1, 3), 30.0, seeds=2, saves=5)
WORKS = {
    "small": SMALL,
    "growing": replace(SMALL, times="growing"),
    "kaiming": replace(SMALL, start="kaiming"),
    "trace": replace(SMALL, kind="trace_squared", horizon=10.0),
}
each_work = pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="module")
def host() -> Iterator[Child]:
    with Child() as process:
        yield process


class Here:
    """A child that is this process: starting a real one takes seconds."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def ask(self, question: Callable[..., Any], *arguments: Any, limit: float | None = None) -> Any:
        return question(*arguments)

    def close(self) -> None:
        return


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races and claims in this process, once, on one thread."""
    for module in (race, claims):
        monkeypatch.setattr(module, "Child", Here)
        monkeypatch.setattr(module, "COUNTS", (1,))
        monkeypatch.setattr(module, "REPEATS", 1)


def silent(_: str) -> None:
    """Progress that nobody reads."""


def test_a_basis_is_orthogonal_dense_and_not_the_other() -> None:
    left, right = (Basis(9, seed).out(np.eye(9)) for seed in (1, 2))
    np.testing.assert_allclose(left.T @ left, np.eye(9), atol=1e-14)
    np.testing.assert_allclose(Basis(9, 1).into(left), np.eye(9), atol=1e-14)
    assert np.abs(left).min() > 1e-4
    assert np.abs(left - right).max() > 0.1


def test_the_target_has_the_singular_values_it_says() -> None:
    np.testing.assert_allclose(np.linalg.svd(SMALL.target)[1], 1 / np.arange(1, 13), rtol=1e-13)


@each_work
def test_references_are_those_of_dense_matrices(work: Work, folder: Path) -> None:
    loss = oracle.Loss(work.pretrained, work.target if work.kind == "frobenius" else None)
    A, B = reference(work, 3, folder)
    A0, B0 = work.factors(3)
    for member in range(2):
        exact = oracle.flow(loss, A0[member], B0[member], work.grid)
        assert product_error(A[:, member], B[:, member], *exact) < 1e-9
        assert factor_error(A[:, member], B[:, member], *exact) < 1e-9
    again = reference(work, 3, folder)
    np.testing.assert_array_equal(again[0], A)  # from the disk


def test_a_reference_that_has_settled_stands_still(folder: Path) -> None:
    long = replace(SMALL, ranks=(3,), horizon=1e5, saves=4)
    A, B = reference(long, 3, folder)
    best = long.left.out(np.diag(long.sigma)[:, :3]) @ long.right.out(np.eye(12)[:, :3]).T
    np.testing.assert_allclose(B @ A, np.broadcast_to(best, (4, 2, 12, 12)), atol=1e-10)


def test_errors_are_relative_at_each_time() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((4, 2, 3, 7)), rng.standard_normal((4, 2, 7, 3))
    A[0] *= 1e-6  # an early, small state counts as much as a late one
    wrong = A.copy()
    wrong[0, 1] *= 1.01
    dense = np.linalg.norm((B @ wrong - B @ A)[0, 1]) / np.linalg.norm((B @ A)[0, 1])
    assert product_error(wrong, B, A, B) == pytest.approx(dense, rel=1e-9)
    assert factor_error(wrong, B, A, B) == pytest.approx(0.01, rel=1e-9)
    assert product_error(A, B, A, B) < 1e-14
    gauge = np.diag([2.0, 1.0, 0.5])
    assert product_error(gauge @ A, B @ np.linalg.inv(gauge), A, B) < 1e-13
    assert factor_error(gauge @ A, B @ np.linalg.inv(gauge), A, B) > 0.1
    wrong[3, 0, 0, 0] = np.nan
    assert product_error(wrong, B, A, B) == factor_error(wrong, B, A, B) == np.inf


@pytest.mark.parametrize(
    ("engine", "name"),
    [*product(("flowsim", BASELINE), WORKS), *product(PEERS, ("small", "trace"))],
)
def test_every_engine_solves_every_work(host: Child, engine: str, name: str, folder: Path) -> None:
    if missing(engine):
        pytest.skip(missing(engine))
    setting = Setting(1e-7, 1e-10, error="factors")
    work, sample = WORKS[name], Sample((3,), 1) if engine in PEERS else Sample()
    timing = host.ask(child.run, engine, work, sample, setting)
    wrong, moved = host.ask(child.errors, work, sample, folder)
    assert wrong < 2e-4
    assert moved < 2e-4
    ranks, _ = sample.of(work)
    assert set(timing.seconds) == set(ranks)
    assert timing.peak > 2**20
    closed = engine == "flowsim" and work.kind == "trace_squared"
    assert all(
        (count > 0) != (closed or (engine == "flowsim" and rank == 1)) for rank, count in timing.evaluations.items()
    )


def test_a_looser_run_has_a_larger_error(host: Child, folder: Path) -> None:
    seen = []
    for rtol in (1e-3, 1e-7):
        host.ask(child.run, BASELINE, SMALL, Sample((3,)), Setting(rtol, rtol * 1e-3))
        seen.append(host.ask(child.errors, SMALL, Sample((3,)), folder)[0])
    assert seen[0] > 100 * seen[1]


def test_a_child_says_what_went_wrong(host: Child) -> None:
    with pytest.raises(Failed, match="KeyError: 'no such engine'"):
        host.ask(child.run, "no such engine", SMALL, Sample(), Setting())
    assert host.ask(child.peak_memory) > 2**20


def test_a_slow_child_is_given_up() -> None:
    with Child() as process, pytest.raises(TooSlow):
        process.ask(
            child.run, BASELINE, replace(SMALL, n=64, ranks=(16,), horizon=1e6), Sample(), Setting(), limit=0.01
        )


def test_a_race_takes_the_loosest_tolerance_within_the_bound(folder: Path, here: None) -> None:
    said: list[str] = []
    work = replace(SMALL, ranks=(3,))
    lines = race.run(race.Race("tiny", work, wanted=1e9, peers=("scipy RK45",)), folder, said.append)
    base, own, peer = lines
    assert [line.engine for line in lines] == [BASELINE, "flowsim", "scipy RK45"]
    assert base.error is not None and own.error is not None and base.seconds is not None and own.seconds is not None
    assert 0 < own.error <= base.error < 1e-3
    assert own.ratio == pytest.approx(base.seconds / own.seconds)
    assert peer.error is not None and peer.error < 1e-3
    tried = [text for text in said if "has error" in text]
    assert all(float(text.split("error ")[1].split()[0]) > base.error for text in tried[:-1])
    assert "MISSED" in report.cells(own)[7]


def test_what_is_extrapolated_says_so(folder: Path, here: None) -> None:
    sampled = race.Race("some", WORKS["trace"], baseline=Sample((1, 3), 1))
    base, own = race.run(sampled, folder, silent)
    assert "EXTRAPOLATED from 2 of 4 trajectories" in base.note
    assert own.evaluations == 0
    timing = Timing({3: 2.0}, {3: 10}, 0, "", 0.0)
    part = race.Race("part", replace(SMALL, ranks=(3,)), part=0.1, bound=1e-4)
    assert race._whole(part, timing) == (20.0, "EXTRAPOLATED from 10% of the horizon (2.0 s)")
    base, own = race.run(part, folder, silent)
    assert base.error is None and "EXTRAPOLATED from 10%" in base.note
    assert own.error is not None and own.error <= 1e-4


def test_sums_and_slopes() -> None:
    assert extrapolated({1: 1.0, 5: 5.0}, (1, 2, 3, 4, 5, 6), 2) == 2 * (1 + 2 + 3 + 4 + 5 + 5)
    assert slope([1.0, 2.0, 4.0], [3.0, 3 * 2**1.5, 3 * 4**1.5]) == pytest.approx(1.5)


def test_all_ranks_in_one_pass(host: Child) -> None:
    seconds, peak, steps, error = host.ask(claims.nested_pass, 20, 6, (0.5, 4.0), (1, 3, 6))
    assert seconds > 0 and peak > 2**20 and steps > 0
    assert error < 1e-10


def test_a_long_horizon_is_solved_to_its_end(folder: Path, here: None) -> None:
    work = replace(SMALL, ranks=(3,), seeds=1, horizon=100.0)
    near, far = claims.long_horizon(folder, silent, {"small": work}, far=1000.0)
    assert near.error is not None and far.error is not None
    assert near.error < 1e-3 and far.error < 1e-3
    assert "times the seconds" in far.note


def test_descent_and_the_loop_agree(folder: Path, here: None) -> None:
    loop, own = claims.descent(folder, silent, replace(SMALL, ranks=(3,), seeds=1), rounds=40, sampled=20)
    assert own.error is not None and own.error < 1e-12
    assert loop.seconds is not None and own.seconds is not None
    assert own.ratio == pytest.approx(loop.seconds / own.seconds)


def test_costs_are_fitted(folder: Path, here: None) -> None:
    rows, ranks = claims.cost_exponents(folder, silent, (16, 32), 4, (2, 4), 32)
    assert "(n + m)^" in rows.note and "r^" in ranks.note


def test_auto_is_held_against_every_choice(folder: Path, here: None) -> None:
    lines = claims.choices(folder, silent, {"tiny": replace(SMALL, ranks=(3,), seeds=1)}, asked=1e-4)
    solvers = {line.engine: line for line in lines[:-1]}
    assert {"flowsim auto", "flowsim tsit5"} <= set(solvers)
    auto = solvers["flowsim auto"]
    assert auto.error is not None and auto.error <= 1e-4
    assert "times slower than the best" in lines[-1].note


def test_the_table_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line("work", "engine", 1, 0.1234, 5, 1e-7, True, 2**20, 50.0, 40.0, "why")
    monkeypatch.setattr(command, "timed", lambda *_: [line])
    assert command.main(["small", "n256-r64", "--quick", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "left out by --quick: n256-r64" in shown
    [numbers], [page] = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    whole = json.loads(numbers.read_text(encoding="utf-8"))
    assert whole["lines"][0]["seconds"] == 0.1234
    assert {"date", "machine", "load", "versions", "command"} <= set(whole)
    text = page.read_text(encoding="utf-8")
    assert "| work | engine | 1 | 0.123 | 5 | 1.0e-07 (A, B) | 1 MiB | 50× (≥ 40×) | why |" in text
    with pytest.raises(SystemExit):
        command.main(["no such"])


def test_a_failure_becomes_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[Line]:
        raise Failed("Traceback\nValueError: no luck")

    monkeypatch.setattr(race, "run", broken)
    [line] = command.timed("small", folder, 1.0)
    assert line.note == "FAILED: ValueError: no luck"
    assert line.seconds is None


def test_every_asked_ratio_has_a_race() -> None:
    asked = sorted(one.wanted for one in RACES.values() if one.wanted is not None)
    assert asked == [25, 40, 40, 60, 200, 200, 300, 500]
