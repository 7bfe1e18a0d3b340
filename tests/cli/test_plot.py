"""``flowsim plot``: which figures are drawn, in which formats, and where."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Stand
from tests.report.sweeps import real_sweep


def test_all_figures_by_default_beside_the_data(call: Call, stand: Stand, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-01234567"
    folder.mkdir()
    result = call("plot", folder)
    drawn = {"folder": folder / "figures", "figures": None, "formats": ("png", "svg")}
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
    wanted = {"figures": ["loss_vs_rank", "loss_vs_time"], "formats": ("pdf", "png")}
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
    assert result.stdout.splitlines() == [str(sweep / "figures" / "phase_diagram.png")]
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
