"""``flowsim plot``: which figures are drawn, in which formats, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call, Stand


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
