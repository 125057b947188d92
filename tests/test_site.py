"""What book/_ext/course_site.py makes of the book as a site, and that the check of the HTML sees what is missing."""

import importlib.util
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import check_html
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = check_html.address()
IMAGE = "_images/social_previews/index.png"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("course_site", ROOT / "book" / "_ext" / "course_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_form_has_what_is_filled_in(site):
    url = site.issue_form("02-shapes", "Shapes & sizes = 100 %")
    assert url.startswith(f"{ADDRESS.repository}/issues/new?")
    filled = {key: value for key, (value,) in parse_qs(urlsplit(url).query).items()}
    form = ROOT / ".github" / "ISSUE_TEMPLATE" / filled["template"]
    assert filled["title"] == "Shapes & sizes = 100 %: "
    assert filled["place"].startswith("Shapes & sizes = 100 % (02-shapes.html)")
    assert "place" in {field["id"] for field in yaml.safe_load(form.read_text(encoding="utf-8"))["body"]}


def test_sitemap_is_xml(site):
    links = ["https://example.org/a.html", "https://example.org/b.html?c&d"]
    found = ElementTree.fromstring(site.sitemap(links).encode())
    assert found.tag == "{http://www.sitemaps.org/schemas/sitemap/0.9}urlset"
    assert [place.text for place in found.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")] == links


def test_name_of_the_pdf_is_that_which_is_made_and_published(site):
    assert f"PDF := _build/{site.PDF}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"_build/{site.PDF} _build/html/" in (ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8")


class TestCheck:
    @pytest.fixture
    def problems(self, site, tmp_path):
        """Gives the problems of a site of one page in which something was replaced."""
        address = ADDRESS.book
        page = (
            f'<link rel="canonical" href="{address}index.html"><meta property="og:image" content="{address}{IMAGE}">'
            f'<a href="{site.issue_form("index", "Title")}">open issue</a>'
        )
        (tmp_path / IMAGE).parent.mkdir(parents=True)
        (tmp_path / IMAGE).touch()
        (tmp_path / "sitemap.xml").write_text(site.sitemap([f"{address}index.html"]), encoding="utf-8")

        def problems(old: str = "", new: str = "") -> list[str]:
            assert old in page
            (tmp_path / "index.html").write_text(page.replace(old, new) if old else page, encoding="utf-8")
            return check_html.check_site(tmp_path, ["index"], ADDRESS)

        return problems

    def test_passes_a_sound_site(self, problems):
        assert problems() == []

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ('rel="canonical"', 'rel="author"', "says that it is published at ''"),
            (".github.io/", ".example.org/", "says that it is published at 'https://"),
            ("og:image", "og:video", "has no image for other sites to show ('')"),
            (IMAGE, "_images/lost.png", "has no image for other sites to show ('https://"),
            ("template=book.yml", "template=lost.yml", "does not open the form book.yml"),
            ("place=", "body=", "does not open the form book.yml"),
            ("issues/new?", "issues?", "does not open the form book.yml"),
            ("index.html%29", "%29", "does not name the page"),
        ],
    )
    def test_finds(self, problems, old, new, problem):
        found = problems(old, new)
        assert found
        assert problem in found[0]
        assert found[0].startswith("index.html: ")

    def test_finds_that_the_sitemap_is_missing(self, problems, tmp_path):
        (tmp_path / "sitemap.xml").unlink()
        assert problems()[0] == "sitemap.xml: is not there, or lists nothing"
