"""The PDF of the whole book (``make pdf``): its outline, the numbers of its pages, and that none of them is empty."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opening import BOOK

ROOT = Path(__file__).resolve().parents[2]
PDF = ROOT / "_build" / "alexnet-course.pdf"
FEWEST_CHARACTERS = 40  # beside title and number


@pytest.fixture(scope="module")
def pdf():
    pypdf = pytest.importorskip("pypdf", reason="browser tests: pypdf is not installed")
    if not PDF.is_file():
        pytest.skip(f"browser tests: there is no {PDF}; `make pdf` prints it")
    return pypdf.PdfReader(PDF)


@pytest.fixture(scope="module")
def texts(pdf) -> list[str]:
    return [page.extract_text() for page in pdf.pages]


def images(part: Any) -> int:
    """How many there are on a page, or in a part of one, without unpacking them."""
    inside = [entry.get_object() for entry in part.get("/Resources", {}).get("/XObject", {}).values()]
    return sum(1 if entry["/Subtype"] == "/Image" else images(entry) for entry in inside)


def test_outline_leads_to_every_page_of_the_book_in_order(pdf):
    chapters = [entry for entry in pdf.outline if not isinstance(entry, list)]
    pages = [pdf.get_destination_page_number(entry) for entry in chapters]
    titles = {re.sub(r"^\d+\. ", "", entry.title) for entry in chapters}
    names = {path.stem for path in [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]}
    heads = {re.search(r"<title>(?:\d+\. )?(.*?) &#8212;", (BOOK / f"{name}.html").read_text())[1] for name in names}
    assert titles == heads
    assert all(first < second for first, second in pairwise(pages))


def test_every_page_has_its_number_and_something_else(pdf, texts):
    assert len(texts) > 100
    for number, (page, text) in enumerate(zip(pdf.pages, texts, strict=True), start=1):
        words = text.replace("AlexNet, rebuilt", "", 1).split()
        assert str(number) in words, f"page {number} has another number"
        assert len("".join(words)) > FEWEST_CHARACTERS or images(page), f"page {number} is empty"


def test_holds_every_figure(pdf):
    shown = sum(images(page) for page in pdf.pages)
    figures = {name for page in BOOK.glob("*.html") for name in re.findall(r"_images/[^\"]+\.webp", page.read_text())}
    assert shown >= len(figures) > 20


def test_shows_what_is_folded_in_the_book(texts):
    everything = re.sub(r"\s", "", "".join(texts))
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        folded = [cell["source"] for cell in cells if "hide-cell" in cell["metadata"].get("tags", [])]
        for source in folded:
            first = "".join(source).strip().splitlines()[0]
            assert re.sub(r"\s", "", first) in everything, f"{path.name}: {first}"


def test_nothing_is_printed_while_it_fades_in(page):
    """As solutions once were, too faint to be read."""
    page.goto("01-paper.html")
    page.emulate_media(media="print")
    page.evaluate("() => { for (const details of document.querySelectorAll('details')) details.open = true; }")
    assert page.evaluate("() => document.getAnimations().length") == 0


def test_results_lie_on_their_side_with_heads_on_each_page(pdf, texts):
    wide = [text for page, text in zip(pdf.pages, texts, strict=True) if page.mediabox.width > page.mediabox.height]
    assert wide
    for text in wide:
        assert "recipe" in text
        assert "parameters" in text


def test_explorer_is_on_one_page(texts):
    (text,) = [text for text in texts if "To scale: height and depth" in text]
    assert "In all" in text
    assert "jump in pixels of the input" in text
