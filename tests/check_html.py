"""Check the rendered book: ``python tests/check_html.py _build/html``.

Jupyter Book can exit 0 with pages missing, so the HTML that came out is what is looked at: every page of
``book/_toc.yml`` is there and has text, every local link leads somewhere, no page shows an error of Sphinx, and nothing
(script, style, font, image, frame) is loaded from another machine, so that the book reads the same offline. Every
formula is stored, typeset, so that no page loads MathJax, which is heavier than all the rest of a page. The
notebooks of ``colab/`` are made of this book, its rockets open them, and their links into the book lead somewhere. What
the published site needs is there, too: the address in every page and in ``sitemap.xml``, an image of each page for
other sites to show, and a button for mistakes that opens the form with the page filled in.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
TOC = ROOT / "book" / "_toc.yml"
FORM = ROOT / ".github" / "ISSUE_TEMPLATE" / "book.yml"
COLAB = ROOT / "colab"
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from address import Address, address  # noqa: E402

FEWEST_WORDS = 40  # the shortest page of the book, its title and its navigation aside, has more
LOADING_TAGS = {"audio", "embed", "iframe", "img", "input", "object", "script", "source", "track", "video"}
REMOTE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
REMOTE_IN_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//[^)'\"\s]+", re.IGNORECASE)
REMOTE_IN_SCRIPT = re.compile(r"https?://[^\s'\"]+\.(?:m?js|css|woff2?)\b", re.IGNORECASE)
MATHJAX = "mathjax/startup.js"  # a page loads it where a formula is not stored (book/_ext/course_light.py)


def toc_pages(toc: Path = TOC) -> list[str]:
    """Names of the book's pages, without suffix, in reading order."""

    def walk(node: dict) -> list[str]:
        pages = [node[key] for key in ("root", "file") if key in node]
        for key in ("parts", "chapters", "sections"):
            for child in node.get(key, []):
                pages += walk(child)
        return pages

    return walk(yaml.safe_load(toc.read_text(encoding="utf-8")))


class Page(HTMLParser):
    """What one HTML file shows and asks for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []  # where the reader can go
        self.loads: list[str] = []  # what the browser fetches by itself
        self.article: list[str] = []
        self.problems: list[str] = []
        self.canonical = ""  # where it is published
        self.meta: dict[str, str] = {}  # what it tells other sites
        self._raw = ""  # inside <script> or <style>
        self._article_depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._raw = tag if tag in ("script", "style") else ""
        self._article_depth += tag == "article"
        self.ids.update(given[key] for key in ("id", "name") if given.get(key))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") == "canonical":
            self.canonical = given.get("href", "")
        if tag == "meta" and "property" in given:
            self.meta[given["property"]] = given.get("content", "")
        if tag == "link" and given.get("rel") not in ("canonical", "author", "license"):
            self.loads.append(given.get("href", ""))
        if tag in LOADING_TAGS:
            self.loads += [given[key] for key in ("src", "data", "poster") if given.get(key)]
            self.loads += [choice.split()[0] for choice in given.get("srcset", "").split(",") if choice.strip()]
        self._look_for_remote(REMOTE_IN_STYLE, given.get("style", ""))
        if {"problematic", "system-message"} & set(given.get("class", "").split()):
            self.problems.append(f"shows an error of Sphinx (<{tag} class={given['class']!r}>)")

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""
        self._article_depth -= tag == "article"

    def handle_data(self, data: str) -> None:
        if self._raw == "style":
            self._look_for_remote(REMOTE_IN_STYLE, data)
        elif self._raw == "script":
            self._look_for_remote(REMOTE_IN_SCRIPT, data)
        elif self._article_depth:
            self.article.append(data)

    def _look_for_remote(self, pattern: re.Pattern[str], text: str) -> None:
        self.problems += [f"loads {found} from another machine" for found in pattern.findall(text)]


def check(html: Path, pages: list[str]) -> list[str]:
    """Problems of the book rendered in ``html``, one sentence each; ``pages`` are those that must be there."""
    parsed = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(html.rglob("*.html"))
        if "_static" not in path.parts
    }
    problems = []
    for name in pages:
        page = parsed.get(html / f"{name}.html")
        if page is None:
            problems.append(f"{name}.html: is in {TOC.name} and was not rendered")
        elif (words := len(" ".join(page.article).split())) < FEWEST_WORDS:
            problems.append(f"{name}.html: is as good as empty ({words} words)")

    for path, page in parsed.items():
        where = path.relative_to(html)
        problems += [f"{where}: {problem}" for problem in page.problems]
        problems += [f"{where}: loads {url} from another machine" for url in page.loads if REMOTE.match(url)]
        if any(MATHJAX in url for url in page.loads):
            problems.append(f"{where}: has a formula that is not stored; run `make formulas`")
        for url in page.links + page.loads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{where}: {url} leads nowhere")
            elif parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].ids | {"top"}:
                problems.append(f"{where}: {url} leads to a page without that anchor")

    for path in sorted(html.rglob("*.css")):
        found = REMOTE_IN_STYLE.findall(path.read_text(encoding="utf-8"))
        problems += [f"{path.relative_to(html)}: loads {url} from another machine" for url in found]
    return problems


def check_site(html: Path, pages: list[str], where: Address) -> list[str]:
    """Problems of the book in ``html`` as a site that others link to, one sentence each."""
    site, form = where.book, f"{where.repository}/issues/new?"
    fields = {field["id"] for field in yaml.safe_load(FORM.read_text(encoding="utf-8"))["body"]}
    sitemap = html / "sitemap.xml"
    listed = set(re.findall("<loc>(.*?)</loc>", sitemap.read_text(encoding="utf-8"))) if sitemap.is_file() else set()
    problems = [] if listed else ["sitemap.xml: is not there, or lists nothing"]
    for name in pages:
        path = html / f"{name}.html"
        if not path.is_file():
            continue  # check() says so
        page = Page(path.read_text(encoding="utf-8"))
        if page.canonical != f"{site}{name}.html":
            problems.append(f"{name}.html: says that it is published at {page.canonical!r}")
        if f"{site}{name}.html" not in listed:
            problems.append(f"{name}.html: is not listed in sitemap.xml")
        image = page.meta.get("og:image", "")
        if not image.startswith(site) or not (html / image.removeprefix(site)).is_file():
            problems.append(f"{name}.html: has no image for other sites to show ({image!r})")
        asked = [parse_qs(urlsplit(url).query) for url in page.links if url.startswith(form)]
        for filled in asked or [{}]:
            if filled.get("template") != [FORM.name] or not set(filled) <= {"template", "title", *fields}:
                problems.append(f"{name}.html: its button for mistakes does not open the form {FORM.name} ({filled})")
            elif not any(f"{name}.html" in value for value in filled.get("place", [])):
                problems.append(f"{name}.html: its button for mistakes does not name the page")
    return problems


def check_notebooks(html: Path, colab: Path, where: Address) -> list[str]:
    """What is wrong with the plain notebooks in ``colab``, beside the book that was rendered now.

    The rendered book offers each chapter as such a notebook, made of the sources as they are now.
    """
    made = {path.name: path for path in (html / "_sources").glob("*.ipynb")}
    stored = {path.name: path for path in colab.glob("*.ipynb")}
    problems = [
        f"colab/{name}: is not what the book says now; run `make notebooks`"
        for name in sorted(made.keys() | stored.keys())
        if not (name in made and name in stored and made[name].read_bytes() == stored[name].read_bytes())
    ]
    pages = {path.name: Page(path.read_text(encoding="utf-8")) for path in html.glob("*.html")}
    for name, path in sorted(made.items()):
        chapter = pages[path.with_suffix(".html").name]
        for service, url in (("Colab", where.colab(f"colab/{name}")), ("Kaggle", where.kaggle(f"colab/{name}"))):
            if url not in chapter.links:
                problems.append(f"{path.stem}.html: has no rocket to {service}, {url}")
        if f"_sources/{name}" not in chapter.links:
            problems.append(f"{path.stem}.html: does not offer its notebook for download")
        for link in sorted(set(re.findall(rf"\({re.escape(where.book)}([^)]*)", path.read_text(encoding="utf-8")))):
            page, _, anchor = link.partition("#")
            target = pages.get(page or "index.html")
            if target is None or (anchor and unquote(anchor) not in target.ids):
                problems.append(f"colab/{name}: {where.book}{link} leads nowhere")
    return problems


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/check_html.py _build/html")
    book = Path(sys.argv[1]).resolve()
    found = check(book, toc_pages()) + check_notebooks(book, COLAB, address())
    found += check_site(book, toc_pages(), address())
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    sys.exit(1 if found else 0)
