"""What a page of the book does without, so that it is read sooner.

The theme sends four times as much as a page of this book needs: every icon of
Font Awesome, as a script and as fonts, the index of the search on pages that do
not search, MathJax for formulas that can be set beforehand, and pictures as
PNG, for the same pixels as WebP take half the bytes. The pages are changed
after they were written; where the theme no longer has what is taken out here,
the build fails and says so.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.application import Sphinx
from sphinx.domains.math import MathDomain
from sphinx.errors import ExtensionError

# MathJax's parts are named in _config.yml; this is what loads them.
MATHJAX = "mathjax/startup.js"
# Its work, done once (formulas.py) and stored.
STORED = Path(__file__).parents[1] / "formulas.json"
FORMULA = re.compile(
    r'(<(?:span|div) class="math [^>]*>(?:\s*<span class="eqno">.*?</span>)?)'
    r"\s*(\\\(.*?\\\)|\\\[.*?\\\])",
    re.DOTALL,
)

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
PNG = re.compile(r'"(_images/[^"]+)\.png"')

THEME = "styles/pydata-sphinx-theme.css"
FONTS = "vendor/fontawesome/webfonts"
# Where the theme names an icon, and where its style sheet says which sign of
# the font that is.
ICON = re.compile(r"\bfa-[\w-]+")
SIGN = re.compile(
    r"((?:\.fa-[\w-]+:before,)*\.fa-[\w-]+:before)"
    r'\{content:"(?:\\[^"]+|.)"\}'
)
NUMBER = re.compile(r'"\\([0-9a-f]{2,5})"')
PRIVATE = re.compile(r"[\ue000-\uf8ff]")  # the signs themselves
FONT = re.compile(r"(fa-(?:solid-900|brands-400|regular-400))\.woff2")


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
    return re.sub(SCRIPT.format(MATHJAX), f"\n    {sheet}", page)


def pictures_as_webp(page: str, folder: Path) -> str:
    """``page`` with its PNG pictures as WebP, which shows the same pixels."""

    def smaller(found: re.Match[str]) -> str:
        with Image.open(folder / f"{found[1]}.png") as picture:
            picture.save(folder / f"{found[1]}.webp", lossless=True, method=1)
        return f'"{found[1]}.webp"'

    return PNG.sub(smaller, page)


def fewer_icons(folder: Path) -> None:
    """Leave in the fonts of Font Awesome only what the pages show.

    ``folder`` is the folder of the book, where pages are already written.
    """
    static = folder / "_static"
    sheet = (static / THEME).read_text(encoding="utf-8")
    if FONT.search(sheet) is None:
        return  # done before
    shows = [*folder.glob("*.html"), *static.glob("*.js")]
    shows += (static / "scripts").glob("*theme.js")
    used = set(ICON.findall("".join(map(Path.read_text, shows))))

    def kept(found: re.Match[str]) -> str:
        names = set(ICON.findall(found[1]))
        return found.group() if names & used else ""

    sheet, count = SIGN.subn(kept, sheet)
    if count < 1000:
        raise ExtensionError(
            f"{THEME} names {count} icons, and not 1000 or more, as when "
            "course_light.py was written to take out those that no page shows."
        )
    (static / THEME).write_text(
        FONT.sub(r"\1.woff", sheet).replace(
            '.woff) format("woff2")', '.woff) format("woff")'
        ),
        encoding="utf-8",
    )
    sheets = "".join(map(Path.read_text, static.rglob("*.css")))
    signs = {int(number, 16) for number in NUMBER.findall(sheets)}
    signs |= {ord(sign) for sign in PRIVATE.findall(sheets)}
    for path in sorted((static / FONTS).glob("*.ttf")):
        font = TTFont(path, recalcTimestamp=False)
        subsetter = Subsetter(Options(layout_features=[], drop_tables=["FFTM"]))
        subsetter.populate(unicodes=signs)
        subsetter.subset(font)
        font.flavor = "woff"
        font.save(path.with_suffix(".woff"))


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Change what was written; a page changed before is left as it is."""
    if error is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    (folder / "_static" / "formulas.css").write_text(
        "\n".join(stored["styles"]) + "\n", encoding="utf-8"
    )
    for path in sorted(folder.glob("*.html")):
        page = path.read_text(encoding="utf-8")
        if re.search(ICONS, page):
            page = lighter(page, path.stem)
            page = with_formulas(page, stored["formulas"])
            page = pictures_as_webp(page, folder)
            page = pictures_when_seen(page, folder)
            path.write_text(page, encoding="utf-8")
    fewer_icons(folder)


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
