"""Each chapter as a notebook for readers without Sphinx.

Colab, Kaggle, JupyterLab and GitHub render plain Markdown and HTML, but not
MyST. When a page is written, Sphinx has resolved every number, link, citation
and listing in it; here its tree is written back as Markdown, cell by cell,
between the unchanged code cells. The rendered book offers the notebook for
download, and ``make notebooks`` writes it to ``colab/``, which the rocket
opens.

The methods of ``Markdown`` are named after the elements that a chapter may
contain. Any other element is an error, so that nothing is lost silently.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from address import Address, address
from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# myst-nb's line numbers are the cell's number (from 1) times this, plus more.
LINES_OF_A_CELL = 10_000
GLUED = "application/papermill.record/"  # what glue stores in an output
COMPARED = "nbval-ignore-output"
HIDES_CODE = {"hide-input", "remove-input"}
HIDES_ALL = {"hide-cell", "remove-cell"}
# What folds the code of a cell on Colab, in JupyterLab and on Kaggle. Colab
# cannot fold an output, so an output that the book hides is left out.
FOLDED = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "_kg_hide-input": True,
}


def escaped(text: str) -> str:
    """``text`` escaped for Markdown."""
    text = re.sub(r"[\\`*$~]|(?<!\w)_|_(?!\w)|\](?=\()", r"\\\g<0>", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")


def begun(paragraph: str) -> str:
    """``paragraph`` escaped so that no line begins a list, title or quote."""
    paragraph = re.sub(r"^([#+>-]+)(?=\s)", r"\\\1", paragraph, flags=re.M)
    return re.sub(r"^(\d+)([.)])(?=\s)", r"\1\\\2", paragraph, flags=re.M)


def wrapped(mark: str, text: str) -> str:
    """``text`` between two marks, with surrounding spaces kept outside."""
    core = text.strip()
    if not core:
        return text
    before, after = text[: text.index(core)], text[len(text.rstrip()) :]
    return f"{before}{mark}{core}{mark}{after}"


def fence(text: str, shortest: int = 1) -> str:
    """More backticks than the longest sequence of them in ``text``."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(shortest, longest + 1)


def indented(text: str, first: str) -> str:
    """A list item that begins with ``first``."""
    return first + text.replace("\n", "\n" + " " * len(first))


def quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


class Markdown:
    """Writes the tree of a page as Markdown.

    ``block_KIND`` writes a block element, ``inline_KIND`` an inline one.
    """

    def __init__(self, app: Sphinx, page: str, where: Address) -> None:
        self.page, self.book = page, where.book
        self.formats = app.config.numfig_format
        self.numbers = app.env.toc_fignumbers.get(page, {})

    def number(self, kind: str, node: nodes.Element) -> str:
        """``1.2``, or empty if the node has no number."""
        for name in node["ids"]:
            if found := self.numbers.get(kind, {}).get(name):
                return ".".join(map(str, found))
        return ""

    def caption(self, kind: str, node: nodes.Element, text: str) -> str:
        number = self.number(kind, node)
        named = f"**{self.formats[kind] % number}.** " if number else ""
        return named + text

    def blocks(self, node: nodes.Element) -> str:
        written = [self.block(child) for child in node.children]
        return "\n\n".join(filter(None, written))

    def line(self, node: nodes.Element) -> str:
        return "".join(
            self._writer("inline", child)(child) for child in node.children
        )

    def block(self, node: nodes.Node) -> str:
        return self._writer("block", node)(node)

    def _writer(self, kind: str, node: nodes.Node) -> Callable[[Any], str]:
        name = f"{kind}_{type(node).__name__}"
        if not hasattr(self, name):
            raise ExtensionError(
                f"{self.page}: plain notebooks cannot show this {kind} yet; "
                f"write Markdown.{name} in plain_notebooks.py: {node}"
            )
        return getattr(self, name)

    # --- Block elements -----------------------------------------------------

    def block_paragraph(self, node: nodes.Element) -> str:
        return begun(self.line(node))

    def block_bullet_list(self, node: nodes.Element) -> str:
        return self._list(node, ["- "] * len(node))

    def block_enumerated_list(self, node: nodes.Element) -> str:
        first = node.get("start", 1)
        numbers = range(first, first + len(node))
        return self._list(node, [f"{number}. " for number in numbers])

    def _list(self, node: nodes.Element, marks: list[str]) -> str:
        items = [self.blocks(item) for item in node.children]
        between = "\n\n" if any("\n\n" in item for item in items) else "\n"
        return between.join(map(indented, items, marks))

    def block_math_block(self, node: nodes.Element) -> str:
        number = self.number("displaymath", node)
        tag = [rf"\tag{{{number}}}"] if number else []
        return "\n".join(["$$", node.astext().strip(), *tag, "$$"])

    def block_literal_block(self, node: nodes.Element) -> str:
        text = node.astext().rstrip("\n")
        marks = fence(text, shortest=3)
        return f"{marks}{node.get('language', '')}\n{text}\n{marks}"

    def block_container(self, node: nodes.Element) -> str:
        if "literal-block-wrapper" not in node["classes"]:
            return self.blocks(node)
        caption, code = node.children
        text = self.line(caption)
        return f"{self.caption('code-block', node, text)}\n\n{self.block(code)}"

    def block_admonition(self, node: nodes.Element) -> str:
        return quoted(self.blocks(node))

    def block_title(self, node: nodes.Element) -> str:
        return wrapped("**", self.line(node))

    def block_definition_list(self, node: nodes.Element) -> str:
        items = []
        for term, body in node.children:
            between = " " if isinstance(body[0], nodes.paragraph) else "\n\n"
            items.append(f"**{self.line(term)}:**{between}{self.blocks(body)}")
        return "\n\n".join(items)

    def block_table(self, node: nodes.Element) -> str:
        rows = [
            [self._entry(entry) for entry in row.children]
            for row in node.findall(nodes.row)
        ]
        first = next(iter(node.findall(nodes.row)))
        rule = [
            "---:" if "text-right" in entry["classes"] else "---"
            for entry in first.children
        ]
        lines = [rows[0], rule, *rows[1:]]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _entry(self, node: nodes.Element) -> str:
        text = " ".join(self.line(part) for part in node.children)
        return text.replace("\n", " ").replace("|", r"\|")

    def _details(self, summary: str, body: str) -> str:
        title = html.escape(summary, quote=False)
        return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"

    def block_dropdown_main(self, node: nodes.Element) -> str:
        title, body = node.children
        return self._details(title[0].astext(), self.blocks(body))

    def block_Tag(self, node: nodes.Element) -> str:
        """A quiz question, its answers, and the folded solution."""
        if node["tag"] == "details":
            summary, rows = node.children
            why = [f"- {self.line(row)}" for row in rows.children]
            return self._details(summary.astext(), "\n".join(why))
        if node["tag"] == "fieldset":
            legend, *answers = node.children
            mark = "- " if len(answers) > 1 else ""  # else it asks for a number
            rows = [mark + self.line(answer).strip() for answer in answers]
            return "\n\n".join([self.line(legend), "\n".join(rows)])
        return self.blocks(node)

    def block_target(self, node: nodes.Element) -> str:
        return ""

    def block_raw(self, node: nodes.Element) -> str:
        return ""  # HTML that is useless without the book's scripts

    # --- Inline elements ----------------------------------------------------

    def inline_Text(self, node: nodes.Text) -> str:
        return escaped(node.astext())

    def inline_inline(self, node: nodes.Element) -> str:
        return self.line(node)

    def inline_strong(self, node: nodes.Element) -> str:
        return wrapped("**", self.line(node))

    def inline_emphasis(self, node: nodes.Element) -> str:
        return wrapped("*", self.line(node))

    def inline_literal(self, node: nodes.Element) -> str:
        text = node.astext()
        marks = fence(text)
        space = " " if "`" in (text[:1], text[-1:]) else ""
        return f"{marks}{space}{text}{space}{marks}"

    def inline_math(self, node: nodes.Element) -> str:
        return f"${node.astext()}$"

    def inline_reference(self, node: nodes.Element) -> str:
        url = node.get("refuri", "")
        if node.get("internal"):
            url = self.book + (url or f"{self.page}.html#{node['refid']}")
        return f"[{self.line(node)}]({url})"

    inline_number_reference = inline_reference

    def inline_Tag(self, node: nodes.Element) -> str:
        return self.line(node)  # a label of a quiz, or its empty field

    def inline_target(self, node: nodes.Element) -> str:
        return ""


def plain_notebook(app: Sphinx, page: str) -> NotebookNode:
    """The chapter ``page`` as a notebook that does not need Sphinx."""
    where = address()
    markdown = Markdown(app, page, where)
    notebook = nbformat.read(app.env.doc2path(page), as_version=4)
    tree = app.env.get_and_resolve_doctree(page, app.builder)
    texts: dict[int, list[str]] = {}
    code: dict[int, nodes.Element] = {}

    def walk(section: nodes.Element, depth: int) -> None:
        for node in section.children:
            if isinstance(node, nodes.section):
                walk(node, depth + 1)
            elif node.get("nb_element") == "cell_code":
                code[node["cell_index"]] = node
            elif isinstance(node, nodes.title):
                title = f"{'#' * depth} {markdown.line(node)}"
                texts.setdefault(cell_of(node), []).append(title)
            else:
                texts.setdefault(cell_of(node), []).append(markdown.block(node))

    walk(tree, 0)
    title = tree.next_node(nodes.title)
    this = f"[{title.astext()}]({where.book}{page}.html)"
    book = f"[{app.config.html_title}]({where.book})"
    first = f"This notebook is the page {this} of the book {book}."
    cells = [new_markdown_cell(first, id="where-this-belongs")]
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = "\n\n".join(filter(None, texts.get(index, [])))
            cell.metadata = {}
            cells.append(cell)
        else:
            cells += code_cell(markdown, cell, code.get(index))
    notebook.cells = [cell for cell in cells if cell.source]
    return notebook


def code_cell(
    markdown: Markdown, cell: NotebookNode, node: nodes.Element | None
) -> list[NotebookNode]:
    """A code cell, folded as in the book, and its figure's caption.

    ``node`` is the cell's node on the page, or None if it is not shown there.
    """
    tags = set(cell.metadata.get("tags", []))
    shown = cell.metadata.get("mystnb", {})
    cell.metadata = {"tags": [COMPARED]} if COMPARED in tags else {}
    cell.outputs = [
        output
        for output in cell.outputs
        if not any(mime.startswith(GLUED) for mime in output.get("data", {}))
    ]
    if tags & (HIDES_ALL | HIDES_CODE):
        usual = "The code" if node is not None else "Numbers for the text"
        title = shown.get("code_prompt_show", usual)
        cell.source = f"#@title {title}\n{cell.source}"
        cell.metadata |= FOLDED
    if tags & HIDES_ALL:
        # Its number shows that it was run; a solution's output is left out.
        cell.outputs = []
    if node is None or (figure := node.next_node(nodes.figure)) is None:
        return [cell]
    width = shown.get("image", {}).get("width", "").removesuffix("px")
    for output in cell.outputs:
        if width and "image/png" in output.get("data", {}):
            output.metadata = {"image/png": {"width": int(width)}}
    caption = figure.next_node(nodes.caption)
    text = markdown.caption("figure", figure, markdown.line(caption))
    return [cell, new_markdown_cell(text, id=f"{cell.id}-caption")]


def cell_of(node: nodes.Element) -> int:
    """The number of the Markdown cell from which ``node`` was made."""
    lines = (getattr(part, "line", None) for part in node.findall())
    return next(filter(None, lines)) // LINES_OF_A_CELL - 1


def write_all(app: Sphinx, folder: Path) -> None:
    """Write one notebook per chapter into ``folder``."""
    for page in sorted(app.env.found_docs):
        if Path(app.env.doc2path(page)).suffix == ".ipynb":
            notebook = plain_notebook(app, page)
            nbformat.write(notebook, folder / f"{page}.ipynb")


def offer_for_download(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        write_all(app, Path(app.outdir) / "_sources")


def add_rockets(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Let the page's rocket open the plain notebook, on Colab or Kaggle."""
    where, path = address(), f"colab/{page}.ipynb"
    for group in context.get("header_buttons", []):
        if group["label"] == "launch-buttons":
            for button in group["buttons"]:
                if button["text"] == "Colab":
                    button["url"] = where.colab(path)
            group["buttons"].append(
                {
                    "type": "link",
                    "text": "Kaggle",
                    "tooltip": "Launch on Kaggle",
                    "icon": "fab fa-kaggle",
                    "url": where.kaggle(path),
                }
            )


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", add_rockets, priority=900)
    app.connect("build-finished", offer_for_download)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
