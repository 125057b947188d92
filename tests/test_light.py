"""What book/_ext/course_light.py takes out of a rendered page, and what it adds to its pictures."""

import sys
from pathlib import Path

import pytest
from PIL import Image
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))
import course_light

ICONS = '<script defer src="_static/scripts/fontawesome.js?digest=1"></script>'
SEARCH = '<script src="_static/searchtools.js"></script> <script src="_static/language_data.js"></script>'
INDEX = '<script src="searchindex.js"></script>'
KEPT = '<script src="_static/results.js?v=1"></script>'


def test_takes_out_icons_and_search():
    assert course_light.lighter(f"{ICONS}{KEPT}{SEARCH}{INDEX}<p>", "01-paper") == f"{KEPT}<p>"


def test_leaves_the_search_to_the_page_that_searches():
    page = f"{KEPT}{SEARCH}{INDEX}"
    assert course_light.lighter(page + ICONS, "search") == page


def test_says_so_when_the_theme_has_changed():
    with pytest.raises(ExtensionError, match=r"01-paper\.html holds 0 times, and not once"):
        course_light.lighter(f"{ICONS}{SEARCH}", "01-paper")


def test_pictures_get_their_size_and_come_late(tmp_path):
    (tmp_path / "_images").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "_images" / "x.png")
    page = course_light.pictures_when_seen(
        '<img alt="a picture" src="_images/x.png" /><img src="_static/y.png">', tmp_path
    )
    assert 'loading="lazy"' in page
    assert 'width="30" height="20"' in page
    assert page.endswith('<img src="_static/y.png">')
    assert course_light.pictures_when_seen(page, tmp_path) == page
