"""The main job: solve, check, draw, in that order, and nothing else."""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import xarray as xr

from flowsim import __version__
from flowsim.checks import check
from flowsim.errors import HypothesisError, ResultError
from flowsim.integrators.selection import choose
from flowsim.problem.assemble import Problem, assemble
from flowsim.problem.svd_cache import SvdCache
from flowsim.scenario.digest import digest_of
from flowsim.scenario.read import Document, read_scenario
from flowsim.sweep.collect import build_tree
from flowsim.sweep.execute import solve_rank
from flowsim.sweep.schedules import Clock, clock_of, expand, nominal_times
from flowsim.sweep.starts import Starts
from flowsim.trajectory.provenance import choose_device, root_attributes
from flowsim.trajectory.store import cannot_write, load, save, write_text
from flowsim.trajectory.variables import COMPANIONS, THEORY, TRAJECTORY

Progress = Callable[[str, int, int], None]
DIGEST_LETTERS = 8
CACHE = ".cache"  # beside the results: decompositions of large differences, by the hash of their content
STORED_VARIABLES = len(TRAJECTORY) * 2 + len(COMPANIONS) + len(THEORY) + 40
VARIABLE_BYTES = 6000  # measured: what HDF5 keeps for a variable and its attributes


@dataclass(frozen=True)
class Plan:
    """What a run would do, found without solving anything.

    Attributes
    ----------
    trajectories : int
        Schedules × ranks × seeds.
    states_bytes : int
        Largest number of bytes of states held at once.
    file_bytes : int
        Estimate of the result file: its numbers before compression, and what each variable takes besides.
    methods : list of (rank, method, reason)
    """

    name: str
    digest: str
    folder_name: str
    trajectories: int
    ranks: list[int]
    seeds: list[int]
    schedules: list[str]
    states_bytes: int
    file_bytes: int
    methods: list[tuple[int, str, str]]


@dataclass(frozen=True)
class Finished:
    """A complete result: its folder, its tree, and whether it was there before."""

    folder: Path
    tree: xr.DataTree
    already_complete: bool


def run(
    scenario: str | Path, *, out: str | Path = "results", overrides: Sequence[str] = (), device: str | None = None,
    plots: bool = True,
) -> xr.DataTree:  # fmt: skip
    """Run a scenario file and return its result.

    Parameters
    ----------
    scenario : str or Path
        A YAML scenario.
    out : str or Path
        Folder that receives `<name>-<digest8>/`.
    overrides : sequence of str
        `key.path=value` changes to the scenario.
    device : str, optional
        Overrides the scenario's device.
    plots : bool
        Whether figures are drawn.

    Returns
    -------
    DataTree
        The groups /trajectory, /final, /baseline, /theory, /companions, /checks (and /factors).

    Raises
    ------
    ScenarioError, InputError, OutputError
        Before anything is solved, as far as it can be known then.
    """
    document = read_scenario(Path(scenario), tuple(overrides))
    return execute(document, out=Path(out), device=device, plots=plots, force=False, progress=None).tree


def plan(document: Document, device: str | None = None) -> Plan:
    """Say what a run would do: trajectories, bytes, and the method of each rank with its reason."""
    problem, clock = _prepare(document)
    scenario = document.scenario
    starts = Starts(problem, choose_device(device or scenario.compute.device))
    ranks, seeds, points = len(problem.ranks), len(problem.seeds), len(clock.times)
    n, m = problem.shape
    states = max(
        (len(clock.union) * (5 if len(clock.items) > 1 else 1) + len(clock.items) * points)
        * (n + m) * rank * seeds * 8
        for rank in problem.ranks
    )  # fmt: skip
    numbers = len(clock.items) * (len(TRAJECTORY) + max(problem.ranks)) + 7 * len(COMPANIONS)
    solver, factors = scenario.solver, scenario.save.factors != "none"
    methods: list[tuple[int, str, str]] = []
    for rank in problem.ranks:
        try:
            choices = choose(starts.batch(rank), solver.method, rtol=solver.rtol, factors=factors)
        except HypothesisError as refusal:
            methods.append((rank, solver.method, refusal.message))
            continue
        ways = {f"{one.method} ({one.stepper})": one.reason for one in reversed(choices)}
        methods += [(rank, name, reason) for name, reason in reversed(ways.items())]
    return Plan(
        name=scenario.name,
        digest=digest_of(document),
        folder_name=folder_name(document),
        trajectories=len(clock.items) * ranks * seeds,
        ranks=list(problem.ranks),
        seeds=list(problem.seeds),
        schedules=[item.label for item in clock.items],
        states_bytes=int(states),
        file_bytes=ranks * seeds * points * numbers * 8 + VARIABLE_BYTES * STORED_VARIABLES,
        methods=methods,
    )


def folder_name(document: Document) -> str:
    """`<name>-<digest8>`."""
    return f"{document.scenario.name}-{digest_of(document)[:DIGEST_LETTERS]}"


def execute(
    document: Document, *, out: Path, device: str | None, plots: bool, force: bool, progress: Progress | None
) -> Finished:
    """Run a scenario, or return its complete result where there is one already.

    Parameters
    ----------
    progress : callable, optional
        Called with (what, done, total) as work goes on.

    Raises
    ------
    OutputError
        If the result cannot be written; found out before solving.
    HypothesisError
        `solver: exact` where no closed form exists.
    """
    scenario = document.scenario
    torch_device = choose_device(device or scenario.compute.device)
    folder = out / folder_name(document)
    file = folder / f"{document.scenario.name}.nc"
    if file.is_file() and not force:
        tree = load(file)
        if tree.attrs["digest"] == digest_of(document) and "checks" in tree.children:
            ended = (folder / "run.json").is_file()
            if plots and not (ended and (folder / "figures").is_dir()):
                _draw(tree, folder)  # it was run without figures, or stopped while drawing
            if not ended:
                _record_moment(folder, torch_device, datetime.datetime.now(datetime.UTC), 0.0)
            return Finished(folder, tree, already_complete=True)
        raise ResultError(f"{file}: belongs to another scenario", "Move it away, or run with --force.")
    problem, clock = _prepare(document)
    starts = Starts(problem, torch_device, decompose=SvdCache(out / CACHE))
    if scenario.solver.method == "exact":
        with _threads(scenario.compute.threads):
            starts.refuse_inexact()
    new = not folder.exists()
    _make_writable(folder)
    began, clock_began = datetime.datetime.now(datetime.UTC), time.perf_counter()
    try:
        tree = _solve(starts, clock, progress)
        tree["checks"] = xr.DataTree(check(tree))
        write_text(folder / "scenario.yaml", document.text)
        save(tree, file)
    except BaseException:
        if new:
            _remove_if_empty(folder)
        raise
    if plots:
        _draw(tree, folder)
    _record_moment(folder, torch_device, began, time.perf_counter() - clock_began)
    return Finished(folder, tree, already_complete=False)


def _prepare(document: Document) -> tuple[Problem, Clock]:
    scenario = document.scenario
    return assemble(document), clock_of(expand(scenario), nominal_times(scenario.time))


def _solve(starts: Starts, clock: Clock, progress: Progress | None) -> xr.DataTree:
    problem = starts.problem
    document = problem.document
    scenario = document.scenario
    total, done = len(problem.ranks) * (len(clock.items) + 1), 0

    def advance(rank: int) -> Callable[[str], None]:
        def told(label: str) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(f"rank {rank}: {label}", done, total)

        return told

    with _threads(scenario.compute.threads):
        results = [solve_rank(starts, rank, clock, max(problem.ranks), advance(rank)) for rank in problem.ranks]
    attrs = root_attributes(
        name=scenario.name, title=getattr(scenario, "title", None) or "", text=document.text,
        resolved=scenario.model_dump(mode="json"), digest=digest_of(document),
        weights={one.where: one.sha256 for one in document.weights}, device=starts.device, shape=problem.shape,
    )  # fmt: skip
    return build_tree(
        results,
        clock,
        problem.seeds,
        one_baseline=problem.start_is_pretrained,
        factors=scenario.save.factors,
        attrs=attrs,
    )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Threads of the scenario, never of the machine: the last bits may depend on them."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def _draw(tree: xr.DataTree, folder: Path) -> None:
    from flowsim.report.plots import draw  # matplotlib is slow to import, and not every run draws

    draw(tree, folder / "figures")


def _record_moment(folder: Path, device: torch.device, began: datetime.datetime, seconds: float) -> None:
    """Write run.json, the last file of a run: where it is missing, the run did not come to its end."""
    moment = {
        "started": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "flowsim": __version__,
    }
    write_text(folder / "run.json", json.dumps(moment, indent=2) + "\n")


def _make_writable(folder: Path) -> None:
    """Create the result's folder and prove that a file can be written there, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def _remove_if_empty(folder: Path) -> None:
    """Leave nothing behind of a run that did not come to its end."""
    try:
        (folder / "scenario.yaml").unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        return
