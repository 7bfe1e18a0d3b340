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
    debug_option,
    ensure_writable,
    exit_code,
    explain,
    json_option,
    note,
    say,
    strict_option,
)

if TYPE_CHECKING:
    from flowsim.pipeline import Finished, Plan
    from flowsim.scenario import Document


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
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
    help="Change a value of the scenario, as in --set adapter.ranks=[1,2]; may be repeated.",
)
@click.option("--device", metavar="NAME", help="Compute here instead: auto, cpu, cuda or cuda:1.")
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
    dry_run: bool,
    no_plots: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
    strict: bool,
) -> None:
    """Solve SCENARIO, check it against theory and draw it.

    The result goes to DIR/<name>-<digest>/: the data (one netCDF file that opens with xarray alone), the
    scenario as written, and figures/. The same scenario always has the same digest: running it again resumes,
    or says that it is complete.

    \b
    Examples:
      flowsim run scenarios/frobenius.yaml
      flowsim run scenarios/frobenius.yaml --dry-run
      flowsim run scenarios/frobenius.yaml --set adapter.ranks=[1,2] --set time.stop=10 --out /data/results
    """
    from flowsim.scenario import read_scenario

    document = read_scenario(scenario, overrides)
    for warning in document.warnings:
        note(f"{scenario}: warning: {warning}")
    if dry_run:
        _dry_run(document, out, device, as_json=as_json)
        return
    ensure_writable(out)

    from flowsim.checks import summarize, verdict_table
    from flowsim.pipeline import execute

    with tables.progress_bar(not quiet) as progress:
        done = execute(document, out=out, device=device, plots=not no_plots, force=force, progress=progress)
    if done.already_complete and not quiet:
        note(f"{done.folder} is complete already, nothing was solved; --force computes it again")
    rows = verdict_table(done.tree)
    code = exit_code(done.tree, strict=strict)
    if as_json:
        say(tables.as_json(_record(document, done, code, rows, summarize(rows))))
    elif quiet:
        say(str(done.folder))
    else:
        _print_result(document, done, summarize(rows))
    explain(done.tree, rows, strict=strict)
    ctx.exit(code)


def _dry_run(document: Document, out: Path, device: str | None, *, as_json: bool) -> None:
    from flowsim.pipeline import plan

    planned = plan(document, device)
    folder = out / planned.folder_name
    if as_json:
        say(tables.as_json({**asdict(planned), "folder": str(folder)}))
    else:
        _print_plan(planned, folder)
    if sys.stdout.isatty():
        note("a dry run: nothing was computed or written")


def _print_plan(planned: Plan, folder: Path) -> None:
    facts = [
        ("scenario", planned.name),
        ("digest", planned.digest),
        ("result", f"{folder}/"),
        ("ranks", _listed(planned.ranks)),
        ("seeds", _listed(planned.seeds)),
        ("trajectories", str(planned.trajectories)),
        ("memory for states", f"about {tables.size(planned.states_bytes)}"),
        ("file", f"about {tables.size(planned.file_bytes)}"),
    ]
    for name, value in facts:
        say(f"{name + ':':<19}{value}")
    say("schedules:")
    for label in planned.schedules:
        say(f"  {label}")
    say()
    cells = [[str(rank), str(method), str(reason)] for rank, method, reason in planned.methods]
    say(tables.table(["rank", "method", "because"], cells, right=(0,)))


def _listed(values: Sequence[int]) -> str:
    """Integers for a reader: a long run of consecutive ones by its ends."""
    numbers = list(values)
    if len(numbers) > 4 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _print_result(document: Document, done: Finished, summary: Sequence[dict[str, Any]]) -> None:
    scenario = document.scenario
    say(scenario.name + (f": {scenario.title}" if scenario.title else ""))
    say()
    say(tables.outcome_table(done.tree))
    say()
    if laws := tables.law_table(done.tree):
        say(laws)
        say()
    say(tables.verdict_summary(summary))
    say()
    say(f"result: {done.folder}")


def _record(
    document: Document,
    done: Finished,
    code: int,
    rows: Sequence[dict[str, Any]],
    summary: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    name = document.scenario.name
    return {
        "name": name,
        "digest": done.tree.attrs.get("digest"),
        "folder": str(done.folder),
        "file": str(done.folder / f"{name}.nc"),
        "already_complete": done.already_complete,
        "exit_code": code,
        "outcomes": tables.outcomes(done.tree),
        "summary": list(summary),
        "checks": list(rows),
    }
