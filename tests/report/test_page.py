"""The report page without a browser: everything is in it, nothing comes from elsewhere, nothing in it commands."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from flowsim.checks import CHECKS, summarize, verdict_table
from flowsim.checks.base import Verdict
from flowsim.cli import main
from flowsim.pipeline import Finished
from flowsim.report.page import facts, page_of
from flowsim.report.page.pictures import inline, pictures_of
from flowsim.report.page.texts import formula, printable, shown
from flowsim.report.page.touch import touchable
from flowsim.report.plots import FIGURES
from flowsim.sweep.outcome import Outcome
from tests.report.pages import GREEN, finished, with_every_verdict


def page(done: Finished) -> str:
    return (done.folder / "report.html").read_text(encoding="utf-8")


def words(text: str) -> str:
    """What a reader sees of a page, in order."""
    import html

    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_is_sound_html(green: Finished, swept: Finished) -> None:
    import html5lib

    for text in (page(green), page(swept)):
        html5lib.HTMLParser(strict=True).parse(text)
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert [name for name, count in Counter(ids).items() if count > 1] == []
        marked = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        missing = set(re.findall(r'(?:href="#|url\(#)([^")]+)', marked)) - set(ids)
        assert not missing


def test_nothing_comes_from_elsewhere(green: Finished) -> None:
    text = page(green)
    outside = set(re.findall(r'https?://[^\s"<>)]+', text))
    assert outside <= {
        "http://www.w3.org/1998/Math/MathML",
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"<(link|img|iframe|object|embed|base|meta http-equiv=.refresh)\b(?![^>]*data:,)", text)
    assert "default-src 'none'" in text


def test_what_it_says_is_what_the_file_holds(green: Finished, sha256: Any) -> None:
    text, said = page(green), words(page(green))
    rows = verdict_table(green.tree)
    for row in summarize(rows):
        for part in (row["check"], row["statement"], row["reason"], row["measures"], row["reference"]):
            assert " ".join(str(part).split()) in said
        for number in ("observed", "expected", "tolerance"):
            assert shown(float(str(row[number]))) in said
    assert all(str(row["subject"]) in said for row in rows)
    assert str(green.tree.attrs["digest"]) in said
    assert sha256(green.file) in said
    assert "ranks: [1, 2, 3], seeds: 2" in said, "the scenario as written"
    assert f"All {len(summarize(rows))} checks pass." in said
    assert said.index("How it ended") < said.index("Figures as files lie in") < said.index("Methods, and why")
    assert "24 reached" not in said and said.count("6 reached") == 2, "descents that differ in their step share a row"
    for name, version in json.loads(green.tree.attrs["versions"]).items():
        assert f"{name} {version}" in said
    assert "exact" in said and "share one pass" in said, "the method and why"
    assert text.count("<math") >= len(summarize(rows))


def test_every_figure_is_there_with_words(green: Finished) -> None:
    text = page(green)
    for drawing in FIGURES.values():
        if drawing.applies(green.tree):
            assert f'id="figure-{drawing.name}"' in text
            assert f'aria-labelledby="{drawing.name}-title {drawing.name}-alt"' in text
            alt = re.search(rf'<desc id="{drawing.name}-alt">(.*?)</desc>', text, flags=re.DOTALL)
            assert alt and len(alt[1]) > 40
            assert " ".join(drawing.caption(green.tree).split()) in words(text)


def test_the_same_result_gives_the_same_page(green: Finished, tmp_path: Path) -> None:
    pictures = pictures_of(green.tree)
    assert page_of(green.tree, green.file, pictures) == page(green)
    again = CliRunner().invoke(main, ["report", str(green.folder), "--out", str(tmp_path / "again.html")])
    assert again.exit_code == 0
    assert again.stdout.strip() == str(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page(green)


def test_every_verdict_and_divergence_is_told(mixed: Finished) -> None:
    tree = with_every_verdict(mixed.tree)
    verdicts = {str(row["verdict"]) for row in verdict_table(tree)}
    assert verdicts == {str(one) for one in Verdict}
    text = page_of(tree, mixed.file)
    said = words(text)
    # monotone_loss fails, closed_form, accuracy and descent_follows_flow are unresolved, two are not reached, …
    assert "Of 9 checks 1 fails, 3 are unresolved, 2 are not reached yet, 2 do not apply and 1 passes." in said
    order = re.findall(r'<article id="check-\d+" class="check (\w+)">', text)
    severity = {str(one): place for place, one in enumerate(facts.WORST_FIRST)}
    assert order == sorted(order, key=severity.__getitem__)
    assert order[0] == "fail" and order[-1] == "pass"
    assert "2 diverged" in said and Outcome.DIVERGED.meaning in said
    assert "diverged: loss not finite after t = " in said
    for one in Verdict:
        assert one.meaning in said


def test_a_flow_that_did_not_complete_is_told_first(mixed: Finished) -> None:
    tree = mixed.tree.copy(deep=True)
    tree["final"]["outcome"].values[0, 0, 0] = "max_steps"
    tree["final"]["reason"].values[0, 0, 0] = "gave up"
    said = words(page_of(tree, mixed.file))
    assert said.index("1 trajectory did not complete") < said.index("Verdicts Outcomes")
    assert "flow, rank 1, seed 0: max_steps (gave up)" in said


def test_a_sweep_lists_its_points(swept: Finished) -> None:
    said = words(page(swept))
    assert "a sweep of 4 points" in said
    assert "adapter.init.scale pretrained.singular_values.exponent outcomes" in said
    assert touchable(swept.tree)[0] is None
    one = CliRunner().invoke(main, ["report", str(swept.folder), "--at", "scale=0.1", "--at", "exponent=1"])
    assert one.exit_code == 0, one.stderr
    path = swept.folder / "report-scale=0.1_exponent=1.html"
    assert one.stdout.strip() == str(path)
    text = path.read_text(encoding="utf-8")
    assert "scale = 0.1, exponent = 1" in words(text)
    assert 'id="touch"' in text and 'id="figure-loss_vs_time"' in text


def test_many_points_are_cut_and_the_worst_are_kept(swept: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = swept.tree.copy(deep=True)
    tree["checks"]["verdict"].values[-1] = "fail"
    monkeypatch.setattr(facts, "MOST_POINTS", 2)
    monkeypatch.setattr(facts, "MOST_FINDINGS", 3)
    said = words(page_of(tree, swept.file))
    assert "2 more: flowsim show" in said and "more: flowsim check" in said
    rows = facts.Facts(tree, "x.nc", "0").points[0]
    assert "fail" in rows[0]["verdicts"] and len(rows) == 2


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' {{ 7 * 7 }} \x00\x1b[31m\u202e\ud800"


def test_text_of_a_result_commands_nothing(green: Finished) -> None:
    tree = green.tree.copy(deep=True)
    resolved = json.loads(tree.attrs["resolved_scenario"]) | {"title": HOSTILE}
    tree.attrs |= {"scenario": HOSTILE, "name": HOSTILE, "flowsim_version": HOSTILE, "device": HOSTILE}
    tree.attrs |= {
        "resolved_scenario": json.dumps(resolved), "versions": json.dumps({HOSTILE: HOSTILE}),
        "weights_sha256": json.dumps({HOSTILE: [HOSTILE]}), "overrides": json.dumps([HOSTILE]),
    }  # fmt: skip
    for group, names in {
        "checks": ("statement", "reference", "reason", "subject"), "final": ("reason", "method", "choice", "stepper"),
        "companions": ("method", "against"),
    }.items():  # fmt: skip
        for name in names:
            tree[group][name].values[...] = HOSTILE
    update = tree["trajectory"].dataset["update"].values
    update[-1] = HOSTILE
    text = page_of(tree, green.file)
    assert text.encode("utf-8")
    assert "<img" not in text and "alert(1)</script>" not in text.replace("&lt;", "<").split("<main>")[0]
    assert len(re.findall(r"<script\b", text)) == 2 and len(re.findall(r"</script>", text)) == 2
    assert "49" not in re.sub(
        r"\d*\.?\d+e?\d*", lambda one: "" if one[0] != "49" else "49", words(text).split("Verdicts")[0]
    )
    assert not set("\x00\x1b\u202e") & set(text)
    data = re.search(r'<script type="application/json" id="touch">(.*?)</script>', text, flags=re.DOTALL)
    assert (
        data
        and HOSTILE.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")[:9]
        in json.loads(data[1])["schedules"][-1]["label"]
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 5e-324, 1.7e308])
def test_numbers_of_every_kind(mixed: Finished, value: float) -> None:
    tree = mixed.tree.copy(deep=True)
    for group in ("trajectory", "final", "baseline", "theory", "companions", "checks"):
        for name in tree[group].data_vars:
            values = tree[group][name].values
            if values.dtype.kind == "f" and name != "flow_time":
                values[...] = value
    text = page_of(tree, mixed.file)
    found = touchable(tree)[0]
    assert found is None or json.loads(found, parse_constant=pytest.fail)["schedules"]
    assert found is None or found in text


def test_the_chart_holds_what_the_file_holds(green: Finished) -> None:
    data = json.loads(str(touchable(green.tree)[0]))
    final, run = green.tree["final"].to_dataset(), green.tree["trajectory"].to_dataset()
    assert [one["rank"] for one in data["ranks"]] == [1, 2, 3]
    np.testing.assert_allclose(data["targets"], [3, 2, 1], rtol=1e-3)
    assert data["schedules"][0]["label"] == "flow"
    for place, own in enumerate(data["schedules"]):
        for rank in range(3):
            median = run["loss"].isel(schedule=place, rank=rank).median("seed").values
            np.testing.assert_allclose(own["loss"][rank], median, rtol=1e-3)
            last = final["singular_value"].isel(schedule=place, rank=rank).median("seed").values[: rank + 1]
            np.testing.assert_allclose(own["modes"][rank][-1], last, rtol=1e-3)


def test_a_large_result_gives_a_small_page(green: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim.report.page import touch

    monkeypatch.setattr(touch, "MOST_NUMBERS", 1)
    data = json.loads(str(touchable(green.tree)[0]))
    assert [one["label"] for one in data["schedules"]] == ["flow"], "the flow is kept whatever the bound"
    monkeypatch.setattr(touch, "MOST_TIMES", 3)
    assert json.loads(str(touchable(green.tree)[0]))["schedules"][0]["times"] == [0.0, 10.0, 20.0]


def test_a_page_is_made_up_for(tmp_path: Path) -> None:
    text = GREEN.replace("name: green", "name: late").replace("[1, 2, 3]", "[1]")
    done = finished(text, tmp_path, plots=False)
    assert "None were drawn" in words(page(done))
    done.folder.joinpath("report.html").unlink()
    again = finished(text, tmp_path, plots=False)
    assert again.already_complete and (done.folder / "report.html").is_file()
    finished(text, tmp_path)
    assert 'id="figure-loss_vs_rank"' in page(done) and (done.folder / "run.json").is_file()


def test_changes_from_the_command_line_are_part_of_the_recipe(tmp_path: Path) -> None:
    scenario = tmp_path / "green.yaml"
    scenario.write_text(GREEN, encoding="utf-8")
    changes = ["--set", "adapter.ranks=[1]", "--set", "title=It's other", "--set", "schedules=[{kind: flow}]"]
    ran = CliRunner().invoke(main, ["run", str(scenario), "--out", str(tmp_path), "--no-plots", "--quiet", *changes])
    assert ran.exit_code == 0, ran.stderr
    said = words((Path(ran.stdout.strip()) / "report.html").read_text(encoding="utf-8"))
    assert "flowsim run scenario.yaml --set 'adapter.ranks=[1]' --set 'title=It'\"'\"'s other'" in said


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["nowhere"], 2, "no such file or folder"),
        (["{green}", "--at", "std=1"], 2, "nothing is swept here"),
        (["{swept}", "--at", "scale=7", "--at", "exponent=1"], 2, "no such value"),
        (["{green}", "--out", "/proc/none/page.html"], 4, "cannot be written"),
        (["{green}", "--out", "a\0b"], 2, "is not a file name"),
    ],
)
def test_wrong_use_is_told_in_two_lines(
    green: Finished, swept: Finished, arguments: list[str], code: int, what: str
) -> None:
    places = {"green": green.folder, "swept": swept.folder}
    ran = CliRunner().invoke(main, ["report", *(one.format(**places) for one in arguments)])
    assert ran.exit_code == code
    assert what in ran.stderr and len(ran.stderr.strip().splitlines()) == 2


def test_every_check_has_a_formula_that_can_be_set() -> None:
    for check in CHECKS.values():
        for part in re.findall(r"<math.*?</math>", str(formula(check.formula))):
            assert ElementTree.fromstring(part) is not None


def test_names_inside_pictures_do_not_collide() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="1pt" height="1pt">'
        '<metadata>x</metadata><defs><clipPath id="c"/></defs><g clip-path="url(#c)"><use xlink:href="#c"/></g></svg>'
    )
    made = inline(svg, "one", "Title & more", "What <it> shows")
    assert 'id="one-c"' in made and "url(#one-c)" in made and 'xlink:href="#one-c"' in made
    assert "metadata" not in made and "width" not in made
    assert "Title &amp; more" in made and "What &lt;it&gt; shows" in made


def test_text_stays_readable() -> None:
    assert printable("a\tb\nc²\u202e\x00") == "a\tb\nc²\ufffd\ufffd"


def test_a_tree_is_left_as_it_was(mixed: Finished) -> None:
    before = mixed.tree.copy(deep=True)
    page_of(mixed.tree, mixed.file)
    assert mixed.tree.identical(before)
    assert isinstance(mixed.tree, xr.DataTree)


def test_a_page_never_takes_the_place_of_data(green: Finished, tmp_path: Path, sha256: Any) -> None:
    before = sha256(green.file)
    for place in (green.file, tmp_path):
        ran = CliRunner().invoke(main, ["report", str(green.folder), "--out", str(place)])
        assert ran.exit_code == 2 and "is no place for a page" in ran.stderr
    assert sha256(green.file) == before


def test_what_is_known_of_a_run_stays_known(tmp_path: Path) -> None:
    """A page that is made up for does not take away when and how long the result was computed."""
    text = GREEN.replace("name: green", "name: kept").replace("[1, 2, 3]", "[1]")
    done = finished(text, tmp_path, plots=False)
    moment = (done.folder / "run.json").read_text(encoding="utf-8")
    done.folder.joinpath("report.html").unlink()
    assert finished(text, tmp_path, plots=False).already_complete
    assert (done.folder / "run.json").read_text(encoding="utf-8") == moment
    done.folder.joinpath("run.json").unlink()
    finished(text, tmp_path, plots=False)
    assert json.loads((done.folder / "run.json").read_text(encoding="utf-8"))["seconds"] is None


def test_a_complete_result_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowsim import pipeline
    from flowsim.errors import OutputError

    text = GREEN.replace("name: green", "name: full").replace("[1, 2, 3]", "[1]")
    done = finished(text, tmp_path, plots=False)
    done.folder.joinpath("report.html").unlink()

    def refuse(path: Path, text: str) -> None:
        raise OutputError(f"{path}: cannot be written: no space", "Free some.")

    told: list[str] = []
    monkeypatch.setattr(pipeline, "write_text", refuse)
    again = finished(text, tmp_path, plots=False, tell=told.append)
    assert again.already_complete and ["report.html: cannot be written" in one for one in told] == [True]


def test_medians_over_some_seeds_say_so(mixed: Finished) -> None:
    tree = mixed.tree.copy(deep=True)
    tree["final"]["loss"].values[0, 0, 0] = np.nan
    assert "rank 1: 0 of 1" in words(page_of(tree, mixed.file))
    assert "of 1: medians" not in words(page_of(mixed.tree, mixed.file))
