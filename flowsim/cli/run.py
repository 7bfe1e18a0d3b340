"""``flowsim run``: solve, check and draw a scenario."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowsim.cli import tables
from flowsim.cli.common import (
    PathName,
    debug_option,
    ensure_writable,
    exit_code,
    explain,
    json_option,
    note,
    say,
    strict_option,
)
from flowsim.cli.completion import setting_keys, words
from flowsim.cli.interrupts import interruptible
from flowsim.cli.progress import progress
from flowsim.cli.sweep_table import point_table
from flowsim.report.summary import outcomes, point_rows

if TYPE_CHECKING:
    import xarray

    from flowsim.pipeline import Finished
    from flowsim.scenario import Document
    from flowsim.sweep.plan import Plan

MOST_JOBS = 4096


def _jobs(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """A number of workers; 0 stands for auto."""
    if value == "auto":
        return 0
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= MOST_JOBS:
        raise click.BadParameter(f"{value!r} is not a number from 1 to {MOST_JOBS}, or auto")
    return int(value)


@click.command()
@click.argument("scenario", type=PathName())
@click.option(
    "--out",
    type=PathName(folder=True),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where results go, each into a folder of its own.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    shell_complete=setting_keys,
    help="Change a value of the scenario, as in --set adapter.ranks=[1,2]; may be repeated.",
)
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=words("auto", "cpu", "cuda"),
    help="Compute here instead: auto, cpu, cuda or cuda:1.",
)
@click.option(
    "--jobs",
    callback=_jobs,
    default="1",
    show_default=True,
    metavar="N",
    shell_complete=words("auto"),
    help="Worker processes; auto: as many as cores and memory allow.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Work on a Dask cluster instead: the address of its scheduler, such as tcp://host:8786.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be computed; compute and write nothing.")
@click.option("--no-plots", is_flag=True, help="Draw no figures.")
@click.option("--force", is_flag=True, help="Compute again, even if the result is complete.")
@click.option("--quiet", is_flag=True, help="Print only the folder of the result.")
@json_option
@strict_option
@debug_option
@click.pass_context
def run(
    ctx: click.Context,
    scenario: Path,
    out: Path,
    overrides: tuple[str, ...],
    device: str | None,
    jobs: int,
    scheduler: str | None,
    dry_run: bool,
    no_plots: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
    strict: bool,
) -> None:
    """Solve SCENARIO, check it against theory and draw it.

    The result goes to DIR/<name>-<digest>/: the data (one netCDF file that opens with xarray alone), the
    scenario as written, figures/, and report.html, a page for a browser. The same scenario always has the same
    digest: running it again goes on where it was stopped, or says that it is complete. The numbers do not depend
    on --jobs.

    \b
    Examples:
      flowsim run scenarios/frobenius.yaml
      flowsim run scenarios/frobenius.yaml --dry-run
      flowsim run scenarios/frobenius.yaml --set adapter.ranks=[1,2] --set time.stop=10 --out /data/results
      flowsim run scenarios/phase_diagram.yaml --jobs auto
    """
    from flowsim.scenario import read_scenario
    from flowsim.scenario.digest import folder_name

    document = read_scenario(scenario, overrides)
    for warning in document.warnings:
        note(f"{scenario}: warning: {warning}")
    if dry_run:
        _dry_run(document, out, device, as_json=as_json)
        return
    folder = out / folder_name(document)
    if not (folder / f"{document.scenario.name}.nc").is_file():  # a complete result needs no room
        ensure_writable(out)

    if scheduler is not None and ctx.get_parameter_source("jobs") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--jobs starts processes here, --scheduler uses those of a cluster: give one of them")

    from flowsim.pipeline import execute
    from flowsim.trajectory.store import open_result

    with interruptible(), progress(not quiet) as tick:
        done = execute(
            document, out=out, device=device, plots=not no_plots, force=force, progress=tick,
            tell=None if quiet else note, jobs=jobs, scheduler=scheduler,
        )  # fmt: skip
    if done.already_complete and not quiet:
        note(f"{done.folder} is complete already, nothing was solved; --force computes it again")
    with open_result(done.file) as tree:
        ctx.exit(_report(document, done, tree, quiet=quiet, as_json=as_json, strict=strict))


def _report(
    document: Document, done: Finished, tree: xarray.DataTree, *, quiet: bool, as_json: bool, strict: bool
) -> int:
    """Print what came out; the exit code is returned."""
    from flowsim.checks import summarize, verdict_table

    rows = verdict_table(tree)
    code = exit_code(tree, strict=strict)
    if as_json:
        say(tables.as_json(_record(document, done, tree, code, rows, summarize(rows))))
    elif quiet:
        say(str(done.folder))
    else:
        _print_result(document, done, tree, summarize(rows))
    explain(tree, rows, strict=strict)
    return code


def _dry_run(document: Document, out: Path, device: str | None, *, as_json: bool) -> None:
    from flowsim.sweep.plan import plan

    planned = plan(document, device)
    folder = out / planned.folder_name
    if as_json:
        say(tables.as_json({**asdict(planned), "folder": str(folder)}))
    else:
        _print_plan(planned, folder)
    if sys.stdout.isatty():
        note("a dry run: nothing was computed or written")


def _print_plan(planned: Plan, folder: Path) -> None:
    sizes = planned.sizes
    facts = [
        ("scenario", planned.name),
        ("digest", planned.digest),
        ("result", f"{folder}/"),
        *([("points", str(planned.points))] if planned.points > 1 else []),
        ("ranks", _listed(planned.ranks)),
        ("seeds", _listed(planned.seeds)),
        ("trajectories", str(planned.trajectories)),
        ("tiles", f"{planned.tiles}, up to {planned.jobs} at a time here (--jobs auto)"),
        ("memory for states", f"about {tables.size(sizes.states)} in a worker"),
        ("memory", f"about {tables.size(sizes.worker)} for each worker"),
        ("disk while running", f"about {tables.size(sizes.tiles)} for tiles"),
        ("file", f"about {tables.size(sizes.file)} before compression"),
    ]
    for name, value in facts:
        say(f"{name + ':':<20}{value}")
    say("schedules:")
    for label in planned.schedules:
        say(f"  {label}")
    say()
    cells = [[str(rank), str(method), str(reason)] for rank, method, reason in planned.methods]
    if planned.points > 1:
        say("at the first point of the sweep:")
    say(tables.table(["rank", "method", "because"], cells, right=(0,)))


def _listed(values: Sequence[int]) -> str:
    """Integers for a reader: a long run of consecutive ones by its ends."""
    numbers = list(values)
    if len(numbers) > 4 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _print_result(document: Document, done: Finished, tree: xarray.DataTree, summary: Sequence[dict[str, Any]]) -> None:
    from flowsim.trajectory.points import axes_of

    scenario = document.scenario
    say(scenario.name + (f": {scenario.title}" if scenario.title else ""))
    say()
    say(tables.outcome_table(tree))
    say()
    if axes := axes_of(tree):
        say(point_table(point_rows(tree), axes, every=False))
        say()
    elif laws := tables.law_table(tree):
        say(laws)
        say()
    say(tables.verdict_summary(summary))
    say()
    say(f"report: {done.folder / 'report.html'}")
    say(f"result: {done.folder}")


def _record(
    document: Document,
    done: Finished,
    tree: xarray.DataTree,
    code: int,
    rows: Sequence[dict[str, Any]],
    summary: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    name = document.scenario.name
    return {
        "name": name,
        "digest": tree.attrs.get("digest"),
        "folder": str(done.folder),
        "file": str(done.file),
        "already_complete": done.already_complete,
        "exit_code": code,
        "outcomes": outcomes(tree),
        "summary": list(summary),
        "checks": list(rows),
    }
