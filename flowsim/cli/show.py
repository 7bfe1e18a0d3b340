"""``flowsim show``: a result, a folder of results, or what theory says of a scenario before it is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowsim.cli import tables
from flowsim.cli.common import PathName, debug_option, json_option, note, say
from flowsim.cli.listing import is_listing, result_list, result_table
from flowsim.cli.points import at_option, example, places_at, said, values_of
from flowsim.cli.sweep_table import point_table
from flowsim.errors import InputError
from flowsim.report.summary import outcomes, point_rows, result_ranks

if TYPE_CHECKING:
    import xarray

    from flowsim.scenario import Axis

#: What stands above a column, where it is not the name itself.
_HEADINGS = {
    "share": "of full",
    "loss_start": "loss at 0",
    "loss_floor": "loss floor",
    "excess": "floor / loss at 0",
    "loss": "final loss",
    "relative_error": "relative error",
}


@click.command()
@click.argument("path", metavar="RESULT|FOLDER|SCENARIO", required=False, type=PathName())
@click.option(
    "--within",
    type=click.FloatRange(min=0, min_open=False),
    default=0.05,
    show_default=True,
    metavar="FRACTION",
    help="The wanted excess: a fraction of the loss at time 0.",
)
@at_option
@click.option("--all", "every", is_flag=True, help="Of a sweep every point, however many.")
@click.option("--env", "env", is_flag=True, help="Show what flowsim runs on instead: for a report of a defect.")
@json_option
@debug_option
def show(path: Path | None, within: float, at: tuple[str, ...], every: bool, env: bool, as_json: bool) -> None:
    """Show a result, list a folder of results, or ask a scenario which rank is enough.

    For every rank: the parameters it trains, r(n + m); the energy C(r), the part of the squared singular
    values that r of them carry; the loss floor, the least that this rank can reach. Then the smallest rank
    whose excess over full fine-tuning is at most FRACTION of the loss at time 0. All this is theory, known
    before a scenario is run. A result adds the final losses and relative errors of the flow, medians over
    seeds, the outcomes and the verdicts.

    A sweep has a row for each of its points; --at chooses one of them, which is then shown like any other
    result. A folder of results has a row for each: outcomes, verdicts, size on disk, and how far those have
    come that are not complete.

    \b
    Examples:
      flowsim show scenarios/frobenius.yaml --within 0.01
      flowsim show results/frobenius-1a2b3c4d
      flowsim show results/phases-5e6f7a8b --at std=0.01 --at exponent=2
      flowsim show results/
      flowsim show --env
    """
    if env or path is None:
        _show_environment(path, at, env=env, every=every, as_json=as_json)
    elif is_listing(path):
        _show_folder(path, at, as_json=as_json)
    elif path.is_dir() or path.suffix == ".nc":
        _show_result(path, within, at, every=every, as_json=as_json)
    else:
        _show_scenario(path, within, at, as_json=as_json)


def _show_environment(path: Path | None, at: Sequence[str], *, env: bool, every: bool, as_json: bool) -> None:
    from flowsim.cli.environment import environment, environment_text

    if not env:
        raise click.UsageError("give a result, a folder of results or a scenario, or --env")
    if path is not None:
        raise click.UsageError(f"--env looks at no file: leave {path} out")
    if at or every:
        raise click.UsageError("--env looks at no result: leave --at and --all out")
    facts = environment()
    say(tables.as_json(facts) if as_json else environment_text(facts))


def _show_folder(folder: Path, at: Sequence[str], *, as_json: bool) -> None:
    if at:
        raise InputError(f"{folder}: holds no result of its own, so --at finds no point", "Give the folder of a sweep.")
    rows = result_list(folder)
    if as_json:
        say(tables.as_json({"folder": str(folder), "results": rows}))
    elif rows:
        say(result_table(rows))
    else:
        say(f"{folder} holds no results; flowsim run SCENARIO --out {folder} puts one there.")


def _show_scenario(path: Path, within: float, at: Sequence[str], *, as_json: bool) -> None:
    from flowsim.problem.assemble import assemble
    from flowsim.scenario import read_scenario
    from flowsim.theory.choice import choose

    document = read_scenario(path)
    for warning in document.warnings:
        note(f"{path}: warning: {warning}")
    axes = document.axes
    places = places_at(axes, at) if at else (0,) * len(axes)
    point = document.points[_row_major(axes, places)]
    problem = assemble(point)
    choice = choose(problem, within)
    scenario = point.scenario
    ranks = [{**asdict(row), "excess": row.excess} for row in choice.rows]
    if as_json:
        facts = {
            "name": scenario.name,
            **({"points": len(document.points), "point": values_of(axes, places)} if axes else {}),
            "shape": problem.shape,
            "within": within,
            "smallest_rank_by_floor": choice.smallest,
            "looked_at": choice.looked_at,
            "ranks": ranks,
        }
        say(tables.as_json(facts))
        return
    _heading(scenario.name, scenario.title, scenario.objective.kind, scenario.objective.coefficient)
    if axes:
        chosen = "the point" if at else "the first point"
        say(f"a sweep of {len(document.points)}; {chosen} {said(axes, places)}; --at chooses another")
    n, m = problem.shape
    say(f"weight {n} x {m}: {n * m} parameters; known before it is run")
    say()
    say(_rank_table(ranks, ["rank", "parameters", "share", "energy", "loss_start", "loss_floor", "excess"]))
    say()
    say(_answer("loss floor", choice.smallest, within, choice.looked_at))
    if scenario.objective.kind == "trace_squared":
        say("For trace_squared that floor is 0 at every rank: a run shows the relative error, which is not.")


def _row_major(axes: Sequence[Axis], places: Sequence[int]) -> int:
    """Which of the points, the last axis fastest."""
    index = 0
    for axis, place in zip(axes, places, strict=True):
        index = index * len(axis.values) + place
    return index


def _show_result(path: Path, within: float, at: Sequence[str], *, every: bool, as_json: bool) -> None:
    from flowsim.trajectory.points import axes_of, point_of
    from flowsim.trajectory.store import open_result

    with open_result(path) as tree:
        axes = axes_of(tree)
        if axes and not at:
            _show_sweep(path, tree, axes, every=every, as_json=as_json)
            return
        places = places_at(axes, at) if at else ()
        _show_point(path, point_of(tree, places) if axes else tree, within, axes, places, as_json=as_json)


def _show_sweep(path: Path, tree: xarray.DataTree, axes: Sequence[Axis], *, every: bool, as_json: bool) -> None:
    """One row a point, then the verdicts of all points together."""
    from flowsim.checks import summarize, verdict_table

    rows, summary = point_rows(tree), summarize(verdict_table(tree))
    scenario = _resolved(tree)
    ranks, seeds = tree["final"].dataset["rank"].values.tolist(), tree["final"].sizes["seed"]
    if as_json:
        facts = {
            "name": scenario["name"],
            "digest": tree.attrs["digest"],
            "result": str(path),
            "sweep": {axis.path: list(axis.values) for axis in axes},
            "rank": max(ranks),
            "points": rows,
            "outcomes": outcomes(tree),
            "summary": summary,
        }
        say(tables.as_json(facts))
        return
    say(scenario["name"] + (f": {scenario['title']}" if scenario.get("title") else ""))
    say(f"digest {tree.attrs['digest']}")
    say(f"a sweep of {len(rows)} points: {', '.join(f'{len(axis.values)} x {axis.path}' for axis in axes)}")
    say()
    say(point_table(rows, axes, every=every))
    say()
    medians = f", medians over {seeds} seeds" if seeds > 1 else ""
    say(f"Outcomes: of the flow, all ranks and seeds. Final loss and time to reach: rank {max(ranks)}{medians}.")
    say(f"One point of it: flowsim show {path} {example(axes)}")
    say()
    say(tables.verdict_summary(summary))


def _show_point(
    path: Path, tree: xarray.DataTree, within: float, axes: Sequence[Axis], places: Sequence[int], *, as_json: bool
) -> None:
    """A result that is no sweep, or one point of one."""
    from flowsim.checks import summarize, verdict_table
    from flowsim.theory.choice import excess_part, smallest_rank

    ranks = result_ranks(tree)
    summary = summarize(verdict_table(tree))
    smallest = {
        name: smallest_rank(
            [row["rank"] for row in ranks],
            [excess_part(row[name], row["loss_start"]) for row in ranks],
            within,
        )
        for name in ("loss_floor", "loss")
    }
    scenario = _resolved(tree)
    if as_json:
        facts = {
            "name": scenario["name"],
            "digest": tree.attrs["digest"],
            "result": str(path),
            **({"point": values_of(axes, places)} if axes else {}),
            "within": within,
            "smallest_rank_by_floor": smallest["loss_floor"],
            "smallest_rank_by_loss": smallest["loss"],
            "ranks": ranks,
            "outcomes": outcomes(tree),
            "summary": summary,
        }
        say(tables.as_json(facts))
        return
    objective = scenario["objective"]
    _heading(scenario["name"], scenario.get("title"), objective["kind"], objective["coefficient"])
    say(f"digest {tree.attrs['digest']}")
    if axes:
        say(f"the point {said(axes, places)} of a sweep")
    say()
    names = ["rank", "parameters", "energy", "loss_start", "loss_floor", "loss", "relative_error"]
    say(_rank_table(ranks, names))
    say()
    say(_answer("loss floor", smallest["loss_floor"], within, "the ranks of this result"))
    say(_answer("final loss", smallest["loss"], within, "the ranks of this result"))
    say()
    say(tables.outcome_table(tree))
    say()
    if laws := tables.law_table(tree):
        say(laws)
        say()
    say(tables.verdict_summary(summary))


def _rank_table(ranks: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    cells = [
        [
            f"{row[name]:.1%}" if name == "share" else tables.number(row[name], 6 if name == "energy" else 4)
            for name in names
        ]
        for row in ranks
    ]
    return tables.table([_HEADINGS.get(name, name) for name in names], cells, right=range(len(names)))


def _resolved(tree: xarray.DataTree) -> dict[str, Any]:
    """The resolved scenario that a result carries, as its keys and values."""
    scenario: dict[str, Any] = json.loads(tree.attrs["resolved_scenario"])
    return scenario


def _heading(name: str, title: str | None, kind: str, coefficient: float) -> None:
    say(name + (f": {title}" if title else ""))
    formulas = {"frobenius": "c ||W - W*||_F^2", "trace_squared": "c tr(W)^2"}
    say(f"{kind}: f(W) = {formulas.get(kind, '?')}, c = {coefficient:g}")


def _answer(what: str, rank: int | None, within: float, looked_at: str) -> str:
    place = f"a {what} of at most {within:g} times the loss at time 0"
    if rank is None:
        return f"No rank has {place} ({looked_at})."
    return f"The smallest rank with {place} is {rank} ({looked_at})."
