"""``flowsim check``: judge a result again, from its file alone."""

from __future__ import annotations

from pathlib import Path

import click

from flowsim.cli import tables
from flowsim.cli.common import PathName, debug_option, exit_code, explain, json_option, say, strict_option


@click.command()
@click.argument("result", type=PathName())
@click.option("--all", "every", is_flag=True, help="List every verdict, with its subject and reason.")
@json_option
@strict_option
@debug_option
@click.pass_context
def check(ctx: click.Context, result: Path, every: bool, as_json: bool, strict: bool) -> None:
    """Judge RESULT again, from its stored numbers alone.

    Nothing is solved and nothing is written.

    RESULT is a result's folder or the .nc file in it. The table has one row per check: its decisive verdict
    with the observed and expected value and the tolerance, and how many verdicts there are of each kind.

    \b
    Verdicts:
      pass            the statement holds, within the tolerance
      fail            it does not
      not_reached     the horizon is too short to tell; the reason says how much longer it has to be
      not_applicable  a hypothesis of the statement is false here; the reason names it
      unresolved      the solver's own error is too close to what is tested

    \b
    Example:
      flowsim check results/frobenius-1a2b3c4d --all
    """
    from xarray import DataTree

    from flowsim.checks import check as judge
    from flowsim.checks import summarize, verdict_table
    from flowsim.trajectory.store import load

    tree = load(result)
    tree["checks"] = DataTree(judge(tree))
    rows = verdict_table(tree)
    summary = summarize(rows)
    code = exit_code(tree, strict=strict)
    if as_json:
        say(tables.as_json({"result": str(result), "exit_code": code, "summary": summary, "checks": rows}))
    elif every:
        say(tables.verdict_list(rows))
    else:
        say(tables.verdict_summary(summary))
    explain(tree, rows, strict=strict)
    ctx.exit(code)
