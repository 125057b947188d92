"""The book as a website: its address, social cards, and issue button.

The address, GitHub Pages for the repository in ``_config.yml``, is on each
page and in ``sitemap.xml``, and sphinxext-opengraph puts it on the cards that
other sites show. A button on each page opens the issue form for mistakes in
the book, with the page filled in; another leads to the PDF.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from address import address
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

PDF = "alexnet-course.pdf"  # .github/workflows/book.yml puts it there
AFTER_THE_THEME = 900


def issue_form(page: str, title: str) -> str:
    """The link to ``.github/ISSUE_TEMPLATE/book.yml``, with the page filled in.

    ``page`` is the name of the page's file and ``title`` its heading.
    """
    filled = {
        "template": "book.yml",
        "title": f"{title}: ",
        "place": f"{title} ({page}.html), section: ",
    }
    return f"{address().repository}/issues/new?{urlencode(filled)}"


def sitemap(links: list[str]) -> str:
    """The file that lists the pages for search engines."""
    lines = [f"  <url><loc>{escape(link)}</loc></url>" for link in links]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
            *lines,
            "</urlset>\n",
        ]
    )


def set_address(app: Sphinx, config: Config) -> None:
    config.html_baseurl = address().book
    config.ogp_site_url = config.html_baseurl
    config.ogp_site_name = config.html_title


def change_buttons(
    app: Sphinx,
    page: str,
    template: str,
    context: dict[str, Any],
    tree: nodes.document | None,
) -> None:
    groups = {
        button["label"]: button.get("buttons", [])
        for button in context["header_buttons"]
    }
    for button in groups.get("source-buttons", []):
        if button["label"] == "source-issues-button":
            title = tree and tree.next_node(nodes.title)
            heading = title.astext() if title else page
            button["url"] = issue_form(page, heading)
            button["tooltip"] = "Report a mistake on this page"
    if "download-buttons" in groups:
        groups["download-buttons"].append(
            {
                "type": "link",
                "url": app.config.html_baseurl + PDF,
                "text": "the book (.pdf)",
                "tooltip": "Download the whole book as PDF",
                "icon": "fas fa-book",
                "label": "download-book-button",
            }
        )


def write_sitemap(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    links = [
        app.config.html_baseurl + app.builder.get_target_uri(page)
        for page in sorted(app.env.found_docs)
    ]
    Path(app.outdir, "sitemap.xml").write_text(sitemap(links), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinxext.opengraph")
    app.connect("config-inited", set_address)
    app.connect("html-page-context", change_buttons, priority=AFTER_THE_THEME)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
