"""The command line: one module a verb, each parses its arguments, calls one library function and prints.

Nothing here imports torch, xarray, matplotlib or scipy before a command needs them: help answers at once.
"""

from __future__ import annotations

import click

from flowsim.cli.check import check
from flowsim.cli.common import CONTEXT_SETTINGS, Program, debug_option, note, version_option
from flowsim.cli.completion import completion
from flowsim.cli.new import new
from flowsim.cli.plot import plot
from flowsim.cli.report import report
from flowsim.cli.run import run
from flowsim.cli.schema import schema
from flowsim.cli.show import show
from flowsim.cli.validate import validate

__all__ = ["main"]


@click.group(cls=Program, context_settings=CONTEXT_SETTINGS, invoke_without_command=True)
@version_option
@debug_option
@click.pass_context
def main(ctx: click.Context) -> None:
    """Simulate how LoRA adapters learn, and check the dynamics against theory.

    A scenario, one YAML file, says which weight matrix is adapted, to what end, at which ranks, from which
    starts and by which rules. flowsim solves the gradient flow of the adapter, compares it with gradient
    descent and with full fine-tuning, judges the outcome against the theorems, and draws it.

    \b
    A first session:
      flowsim new mine                     write mine.yaml, a commented scenario to start from
      flowsim validate mine.yaml           look for mistakes; nothing is computed
      flowsim run mine.yaml --dry-run      say what would be computed
      flowsim run mine.yaml                solve, check and draw, into results/
      flowsim show results/mine-1a2b3c4d   look at the result again; report.html in that folder is for a browser

    \b
    Exit codes, the first that holds:
      130  interrupted
        4  output cannot be written
        2  a bad scenario, unreadable input, or wrong usage
        3  a flow did not complete, or something failed or was not run
        1  a check failed (--strict: or was not reached or unresolved)
        0  all is well
    """
    if ctx.invoked_subcommand is None:
        note(ctx.get_help())
        ctx.exit(2)


for command in (run, validate, check, plot, report, show, schema, new, completion):
    main.add_command(command)
