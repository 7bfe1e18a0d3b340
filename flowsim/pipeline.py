"""The main job: solve tile by tile, assemble, check, draw, report, in that order, and nothing else."""

from __future__ import annotations

import datetime
import json
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import xarray as xr

from flowsim import __version__
from flowsim.checks import check
from flowsim.errors import Interrupted, OutputError, ResultError
from flowsim.problem.assemble import assemble
from flowsim.scenario.digest import digest_of, folder_name
from flowsim.scenario.memory import size_text
from flowsim.scenario.read import Document, read_scenario
from flowsim.sweep.campaign import Campaign, Progress, Tell, Tools, find_finished, solve_missing, write_tiles
from flowsim.sweep.ledger import Ledger, has_tiles
from flowsim.sweep.sizes import Sizes, refuse_what_cannot_fit, refuse_what_finds_no_room, sizes_of, workers_that_fit
from flowsim.sweep.starts import Starts
from flowsim.sweep.work import forget, threads
from flowsim.sweep.workers import workers
from flowsim.trajectory.draft import draft
from flowsim.trajectory.files import cannot_write, remove_stale, write_text
from flowsim.trajectory.provenance import choose_device, root_attributes
from flowsim.trajectory.store import load, open_result

CACHE = ".cache"  # beside the results: decompositions of large differences, by the hash of their content
MOMENT, PAGE, FIGURES = "run.json", "report.html", "figures"
AUTO = 0  # as many workers as fit


@dataclass(frozen=True)
class Finished:
    """A result: its folder and file, and whether it was there before."""

    folder: Path
    file: Path
    already_complete: bool

    @cached_property
    def tree(self) -> xr.DataTree:
        """The result in memory."""
        return load(self.file)


def run(
    scenario: str | Path, *, out: str | Path = "results", overrides: Sequence[str] = (), device: str | None = None,
    plots: bool = True, jobs: int = 1, scheduler: str | None = None,
) -> xr.DataTree:  # fmt: skip
    """Run a scenario file and return its result; go on where an earlier run of it was stopped.

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
    jobs : int
        Worker processes; 1 is this process, 0 as many as fit. A script that asks for more needs the guard
        `if __name__ == "__main__":`, since each worker starts by importing it.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers take the place of processes.

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
    return execute(document, out=Path(out), device=device, plots=plots, jobs=jobs, scheduler=scheduler).tree


def execute(
    document: Document, *, out: Path, device: str | None = None, plots: bool = True, force: bool = False,
    progress: Progress | None = None, tell: Tell | None = None, jobs: int = 1, scheduler: str | None = None,
) -> Finished:  # fmt: skip
    """Run a scenario, go on with one that was stopped, or return its complete result where there is one already.

    Parameters
    ----------
    progress : callable, optional
        Called with (what, trajectories done, trajectories in all) as work goes on.
    tell : callable, optional
        Called with a sentence that a user should read: what is gone on with, what has to be done again.
    jobs : int
        Worker processes; 1 is this process, `AUTO` as many as fit.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers take the place of processes.

    Raises
    ------
    OutputError
        If the result cannot be written, or another run is writing it.
    HypothesisError
        `solver: exact` where no closed form exists.
    Interrupted
        On Ctrl-C; what is finished stays, and the same call goes on from it.
    """
    began, clock_began = datetime.datetime.now(datetime.UTC), time.perf_counter()
    wish, folder = device or document.scenario.compute.device, out / folder_name(document)
    file = folder / f"{document.scenario.name}.nc"
    if not force and _is_complete(file, document):
        return _complete(Finished(folder, file, already_complete=True), plots=plots, tell=tell or _nobody)
    campaign = Campaign(document, progress)
    ledger = Ledger(folder, document.scenario.name, digest_of(document), campaign.tiles)
    sizes = sizes_of(document, campaign.times, campaign.layout, campaign.tiles)
    jobs = _workers(campaign, sizes, wish, jobs, scheduler)
    new = not folder.exists()
    try:
        with workers(jobs, scheduler, campaign.watch) as crew:
            tools = Tools(ledger, crew, crew.stamp(wish), wish, None if scheduler else out / CACHE)
            if document.scenario.solver.method == "exact":
                _refuse_inexact(document, "cpu" if scheduler else wish)
            _make_writable(folder)
            with ledger.held():
                meanwhile = not force and _is_complete(file, document)  # by another run
                if not meanwhile:
                    _carry_out(campaign, tools, sizes, file, force=force, tell=tell or _nobody)
    except BaseException as stop:
        ledger.leave()
        if new:
            _remove_if_empty(folder)
        if isinstance(stop, KeyboardInterrupt):
            command = "The same command without --force" if force else "The same command"
            raise Interrupted(f"interrupted: {campaign.how_far()}", f"{command} goes on from there.") from stop
        raise
    ledger.leave()
    if meanwhile:
        return _complete(Finished(folder, file, already_complete=True), plots=plots, tell=tell or _nobody)
    campaign.show("drawing" if plots else "reporting")
    _present(file, plots=plots)
    _record_moment(folder, tools.stamp["device"], began, time.perf_counter() - clock_began)
    return Finished(folder, file, already_complete=False)


def _carry_out(campaign: Campaign, tools: Tools, sizes: Sizes, file: Path, *, force: bool, tell: Tell) -> None:
    """Solve what is missing and write the result, while the ledger is held."""
    ledger, folder = tools.ledger, file.parent
    remove_stale(folder)
    ledger.open(tools.stamp, anew=force)
    write_text(folder / "scenario.yaml", campaign.document.text)
    find_finished(campaign, tools, tell)
    missing = 1 - len(campaign.finished) / len(campaign.tiles)
    refuse_what_finds_no_room(int(missing * sizes.tiles), folder)
    if (wanted := int(missing * sizes.tiles) + sizes.file) > (free := shutil.disk_usage(folder).free):
        tell(f"the disk may be too small: up to {size_text(wanted)} before compression, {size_text(free)} are free")
    try:
        failures = solve_missing(campaign, tools, tell)
    finally:
        forget()
    for name in (PAGE, MOMENT):
        (folder / name).unlink(missing_ok=True)  # the last files of a run: this one is not at its end
    campaign.show("writing and judging the result")
    _write_result(campaign, tools, failures, file)
    if not failures:
        ledger.clear()


def _is_complete(file: Path, document: Document) -> bool:
    """Whether the result is there and whole, and nobody has begun to compute it again.

    Raises
    ------
    ResultError
        If the file is something else, or of another version.
    """
    if not file.is_file():
        return False
    with open_result(file) as tree:
        if tree.attrs["digest"] != digest_of(document):
            raise ResultError(f"{file}: belongs to another scenario", "Move it away, or run with --force.")
        return int(tree.attrs["failed_tiles"]) == 0 and not has_tiles(file.parent)


def _complete(done: Finished, *, plots: bool, tell: Tell) -> Finished:
    """Make up for what a run that was stopped late has left out, where the folder can be written."""
    from flowsim.report.page import has_pictures

    page, moment = done.folder / PAGE, done.folder / MOMENT
    try:
        if not page.is_file() or (plots and not has_pictures(page)):
            _present(done.file, plots=plots)  # it was run without figures, or stopped before its page
        if not moment.is_file():
            with open_result(done.file) as tree:
                device = str(tree.attrs["device"])
            _record_moment(done.folder, device, None, None)
    except OutputError as error:  # the result itself needs no room
        tell(error.message)
    return done


def _workers(campaign: Campaign, sizes: Sizes, wish: str, jobs: int, scheduler: str | None) -> int:
    """How many processes of this machine; refuses what cannot fit."""
    tiles = len(campaign.tiles)
    kind = choose_device(wish).type if scheduler is None else "cpu"
    if jobs == AUTO:
        jobs = workers_that_fit(sizes, campaign.document.scenario.compute.threads, tiles, kind)
    jobs = min(jobs, tiles)
    if scheduler is None:
        refuse_what_cannot_fit(sizes, jobs)
    return jobs


def _refuse_inexact(document: Document, wish: str) -> None:
    with threads(document.scenario.compute.threads):
        for point in document.points:
            Starts(assemble(point), choose_device(wish)).refuse_inexact()


def _write_result(campaign: Campaign, tools: Tools, failures: dict[int, str], file: Path) -> None:
    """Write the result file from its tiles, judge it, and add the verdicts: there whole, or not at all."""
    digest = tools.ledger.digest
    with draft(file) as new:
        with new.writing() as out:
            campaign.layout.declare(out, root_attributes(campaign.document, digest, tools.stamp, len(failures)))
            write_tiles(campaign, tools, failures, out)
        with new.reading() as tree:
            verdicts = check(tree)
        with new.writing() as out:
            out.dataset("checks", verdicts)


def _nobody(sentence: str) -> None:
    """Where nobody listens."""


def _present(file: Path, *, plots: bool) -> None:
    """Draw the figures of a result and write its page."""
    from flowsim.report.page import page_of
    from flowsim.report.page.pictures import pictures_of
    from flowsim.report.plots import draw  # matplotlib is slow to import, and not every run comes here

    figures = file.parent / FIGURES
    try:
        with open_result(file) as tree:
            if plots:
                draw(tree, figures)
            page = page_of(tree, file, pictures_of(tree, figures) if plots else [])
        write_text(file.parent / PAGE, page)
    except KeyboardInterrupt as stop:
        raise Interrupted("interrupted: the result is complete", "The same command draws its figures.") from stop


def _record_moment(folder: Path, device: str, began: datetime.datetime | None, seconds: float | None) -> None:
    """Write run.json, the last file of a run: where it is missing, the run did not come to its end.

    Of a run that was stopped before it, nobody knows when it began and how long it took.
    """
    moment = {
        "started": began and began.isoformat(timespec="seconds"),
        "seconds": seconds and round(seconds, 3),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else device,
        "flowsim": __version__,
    }
    write_text(folder / MOMENT, json.dumps(moment, indent=2) + "\n")


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
    """Leave nothing behind of a run that finished nothing."""
    try:
        if {path.name for path in folder.iterdir()} <= {"scenario.yaml"}:
            (folder / "scenario.yaml").unlink(missing_ok=True)
            folder.rmdir()
    except OSError:
        return
