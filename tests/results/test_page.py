"""The results table as a page: a table without JavaScript, sorted and filtered with it."""

import base64
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from alexnet_course.recipe import Recipe
from alexnet_course.records import NOT_MEASURED
from alexnet_course.results.page import results_page
from alexnet_course.results.table import COLUMNS, MAIN_COLUMNS, Published, Row, as_csv

SCRIPT = Path(__file__).parents[2] / "book" / "_static" / "results.js"
NASTY = '<b>&"'


def make_row(name: str, *accuracies: float, budget: str = "long", published: float | None = None) -> Row:
    """A row of runs with these accuracies, as fractions of 1."""
    records = tuple(
        SimpleNamespace(
            # A copy is not checked, and a name like NASTY no recipe's; the page does not rely on it.
            recipe=Recipe(model="cnn4", budget=budget, epochs=3, seed=seed).model_copy(update={"name": name}),
            dataset=SimpleNamespace(name="cifar10", training_images=45000, test_images=10000),
            budget=budget,
            seed=seed,
            test_accuracy=accuracy,
            val_accuracy=accuracy,
            history=[SimpleNamespace(train_accuracy=accuracy)],
            wall_seconds=60.0,
            images_per_second=1000.0,
            environments=(SimpleNamespace(device="a CPU", torch="2.6"),),
        )
        for seed, accuracy in enumerate(accuracies)
    )
    theirs = Published(published, "S2") if published else None
    return Row(name, "cnn4", "cifar10", budget, 89578, 12_000_000, theirs, None, records)


ROWS = (
    make_row("nine.long", 0.09, published=83.42),  # as a word, 9.00 would be above 84.00
    make_row("missing.long"),
    make_row("ablation.some.thing", 0.84, 0.86, budget="ablation"),
    make_row(NASTY, 0.5),
)


class Table(HTMLParser):
    """The cells of a page: their text, what they are sorted by, and where their links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str | None]] = []
        self.cells: list[list[dict]] = []
        self.links: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self._inside: dict | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        if tag == "tr":
            self.rows.append(given)
            self.cells.append([])
        elif tag in ("td", "th"):
            self._inside = {"tag": tag, "text": "", "links": [], **given}
            self.cells[-1].append(self._inside)
        elif tag == "a":
            (self.links if self._inside is None else self._inside["links"]).append(given)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._inside = None

    def handle_data(self, data):
        if self._inside is not None:
            self._inside["text"] += data


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(results_page(ROWS))


def column(name: str) -> int:
    return MAIN_COLUMNS.index(name)


def test_every_column_of_every_row_is_there(table):
    heads, *lines = table.cells
    assert [head["text"] for head in heads] == list(MAIN_COLUMNS)
    assert {head["scope"] for head in heads} == {"col"}
    columns = [column for name in MAIN_COLUMNS for column in COLUMNS if column.name == name]
    for row, cells in zip(ROWS, lines, strict=True):
        said = [column.text(row) for column in columns[1:-1]]
        if not row.records:  # said once, beside the recipe
            said[1:] = ["" if text == NOT_MEASURED else text for text in said[1:]]
        assert [cell["text"] for cell in cells[1:-1]] == said
        assert (cells[0]["tag"], cells[0]["scope"], cells[0]["data-value"]) == ("th", "row", row.recipe)


def test_a_phone_has_room_for_what_is_asked_first(table):
    """The book shows it the first four columns (book/_static/course.css)."""
    assert [head["text"] for head in table.cells[0]][:4] == ["recipe", "test %", "published %", "epochs"]


def test_other_columns_and_another_caption_can_be_asked_for():
    page = results_page(ROWS, ("recipe", "seeds"), "Two columns.")
    assert [head["text"] for head in Table(page).cells[0]] == ["recipe", "seeds"]
    assert "<caption>Two columns.</caption>" in page


def test_the_interval_says_what_it_covers():
    page = results_page(ROWS)
    assert "95 % interval (images)" in page
    assert "it covers other test images, not another training" in page


def test_cells_are_sorted_by_their_figures(table):
    values = [cells[column("test %")].get("data-value") for cells in table.cells[1:]]
    assert [value and float(value) for value in values] == pytest.approx([9, None, 85, 50])
    seeds = [cells[column("seeds")].get("data-value") for cells in table.cells[1:]]
    assert seeds == ["1", None, "2", "1"]  # no run is no figure, and not the smallest of them
    assert float(table.cells[1][column("published %")]["data-value"]) == 83.42
    assert float(table.cells[1][column("95 % interval (images)")]["data-value"]) == ROWS[0].interval[0]
    assert "data-value" not in table.cells[3][column("published %")]


def test_what_is_not_measured_is_muted(table):
    cell = table.cells[2][column("test %")]
    assert (cell["text"], cell["class"]) == (NOT_MEASURED, "results-none")
    assert "results-none" not in table.cells[1][column("test %")]["class"]
    assert table.cells[2][-1]["text"] == "–"


def test_each_row_says_its_budget_and_its_epochs(table):
    said = [tuple(cells[column(name)]["text"] for name in ("budget", "epochs")) for cells in table.cells[1:]]
    assert said == [("long", "1"), ("", ""), ("ablation", "1"), ("long", "1")]
    assert [row["data-budget"] for row in table.rows[1:]] == ["long", "none", "ablation", "long"]


def test_each_row_leads_to_its_records(table):
    targets = [[unquote(link["href"]) for link in cells[-1]["links"]] for cells in table.cells[1:]]
    assert targets == [[f"_static/records/{name}" for name in row.files] for row in ROWS]
    assert table.cells[3][-1]["text"].split() == ["seed", "0", "seed", "1"]


def test_names_are_escaped(table):
    assert NASTY not in results_page(ROWS)
    assert "b" not in table.tags
    assert table.cells[4][0]["text"] == NASTY


def test_the_download_is_the_csv(table):
    (link,) = table.links
    kind, _, data = link["href"].partition(";base64,")
    assert (kind, link["download"]) == ("data:text/csv;charset=utf-8", "results.csv")
    assert base64.b64decode(data).decode() == as_csv(ROWS)


def test_nothing_needs_javascript(table):
    """What it would need, a button or a field, is made by the script."""
    assert not table.tags & {"button", "input", "select", "script", "style"}


def test_of_no_rows_there_is_a_table_without_any():
    assert len(Table(results_page([])).cells) == 1


# Names of the rows shown, the count and the state of the heads, after each of these steps in a browser.
STEPS = """
const shown = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden)
  .map((row) => row.cells[0].dataset.value).join(" | ");
const seen = [];
const note = (name) => {
  const order = document.querySelector("[aria-sort]");
  seen.push(`${name}: ${shown()}; ${document.querySelector(".results-count").textContent}; `
    + (order ? `${order.textContent} ${order.getAttribute("aria-sort")}` : "unsorted"));
};
const fields = document.querySelector(".results form").elements;
const [search, budget, measured] = fields;
const set = (field, value) => {
  field[field.type === "checkbox" ? "checked" : "value"] = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
};
const head = (name) => [...document.querySelectorAll("thead button")].find((button) => button.textContent === name);
note("start");
for (const name of ["up", "down", "back"]) { head("test %").click(); note(name); }
head("test %").click(); head("recipe").click(); note("words"); head("recipe").click(); head("recipe").click();
set(search, "THING some"); note("search"); set(search, "");
set(budget, "ablation"); note("small"); set(budget, "long"); note("long"); set(budget, "");
seen.push("budgets: " + [...budget.options].map((option) => option.textContent).join(" "));
set(measured, true); note("measured");
seen.push("labels: " + [...fields].map((field) => field.labels[0].textContent.trim().split(" ")[0]).join(" "));
const result = document.createElement("pre");
result.id = "seen";
result.textContent = seen.join("\\n");
document.body.append(result);
"""


@pytest.fixture(scope="module")
def in_browser(tmp_path_factory) -> dict[str, str]:
    """What ``STEPS`` saw, by name."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium here to run book/_static/results.js in")
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "page.html"
    # What goes wrong becomes the title. The steps begin when the table is set up.
    errors = "addEventListener('error', (event) => { document.title = event.message; });"
    steps = f"addEventListener('load', () => {{ {STEPS} }});"
    scripts = "".join(f"<script>{code}</script>" for code in (errors, SCRIPT.read_text(encoding="utf-8"), steps))
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{results_page(ROWS)}{scripts}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--virtual-time-budget=5000"]  # fmt: skip
    ran = subprocess.run(
        [browser, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', ran.stdout, re.DOTALL)
    assert found, re.search(r"<title>(.*?)</title>", ran.stdout) or ran.stderr[-1000:]
    return dict(line.split(": ", 1) for line in html.unescape(found[1]).splitlines())


def test_the_script_sorts_by_figures_and_leaves_what_is_not_measured_last(in_browser):
    page_order = f"nine.long | missing.long | ablation.some.thing | {NASTY}; 4 of 4 rows"
    assert in_browser["start"] == in_browser["back"] == f"{page_order}; unsorted"
    rising = f"nine.long | {NASTY} | ablation.some.thing | missing.long; 4 of 4 rows"
    assert in_browser["up"] == f"{rising}; test % ascending"
    falling = f"ablation.some.thing | {NASTY} | nine.long | missing.long; 4 of 4 rows"
    assert in_browser["down"] == f"{falling}; test % descending"
    alphabetical = f"{NASTY} | ablation.some.thing | missing.long | nine.long; 4 of 4 rows"
    assert in_browser["words"] == f"{alphabetical}; recipe ascending"


def test_the_script_searches_and_filters(in_browser):
    assert in_browser["search"] == "ablation.some.thing; 1 of 4 rows; unsorted"
    assert in_browser["small"] == "ablation.some.thing; 1 of 4 rows; unsorted"
    assert in_browser["budgets"] == "all long ablation"  # those that are there
    assert in_browser["long"] == f"nine.long | {NASTY}; 2 of 4 rows; unsorted"
    assert in_browser["measured"] == f"nine.long | ablation.some.thing | {NASTY}; 3 of 4 rows; unsorted"


def test_every_field_has_a_label(in_browser):
    assert in_browser["labels"] == "Search Budget only"
