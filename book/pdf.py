"""Print the whole book into one PDF, for ``make pdf``.

With --can-print it only reports whether there is a browser to print with.

Sphinx makes one page of all chapters, and the machine's own Chromium prints
it, driven by Playwright: with an outline of the headings, page numbers, and
links that stay within the file. The print styles are in _static/course.css.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "_build" / "singlehtml" / "index.html"
PDF = ROOT / "_build" / "alexnet-course.pdf"
VARIABLE = "ALEXNET_COURSE_BROWSER"  # path of a browser that is not in PATH
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 300_000  # milliseconds, for a slow machine
SMALL = (
    "font: 8px sans-serif; color: #555; width: 100%; "
    "margin: 0 18mm; text-align: "
)
TITLE = f'<div style="{SMALL}left">AlexNet, rebuilt</div>'
NUMBER = f'<div style="{SMALL}center"><span class="pageNumber"></span></div>'

# On one page, anchors of different chapters have the same name ("exercises"),
# and chapters are headings below the front page's. So each chapter's anchors
# get the chapter's number, its headings move up one level, and links to
# references, which contain a file name, become links to the anchor. A listing
# with lines of more than 94 characters is set smaller, down to a readable size;
# a short listing is kept on one page.
MAKE_ONE = """async () => {
  const references = Object.fromEntries(
    [...document.querySelectorAll("div.citation")].map((e) => [e.id, e]));
  const seen = new Set();
  const chapters = document.querySelectorAll(".toctree-wrapper > section");
  for (const [number, chapter] of chapters.entries()) {
    for (const level of [2, 3, 4, 5]) {
      for (const heading of chapter.querySelectorAll(`h${level}`)) {
        const higher = document.createElement(`h${level - 1}`);
        higher.append(...heading.childNodes);
        heading.replaceWith(higher);
      }
    }
    const renamed = {};
    for (const element of chapter.querySelectorAll("[id]")) {
      if (seen.has(element.id)) {
        renamed[element.id] = `chapter-${number}-${element.id}`;
        element.id = renamed[element.id];
      }
      seen.add(element.id);
    }
    for (const link of chapter.querySelectorAll("a[href^='#']")) {
      const name = link.getAttribute("href").slice(1);
      if (name in renamed) link.setAttribute("href", `#${renamed[name]}`);
    }
  }
  for (const link of document.querySelectorAll("a[href^='index.html#']")) {
    const [, name] = link.getAttribute("href").split("#");
    link.setAttribute("href", `#${references[name]?.id ?? name}`);
  }
  for (const details of document.querySelectorAll("details"))
    details.open = true;
  for (const pre of document.querySelectorAll("article pre")) {
    const lines = pre.textContent.split("\\n").map((line) => line.length);
    const longest = Math.min(Math.max(...lines), 140);
    if (longest > 94) pre.style.fontSize = `${(8 * 94) / longest}pt`;
    if (lines.length < 10)
      pre.style.setProperty("break-inside", "avoid", "important");
  }
  await window.MathJax?.startup?.promise;
  await Promise.all([...document.images].map((image) => image.decode()));
  await document.fonts.ready;
  const headings = "h1, h2, h3, h4, h5, h6, [role=heading]";
  return [...document.querySelectorAll(headings)]
    .filter((heading) => heading.getClientRects().length)
    .map((heading) => heading.innerText.trim().replace(/\\s+/g, " "));
}"""


def find_browser() -> str | None:
    """The path of the browser, if there is one."""
    named = os.environ.get(VARIABLE)
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def build_one_page() -> None:
    """Render all chapters as ``PAGE``."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", "book"]
    command += ["--config", "_config.yml", "--path-output", "."]
    command += ["--builder", "singlehtml", "--quiet"]
    shutil.rmtree(PAGE.parent, ignore_errors=True)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def print_to(pdf: Path, browser: str) -> None:
    """Print ``PAGE`` into the file ``pdf`` with the program ``browser``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser)
        page = chromium.new_page(color_scheme="light", offline=True)
        page.set_default_timeout(PATIENCE)
        page.goto(PAGE.as_uri())
        page.emulate_media(media="print")
        headings = page.evaluate(MAKE_ONE)
        page.pdf(
            path=pdf,
            format="A4",
            prefer_css_page_size=True,  # a wide table is in landscape
            outline=True,
            tagged=True,
            print_background=True,
            display_header_footer=True,
            header_template=TITLE,
            footer_template=NUMBER,
            margin={
                "top": "20mm",
                "bottom": "20mm",
                "left": "18mm",
                "right": "18mm",
            },
        )
        chromium.close()
    name_outline(pdf, headings)


def name_outline(pdf: Path, headings: list[str]) -> None:
    """Rename the entries of the outline.

    Chromium drops the space at a line break within a heading, and repeats a
    heading that it moved to the next page.
    """
    from pypdf import PdfWriter
    from pypdf.generic import NameObject, TextStringObject

    writer = PdfWriter(pdf, incremental=True)  # keeps the compression
    entries = []

    def walk(entry: Any) -> None:
        while entry is not None:
            entry = entry.get_object()
            entries.append(entry)
            walk(entry.get("/First"))
            entry = entry.get("/Next")

    walk(writer.root_object["/Outlines"].get_object().get("/First"))
    if len(entries) != len(headings):
        raise RuntimeError(
            f"The outline of {pdf} has {len(entries)} entries and the book "
            f"{len(headings)} headings."
        )
    for entry, heading in zip(entries, headings, strict=True):
        entry[NameObject("/Title")] = TextStringObject(heading)
    writer.write(pdf)


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit(
            f"Found no {', '.join(NAMES)} to print with: install one (Debian: "
            f"apt install chromium) or set {VARIABLE} to its path."
        )
    if importlib.util.find_spec("playwright") is None:
        sys.exit("Printing needs Playwright: pip install playwright pypdf")
    if sys.argv[1:] == ["--can-print"]:
        return
    build_one_page()
    print_to(PDF, browser)


if __name__ == "__main__":
    main()
