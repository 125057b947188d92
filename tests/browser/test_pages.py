"""Every page of the rendered book, as a reader's browser shows it.

Each page is opened once and looked at by all tests of it, in the order of this file: first as it is loaded, then with
every solution unfolded, then in the dark and as narrow as a phone. What can be seen in the files alone (links, anchors,
references) is looked at by ``tests/check_html.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from machine import load_per_core
from opening import BOOK, NARROW, open_page, watch

from alexnet_course.results.page import results_page
from alexnet_course.results.table import MAIN_COLUMNS, results_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = sorted(path.name for path in BOOK.glob("*.html"))
HEAVIEST = 2_000_000  # bytes, with nothing compressed on the way
LONGEST = 1.0  # seconds until a page can be read
DEEP = "receptive field"  # what is searched for, and where it is explained
EXPLAINED = "02-shapes.html"
# What Chromium says of an excerpt that it may not read.
EXCERPT = re.compile(
    r"Access to fetch at 'file:|^error: Failed to fetch$|^failed: file:.*\.html$|"
    r"^console: Failed to load resource: net::ERR_FAILED$"
)

MATH_IS_SET = "() => window.MathJax?.startup?.promise.then(() => true)"
FIRST_SEEN = """() => new Promise((resolve) => new PerformanceObserver((paints) => {
  const [painted] = paints.getEntriesByName("first-contentful-paint");
  const parsed = performance.getEntriesByType("navigation")[0].domInteractive;
  if (painted) resolve(Math.max(parsed, painted.startTime) / 1000);
}).observe({ type: "paint", buffered: true }))"""
IMAGES = """async () => {
  const images = [...document.querySelectorAll("article img")];
  for (const image of images) image.loading = "eager";
  await Promise.allSettled(images.map((image) => image.decode()));
  return images.map((image) => [image.getAttribute("src"), image.naturalWidth, image.alt]);
}"""
# Text with the marks of unset mathematics: $…$, \\( and \\[, \\begin{…}; code may hold them.
UNSET = r"""() => {
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest("pre, code, script, style, mjx-container")) continue;
    if (/\$[^$]+\$|\\[([]|\\begin\{/.test(node.data)) found.push(node.data.trim());
  }
  return found;
}"""
UNFOLD = """() => [...document.querySelectorAll("article details")].map((details) => {
  if (!details.open) details.querySelector("summary").click();
  const content = [...details.children].filter((child) => child.localName !== "summary");
  return [details.open, content.some((child) => child.getBoundingClientRect().height > 0)];
})"""
# What is wider than the page, to name it: elements that stick out and are in nothing that scrolls by itself.
WIDTH = "() => document.scrollingElement.scrollWidth"
STICKING_OUT = """(width) => [...document.querySelectorAll("article *")].filter((element) => {
  if (element.getBoundingClientRect().right <= width + 1) return false;
  for (let box = element; box; box = box.parentElement)
    if (getComputedStyle(box).overflowX !== "visible" && box.localName !== "html" && box.localName !== "body")
      return false;
  return true;
}).slice(0, 5).map((element) => element.outerHTML.slice(0, 100))"""
# Formulas that go on where nobody sees it: under their number, or in a box that scrolls.
CUT_FORMULAS = """() => [...document.querySelectorAll("article div.math")].filter((formula) => {
  const edge = (formula.querySelector(".eqno") ?? formula).getBoundingClientRect();
  const end = formula.querySelector(".eqno") ? edge.left : edge.right;
  return formula.querySelector("mjx-math").getBoundingClientRect().right > end + 1;
}).map((formula) => formula.id || formula.textContent.slice(0, 60))"""
# A listing colours thousands of words in some twenty ways; axe takes its time for each, so one of each way is left.
ONE_OF_EACH_COLOUR = """() => {
  const seen = new Set();
  for (const word of document.querySelectorAll(".highlight span[class]")) {
    const kind = `${word.className} in ${word.closest(".cell_output, .cell_input, .highlight").className}`;
    if (seen.has(kind)) word.replaceWith(...word.childNodes);
    seen.add(kind);
  }
}"""
# What unfolds fades in, and text that is half there has too little contrast; so axe looks when that is over. Without
# preload, for which it would fetch style sheets anew, some from a wrong address.
SETTLED = "() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished))"
AXE = """async () => (await axe.run({ resultTypes: ["violations"], preload: false })).violations
  .filter((violation) => ["serious", "critical"].includes(violation.impact))
  .flatMap((violation) => violation.nodes.map((node) => `${violation.id}: ${node.target} ${node.html.slice(0, 120)}`))
"""


@dataclass
class Visit:
    """A page of the book in the browser: its name, what it asked for, and what it complained of until now."""

    name: str
    page: Page
    complaints: list[str]
    asked_for: set[str] = field(default_factory=set)

    def first_seen(self) -> float:
        """Load the page; the seconds until all of its text was there and some of it was painted."""
        self.page.goto(self.name)
        self.page.evaluate(MATH_IS_SET)
        return self.page.evaluate(FIRST_SEEN)

    def axe(self) -> list[str]:
        """What axe finds to be a serious or a critical barrier."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(ONE_OF_EACH_COLOUR)
            self.page.evaluate(axe_script())
        self.page.evaluate(SETTLED)
        return self.page.evaluate(AXE)


@cache
def axe_script() -> str:
    return pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT


@pytest.fixture(scope="module", params=PAGES or ["no page"])
def visit(request: pytest.FixtureRequest, book: Path, browser: Browser, address: str) -> Iterator[Visit]:
    page = open_page(browser, address)
    visit = Visit(request.param, page, watch(page))
    page.on("request", lambda asked: visit.asked_for.add(unquote(urlsplit(asked.url).path).lstrip("/")))
    visit.page.goto(visit.name)
    visit.page.evaluate(MATH_IS_SET)
    yield visit
    page.context.close()


class TestPage:
    def test_shows_no_check_of_an_exercise_that_nobody_can_do_there(self, visit):
        assert visit.page.locator(".cell_output", has_text=re.compile("^\\s*not yet: ")).count() == 0

    def test_can_be_read_within_a_second(self, visit):
        """On a machine that does other things, too, as many times as long as programs share a core."""
        seconds = [visit.page.evaluate(FIRST_SEEN)]
        if seconds[0] > LONGEST:  # the first look was slow: decide by three
            seconds += [visit.first_seen() for _ in range(2)]
        assert median(seconds) < LONGEST * load_per_core()

    def test_shows_every_image_and_says_what_it_shows(self, visit):
        for source, width, alternative in visit.page.evaluate(IMAGES):
            assert width > 0, f"{source} is not there"
            assert alternative, f"{source} has no alternative text"
            assert "_images" not in source or len(alternative.split()) > 1, f"{source} is a figure: {alternative!r}"

    def test_weighs_little(self, visit, book):
        """Its images included, which are loaded only as the reader comes to them."""
        sizes = {name: (book / name).stat().st_size for name in visit.asked_for if (book / name).is_file()}
        print(f"{visit.name}: {sum(sizes.values()) / 1e6:.2f} MB")
        assert sum(sizes.values()) <= HEAVIEST, sorted(sizes, key=sizes.__getitem__)[-8:]

    def test_loads_no_script_that_it_does_not_need(self, visit):
        """What book/_templates leaves out; where the theme has another name for it, this says so."""
        names = {name.rpartition("/")[2] for name in visit.asked_for}
        assert "bootstrap.js" in names
        assert "fontawesome.js" not in names
        assert ("searchindex.js" in names) == (visit.name == "search.html")
        assert ("explorer.js" in names) == (visit.name == "02-shapes.html")

    def test_sets_its_mathematics(self, visit):
        count = visit.page.locator("article .math").count()
        assert visit.page.locator("article mjx-container").count() == count
        assert visit.page.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert visit.page.evaluate(UNSET) == []
        scripts = [name for name in visit.asked_for if "mathjax" in name and name.endswith(".js")]
        assert scripts == [], "a formula of this page is not stored: `make formulas`"

    def test_unfolds_what_is_folded(self, visit):
        assert all(is_open and shows for is_open, shows in visit.page.evaluate(UNFOLD))

    def test_is_open_to_everyone_in_the_light(self, visit):
        assert visit.axe() == []

    def test_fits_a_phone(self, visit):
        width, height = NARROW
        visit.page.set_viewport_size({"width": width, "height": height})
        assert visit.page.evaluate(WIDTH) <= width, visit.page.evaluate(STICKING_OUT, width)
        assert visit.page.evaluate(CUT_FORMULAS) == []

    def test_is_open_to_everyone_in_the_dark_on_a_phone(self, visit):
        """Light and wide, dark and narrow: colours come with the mode and the layout with the width."""
        turn_dark(visit.page)
        visit.page.mouse.move(0, 0)  # off the switch, so that its hint goes away
        visit.page.wait_for_timeout(500)  # after which the theme lets the keyboard reach what scrolls now
        assert visit.axe() == []

    def test_complained_of_nothing_in_all_this(self, visit):
        assert visit.complaints == []


def turn_dark(page: Page) -> None:
    """By the theme's own switch, which goes through three modes."""
    switch = page.locator(".theme-switch-button:visible")
    for _ in range(3):
        if theme(page) == "dark":
            break
        switch.click()
    assert theme(page) == "dark"


def theme(page: Page) -> str:
    return page.evaluate("document.documentElement.dataset.theme")


def lightness(page: Page) -> float:
    """Of the background, from 0 (black) to 1 (white)."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / (3 * 255)


def test_dark_and_light_by_the_switch_and_the_choice_stays(page):
    page.goto("index.html")
    assert lightness(page) > 0.9
    turn_dark(page)
    assert lightness(page) < 0.2
    page.goto(EXPLAINED)
    assert lightness(page) < 0.2


def search(page: Page, words: str) -> None:
    """As a reader does: the button, the field, Enter, then the result that leads to ``EXPLAINED``."""
    page.locator(".search-button__button:visible").first.click()
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator(f"#search-results a[href*='{EXPLAINED}']").first.click()
    page.wait_for_url(f"**/{EXPLAINED}*")


def test_search_leads_to_the_chapter(page):
    page.goto("index.html")
    search(page, DEEP)
    assert page.locator("article .highlighted").count() > 0


def test_magnifying_glass_is_beside_the_words(page):
    page.goto("search.html")
    field = page.locator(".bd-search:visible")
    glass, words = field.locator("i").bounding_box(), field.locator("input").bounding_box()
    assert 0 < glass["width"] < words["width"]
    assert glass["x"] + glass["width"] <= words["x"]


def test_reads_from_a_folder_without_any_network(browser, address, book):
    page = open_page(browser, address)
    complaints = watch(page)
    page.context.set_offline(True)
    page.goto((book / "index.html").as_uri())
    search(page, DEEP)
    page.evaluate(MATH_IS_SET)
    assert page.url.startswith("file://")
    assert page.locator("article mjx-container").count() > 0
    assert page.evaluate("document.fonts.ready.then((fonts) => [...fonts].some((f) => f.status === 'loaded'))")
    assert all(width > 0 for _, width, _ in page.evaluate(IMAGES))
    page.context.close()
    # Browsers let no page read the file of another, so results of the search come without an excerpt.
    assert [text for text in complaints if EXCERPT.search(text) is None] == []


def test_code_is_copied(page):
    page.goto(EXPLAINED)
    listing = page.locator("div.highlight:has(.copybtn):visible").first
    listing.hover()
    listing.locator(".copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == listing.locator("pre").inner_text().strip()
    assert len(copied.splitlines()) > 1


class TestResultsTable:
    """The table of chapter 5, of the records that there are now, on a page of the book."""

    @pytest.fixture
    def table(self, page, book) -> Page:
        html = (book / "references.html").read_text(encoding="utf-8")
        html = html.replace("</article>", f"{results_page(results_table())}</article>")
        page.route("**/scratch.html", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto("scratch.html")
        return page

    def column(self, page: Page, name: str) -> list[Any]:
        """The values by which the shown rows of a column are sorted; None where there is none."""
        heads = [head.split(" ↕")[0].strip() for head in page.locator(".results thead th").all_inner_texts()]
        return page.locator(".results tbody tr:visible").evaluate_all(
            "(rows, column) => rows.map((row) => row.cells[column].dataset.value ?? null)", heads.index(name)
        )

    def test_sorts_by_what_is_clicked(self, table):
        button = table.get_by_role("button", name="parameters")
        before = self.column(table, "parameters")
        button.click()
        values = [float(value) for value in self.column(table, "parameters") if value is not None]
        assert len(set(values)) > 2
        assert values == sorted(values)
        button.click()
        assert [float(value) for value in self.column(table, "parameters") if value is not None] == values[::-1]
        button.click()
        assert self.column(table, "parameters") == before

    def test_filters_and_searches(self, table):
        rows = table.locator(".results tbody tr:visible")
        count = rows.count()
        table.get_by_label("Budget").select_option("ablation")
        ablations = rows.count()
        assert 0 < ablations < count
        assert all("ablation" in text for text in rows.all_inner_texts())
        assert table.locator(".results-count").inner_text() == f"{ablations} of {count} rows"
        table.get_by_label("Budget").select_option("")
        table.locator(".results input[type=search]").fill("VGG bn")
        assert 0 < rows.count() < count
        assert all("vgg" in text.lower() and "bn" in text.lower() for text in rows.all_inner_texts())

    def test_needs_no_scrolling_to_the_side_on_a_laptop_and_shows_a_phone_four_columns(self, table):
        overflow = "(box) => box.scrollWidth - box.clientWidth"
        heads = table.locator(".results thead th:visible")
        for (width, height), columns in (((1280, 720), len(MAIN_COLUMNS)), (NARROW, 4)):
            table.set_viewport_size({"width": width, "height": height})
            assert table.locator(".results-scroll").evaluate(overflow) <= 0
            assert heads.count() == columns

    def test_is_open_to_everyone_and_fits_a_phone(self, table):
        visit = Visit("scratch.html", table, [])
        assert visit.axe() == []
        width, height = NARROW
        table.set_viewport_size({"width": width, "height": height})
        turn_dark(table)
        table.mouse.move(0, 0)
        assert table.evaluate(WIDTH) <= width
        table.wait_for_timeout(500)
        assert visit.axe() == []
