"""Whoever solves the tiles: what they answer, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from flowsim.errors import FlowsimError, InputError
from flowsim.scenario.read import parse_scenario
from flowsim.sweep import workers as module
from flowsim.sweep.slabs import unpack
from flowsim.sweep.tiles import clock, tiles_of
from flowsim.sweep.work import Job, describe, forget, pinned, solve_job
from flowsim.sweep.workers import STILLBORN, Here, NotStarted, Processes, cores, lost, workers

TEXT = """\
name: tiny
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [5, 4], std: 0.6, seed: 2}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5}}
time: {stop: 1.0, points: 3}
solver: {rtol: 1e-4}
"""


def jobs(text: str = TEXT) -> list[Job]:
    given = parse_scenario(text, name="s.yaml", folder=".")
    return [Job(pinned(given.points[tile.point]), tile, "ab", "cpu", None) for tile in tiles_of(given, clock(given))]


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    yield
    forget()


def test_here_is_this_process() -> None:
    seen: list[tuple[int, str]] = []
    with workers(1, None, lambda job, label: seen.append((job.tile.rank, label))) as crew:
        assert isinstance(crew, Here) and crew.stamp("cpu") == describe("cpu")
        for job in jobs():
            assert unpack(crew.submit(job).result())[1]["stamp"] == crew.stamp("cpu")
    assert seen == [(1, "flow"), (2, "flow")]


def test_here_hands_errors_on_but_not_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(job: Job, advance: Any) -> bytes:
        raise error

    monkeypatch.setattr(module, "solve_job", broken)
    crew = Here(lambda *_: None)
    error: BaseException = ZeroDivisionError()
    assert crew.submit(jobs()[0]).exception() is error
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        crew.submit(jobs()[0])


def test_a_tile_does_not_depend_on_those_before_it() -> None:
    one, two = jobs()
    first = [solve_job(job) for job in (one, two)]
    again = [solve_job(job) for job in (two, one, two)]
    for before, after in ((first[0], again[1]), (first[1], again[0]), (first[1], again[2])):
        (left, about), (right, other) = unpack(before), unpack(after)
        assert about == other and left.keys() == right.keys()
        assert all(left[name].tolist() == right[name].tolist() for name in left if left[name].dtype == object)
        assert all(left[name].tobytes() == right[name].tobytes() for name in left if left[name].dtype != object)


def test_a_weight_file_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.arange(20.0).reshape(5, 4))
    for target in ("", "target: {kind: file, path: w.npy}\n", "target: {kind: shift, by: {kind: file, path: w.npy}}\n"):
        pretrained = "pretrained: {kind: file, path: w.npy}" if not target else "pretrained: {kind: zeros}"
        text = TEXT.replace("pretrained: {kind: gaussian, shape: [5, 4], std: 0.6, seed: 2}", pretrained) + target
        given = parse_scenario(text, name="s.yaml", folder=tmp_path)
        tile = tiles_of(given, clock(given))[0]
        job = Job(pinned(given.points[0]), tile, f"ab{target}", "cpu", None)
        assert job.document.text == ""
        solve_job(job)
        forget()
        content = (tmp_path / "w.npy").read_bytes()
        np.save(tmp_path / "w.npy", np.ones((5, 4)))
        with pytest.raises(InputError, match="has sha256"):
            solve_job(job)
        (tmp_path / "w.npy").write_bytes(content)


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]


def kill_when_there(place: int = 0) -> None:
    while len(children()) <= place:
        time.sleep(0.01)
    children()[place].send_signal(signal.SIGKILL)


@pytest.mark.slow  # by default `test_resume.py` kills workers of a whole run
def test_processes_die_alone_and_leave_nothing() -> None:
    """One process is killed at work: its job is lost, the other's is not, and a third takes its place."""
    long = TEXT.replace("points: 3", "points: 100001").replace("rtol: 1e-4", "rtol: 1e-10")
    with workers(2, None, lambda *_: None) as crew:
        assert all(future.result() for future in [crew.submit(job) for job in jobs()])
        working = children()
        pair = [crew.submit(job) for job in jobs(long)[1:] * 2]
        working[0].send_signal(signal.SIGKILL)
        errors = [future.exception() for future in pair]
        assert sorted(error is None for error in errors) == [False, True]
        assert [lost(error) for error in errors if error is not None] == [True]
        assert all(unpack(crew.submit(job).result())[1]["stamp"] == describe("cpu") for job in jobs())
        # Ctrl-C reaches every process of a terminal; it is not theirs to answer.
        for one in children():
            one.send_signal(signal.SIGINT)
        assert crew.submit(jobs()[0]).result()
    assert children() == []


def test_a_process_that_dies_as_it_starts_says_nothing_of_its_job() -> None:
    with workers(1, None, lambda *_: None) as crew:
        assert isinstance(crew, Here)
    crew = Processes(1)
    try:
        for _ in range(STILLBORN - 1):
            future = crew.submit(jobs()[0])
            kill_when_there()
            assert isinstance(future.exception(), NotStarted)
        assert crew.submit(jobs()[0]).result()  # and one that starts is a new beginning
        for one in children():
            one.kill()
        assert lost(crew.submit(jobs()[0]).exception() or ValueError())
        for _ in range(STILLBORN):
            future = crew.submit(jobs()[0])
            kill_when_there()
            assert isinstance(future.exception(), NotStarted)
        with pytest.raises(FlowsimError, match="worker processes die as they start"):
            crew.submit(jobs()[0])
    finally:
        crew.close(at_once=True)
    assert children() == []


UNGUARDED = """
import sys
from flowsim import run
run(sys.argv[1], out=sys.argv[2], plots=False, jobs=2)
"""


@pytest.mark.slow  # a dozen processes that import torch; the test above has the same ending without a script
def test_a_script_without_its_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TEXT)
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "tiny.yaml"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "FlowsimError: worker processes die as they start" in done.stderr
    assert not list(tmp_path.rglob("*.nc"))


PARENT = """
import os, signal, sys, time
from pathlib import Path
from flowsim.scenario.read import parse_scenario
from flowsim.sweep.tiles import clock, tiles_of
from flowsim.sweep.work import Job, pinned
from flowsim.sweep.workers import Processes
if __name__ == "__main__":
    given = parse_scenario(Path(sys.argv[1]).read_text(), name="s", folder=".")
    crew = Processes(2)
    for tile in tiles_of(given, clock(given)):
        crew.submit(Job(pinned(given.points[0]), tile, "ab", "cpu", None))
    print("ready", flush=True)
    time.sleep(60)
"""


def test_processes_do_not_outlive_their_parent(tmp_path: Path) -> None:
    long = TEXT.replace("points: 3", "points: 20001").replace("rtol: 1e-4", "rtol: 1e-10")
    (tmp_path / "long.yaml").write_text(long)
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "long.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
        working: list[psutil.Process] = []
        while len(working) < 2 or not all(one.cpu_times().user > 1 for one in working):  # both have come to work
            family = psutil.Process(parent.pid).children(recursive=True)
            working = [one for one in family if "spawn_main" in " ".join(one.cmdline())]
            time.sleep(0.05)
        assert len(working) == 2
        parent.kill()
        gone, alive = psutil.wait_procs(working, timeout=5)
    assert len(gone) == 2 and alive == []


def test_threads_of_one_worker_solve_one_tile_at_a_time() -> None:
    """A worker of a cluster may have several: each tile is the one that was asked for."""
    from concurrent.futures import ThreadPoolExecutor

    many = TEXT + "sweep: {adapter.init.std: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}\n"
    wanted = [unpack(solve_job(job))[0]["trajectory/loss"] for job in jobs(many)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(solve_job, jobs(many) * 4))
    for place, content in enumerate(found):
        assert unpack(content)[0]["trajectory/loss"].tobytes() == wanted[place % len(wanted)].tobytes()


def test_an_error_holds_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try gets what the first one had."""
    held: list[weakref.ref[Any]] = []

    def greedy(job: Job, advance: Any) -> bytes:
        large = np.ones(1000)
        held.append(weakref.ref(large))
        raise MemoryError

    monkeypatch.setattr(module, "solve_job", greedy)
    future = Here(lambda *_: None).submit(jobs()[0])
    assert isinstance(future.exception(), MemoryError) and held[0]() is None


def test_processes_are_ended_at_once(caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers(2, None, lambda *_: None) as crew:
        for job in jobs(TEXT.replace("points: 3", "points: 20001").replace("rtol: 1e-4", "rtol: 1e-10")):
            crew.submit(job)
        raise KeyboardInterrupt
    assert children() == [] and time.monotonic() - began < 30
    assert caplog.records == []  # nothing is said of jobs that nobody waits for


def test_what_counts_as_lost() -> None:
    from concurrent.futures.process import BrokenProcessPool

    allocation = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ...")
    killed = type("KilledWorker", (Exception,), {})()
    assert all(map(lost, (MemoryError(), BrokenProcessPool(), killed, allocation)))
    assert not any(map(lost, (ValueError(), InputError("x"), OSError())))


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x", "tcp://host with spaces:1"):
        with pytest.raises(InputError) as caught, workers(1, address, lambda *_: None):
            raise AssertionError("nobody is there")
        assert (
            caught.value.lines()[0].startswith(f"scheduler {address}: ") and "dask scheduler" in caught.value.lines()[1]
        )


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for text, wanted in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8)):
        monkeypatch.setattr(Path, "read_text", lambda self, encoding, text=text: text)
        assert cores() == wanted
