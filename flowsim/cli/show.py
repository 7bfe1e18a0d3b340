"""``flowsim show``: a result, or what theory says of a scenario before it is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowsim.cli import tables
from flowsim.cli.common import debug_option, json_option, note, say

if TYPE_CHECKING:
    import xarray

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
@click.argument("path", metavar="RESULT|SCENARIO", type=click.Path(path_type=Path))
@click.option(
    "--within",
    type=click.FloatRange(min=0, min_open=False),
    default=0.05,
    show_default=True,
    metavar="FRACTION",
    help="The wanted excess: a fraction of the loss at time 0.",
)
@json_option
@debug_option
def show(path: Path, within: float, as_json: bool) -> None:
    """Show a result, or ask a scenario which rank is enough.

    For every rank: the parameters it trains, r(n + m); the energy C(r), the part of the squared singular
    values that r of them carry; the loss floor, the least that this rank can reach. Then the smallest rank
    whose excess over full fine-tuning is at most FRACTION of the loss at time 0. All this is theory, known
    before a scenario is run. A result adds the final losses and relative errors of the flow, medians over
    seeds, the outcomes and the verdicts.

    \b
    Examples:
      flowsim show scenarios/frobenius.yaml --within 0.01
      flowsim show results/frobenius-1a2b3c4d
    """
    if path.is_dir() or path.suffix == ".nc":
        _show_result(path, within, as_json=as_json)
    else:
        _show_scenario(path, within, as_json=as_json)


def _show_scenario(path: Path, within: float, *, as_json: bool) -> None:
    from flowsim.problem.assemble import assemble
    from flowsim.scenario import read_scenario
    from flowsim.theory.choice import choose

    document = read_scenario(path)
    for warning in document.warnings:
        note(f"{path}: warning: {warning}")
    problem = assemble(document)
    choice = choose(problem, within)
    scenario = document.scenario
    ranks = [{**asdict(row), "excess": row.excess} for row in choice.rows]
    if as_json:
        facts = {
            "name": scenario.name,
            "shape": problem.shape,
            "within": within,
            "smallest_rank_by_floor": choice.smallest,
            "looked_at": choice.looked_at,
            "ranks": ranks,
        }
        say(tables.as_json(facts))
        return
    _heading(scenario.name, scenario.title, scenario.objective.kind, scenario.objective.coefficient)
    n, m = problem.shape
    say(f"weight {n} x {m}: {n * m} parameters; not run yet")
    say()
    say(_rank_table(ranks, ["rank", "parameters", "share", "energy", "loss_start", "loss_floor", "excess"]))
    say()
    say(_answer("loss floor", choice.smallest, within, choice.looked_at))
    if scenario.objective.kind == "trace_squared":
        say("For trace_squared that floor is 0 at every rank: a run shows the relative error, which is not.")


def _show_result(path: Path, within: float, *, as_json: bool) -> None:
    from flowsim.checks import summarize, verdict_table
    from flowsim.theory.choice import excess_part, smallest_rank
    from flowsim.trajectory.store import load

    tree = load(path)
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
            "within": within,
            "smallest_rank_by_floor": smallest["loss_floor"],
            "smallest_rank_by_loss": smallest["loss"],
            "ranks": ranks,
            "outcomes": tables.outcomes(tree),
            "summary": summary,
        }
        say(tables.as_json(facts))
        return
    objective = scenario["objective"]
    _heading(scenario["name"], scenario.get("title"), objective["kind"], objective["coefficient"])
    say(f"digest {tree.attrs['digest']}")
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


def result_ranks(tree: xarray.DataTree) -> list[dict[str, Any]]:
    """One row per rank of a result: theory beside the simultaneous flow, medians over seeds.

    Parameters
    ----------
    tree : xarray.DataTree
        A result, with the groups ``/trajectory``, ``/final`` and ``/theory``.

    Returns
    -------
    list of dict
        rank, parameters, energy, loss_floor, loss_start, loss, relative_error; NaN where there is none.
    """
    theory, final = tree["theory"].to_dataset(), tree["final"].to_dataset().sel(schedule="flow")
    start = tree["trajectory"].to_dataset()["loss"].sel(schedule="flow").isel(time=0)
    rows = []
    for rank in final["rank"].values:
        known, ended = theory.sel(rank=rank), final.sel(rank=rank)
        rows.append(
            {
                "rank": int(rank),
                "parameters": int(_median(known["parameters"])),
                "energy": _median(known["energy"]),
                "loss_floor": _median(known["loss_floor"]),
                "loss_start": _median(start.sel(rank=rank)),
                "loss": _median(ended["loss"]),
                "relative_error": _median(ended["relative_error"]),
            }
        )
    return rows


def _median(values: xarray.DataArray) -> float:
    """The median of what is not NaN; NaN where nothing is left."""
    import numpy as np

    numbers = np.asarray(values.values, dtype=float).ravel()
    numbers = numbers[~np.isnan(numbers)]
    return float(np.median(numbers)) if numbers.size else float("nan")


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
