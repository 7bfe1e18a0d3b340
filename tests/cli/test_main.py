"""The main group: help, version, errors in two lines, exit codes."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import click
import pytest

from flowsim.cli import main
from flowsim.cli.common import PRECEDENCE, ensure_writable, say, worst
from flowsim.errors import FlowsimError, InputError, OutputError
from tests.cli.conftest import Call, Stand

VERBS = ["run", "validate", "check", "plot", "report", "show", "schema", "new", "completion"]


def test_help_names_every_verb(call: Call) -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert all(f"\n  {verb} " in result.stdout for verb in VERBS)
    assert sorted(main.commands) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(call: Call, verb: str) -> None:
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert f"  flowsim {verb}" in result.stdout


def test_version(call: Call) -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"flowsim {importlib.metadata.version('flowsim')}\n")


def test_without_a_verb_help_goes_to_stderr(call: Call) -> None:
    result = call()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: flowsim")


@pytest.mark.parametrize(
    ("args", "what", "where"),
    [
        (["rum"], "No such command 'rum'", "flowsim --help"),
        (["--jump"], "No such option", "flowsim --help"),
        (["run"], "Missing argument 'SCENARIO'", "flowsim run --help"),
        (["run", "x.yaml", "--worker", "4"], "No such option", "flowsim run --help"),
        (["plot", "x.nc", "--format", "gif"], "'gif' is not a list of formats", "flowsim plot --help"),
        (["show", "x.nc", "--within", "-1"], "'--within'", "flowsim show --help"),
    ],
)
def test_wrong_usage_is_told_in_two_lines(call: Call, args: list[str], what: str, where: str) -> None:
    result = call(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert what in first
    assert where in second


def out_of_memory_of_torch() -> RuntimeError:
    return type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OutputError("the disk is full", "free some space"), 4, "the disk is full"),
        (InputError("no such device", "take cpu"), 2, "no such device"),
        (FlowsimError("it went wrong", "try again"), 3, "it went wrong"),
        (MemoryError(), 3, "out of memory"),
        (out_of_memory_of_torch(), 3, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 3, "out of memory"),
        (ZeroDivisionError("division\nby zero"), 3, "unexpected error: ZeroDivisionError: division by zero"),
        (AssertionError(), 3, "unexpected error: AssertionError"),
    ],
)
def test_errors_become_two_lines_and_a_code(
    call: Call, scenario: Path, stand: Stand, error: BaseException, code: int, first: str
) -> None:
    stand.error = error
    result = call("run", scenario)
    assert (result.exit_code, result.stdout) == (code, "")
    lines = result.stderr.splitlines()
    assert lines[0] == first
    assert len(lines) == (1 if code == 130 else 2)


@pytest.mark.parametrize("position", [0, 2])
def test_debug_shows_the_traceback_wherever_it_stands(call: Call, scenario: Path, stand: Stand, position: int) -> None:
    stand.error = ZeroDivisionError("by zero")
    args: list[object] = ["run", scenario]
    args.insert(position, "--debug")
    result = call(*args)
    assert result.exit_code == 3
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert "run again with --debug" in result.stderr.splitlines()[-1]


def test_as_a_library_the_group_behaves_like_any_of_click() -> None:
    with pytest.raises(click.UsageError):
        main(["rum"], standalone_mode=False)


def test_precedence_of_exit_codes() -> None:
    assert PRECEDENCE == (130, 4, 2, 3, 1, 0)
    for i, code in enumerate(PRECEDENCE):
        assert worst(reversed(PRECEDENCE[i:])) == code


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "flowsim", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (0, b"")


def test_a_full_disk_behind_stdout_is_told() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("only some systems have a device that is always full")
    command = [sys.executable, "-m", "flowsim", "schema"]
    with full.open("w") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 2
    assert "standard output cannot be written" in done.stderr


def test_a_stream_that_does_not_speak_utf8_gets_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, encoding="ascii"))
    say("σ₁ = 3")
    assert raw.getvalue().split() == [b"??", b"=", b"3"]


def test_ensure_writable_creates_nothing(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_ensure_writable_refuses_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is not a folder"):
        ensure_writable(tmp_path / "file" / "results")


def test_ensure_writable_refuses_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permission bits do not stop the superuser, so the answer is given here.
    monkeypatch.setattr("os.access", lambda *_args: False)
    with pytest.raises(OutputError, match="no permission"):
        ensure_writable(tmp_path / "results")
