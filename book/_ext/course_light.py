"""What a page of the book does without, so that it is read sooner.

MathJax, for formulas that can be set beforehand: it is 0.8 MB of a page. And
images as PNG, for the same pixels as WebP take half the bytes. The pages are
changed after they were written. The scripts of the theme that no page needs
are left out by ``_templates``.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image
from sphinx.application import Sphinx
from sphinx.domains.math import MathDomain

# MathJax's parts are named in _config.yml; this is what loads them.
MATHJAX = "mathjax/startup.js"
LOADS_MATHJAX = rf'\s*<script[^>]*\bsrc="[^"]*{MATHJAX}[^"]*"[^>]*></script>'
# Its work, done once (formulas.py) and stored.
STORED = Path(__file__).parents[1] / "formulas.json"
FORMULA = re.compile(
    r'(<(?:span|div) class="math [^>]*>(?:\s*<span class="eqno">.*?</span>)?)'
    r"\s*(\\\(.*?\\\)|\\\[.*?\\\])",
    re.DOTALL,
)

# The bibliography says that it is a list; what it holds are no list's items,
# and a screen reader is told of an empty list.
LIST = (
    '<div role="list" class="citation-list">',
    '<div class="citation-list">',
)
IMAGE = re.compile(r'<img (?=[^>]*\bsrc="(_images/[^"]+)")([^>]*)>')
PNG = re.compile(r'"(_images/[^"]+)\.png"')


def images_when_seen(page: str, folder: Path) -> str:
    """``page`` with images that load as the reader comes near them.

    Their size is written down, so that the text does not move when they come.
    ``folder`` is where the page is.
    """

    def with_size(found: re.Match[str]) -> str:
        source, attributes = found.groups()
        if " loading=" in f" {attributes}":
            return found.group()
        added = 'loading="lazy" '
        if not re.search(r"\b(?:width|height)\b", attributes):
            with Image.open(folder / source) as image:
                added += 'width="{}" height="{}" '.format(*image.size)
        return f"<img {added}{attributes}>"

    return IMAGE.sub(with_size, page)


def with_formulas(page: str, stored: dict[str, str]) -> str:
    """``page`` with its formulas set, and without MathJax.

    ``stored`` is what MathJax made of each. Where it lacks one, for it is new,
    the page is left to MathJax.
    """
    formulas = {html.unescape(found[1]) for found in FORMULA.findall(page)}
    if not formulas or not formulas <= stored.keys():
        return page
    page = FORMULA.sub(
        lambda found: found[1] + stored[html.unescape(found[2])], page
    )
    page = re.sub(r"\s*<script>window\.MathJax = .*?</script>", "", page)
    sheet = '<link rel="stylesheet" href="_static/formulas.css" />'
    return re.sub(LOADS_MATHJAX, f"\n    {sheet}", page)


def images_as_webp(page: str, folder: Path) -> str:
    """``page`` with its PNG images as WebP, which shows the same pixels."""

    def smaller(found: re.Match[str]) -> str:
        with Image.open(folder / f"{found[1]}.png") as image:
            image.save(folder / f"{found[1]}.webp", lossless=True, method=1)
        return f'"{found[1]}.webp"'

    return PNG.sub(smaller, page)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Change what was written; what was changed before is left as it is."""
    if error is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    (folder / "_static" / "formulas.css").write_text(
        "\n".join(stored["styles"]) + "\n", encoding="utf-8"
    )
    for path in sorted(folder.glob("*.html")):
        page = path.read_text(encoding="utf-8")
        page = page.replace(*LIST)
        page = with_formulas(page, stored["formulas"])
        page = images_as_webp(page, folder)
        page = images_when_seen(page, folder)
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
