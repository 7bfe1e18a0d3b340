"""What the commands share: options, output streams, errors as two lines, and exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.shell_completion import CompletionItem

from flowsim import __version__
from flowsim.errors import FlowsimError, Interrupted, OutputError
from flowsim.report.summary import incomplete

if TYPE_CHECKING:
    import xarray

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

INTERRUPTED, UNWRITABLE, BAD_INPUT, INCOMPLETE, CHECK_FAILED, SUCCESS = 130, 4, 2, 3, 1, 0

#: Exit codes by precedence: of several that hold, the first is the one reported.
PRECEDENCE = (INTERRUPTED, UNWRITABLE, BAD_INPUT, INCOMPLETE, CHECK_FAILED, SUCCESS)

_DEBUG = "flowsim.debug"


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG] = True


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    say(f"flowsim {__version__}")
    ctx.exit(SUCCESS)


class PathName(click.ParamType[Path]):
    """A path that a file system can be asked for; a shell offers files, or folders alone."""

    name = "path"

    def __init__(self, *, folder: bool = False) -> None:
        self.offered = "dir" if folder else "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Refuse what no file can be called."""
        try:
            os.stat(value)
        except ValueError:  # a NUL
            self.fail(f"{str(value)[:60]!r} is not a file name", param, ctx)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                self.fail(f"{str(value)[:60]!r}... is too long for a file name", param, ctx)
        return Path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Leave it to the shell, which knows its files."""
        return [CompletionItem(incomplete, type=self.offered)]


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)
version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
strict_option = click.option(
    "--strict", is_flag=True, help="Exit with 1 also where a check was not reached or is unresolved."
)


class Program(click.Group):
    """The main group: it turns every error into lines on stderr and an exit code.

    Subcommands raise; nothing but this class catches, so that each mistake is told in one way.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; report what it raises, and exit with its code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            ctx.exit(report(error, debug=ctx.meta.get(_DEBUG, False)))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse and run; like click's own, but wrong usage is told in two lines."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code: Any = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort, OSError) as error:
            code = report(error)
        sys.exit(code if isinstance(code, int) else SUCCESS)


def report(error: BaseException, *, debug: bool = False) -> int:
    """Tell the user what went wrong, on stderr; the exit code is returned."""
    if debug:
        note("".join(traceback.format_exception(error)).rstrip())
    lines, code = _describe(error)
    for line in lines:
        note(line)
    return code


def _describe(error: BaseException) -> tuple[list[str], int]:
    if isinstance(error, Interrupted):
        return error.lines(), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return ["interrupted"], INTERRUPTED
    if isinstance(error, FlowsimError):
        return error.lines(), error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "flowsim"
        what = " ".join(error.format_message().split())
        return [f"{path}: {what}", f"  how it is used: {path} --help"], BAD_INPUT
    if isinstance(error, click.ClickException):
        return [error.format_message(), "  see: flowsim --help"], BAD_INPUT
    if _out_of_memory(error):
        hint = "take smaller matrices, fewer ranks, seeds or time points, or a machine with more memory"
        return ["out of memory", f"  {hint}"], INCOMPLETE
    message = " ".join(str(error).split())
    what = f"unexpected error: {type(error).__name__}" + (f": {message}" if message else "")
    hint = "this is a defect of flowsim; run again with --debug to see where it happened"
    return [what, f"  {hint}"], INCOMPLETE


def _out_of_memory(error: BaseException) -> bool:
    # torch has its own classes and, for the host, only a RuntimeError; it is not imported to ask.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def say(text: str = "") -> None:
    """Print a result, on stdout.

    Raises
    ------
    OutputError
        Where stdout cannot be written. A reader who has closed the pipe is no error: the rest is dropped.
    """
    _write(text, sys.stdout, "standard output")


def note(text: str) -> None:
    """Print anything but a result, on stderr."""
    _write(text, sys.stderr, "standard error")


def _write(text: str, stream: TextIO, name: str) -> None:
    # A terminal or pipe that does not speak UTF-8 shows question marks rather than an error.
    encoding = stream.encoding or "utf-8"
    try:
        click.echo(text.encode(encoding, "replace").decode(encoding), file=stream)
    except BrokenPipeError:
        # What is buffered would fail again when the interpreter shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        hint = "free some space, or send the output elsewhere"
        raise OutputError(f"{name} cannot be written: {error.strerror or error}", hint) from error


def ensure_writable(folder: Path) -> None:
    """Refuse, before anything is computed, a folder that cannot be written; nothing is created.

    Raises
    ------
    OutputError
        Where the folder, or the nearest of its parents that exists, is no folder or not writable.
    """
    hint = "name another folder, or change its permissions"
    for place in (folder, *folder.absolute().parents):
        try:
            if not place.exists():
                continue
            if not place.is_dir():
                raise OutputError(f"{folder} cannot be written: {place} is not a folder", hint)
            if not os.access(place, os.W_OK | os.X_OK):
                raise OutputError(f"{folder} cannot be written: no permission to write into {place}", hint)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror or error}", hint) from error
        return


def worst(codes: Iterable[int]) -> int:
    """The exit code that takes precedence among several.

    Examples
    --------
    >>> worst([0, 1, 3, 2])
    2
    >>> worst([])
    0
    """
    return min(codes, key=PRECEDENCE.index, default=SUCCESS)


def exit_code(tree: xarray.DataTree, *, strict: bool = False) -> int:
    """The exit code of a finished result: 3, 1 or 0, the first that holds.

    Parameters
    ----------
    tree : xarray.DataTree
        A result with its verdicts in ``/checks``.
    strict : bool
        Whether a check that was not reached, or is unresolved, counts as failed.
    """
    from flowsim.checks import verdict_table

    codes = [INCOMPLETE] if incomplete(tree) else []
    if unmet(verdict_table(tree), strict=strict):
        codes.append(CHECK_FAILED)
    return worst(codes)


def unmet(rows: Sequence[dict[str, Any]], *, strict: bool = False) -> list[dict[str, Any]]:
    """The verdicts that make a command exit with 1."""
    bad = {"fail", "not_reached", "unresolved"} if strict else {"fail"}
    return [row for row in rows if str(row["verdict"]) in bad]


def explain(tree: xarray.DataTree, rows: Sequence[dict[str, Any]], *, strict: bool = False) -> None:
    """Say on stderr, in two lines each, why a finished result does not exit with 0."""
    broken = incomplete(tree)
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        note(f"not completed: {broken[0]}{more}")
        if all(": failed" in line or ": not_run" in line for line in broken):
            note("  the same command tries again; fewer --jobs leave more memory to each")
        else:
            note("  a looser solver.rtol, an earlier time.stop or another solver.method may help")
    bad = unmet(rows, strict=strict)
    if bad:
        names = ", ".join(dict.fromkeys(f"{row['check']} ({row['verdict']})" for row in bad))
        note(f"checks that did not hold: {names}")
        note("  flowsim check RESULT --all lists every verdict with its reason")
