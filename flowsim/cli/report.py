"""``flowsim report``: the page of a result again."""

from __future__ import annotations

from pathlib import Path

import click

from flowsim.cli.common import PathName, debug_option, ensure_writable, say
from flowsim.cli.points import at_option, folder_of, places_at, said
from flowsim.errors import InputError


@click.command()
@click.argument("result", type=PathName())
@click.option("--out", type=PathName(), metavar="FILE", help="The page.  [default: report.html beside the data]")
@at_option
@debug_option
def report(result: Path, out: Path | None, at: tuple[str, ...]) -> None:
    """Write the page of RESULT again, from its file alone, and print its path.

    RESULT is a result's folder or the .nc file in it. The page holds the verdicts, the figures, a chart that one
    can move through time, the scenario, the methods and where everything comes from. It is one file that any
    browser opens, without a network.

    Of a sweep it shows all points together; --at chooses one of them, whose page is report-<point>.html.

    \b
    Examples:
      flowsim report results/frobenius-1a2b3c4d
      flowsim report results/phases-5e6f7a8b --at std=0.01 --at exponent=2 --out point.html
    """
    from flowsim.report.page import page_of
    from flowsim.report.page.pictures import pictures_of
    from flowsim.trajectory.files import write_text
    from flowsim.trajectory.points import axes_of, point_of
    from flowsim.trajectory.store import open_result, result_file

    file = result_file(result)
    with open_result(file) as tree:
        axes = axes_of(tree)
        places = places_at(axes, at) if at else ()
        name = f"report-{folder_of(axes, places)}.html" if places else "report.html"
        page = out or file.parent / name
        if page.suffix == ".nc" or (page.exists() and not page.is_file()):
            raise InputError(f"--out {page}: is no place for a page", "Give a file name that ends in .html.")
        ensure_writable(page.parent)
        if places:
            tree = point_of(tree, places)
            tree.attrs["point"] = said(axes, places)  # for the footers
        point = said(axes, places) if places else ""
        write_text(page, page_of(tree, file, pictures_of(tree), point))
    say(str(page))
