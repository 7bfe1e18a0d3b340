"""The report page in a real browser: silent, without a network, for every reader, and moved by the slider."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowsim.pipeline import Finished
from flowsim.report.page import page_of
from flowsim.report.page.pictures import pictures_of
from tests.report.pages import with_every_verdict

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Nothing but what a test asks for: the browser's own connections would look like the page's.
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SLOW = pytest.mark.slow  # the same of another page: each visit takes seconds
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

Open = Callable[..., Any]
Pages = dict[str, Path]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(green: Finished, mixed: Finished, swept: Finished, tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Pages of a green result, of one with every verdict there is, and of a sweep."""
    every = tmp_path_factory.mktemp("pages") / "mixed.html"
    tree = with_every_verdict(mixed.tree)
    every.write_text(page_of(tree, mixed.file, pictures_of(tree)), encoding="utf-8")
    return {"green": green.folder / "report.html", "mixed": every, "swept": swept.folder / "report.html"}


@pytest.fixture
def visit(browser: Any) -> Open:
    """Open a page; it must say nothing on the console and ask for nothing."""

    @contextmanager
    def opened(path: Path, **options: Any) -> Iterator[Any]:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        page, heard = context.new_page(), []
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda request: heard.append(f"request: {request.url}"))
        page.goto(path.as_uri())
        yield page
        context.close()
        assert heard == [f"request: {path.as_uri()}"]

    return opened


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("green", "light"), ("mixed", "dark")]
    + [pytest.param(*pair, marks=SLOW) for pair in (("green", "dark"), ("mixed", "light"), ("swept", "light"))]
    + [pytest.param("swept", "dark", marks=SLOW)],
)
def test_it_reads_well_for_everybody(visit: Open, pages: Pages, name: str, scheme: str) -> None:
    """No violation of the accessibility rules that can be checked: contrast, names, order, tables, keyboard."""
    from axe_playwright_python.sync_playwright import Axe

    with visit(pages[name], color_scheme=scheme, viewport=PHONE if scheme == "dark" else DESKTOP) as page:
        # The page's own policy forbids scripts of others: the rules run in the browser's isolated world.
        found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:150] for node in one["nodes"][:3]]) for one in found] == []


@pytest.mark.parametrize("name", ["mixed", *(pytest.param(name, marks=SLOW) for name in ("green", "swept"))])
def test_it_fits_a_phone(visit: Open, pages: Pages, name: str) -> None:
    with visit(pages[name], viewport=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        size = "e => parseFloat(getComputedStyle(e).fontSize)"
        assert page.eval_on_selector("article p", size) >= 15


def test_the_slider_moves_the_curves(visit: Open, pages: Pages) -> None:
    def state(page: Any) -> tuple[str, ...]:
        so_far = page.eval_on_selector_all("#loss-chart .so-far", "all => all.map(e => e.getAttribute('d')).join()")
        spectrum = page.eval_on_selector_all("#mode-chart .spectrum", "all => all.map(e => e.getAttribute('d')).join()")
        now = page.get_attribute("#loss-chart .now", "d")
        return so_far, spectrum, now, page.inner_text("#moment-said"), page.inner_text("#moment-values")

    with visit(pages["green"]) as page:
        slider = page.locator("#moment")
        slider.fill("0")
        start = state(page)
        assert start[3] == "t = 0"
        slider.fill("10")
        end = state(page)
        assert end[3] == "t = 20" and slider.get_attribute("aria-valuetext") == "t = 20"
        assert all(before != after for before, after in zip(start, end, strict=True))
        # The rank-3 run ends on the singular values of the difference.
        assert page.locator("#moment-values tbody tr").nth(2).inner_text().endswith("3, 2, 1")
        slider.press("ArrowLeft")
        assert state(page)[3] == "t = 18"
        page.locator("#time .controls").screenshot()


def test_ranks_schedules_and_scales_can_be_chosen(visit: Open, pages: Pages) -> None:
    with visit(pages["green"]) as page:
        assert page.locator("#loss-chart .so-far").count() == 3
        page.locator("#rank-2").press("Space")  # by keyboard
        assert page.locator("#loss-chart .so-far").count() == 2
        assert page.locator("#moment-values tbody th").all_inner_texts() == ["1", "3"]
        before = page.get_attribute("#mode-chart .spectrum >> nth=1", "d")
        page.get_by_label("logarithmic").check()
        assert page.get_attribute("#mode-chart .spectrum >> nth=1", "d") != before
        labels = page.locator("#schedule option").all_inner_texts()
        assert labels[0] == "flow" and len(labels) == 4 and all(one.startswith("descent") for one in labels[1:])
        page.locator("#schedule").select_option(label=labels[1])
        assert labels[1] in page.locator("#loss-chart title").text_content()


def test_a_diverged_descent_can_be_looked_at(visit: Open, pages: Pages) -> None:
    with visit(pages["mixed"]) as page:
        page.locator("#schedule").select_option(index=1)
        page.locator("#moment").fill(page.get_attribute("#moment", "max"))
        assert "–" in page.inner_text("#moment-values")
        assert "NaN" not in page.content().replace("isNaN", "")


@pytest.mark.parametrize("name", ["green", *(pytest.param(name, marks=SLOW) for name in ("mixed", "swept"))])
def test_without_scripts_it_tells_everything(visit: Open, pages: Pages, name: str) -> None:
    with visit(pages[name], java_script_enabled=False) as page:
        assert not page.locator("#moment").is_visible()
        for part in ("verdicts", "outcomes", "figures", "methods", "scenario", "provenance"):
            assert page.locator(f"#{part} > h2").is_visible()
        if name != "swept":
            assert page.get_by_text("Loss of the flow at a few times").is_visible()
        first = page.locator("details > summary").first
        first.press("Enter")
        assert page.locator("details table").first.is_visible()


def test_printed_it_is_whole(visit: Open, pages: Pages) -> None:
    with visit(pages["mixed"], color_scheme="dark") as page:
        assert page.pdf(format="A4").startswith(b"%PDF")
        page.emulate_media(media="print", color_scheme="light")
        assert not page.locator("nav").is_visible() and not page.locator("#time").is_visible()
        for part in ("article >> nth=0", "#figures figure >> nth=0", "#scenario pre", "#provenance"):
            assert page.locator(part).is_visible()
        # Nothing is hidden behind a scroll bar on paper.
        hidden = "all => all.filter(e => getComputedStyle(e).overflowX !== 'visible').length"
        assert page.eval_on_selector_all(".scroll, pre", hidden) == 0


def test_the_keyboard_reaches_everything(visit: Open, pages: Pages) -> None:
    with visit(pages["green"]) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#verdicts"
        reached = set()
        for _ in range(120):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert {"moment", "schedule", "rank-1", "log-values", "SUMMARY", "PRE", "A"} <= reached
