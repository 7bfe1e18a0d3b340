"""``flowsim plot``: which figures are drawn, in which formats, and where."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowsim.report.options import Options
from tests.cli.conftest import Call, Stand
from tests.report.sweeps import real_sweep


def test_all_figures_by_default_beside_the_data(call: Call, stand: Stand, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-01234567"
    folder.mkdir()
    result = call("plot", folder)
    drawn = {"folder": folder / "figures", "figures": None, "formats": ("png", "svg"), "options": Options()}
    assert (result.exit_code, result.stderr) == (0, "")
    assert stand.calls[-1] == ("draw", drawn)
    assert result.stdout.splitlines() == [str(folder / "figures" / f"loss_vs_rank.{x}") for x in ("png", "svg")]
    call("plot", folder / "tiny.nc")
    assert stand.calls[-1] == ("draw", drawn)


def test_named_figures_and_formats(call: Call, stand: Stand, tmp_path: Path) -> None:
    args = (
        "--figure",
        "loss_vs_rank",
        "--figure",
        "loss_vs_time",
        "--format",
        "pdf, png,pdf",
        "--out",
        "elsewhere",
    )
    assert call("plot", tmp_path, *args).exit_code == 0
    wanted = {"figures": ["loss_vs_rank", "loss_vs_time"], "formats": ("pdf", "png"), "options": Options()}
    assert stand.calls[-1] == ("draw", {"folder": Path("elsewhere"), **wanted})


def test_an_unknown_figure(call: Call, stand: Stand, tmp_path: Path) -> None:
    result = call("plot", tmp_path, "--figure", "loss_vs_rnk")
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert "'loss_vs_rnk'" in first
    assert "did you mean loss_vs_rank?" in second


@pytest.mark.parametrize("formats", ["gif", "png,gif", "", ","])
def test_an_unknown_format(call: Call, stand: Stand, tmp_path: Path, formats: str) -> None:
    result = call("plot", tmp_path, "--format", formats)
    assert (result.exit_code, stand.calls) == (2, [])


def test_an_output_that_cannot_be_written(call: Call, stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = call("plot", tmp_path, "--out", tmp_path / "file" / "figures")
    assert (result.exit_code, result.stdout) == (4, "")
    assert len(result.stderr.splitlines()) == 2


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep's folder with its data alone."""
    folder = tmp_path / "phases"
    folder.mkdir()
    shutil.copy(real_sweep() / "phases.nc", folder)
    return folder


def test_a_sweep_has_its_phase_diagram(call: Call, sweep: Path) -> None:
    result = call("plot", sweep, "--format", "png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        str(sweep / "figures" / name) for name in ("phase_diagram.png", "captions.md")
    ]
    assert (sweep / "figures" / "phase_diagram.png").stat().st_size > 10_000


def test_the_figures_of_a_point(call: Call, sweep: Path) -> None:
    at = ("--at", "std=1e-2", "--at", "exponent=2")
    result = call("plot", sweep, *at, "--format", "svg")
    assert (result.exit_code, result.stderr) == (0, "")
    folder = sweep / "figures" / "std=0.01_exponent=2"
    assert sorted(folder.iterdir()) == sorted(Path(line) for line in result.stdout.splitlines())
    names = {path.stem for path in folder.iterdir()}
    assert names >= {"loss_vs_rank", "loss_vs_time", "equivalence", "imbalance"} and "phase_diagram" not in names
    elsewhere = call("plot", sweep, *at, "--figure", "imbalance", "--format", "svg", "--out", "here")
    assert elsewhere.stdout == f"{Path('here', 'imbalance.svg')}\n"
    assert Path("here", "imbalance.svg").read_bytes() == (folder / "imbalance.svg").read_bytes()


def test_figures_of_a_point_say_which(sweep: Path) -> None:
    from flowsim.report.plots import FIGURES
    from flowsim.trajectory.points import point_of
    from flowsim.trajectory.store import load

    point = point_of(load(sweep), (1, 2))
    point.attrs["point"] = "std = 0.01, exponent = 2"
    figure = FIGURES["loss_vs_rank"].draw(point)
    assert any("std = 0.01, exponent = 2" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize(
    ("args", "what", "hint"),
    [
        (["--figure", "loss_vs_rank"], "shows one point, and", "--at std=1 --at exponent=0.5, or draw phase_diagram."),
        (["--at", "std=1"], "leaves pretrained.singular_values.exponent open", "Add --at exponent=…"),
        (["--at", "std=2", "--at", "exponent=1"], "no such value of adapter.init.std", "Did you mean 1?"),
        (
            ["--at", "std=1", "--at", "exponent=1", "--figure", "phase_diagram"],
            "shows a whole sweep",
            "Leave --at out.",
        ),
    ],
)
def test_what_a_sweep_cannot_show(call: Call, sweep: Path, args: list[str], what: str, hint: str) -> None:
    result = call("plot", sweep, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert what in first and hint in second
    assert not (sweep / "figures").exists()


def test_the_look_is_passed_on(call: Call, stand: Stand, tmp_path: Path) -> None:
    args = (
        "--size",
        "column",
        "--dpi",
        "300",
        "--log",
        "y",
        "--ranks",
        "2,1,2",
        "--seeds",
        "0",
        "--x",
        "a",
        "--y",
        "b",
    )
    assert call("plot", tmp_path, *args).exit_code == 0
    wanted = Options(width=3.25, dpi=300, log=("y",), ranks=(2, 1), seeds=(0,), x="a", y="b")
    assert repr(stand.calls[-1][1]["options"]) == repr(wanted)  # a height of NaN equals nothing
    assert call("plot", tmp_path, "--size", "5x4", "--log", "none").exit_code == 0
    assert stand.calls[-1][1]["options"] == Options(width=5.0, height=4.0, log=())


@pytest.mark.parametrize(
    "args",
    [
        ("--size", "0x0"), ("--size", "nan"), ("--size", "-3x4"), ("--size", "1e99"), ("--size", "5x5x5"),
        ("--size", ""), ("--size", "6.5x1e9"), ("--dpi", "0"), ("--dpi", "-1"), ("--dpi", "9" * 30), ("--dpi", "x"),
        ("--dpi", "nan"), ("--log", "z"), ("--log", ""), ("--log", "x,none"), ("--ranks", ""), ("--ranks", "-1"),
        ("--ranks", "1,,2"), ("--ranks", "1.5"), ("--ranks", "9" * 5000), ("--seeds", "zero"), ("--seeds", "0\x1b"),
    ],
)  # fmt: skip
def test_looks_that_mean_nothing(call: Call, stand: Stand, tmp_path: Path, args: tuple[str, str]) -> None:
    result = call("plot", tmp_path, *args)
    assert (result.exit_code, result.stdout, stand.calls) == (2, "", [])
    assert len(result.stderr.splitlines()) == 2 and len(result.stderr) < 400


@pytest.mark.parametrize(
    ("args", "what", "hint"),
    [
        (("--ranks", "3"), "there is no rank 3", "Did you mean 2? It has 2 ranks: 1, 2."),
        (("--seeds", "0,7"), "there is no seed 7", "Did you mean 1?"),
        (("--x", "expnent"), "'expnent' is not swept", "Did you mean exponent?"),
        (("--x", "std", "--y", "adapter.init.std"), "asked for both directions", "Choose two keys"),
        (("--log", "x"), "'phase_diagram' has no choice of scales", "Leave --log out"),
        (("--size", "6.5x1.2"), "is too low for the figure", "at least"),
        (("--at", "std=1", "--at", "exponent=1", "--x", "std"), "has no choice of swept keys", "Leave --x and --y out"),
    ],
)
def test_looks_that_a_result_has_not(call: Call, sweep: Path, args: tuple[str, ...], what: str, hint: str) -> None:
    result = call("plot", sweep, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert what in first and hint in second
    assert not list(sweep.rglob("*.png"))


def test_keys_and_ranks_of_a_phase_diagram(call: Call, sweep: Path) -> None:
    args = ("--format", "svg", "--x", "exponent", "--y", "rank", "--size", "column")
    assert call("plot", sweep, *args).exit_code == 0
    words = (sweep / "figures" / "captions.md").read_text(encoding="utf-8").replace("\\", "")
    assert "Maps of 3 × 2 cells over pretrained.singular_values.exponent" in words
    assert "Other keys at their first value: adapter.init.std = 1 (of 2)." in words
    assert call("plot", sweep, "--format", "svg", "--ranks", "1").exit_code == 0
    assert "only rank 1 of the 2" in (sweep / "figures" / "captions.md").read_text(encoding="utf-8")
