"""The chapters as plain notebooks: colab/ holds them as they were made, and a reader without Sphinx can read them.

That they are made of the book as it is now, ``make book`` finds out (check_html.py), since it takes the rendered book.
"""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import check_html
import nbformat
import pytest
from address import address
from docutils import nodes
from markdown_it import MarkdownIt
from plain_notebooks import COMPARED, Markdown, begun, escaped, fence, wrapped
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[1]
BOOK, COLAB = ROOT / "book", ROOT / "colab"
NAMES = sorted(path.stem for path in BOOK.glob("*.ipynb"))

each_chapter = pytest.mark.parametrize("name", NAMES)

FENCE = re.compile(r"^(`{3,})(?![^\n]*\{).*?^\1$", re.MULTILINE | re.DOTALL)  # of code, which may hold anything
SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)  # of code in a line
MYST = {
    "a directive": r"^[> ]*(`{3,}|~{3,}|:{3,})\s*\{",
    "a fence of colons": r"^[> ]*:{3,}",
    "a role": r"\{[\w:+.-]+\}`",
    "a target": r"^\([\w-]+\)=\s*$",
    "a comment": r"^%",
    "an option": r"^[> ]*:[\w-]+:(\s|$)",
    "an attribute": r"[`\])]\{[^}]*\}",
    "a substitution": r"\{\{.*?\}\}",
    "a block break": r"^\+\+\+",
    "a link without an address": r"\]\((?!https?://)",
    "a link without a text": r"\[\(?\)?\]\(",
}


def constructs(markdown: str) -> list[str]:
    """What of MyST stands in the text of a cell; code in a fence is none of it."""
    text = FENCE.sub("", markdown)
    not_found = ["a name"] if re.search(r"`(fig|lst|eq|sec|ex)-[\w-]+`", text) else []
    text = SPAN.sub("`code`", text)
    return not_found + [kind for kind, pattern in MYST.items() if re.search(pattern, text, re.MULTILINE)]


def read(folder: Path, name: str) -> nbformat.NotebookNode:
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_of_glue(output: nbformat.NotebookNode) -> bool:
    return any("papermill" in mime for mime in output.get("data", {}))


@pytest.mark.parametrize(
    ("kind", "markdown"),
    [
        ("a directive", "```{note}\nx\n```"),
        ("a directive", "> ````{dropdown} x"),
        ("a fence of colons", ":::"),
        ("a role", "see {numref}`fig-x`"),
        ("a role", "{glue:text}`x`"),
        ("a target", "(sec-x)=\n# X"),
        ("a comment", "x\n% y"),
        ("an option", ":class: tip"),
        ("an attribute", "`x`{.python}"),
        ("a substitution", "{{ x }}"),
        ("a block break", "+++"),
        ("a link without an address", "[x](02-shapes)"),
        ("a name", "in `fig-x` and"),
        ("a link without a text", "[()](https://x)"),
    ],
)
def test_a_construct_of_myst_is_seen(kind, markdown):
    assert kind in constructs(markdown)
    assert constructs(f"`````text\n{markdown}\n`````\nand `{{x}}`") == []


def test_there_is_one_for_each_chapter():
    assert sorted(path.name for path in COLAB.iterdir()) == [f"{name}.ipynb" for name in NAMES]


class TestNotebook:
    @each_chapter
    def test_has_nothing_of_myst_left(self, name):
        notebook = read(COLAB, name)
        found = [(cell.id, constructs(cell.source)) for cell in notebook.cells if cell.cell_type == "markdown"]
        assert [(cell, kinds) for cell, kinds in found if kinds] == []
        assert not any(is_of_glue(output) for cell in code(notebook) for output in cell.outputs)
        assert not any("mystnb" in cell.metadata for cell in notebook.cells)

    @each_chapter
    def test_has_the_code_of_the_book(self, name):
        """To the letter, but for the line that names a folded cell; so what nbval runs there need not be run here."""
        ours, theirs = code(read(COLAB, name)), code(read(BOOK, name))
        assert [re.sub(r"\A#@title [^\n]+\n", "", cell.source) for cell in ours] == [cell.source for cell in theirs]
        assert [cell.id for cell in ours] == [cell.id for cell in theirs]

    @each_chapter
    def test_has_its_outputs_but_those_of_solutions_and_what_was_glued(self, name):
        for ours, theirs in zip(code(read(COLAB, name)), code(read(BOOK, name)), strict=True):
            hidden = {"hide-cell", "remove-cell"} & set(theirs.metadata.get("tags", []))
            wanted = [output for output in theirs.outputs if not hidden and not is_of_glue(output)]
            assert [output.get("data") or output.text for output in ours.outputs] == [
                output.get("data") or output.text for output in wanted
            ]

    @each_chapter
    def test_folds_what_the_book_folds(self, name):
        for ours, theirs in zip(code(read(COLAB, name)), code(read(BOOK, name)), strict=True):
            tags = set(theirs.metadata.get("tags", []))
            folded = bool(tags & {"hide-input", "hide-cell", "remove-input", "remove-cell"})
            assert folded == ours.source.startswith("#@title ")
            assert folded == (ours.metadata.get("cellView") == "form")
            assert folded == ours.metadata.get("jupyter", {}).get("source_hidden", False)
            assert ours.metadata.get("tags", []) == ([COMPARED] if COMPARED in tags else [])

    @each_chapter
    def test_was_run_from_its_beginning_to_its_end(self, name):
        counts = [cell.execution_count for cell in code(read(COLAB, name))]
        assert None not in counts
        assert counts == sorted(set(counts))

    @each_chapter
    def test_begins_with_its_page(self, name):
        first, second, *_ = read(COLAB, name).cells
        title = re.match(r"# (.+)", second.source)[1]
        assert f"[{title}]({address().book}{name}.html)" in first.source
        assert "\n" not in first.source

    @each_chapter
    def test_is_sound_and_small(self, name):
        nbformat.validate(read(COLAB, name))
        path = COLAB / f"{name}.ipynb"
        assert path.stat().st_size < 1_000_000
        assert path.read_text(encoding="utf-8").endswith("}\n")

    @each_chapter
    def test_shows_each_figure_with_its_number(self, name):
        cells = read(COLAB, name).cells
        for cell, following in itertools.pairwise(cells):
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                assert re.match(r"\*\*Fig\. [\d.]+\.\*\* [`\w]", following.source), cell.id


class Shown(HTMLParser):
    """The text of a page as a reader sees it, and the elements that it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


class TestMarkdown:
    @pytest.mark.parametrize(
        "text",
        [
            "2 * 3 * 4", "*x*", "_x_ and x_y_z", "`x`", "5 $ and 6 $", "~~x~~", "~5 to ~6", "a < b > c", "<b>x</b>",
            "&amp; and &", "# x", "- x", "+ x", "> x", "3. x", "3) x", "[x](y)", "[x] (y)", "a\\*b", "x\n- y\n4. z",
        ],
    )  # fmt: skip
    def test_shows_text_as_it_is(self, text):
        shown = Shown(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(begun(escaped(text))))
        assert shown.text.rstrip("\n") == text
        assert shown.tags == ["p"]

    @pytest.mark.parametrize("text", ["x", "`", "``", "x`y", "``x``` y"])
    def test_shows_code_as_it_is(self, text):
        node = nodes.literal(text, text)
        shown = Shown(MarkdownIt("commonmark").render(Markdown.inline_literal(None, node)))
        assert (shown.text.strip("\n"), shown.tags) == (text, ["p", "code"])

    def test_puts_marks_close_to_the_words(self):
        assert wrapped("**", " (a) is right: ") == " **(a) is right:** "
        assert wrapped("**", " ") == " "
        assert fence("```python\n````", shortest=3) == "`````"

    def test_does_not_pass_over_what_it_does_not_know(self):
        markdown = Markdown.__new__(Markdown)
        markdown.page = "01-paper"
        with pytest.raises(ExtensionError, match=r"01-paper.*write Markdown\.block_footnote"):
            markdown.block(nodes.footnote())


class TestCheck:
    """``make book`` finds a notebook of colab/ that is not the book's, and links that lead nowhere."""

    @pytest.fixture
    def book(self, tmp_path):
        where = address()
        html, colab = tmp_path / "html", tmp_path / "colab"
        (html / "_sources").mkdir(parents=True)
        colab.mkdir()
        links = [where.colab("colab/x.ipynb"), where.kaggle("colab/x.ipynb"), "_sources/x.ipynb"]
        (html / "x.html").write_text("".join(f'<a href="{link}">x</a>' for link in links) + '<p id="here">')
        for folder in (html / "_sources", colab):
            (folder / "x.ipynb").write_text(json.dumps(f"[x]({where.book}x.html#here)"))
        return html, colab

    def test_passes_what_belongs_together(self, book):
        assert check_html.check_notebooks(*book, address()) == []

    @pytest.mark.parametrize("change", ["other", "missing", "left over"])
    def test_finds_one_that_is_not_the_books(self, book, change):
        _, colab = book
        if change == "missing":
            (colab / "x.ipynb").unlink()
        else:
            (colab / ("x.ipynb" if change == "other" else "y.ipynb")).write_text("{}")
        (problem,) = check_html.check_notebooks(*book, address())
        assert problem.endswith("run `make notebooks`")

    @pytest.mark.parametrize("link", ["x.html#there", "y.html"])
    def test_finds_a_link_that_leads_nowhere(self, book, link):
        for path in (book[0] / "_sources" / "x.ipynb", book[1] / "x.ipynb"):
            path.write_text(json.dumps(f"[x]({address().book}{link})"))
        assert check_html.check_notebooks(*book, address()) == [f"colab/x.ipynb: {address().book}{link} leads nowhere"]

    def test_finds_a_rocket_that_opens_something_else(self, book):
        page = book[0] / "x.html"
        page.write_text(page.read_text().replace("colab/x.ipynb", "book/x.ipynb").replace("_sources", "_source"))
        colab, kaggle, download = check_html.check_notebooks(*book, address())
        assert colab.startswith("x.html: has no rocket to Colab")
        assert kaggle.startswith("x.html: has no rocket to Kaggle")
        assert download.endswith("for download")
