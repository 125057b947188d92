"""How long a page takes to read, estimated from its words."""

from __future__ import annotations

import json
import re
from pathlib import Path

SPEED = 200  # words a minute, for a text that one thinks about
NO_READING = (":class: exercise", "{dropdown} Solution")
MARKUP = re.compile(r"^(?:```|:[\w-]+:)[^\n]*$|\$\$.*?\$\$", re.M | re.S)


def minutes(book: Path, page: str) -> int:
    """Of ``page`` in the folder ``book``, code and exercises apart."""
    count = sum(words(text) for text in texts(book, page))
    return max(1, round(count / SPEED))


def texts(book: Path, page: str) -> list[str]:
    """The Markdown of a page, but for that of its exercises."""
    notebook = book / f"{page}.ipynb"
    if not notebook.exists():
        return [(book / f"{page}.md").read_text(encoding="utf-8")]
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "markdown"
    ]
    return [t for t in found if not any(mark in t for mark in NO_READING)]


def words(text: str) -> int:
    """Without the fences and options of directives, and large formulas."""
    return len(re.findall(r"\S*\w\S*", MARKUP.sub("", text)))
