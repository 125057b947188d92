"""Make the book's pages lighter, so that they load faster.

Formulas are typeset beforehand, so that pages do without MathJax, which has
0.8 MB. PNG images become WebP, which takes half the bytes for the same pixels.
The pages are changed after Sphinx has written them. ``_templates`` leaves out
scripts of the theme that no page needs.
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

# The loader of MathJax, whose components are named in _config.yml.
MATHJAX = "mathjax/startup.js"
LOADS_MATHJAX = rf'\s*<script[^>]*\bsrc="[^"]*{MATHJAX}[^"]*"[^>]*></script>'
# The formulas, typeset by MathJax once (formulas.py) and stored.
STORED = Path(__file__).parents[1] / "formulas.json"
FORMULA = re.compile(
    r'(<(?:span|div) class="math [^>]*>(?:\s*<span class="eqno">.*?</span>)?)'
    r"\s*(\\\(.*?\\\)|\\\[.*?\\\])",
    re.DOTALL,
)

# The bibliography is marked as a list, but its entries are not list items, so
# screen readers would announce an empty list.
LIST = (
    '<div role="list" class="citation-list">',
    '<div class="citation-list">',
)
IMAGE = re.compile(r'<img (?=[^>]*\bsrc="(_images/[^"]+)")([^>]*)>')
PNG = re.compile(r'"(_images/[^"]+)\.png"')


def images_when_seen(page: str, folder: Path) -> str:
    """``page`` with images that load lazily.

    Their sizes are added, so that the text does not move when they load.
    ``folder`` is the folder of the page.
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
    """``page`` with its formulas typeset, and without MathJax.

    ``stored`` maps each formula to MathJax's output. If a formula is missing,
    because it is new, the page keeps MathJax.
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
    """``page`` with its PNG images converted to WebP, without loss."""

    def smaller(found: re.Match[str]) -> str:
        with Image.open(folder / f"{found[1]}.png") as image:
            image.save(folder / f"{found[1]}.webp", lossless=True, method=1)
        return f'"{found[1]}.webp"'

    return PNG.sub(smaller, page)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Change the written pages; pages that are already changed stay so."""
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
    """Load MathJax only where needed; Jupyter Book loads it on every page."""
    domain = app.env.get_domain("math")
    assert isinstance(domain, MathDomain)
    # Its method of that name would include the pages below this one.
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
