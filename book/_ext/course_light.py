"""What a page of the book does without, so that it is read sooner.

The theme sends four times as much as a page of this book needs: every icon of
Font Awesome as a script (the style sheet has them already, as a font), the
index of the search on pages that do not search, MathJax with its menu. The
pages are changed after they were written; where the theme no longer has what
is taken out here, the build fails and says so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image
from sphinx.application import Sphinx
from sphinx.domains.math import MathDomain
from sphinx.errors import ExtensionError

# MathJax's parts are named in _config.yml; this is what loads them.
MATHJAX = "mathjax/startup.js"

SCRIPT = r'\s*<script[^>]*\bsrc="(?:[./]*|[^"]*/){}(?:\?[^"]*)?"[^>]*></script>'
ICONS = SCRIPT.format(r"_static/scripts/fontawesome\.js")
SEARCH = [
    SCRIPT.format(name)
    for name in (
        r"_static/searchtools\.js",
        r"_static/language_data\.js",
        r"searchindex\.js",
    )
]
# The bibliography says that it is a list; what it holds are no list's items,
# and a screen reader is told of an empty list.
LIST = (
    '<div role="list" class="citation-list">',
    '<div class="citation-list">',
)
PICTURE = re.compile(r'<img (?=[^>]*\bsrc="(_images/[^"]+)")([^>]*)>')


def lighter(page: str, name: str) -> str:
    """The HTML of the page ``name`` without what stands in its way."""
    unneeded = [ICONS] if name == "search" else [ICONS, *SEARCH]
    for pattern in unneeded:
        page, count = re.subn(pattern, "", page)
        if count != 1:
            raise ExtensionError(
                f"{name}.html holds {count} times, and not once, what "
                f"course_light.py is to take out: {pattern}"
            )
    return page.replace(*LIST)


def pictures_when_seen(page: str, folder: Path) -> str:
    """``page`` with pictures that load as the reader comes near them.

    Their size is written down, so that the text does not move when they come.
    ``folder`` is where the page is.
    """

    def with_size(found: re.Match[str]) -> str:
        source, attributes = found.groups()
        if " loading=" in f" {attributes}":
            return found.group()
        added = 'loading="lazy" '
        if not re.search(r"\b(?:width|height)\b", attributes):
            with Image.open(folder / source) as picture:
                added += 'width="{}" height="{}" '.format(*picture.size)
        return f"<img {added}{attributes}>"

    return PICTURE.sub(with_size, page)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Change what was written; a page changed before is left as it is."""
    if error is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    for path in sorted(folder.glob("*.html")):
        page = path.read_text(encoding="utf-8")
        if re.search(ICONS, page):
            page = pictures_when_seen(lighter(page, path.stem), folder)
            path.write_text(page, encoding="utf-8")


def only_where_there_is_mathematics(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Jupyter Book loads MathJax on every page."""
    domain = app.env.get_domain("math")
    assert isinstance(domain, MathDomain)
    # Its method of that name would count the pages below this one, too.
    has_equations = domain.data["has_equations"].get(page, False)
    if app.builder.name == "html" and not has_equations:
        context["script_files"] = [
            script
            for script in context["script_files"]
            if MATHJAX not in str(getattr(script, "filename", script))
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.config.mathjax_path = MATHJAX  # type: ignore[attr-defined]
    app.connect(
        "html-page-context", only_where_there_is_mathematics, priority=900
    )
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
