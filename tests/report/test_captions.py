"""Captions and alternative texts: the numbers of the result, whether it is complete, and nothing that breaks a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr

from flowsim.report.alt_texts import course
from flowsim.report.captions import completeness
from flowsim.report.complete import completeness_in_short
from flowsim.report.options import Options
from flowsim.report.plots import FIGURES, draw
from flowsim.report.words import listed, printable
from flowsim.trajectory.store import load
from tests.report.results import real_result
from tests.report.sweeps import STD, painted, real_sweep
from tests.report.test_plots import texts

HOSTILE = "a $x$ </desc> \x1b[31m \u202e *b* [c](d) `e` & \ud800 \x00 漢字 " + "long " * 80


def ended(tree: xr.DataTree, words: Callable[[np.ndarray], None], failed_tiles: int = 0) -> xr.DataTree:
    """A copy whose outcomes are changed in place."""
    copy = tree.copy(deep=True)
    words(copy["final"]["outcome"].values)
    copy.attrs["failed_tiles"] = failed_tiles
    return copy


def test_a_complete_result_says_so() -> None:
    tree = real_result("frobenius")
    count = tree["final"]["outcome"].size
    assert completeness(tree) == f"all {count} trajectories complete"
    assert completeness_in_short(tree) == f"{count} trajectories complete"
    assert completeness(real_result("one")) == "its one trajectory is complete"


def test_what_is_missing_or_diverged_is_counted() -> None:
    diverged = real_result("diverged")
    assert completeness(diverged) == "4 of 12 trajectories diverged" == completeness_in_short(diverged)

    def lose(words: np.ndarray) -> None:
        words[0, 0, 0], words[0, 1, 0], words[1, 0, 0] = "not_run", "failed", "max_steps"

    lost = ended(real_result("trace_squared"), lambda words: words.__setitem__((0, 0, 0), "not_run"), 1)
    assert completeness(lost) == "1 of 12 trajectories failed or were not run; 1 tile missing"
    several = ended(diverged, lose, 2)
    assert completeness(several) == (
        "2 of 12 trajectories failed or were not run; 1 stopped before the last time; 3 diverged; 2 tiles missing"
    )
    odd = ended(diverged, lambda words: words.fill("splendid"), 3)
    assert completeness(odd) == "12 of 12 trajectories ended in a way that is not known"
    for tree in (lost, several):
        words = texts(tree, "loss_vs_rank").replace("\n", " ")
        assert completeness(tree).split(";")[0] in words and completeness(tree) in FIGURES["loss_vs_rank"].caption(tree)


@pytest.mark.parametrize("name", [name for name, one in FIGURES.items() if not one.of_sweep])
def test_captions_say_what_and_of_which_result(name: str) -> None:
    tree = real_result("frobenius")
    caption = FIGURES[name].caption(tree)
    count = tree["final"]["outcome"].size
    assert caption.endswith(
        f"Scenario frobenius (digest {str(tree.attrs['digest'])[:8]}): f(W) = 0.5·‖W − W*‖²_F, W of 5 × 4, ranks 1–3, "
        f"seeds 0, 1; all {count} trajectories complete."
    )
    sentences = re.findall(r"[.!?](?: |$)", caption)
    assert 2 <= len(sentences) <= 5 and caption[0].isupper() and "\n" not in caption
    assert FIGURES[name].alt(tree)[0].isupper() and FIGURES[name].alt(tree).endswith(".")


def test_alternative_texts_tell_the_numbers() -> None:
    tree = real_result("frobenius")
    median = tree["final"]["loss"].isel(schedule=0).median("seed").sortby("rank").values
    loss = FIGURES["loss_vs_rank"].alt(tree)
    assert f"falls from {median[0]:.3g} at rank 1 to " in loss and "at rank 3" in loss
    reached = (tree["final"]["outcome"].isel(schedule=0) == "reached").all("seed").sum().item()
    assert f"{reached} of 3 ranks lie on their floor" in loss or "All 3 ranks lie on their floor" in loss
    spread = tree["final"]["singular_value"].isel(schedule=0, seed=0).sel(rank=3).values[:3]
    assert ", ".join(f"{value:.3g}" for value in spread) in FIGURES["singular_values"].alt(tree)
    assert "those of the difference are 3, 2, 1" in FIGURES["singular_values"].alt(tree).lower()
    exact = FIGURES["relative_error_vs_rank"].alt(real_result("trace_squared"))
    assert "differs from the exact limit of its start by at most" in exact
    gaps = FIGURES["equivalence"].alt(tree)
    assert "Descent against the flow, simultaneous: the gap falls from" in gaps and "at step 0.02" in gaps
    assert "Windows, symmetric, rank 3: the drift" in FIGURES["imbalance"].alt(tree)
    assert "diverged after t =" in FIGURES["loss_vs_time"].alt(real_result("diverged"))


def test_the_alternative_text_of_a_sweep() -> None:
    tree = load(real_sweep())
    alt = FIGURES["phase_diagram"].alt(tree)
    assert alt.startswith("Maps of 2 × 3 cells over adapter.init.std from 0.01 to 1 and ")
    loss = tree["final"]["loss"].isel(schedule=0).sel(rank=2).median("seed")
    assert f"For r = 2, the final loss goes from {float(loss.min()):.3g} (at " in alt
    assert f"to {float(loss.max()):.3g} (at " in alt and "Of 12 runs" in alt.replace("of 12", "Of 12")
    caption = FIGURES["phase_diagram"].caption(tree)
    assert "6 points" in caption and "a row for each of r = 1, r = 2" in caption
    turned = FIGURES["phase_diagram"].alt(tree, Options(x="exponent", y="rank"))
    assert turned.startswith("Maps of 3 × 2 cells over pretrained.singular_values.exponent from 0.5 to 2 and rank r")


def test_courses_of_numbers() -> None:
    places = ["a", "b", "c"]
    assert course("it", np.array([3.0, 2.0, 1.0]), places) == "it falls from 3 at a to 1 at c"
    assert course("it", np.array([1.0, np.nan, 2.0]), places) == "it rises from 1 at a to 2 at c"
    assert course("it", np.array([1.0, 3.0, 2.0]), places) == "it goes from 1 at a to 2 at c, between 1 and 3"
    assert course("it", np.array([1.0, 1.0001, 1.0]), places) == "it is 1 throughout"
    assert course("it", np.array([np.inf, 5.0, np.nan]), places) == "it is 5 at b"
    assert course("it", np.full(3, np.nan), places) == "it is not finite"


def test_words_of_lists_and_of_users() -> None:
    assert listed([7]) == "7" and listed([1, 2]) == "1, 2" and listed(range(3, 90)) == "3–89"
    assert printable(" a\n\tb \x00\u202e\ud800") == "a b □□□"


def hostile(tree: xr.DataTree) -> xr.DataTree:
    copy = tree.copy()
    copy.attrs = {**tree.attrs, "title": HOSTILE, "point": HOSTILE}
    return copy


def test_files_carry_caption_and_digest(tmp_path: Path) -> None:
    from PIL import Image

    tree = hostile(real_result("one"))
    png, svg, pdf = draw(tree, tmp_path, ["loss_vs_time"], ["png", "svg", "pdf"])
    caption, digest = FIGURES["loss_vs_time"].caption(tree), str(tree.attrs["digest"])
    with Image.open(png) as image:
        assert image.text["Description"] == caption and image.text["Digest"] == digest
    words = [element.text for element in ElementTree.parse(svg).iter() if element.text]
    assert caption in words and digest in words
    data = pdf.read_bytes()
    assert caption.encode("utf-16-be")[:60] in data.replace(b"\\", b"") and digest.encode() in data


def test_the_title_stands_below_that_of_the_figure() -> None:
    tree = hostile(real_result("one"))
    shown = texts(tree, "loss_vs_time")
    assert r"a \$x\$ </desc>" in shown and "\x1b" not in shown
    assert "“a $x$ </desc> □[31m" in FIGURES["loss_vs_time"].caption(tree)
    plain = texts(real_result("one"), "loss_vs_time")
    assert "a $x$" not in plain


def test_captions_are_written_with_all_figures(tmp_path: Path) -> None:
    tree = hostile(real_result("one"))
    path = draw(tree, tmp_path, formats=["svg"])[-1]
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "captions.md"
    names = [name for name, one in FIGURES.items() if one.applies(tree)]
    assert re.findall(r"(?m)^## (.*)$", text) == names and text.count("Alternative text: ") == len(names)
    assert r"\<\/desc" not in text and r"\</desc\>" in text and r"\*b\*" in text and r"\[c\](d)" in text
    assert not draw(tree, tmp_path / "c", ["imbalance"], ["svg"])[-1].name.endswith(".md")


def test_a_swept_objective_is_named_by_its_key() -> None:
    tree = real_result("one")
    sweep = painted(
        tree, {"objective.coefficient": [1, 2], STD: [1, 2]}, lambda *a: (a[-1] + 1.0, a[-1] + 1.0, "reached")
    )
    assert "f(W) = c·‖W − W*‖²_F" in FIGURES["phase_diagram"].caption(sweep)
