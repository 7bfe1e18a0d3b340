"""Shell completion: what is offered where, by what a shell asks of the program; bash itself takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowsim.cli import main
from flowsim.cli.completion import FIGURE_NAMES, SHELLS
from tests.cli.conftest import Call

BIN = Path(sys.executable).parent
Offer = Callable[[str], list[str]]

SWEEP = """\
name: swept
objective: {kind: frobenius}
pretrained: {kind: gaussian, shape: [4, 3], std: 1.0, seed: 0}
adapter: {ranks: [1], init: {kind: gaussian}}
time: {stop: 1.0}
sweep: {adapter.init.std: [0.01, 0.1], reach: [1e-3, 1e-6]}
"""


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """What is offered for a line that ends at the cursor: its last word, perhaps empty, is being typed."""
    monkeypatch.chdir(tmp_path)

    def ask(line: str) -> list[str]:
        env = {"_FLOWSIM_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = CliRunner().invoke(main, [], prog_name="flowsim", env=env)
        assert (done.exit_code, done.stderr) == (0, "")
        return [line for line in done.stdout.splitlines() if line]

    return ask


def plain(*words: str) -> list[str]:
    return [f"plain,{word}" for word in words]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("flowsim sh", plain("show")),
        ("flowsim va", plain("validate")),
        ("flowsim run --sch", plain("--scheduler")),
        ("flowsim run --device cu", plain("cuda")),
        ("flowsim run --jobs a", plain("auto")),
        ("flowsim run scenarios/a.yaml --set solver.", plain("solver.method=", "solver.rtol=", "solver.atol=")),
        ("flowsim run --set target.by.sy", plain("target.by.symmetric=")),
        ("flowsim run --set nothing.like.it", []),
        ("flowsim validate a.yaml --set reac", plain("reach=")),
        ("flowsim plot r --figure loss", plain("loss_vs_rank", "loss_vs_time")),
        ("flowsim plot r --format ", plain("png", "svg", "pdf")),
        ("flowsim plot r --format svg,p", plain("svg,png", "svg,pdf")),
        ("flowsim completion ", plain("bash", "zsh", "fish")),
        ("flowsim run sc", ["file,sc"]),
        ("flowsim validate a.yaml b", ["file,b"]),
        ("flowsim show ", ["file,"]),
        ("flowsim check re", ["file,re"]),
        ("flowsim plot re", ["file,re"]),
        ("flowsim run a.yaml --out re", ["dir,re"]),
        ("flowsim plot r --out re", ["dir,re"]),
        ("flowsim new mi", []),
    ],
)
def test_what_is_offered(offer: Offer, line: str, offered: list[str]) -> None:
    assert offer(line) == offered


def test_every_offered_key_is_one_that_a_scenario_may_have(offer: Offer, scenario: Path, call: Call) -> None:
    keys = [word.removeprefix("plain,") for word in offer("flowsim run --set ")]
    assert len(keys) > 60 and {"adapter.init.std=", "time.stop=", "pretrained.singular_values.ratio="} <= set(keys)
    # A key that no class knows is told as unknown; one that another kind has is told as that.
    made = call("run", scenario, "--dry-run", "--set", "solver.nonsense=1")
    assert "unknown key" in made.stderr
    for key in ("solver.rtol=1e-8", "adapter.init.std=0.2", "reach=1e-4", "adapter.scaling={kind: lora, alpha: 8}"):
        assert f"{key.partition('=')[0]}=" in keys
        assert "unknown key" not in call("run", scenario, "--dry-run", "--set", key).stderr


def test_the_figures_are_those_that_can_be_drawn() -> None:
    from flowsim.report.plots import FIGURES

    assert tuple(FIGURES) == FIGURE_NAMES, "a new figure is offered to the shell by cli/completion.py, too"


def test_points_of_a_sweep(offer: Offer, tmp_path: Path) -> None:
    folder = tmp_path / "swept-12345678"
    folder.mkdir()
    for path in (tmp_path / "swept.yaml", folder / "scenario.yaml"):
        path.write_text(SWEEP, encoding="utf-8")
    for place in ("swept.yaml", "swept-12345678", "swept-12345678/swept.nc"):
        assert offer(f"flowsim show {place} --at ") == plain("std=", "reach=")
        assert offer(f"flowsim plot {place} --at s") == plain("std=")
        assert offer(f"flowsim show {place} --at std=") == plain("std=0.01", "std=0.1")
        assert offer(f"flowsim show {place} --at adapter.init.std=0.1") == plain("adapter.init.std=0.1")


@pytest.mark.parametrize("place", ["", "missing.yaml ", "broken.yaml ", "binary.yaml ", "empty ", "nul\0 "])
def test_where_nothing_can_be_read_nothing_is_offered(offer: Offer, tmp_path: Path, place: str) -> None:
    (tmp_path / "broken.yaml").write_text("name: [", encoding="utf-8")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "empty").mkdir()
    if "\0" in place:  # no shell passes it on; the program may be asked by something else
        from flowsim.cli.completion import _axes

        assert _axes(place) == ()
        return
    assert offer(f"flowsim show {place}--at s") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed_with_a_word_on_where_it_goes(call: Call, shell: str) -> None:
    done = call("completion", shell)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"_FLOWSIM_COMPLETE={shell}_complete" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("# ") and f"flowsim completion {shell}" in last


@pytest.mark.parametrize("args", [(), ("tcsh",), ("bash", "zsh")], ids=str)
def test_other_shells_are_refused(call: Call, args: tuple[str, ...]) -> None:
    done = call("completion", *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")
def test_bash_completes(tmp_path: Path) -> None:
    # compopt works only while a user types: what it was asked for is recorded in its place.
    program = """
    eval "$(flowsim completion bash)"
    compopt() { asked="$1 $2"; }
    ask() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); asked=
        "$(complete -p flowsim | sed 's/.* -F \\([^ ]*\\) .*/\\1/')" flowsim
        echo "${COMPREPLY[*]} ($asked)"
    }
    ask flowsim comp
    ask flowsim run x.yaml --set time.s
    ask flowsim show res
    """
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["completion ()", "time.stop= time.spacing= (-o nospace)", " (-o default)"]
