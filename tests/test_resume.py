"""Nothing finished is lost, nothing wrong is kept: runs that are killed, stopped, or run out of disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowsim import pipeline
from flowsim.errors import FlowsimError, InputError, Interrupted, OutputError, ResultError
from flowsim.scenario.read import read_scenario
from flowsim.sweep.work import solve_job as solve

SWEEP = """\
name: swept
objective: {kind: frobenius}
pretrained: {kind: spectrum, shape: [6, 5], singular_values: {kind: power, exponent: 1}, seed: 3}
adapter: {ranks: [1, 2], seeds: 2, init: {kind: gaussian, std: 0.5}}
time: {stop: 4.0, points: 5}
solver: {rtol: 1e-4, atol: 1e-8}
sweep:
  adapter.init.std: [0.1, 0.5]
  pretrained.singular_values.exponent: [0.5, 1, 2]
"""
TILES = 12


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "swept.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


def run(scenario: Path, out: Path, **options: Any) -> Any:
    return pipeline.execute(read_scenario(scenario), out=out, **({"plots": False} | options))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "swept.yaml").write_text(SWEEP, encoding="utf-8")
    return digest(run(folder / "swept.yaml", folder / "out").file)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = ["report.html", "run.json", "scenario.yaml", "swept.nc"]

# A process that has imported everything runs the scenario again and again in forks of itself, and kills them.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from flowsim import pipeline
from flowsim.scenario.read import read_scenario
import flowsim.report.plots, flowsim.trajectory.draft, xarray, h5netcdf

scenario, out, moments, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
document = read_scenario(scenario)
dice = random.Random(seed)

def run(folder):
    pid = os.fork()
    if pid == 0:
        try:
            pipeline.execute(document, out=folder, plots=False)
        except BaseException as error:
            print("failed:", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return pid

begin = time.perf_counter()
os.waitpid(run(out / "whole"), 0)
length = time.perf_counter() - begin
killed = 0
for moment in range(moments):
    folder = out / str(moment)
    pid = run(folder)
    # Anywhere in the run: while it starts, solves, stores, assembles, judges or ends.
    time.sleep(dice.uniform(0, length))
    os.kill(pid, signal.SIGKILL)
    killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
    if os.waitpid(run(folder), 0)[1] != 0:
        sys.exit("a run after the kill did not end well")
print("killed", killed)
"""


def kill_and_resume(scenario: Path, tmp_path: Path, moments: int, undisturbed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(scenario), str(tmp_path / "out"), str(moments), "7"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= moments // 2  # the others had ended already
    for moment in ["whole", *map(str, range(moments))]:
        [folder] = (tmp_path / "out" / moment).glob("swept-*")
        assert names(folder) == WHOLE and digest(folder / "swept.nc") == undisturbed


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(scenario: Path, tmp_path: Path, undisturbed: str) -> None:
    kill_and_resume(scenario, tmp_path, 5, undisturbed)


@pytest.mark.slow  # a minute: forty kills
def test_a_run_killed_at_many_moments_goes_on_too(scenario: Path, tmp_path: Path, undisturbed: str) -> None:
    kill_and_resume(scenario, tmp_path, 40, undisturbed)


def counting(monkeypatch: pytest.MonkeyPatch, stop: int | None = None, error: BaseException | None = None) -> list[int]:
    """Count the tiles that are solved; raise before the one after `stop`."""
    from flowsim.sweep import workers

    solved: list[int] = []

    def counted(job: Any, advance: Any = None) -> bytes:
        if stop is not None and len(solved) == stop:
            assert error is not None
            raise error
        solved.append(job.tile.index)
        return solve(job, advance)

    monkeypatch.setattr(workers, "solve_job", counted)
    return solved


def test_ctrl_c_keeps_what_is_finished(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        counting(patch, 5, KeyboardInterrupt())
        with pytest.raises(Interrupted) as caught:
            run(scenario, tmp_path / "out")
    assert caught.value.lines() == [
        f"interrupted: 5 of {TILES} tiles are finished", "  The same command goes on from there.",
    ]  # fmt: skip
    told: list[str] = []
    ticks: list[tuple[int, int]] = []
    solved = counting(monkeypatch)
    done = run(
        scenario, tmp_path / "out", tell=told.append, progress=lambda what, done, total: ticks.append((done, total))
    )
    assert solved == list(range(5, TILES)) and told == [f"going on: 5 of {TILES} tiles are finished"]
    assert ticks[0] == (5 * 2, TILES * 2) and ticks[-1] == (TILES * 2, TILES * 2)
    assert digest(done.file) == undisturbed and names(done.folder) == WHOLE


def test_ctrl_c_before_anything_is_finished_leaves_nothing(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(monkeypatch, 0, KeyboardInterrupt())
    with pytest.raises(Interrupted):
        run(scenario, tmp_path / "out")
    assert names(tmp_path) == ["swept.yaml"] and list((tmp_path / "out").iterdir()) == []


def stopped(scenario: Path, out: Path, after: int) -> Path:
    """A run that was stopped after some tiles; its folder."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        counting(patch, after, KeyboardInterrupt())
        run(scenario, out)
    [folder] = out.glob("swept-*")
    return folder


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "another's", "a folder", "removed"])
def test_a_damaged_tile_is_computed_again(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = stopped(scenario, tmp_path / "out", 4)
    tile = folder / "tiles" / "000002.tile"
    content = bytearray(tile.read_bytes())
    if how == "truncated":
        tile.write_bytes(content[: len(content) // 2])
    elif how == "emptied":
        tile.write_bytes(b"")
    elif how == "flipped":
        content[len(content) // 2] ^= 1
        tile.write_bytes(content)
    elif how == "another's":
        shutil.copy(folder / "tiles" / "000001.tile", tile)
    else:
        tile.unlink()
        if how == "a folder":
            tile.mkdir()
    told: list[str] = []
    solved = counting(monkeypatch)
    done = run(scenario, tmp_path / "out", tell=told.append)
    assert solved == [2, *range(4, TILES)]
    assert told[1:] == ([] if how == "removed" else ["1 damaged tile will be computed again"])
    assert digest(done.file) == undisturbed


def test_a_tile_damaged_while_the_run_goes_on_is_named(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowsim.sweep.ledger import Ledger

    save = Ledger.save

    def broken(self: Ledger, tile: Any, content: bytes) -> None:
        save(self, tile, content[:-1] if tile.index == 3 else content)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "save", broken)
        with pytest.raises(ResultError) as caught:
            run(scenario, tmp_path / "out")
    assert "000003.tile" in caught.value.lines()[0] and "Run the same command again" in caught.value.lines()[1]
    assert not list((tmp_path / "out").rglob("*.nc"))
    solved = counting(monkeypatch)
    assert digest(run(scenario, tmp_path / "out").file) == undisturbed and solved == [3]


def test_a_failed_tile_is_recorded_and_tried_again_by_the_next_run(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowsim.checks import verdict_table
    from flowsim.cli.common import exit_code
    from flowsim.report.summary import incomplete
    from flowsim.sweep import workers

    def broken(job: Any, advance: Any = None) -> bytes:
        if job.tile.index in (3, 8):
            raise MemoryError if job.tile.index == 3 else ZeroDivisionError("by design")
        return solve(job, advance)

    with monkeypatch.context() as patch:
        patch.setattr(workers, "solve_job", broken)
        done = run(scenario, tmp_path / "out")
    tree = done.tree
    outcome = tree["final"]["outcome"]
    failed = outcome == "failed"
    assert int(failed.sum()) == 2 * 2 and tree.attrs["failed_tiles"] == 2
    assert bool(failed.sel(std=0.1, exponent=1, rank=2).all() and failed.sel(std=0.5, exponent=1, rank=1).all())
    assert tree["trajectory"]["loss"].isnull().sum() == failed.sum() * 5
    assert exit_code(tree) == 3
    lines = incomplete(tree)
    assert len(lines) == 4
    assert lines[0] == (
        "flow, std=0.1, exponent=1.0, rank 2, seed 0: failed (its worker was lost 2 times (MemoryError))"
    )
    assert "unexpected error: ZeroDivisionError: by design" in lines[2]
    touched = [
        row for row in verdict_table(tree) if "std=0.1/exponent=1/" in row["subject"] and "rank=2" in row["subject"]
    ]
    assert touched and {row["verdict"] for row in touched} <= {"unresolved", "not_applicable"}
    solved = counting(monkeypatch)
    again = run(scenario, tmp_path / "out")
    assert solved == [3, 8] and not again.already_complete and digest(again.file) == undisturbed
    assert names(again.folder) == WHOLE
    assert run(scenario, tmp_path / "out").already_complete


def test_a_failed_tile_hides_nothing_that_others_know(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1, seeds 0 to 31 fail: the baseline, and theory of rank 1, are told by the tiles that were solved."""
    from flowsim.sweep import workers

    text = SWEEP[: SWEEP.index("sweep:")].replace("seeds: 2", "seeds: 40")
    scenario.write_text(text, encoding="utf-8")
    whole = run(scenario, tmp_path / "whole").tree

    def broken(job: Any, advance: Any = None) -> bytes:
        if job.tile.index == 0:
            raise ZeroDivisionError
        return solve(job, advance)

    monkeypatch.setattr(workers, "solve_job", broken)
    tree = run(scenario, tmp_path / "out").tree
    assert int((tree["final"]["outcome"].sel(schedule="flow") == "failed").sum()) == 32
    for name in ("baseline/loss", "theory/loss_floor", "theory/energy", "theory/parameters"):
        assert tree[name].values.tobytes() == whole[name].values.tobytes(), name
    later = [row for row in whole["checks"]["reason"].values.tolist() if "tie" in row]
    assert [row for row in tree["checks"]["reason"].values.tolist() if "tie" in row] == later


def test_a_forced_run_that_was_stopped_is_gone_on_with(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old result stays until the new one is whole, but does not count as complete meanwhile."""
    first = run(scenario, tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        counting(patch, 4, KeyboardInterrupt())
        run(scenario, tmp_path / "out", force=True)
    assert caught.value.lines()[1] == "  The same command without --force goes on from there."
    assert digest(first.file) == undisturbed
    solved = counting(monkeypatch)
    again = run(scenario, tmp_path / "out")
    assert solved == list(range(4, TILES)) and not again.already_complete
    assert digest(again.file) == undisturbed and names(again.folder) == WHOLE
    assert run(scenario, tmp_path / "out").already_complete


def test_figures_are_those_of_the_result(scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped while drawing is not at its end, whatever figures an earlier one has left."""
    from flowsim.report import plots

    drawn: list[Path] = []

    def draw(tree: Any, folder: Path, **_: Any) -> None:
        folder.mkdir(exist_ok=True)
        drawn.append(folder)
        if len(drawn) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(plots, "draw", draw)
    stop = 0
    done = run(scenario, tmp_path / "out", plots=True)
    assert len(drawn) == 1 and (done.folder / "run.json").is_file()
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "out", plots=True, force=True)
    assert not (done.folder / "run.json").exists()
    assert run(scenario, tmp_path / "out", plots=True).already_complete and len(drawn) == 3
    assert run(scenario, tmp_path / "out", plots=True).already_complete and len(drawn) == 3


def test_what_is_wrong_with_the_scenario_ends_the_run_and_keeps_what_is_there(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(monkeypatch, 2, InputError("init: beyond float64", "Take another."))
    with pytest.raises(InputError, match="beyond float64"):
        run(scenario, tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.tile"))) == 2


def test_two_runs_of_one_scenario(scenario: Path, tmp_path: Path, undisturbed: str) -> None:
    """The second says who is at work, and leaves everything as it is."""
    refused: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if done and not refused:
            with pytest.raises(OutputError) as caught:
                run(scenario, tmp_path / "out")
            refused.extend(caught.value.lines())

    done = run(scenario, tmp_path / "out", progress=progress)
    assert f"is being computed by process {os.getpid()} on " in refused[0] and len(refused) == 2
    assert digest(done.file) == undisturbed and names(done.folder) == WHOLE


def test_a_run_that_another_one_has_just_finished(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found it unfinished; the second gets the lock when the first is done, and has nothing to do."""
    from flowsim.sweep.ledger import Ledger

    held = Ledger.held

    def late(self: Ledger) -> Any:
        monkeypatch.setattr(Ledger, "held", held)
        run(scenario, tmp_path / "out")
        return held(self)

    monkeypatch.setattr(Ledger, "held", late)
    solved = counting(monkeypatch)
    done = run(scenario, tmp_path / "out")
    assert done.already_complete and solved == list(range(TILES))
    assert digest(done.file) == undisturbed and names(done.folder) == WHOLE


def test_tiles_of_another_version_are_not_mixed(
    scenario: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(scenario, tmp_path / "out", 4)
    plan = folder / "tiles" / "plan.json"
    text = json.loads(plan.read_text())
    text["stamp"]["torch"] = "1.0"
    plan.write_text(json.dumps(text))
    before = names(folder)
    with pytest.raises(ResultError) as caught:
        run(scenario, tmp_path / "out")
    assert "torch 1.0" in caught.value.lines()[0] and "--force" in caught.value.lines()[1]
    assert names(folder) == before
    solved = counting(monkeypatch)
    assert digest(run(scenario, tmp_path / "out", force=True).file) == undisturbed
    assert solved == list(range(TILES))


def test_a_results_folder_that_goes_away(scenario: Path, tmp_path: Path, undisturbed: str) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if done == 10:
            shutil.rmtree(tmp_path / "out")

    with pytest.raises(OutputError) as caught:
        run(scenario, tmp_path / "out", progress=progress)
    assert caught.value.exit_code == 4 and "cannot be written" in caught.value.lines()[0]
    assert digest(run(scenario, tmp_path / "out").file) == undisturbed


def test_a_full_disk(scenario: Path, tmp_path: Path, undisturbed: str) -> None:
    """No file may grow beyond a limit, as on a full disk: tiles fit, then the result does not; with room it goes on."""
    tile = stopped(scenario, tmp_path / "first", 1) / "tiles" / "000000.tile"
    size = tile.stat().st_size
    for limit, finished in ((size // 2, 0), (size + 20_000, TILES)):
        out = tmp_path / str(limit)
        with limited(limit), pytest.raises(OutputError) as caught:
            run(scenario, out)
        assert caught.value.exit_code == 4 and len(caught.value.lines()) == 2
        assert len(list(out.rglob("*.tile"))) == finished
        assert not list(out.rglob("*.nc")) and not list(out.rglob(".*.tile"))
        done = run(scenario, out)
        assert digest(done.file) == undisturbed and names(done.folder) == WHOLE


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """Files of this process end at `size` bytes: the write fails, with EFBIG in the place of ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many kB, and grows it."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(kilobytes: int) -> Path:
        options = f"size={kilobytes}k" + (",remount" if os.path.ismount(place) else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        return place

    yield sized
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def flowsim(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flowsim", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow  # three processes; `test_a_full_disk` has the same by a limit on files
def test_a_small_file_system_fills_up(
    scenario: Path, tmp_path: Path, undisturbed: str, small_disk: Callable[[int], Path]
) -> None:
    """The real thing, as a user meets it: exit 4, nothing corrupt, and it goes on once there is room."""
    tile = stopped(scenario, tmp_path / "first", 1) / "tiles" / "000000.tile"
    kilobytes = 5 * tile.stat().st_size // 1024 + 40
    disk = small_disk(kilobytes)
    done = flowsim("run", scenario, "--out", disk / "out", "--no-plots")
    assert done.returncode == 4, done.stderr
    assert len([line for line in done.stderr.splitlines() if line]) == 2
    finished = len(list(disk.rglob("[0-9]*.tile")))
    assert finished < TILES
    small_disk(20_000)
    done = flowsim("run", scenario, "--out", disk / "out", "--no-plots")
    assert done.returncode in (0, 1), done.stderr
    [folder] = (disk / "out").glob("swept-*")
    assert digest(folder / "swept.nc") == undisturbed and names(folder) == WHOLE


def test_names_with_spaces_and_other_letters(tmp_path: Path, undisturbed: str) -> None:
    place = tmp_path / "ein Ordner mit Ü und 空白"
    place.mkdir()
    (place / "größer (1).yaml").write_text(SWEEP, encoding="utf-8")
    done = run(place / "größer (1).yaml", place / "aus 'gabe'", jobs=1)
    assert digest(done.file) == undisturbed


def test_two_workers_and_a_worker_that_is_killed(scenario: Path, tmp_path: Path, undisturbed: str) -> None:
    """The same bytes from two processes, one of which is killed in the middle of a tile."""
    import psutil

    killed: list[int] = []

    def progress(what: str, done: int, total: int) -> None:
        if done and not killed:
            working = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
            working[0].send_signal(signal.SIGKILL)
            killed.append(working[0].pid)

    done = run(scenario, tmp_path / "out", jobs=2, progress=progress)
    assert killed and digest(done.file) == undisturbed and names(done.folder) == WHOLE


@pytest.fixture
def cluster() -> Iterator[str]:
    """A Dask scheduler with two worker processes; its address."""
    pytest.importorskip("distributed")
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
        scheduler = stack.enter_context(_process([*command, "--host", "127.0.0.1"]))
        address = _said(scheduler, "Scheduler at:").split()[-1]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        for _ in range(2):
            _said(stack.enter_context(_process(worker)), "Registered to:")
        yield address


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError("".join(seen))


@pytest.mark.filterwarnings("ignore")  # of the cluster's own libraries, which are not ours to mend
def test_a_cluster_gives_the_same_bytes(scenario: Path, tmp_path: Path, undisturbed: str, cluster: str) -> None:
    """From two workers, one of which is killed half-way."""
    import psutil

    def progress(what: str, done: int, total: int) -> None:
        if done == total // 2:
            working = [one for one in psutil.Process().children() if "dask_worker" in " ".join(one.cmdline())]
            assert len(working) == 2
            working[0].kill()

    done = run(scenario, tmp_path / "out", scheduler=cluster, progress=progress)
    assert digest(done.file) == undisturbed and names(done.folder) == WHOLE


@pytest.mark.slow  # its own workers; by default `test_a_cluster_gives_the_same_bytes` speaks of clusters
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_goes_away(scenario: Path, tmp_path: Path, undisturbed: str, cluster: str) -> None:
    """Its scheduler is killed in the middle: a named error, and what was finished is kept."""
    import psutil

    def progress(what: str, done: int, total: int) -> None:
        if done:
            for one in psutil.Process().children():
                if "dask_scheduler" in " ".join(one.cmdline()):
                    one.kill()

    with pytest.raises(FlowsimError) as caught:
        run(scenario, tmp_path / "out", scheduler=cluster, progress=progress)
    assert caught.value.exit_code == 3 and f"scheduler {cluster}: was lost" in caught.value.lines()[0]
    assert len(caught.value.lines()) == 2
    assert list((tmp_path / "out").rglob("[0-9]*.tile"))
    assert digest(run(scenario, tmp_path / "out").file) == undisturbed


@pytest.mark.slow  # a scheduler and workers of its own; `test_tiles_of_another_version_are_not_mixed` is run by default
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_another_version_is_refused(
    scenario: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowsim.sweep import workers

    monkeypatch.setattr(workers, "__version__", "99")
    with pytest.raises(InputError) as caught:
        run(scenario, tmp_path / "out", scheduler=cluster)
    assert "its workers run flowsim" in caught.value.lines()[0] and "this is 99" in caught.value.lines()[0]
    assert not (tmp_path / "out").exists()


STOP = """
import sys
from flowsim.cli import main
sys.argv = ["flowsim", "run", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("jobs", "number"),
    [(2, signal.SIGINT), (1, signal.SIGTERM), pytest.param(1, signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_ends_a_run_in_order(
    scenario: Path, tmp_path: Path, undisturbed: str, jobs: int, number: signal.Signals
) -> None:
    """Exit 130 within seconds, two lines, and the same command goes on."""
    out = tmp_path / "out"
    # A session of its own, so that all its processes get the signal, as from a terminal.
    command = [sys.executable, "-c", STOP, str(scenario), "--out", str(out), "--jobs", str(jobs), "--no-plots"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not list(out.rglob("[0-9]*.tile")):
            assert process.poll() is None
            time.sleep(0.005)
        began = time.monotonic()
        os.killpg(process.pid, number)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait() == 130 and time.monotonic() - began < 5
    lines = said.splitlines()
    assert lines[0].startswith("interrupted: ") and lines[0].endswith(f" of {TILES} tiles are finished"), said
    assert lines[1:] == ["  The same command goes on from there."]
    done = run(scenario, out)
    assert digest(done.file) == undisturbed


DEAF = """
import sys, time, threading
from flowsim.cli.interrupts import interruptible
import flowsim.cli.interrupts as module
module.GRACE_SECONDS = float(sys.argv[1])
with interruptible():
    words = ["first", "ready"]
    while True:  # a call that hears nothing
        try:
            print(words.pop(), flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


@pytest.mark.parametrize(("grace", "signals"), [(60, 2), (0.2, 1)])
def test_a_second_signal_or_a_deaf_run_ends_at_once(grace: float, signals: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF, str(grace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None and one.stderr is not None and one.stdout.readline() == "ready\n"
        began = time.monotonic()
        one.send_signal(signal.SIGINT)
        assert one.stdout.readline() == "first\n"
        for _ in range(signals - 1):
            one.send_signal(signal.SIGINT)
        assert one.wait() == 130 and time.monotonic() - began < 10
        assert "stopped at once" in one.stderr.read()
