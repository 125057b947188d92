"""What book/_ext/course_light.py takes out of a rendered page, and what it puts in its place."""

import sys
from pathlib import Path

import matplotlib
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageChops
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))
import course_light

ICONS = '<script defer src="_static/scripts/fontawesome.js?digest=1"></script>'
SEARCH = '<script src="_static/searchtools.js"></script> <script src="_static/language_data.js"></script>'
INDEX = '<script src="searchindex.js"></script>'
KEPT = '<script src="_static/results.js?v=1"></script>'

WITH_FORMULAS = (
    '<script>window.MathJax = {"tex": {}}</script><script defer="defer" src="_static/mathjax/startup.js"></script>'
    r'<p><span class="math notranslate nohighlight">\(a &lt; b\)</span></p>'
    '<div class="math notranslate nohighlight" id="e">\n<span class="eqno">(1)<a href="#e">#</a></span>'
    r"\[\begin{split}x\end{split}\]</div>"
)
SET = {r"\(a < b\)": "<mjx-container>1</mjx-container>", r"\[\begin{split}x\end{split}\]": "<mjx-container>2"}


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


class TestFormulas:
    def test_are_set_and_mathjax_is_gone(self):
        page = course_light.with_formulas(WITH_FORMULAS, SET)
        assert r'nohighlight"><mjx-container>1</mjx-container></span>' in page
        assert "</a></span><mjx-container>2</div>" in page
        assert "MathJax" not in page
        assert "mathjax" not in page
        assert '<link rel="stylesheet" href="_static/formulas.css" />' in page

    def test_are_left_to_mathjax_where_one_is_not_stored(self):
        stored = dict(list(SET.items())[:1])
        assert course_light.with_formulas(WITH_FORMULAS, stored) == WITH_FORMULAS


def test_pictures_as_webp_show_the_same(tmp_path):
    (tmp_path / "_images").mkdir()
    drawn = Image.linear_gradient("L").convert("RGBA")
    drawn.putpixel((0, 0), (1, 2, 3, 4))
    drawn.save(tmp_path / "_images" / "x.png")
    page = course_light.pictures_as_webp('<a href="_images/x.png"><img src="_images/x.png"></a>', tmp_path)
    assert page == '<a href="_images/x.webp"><img src="_images/x.webp"></a>'
    with Image.open(tmp_path / "_images" / "x.webp") as shown:
        assert ImageChops.difference(shown.convert("RGBA"), drawn).getbbox(alpha_only=False) is None


class TestIcons:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        """A page that shows one of 1200 icons, and a style sheet with two signs of its own, in two ways."""
        fonts = tmp_path / "_static" / course_light.FONTS
        sheet = tmp_path / "_static" / course_light.THEME
        fonts.mkdir(parents=True)
        sheet.parent.mkdir()
        font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
        (fonts / "fa-solid-900.ttf").write_bytes(font.read_bytes())
        icons = "".join(
            f'.fa-i{number}:before,.fa-also{number}:before{{content:"\\{number:x}"}}' for number in range(33, 1233)
        )
        source = f'src:url(../{course_light.FONTS}/fa-solid-900.woff2) format("woff2")'
        sheet.write_text(f'@font-face{{{source}}}{icons}.list:before{{content:"\\2022"}}:root{{--own:"\uf6c5"}}')
        (tmp_path / "page.html").write_text('<i class="fas fa-also66"></i>')
        return tmp_path

    def test_that_no_page_shows_are_left_out(self, folder):
        course_light.fewer_icons(folder)
        sheet = (folder / "_static" / course_light.THEME).read_text()
        assert '.fa-i66:before,.fa-also66:before{content:"\\42"}' in sheet
        assert sheet.count(":before") == 3
        assert 'fa-solid-900.woff) format("woff")' in sheet
        with TTFont(folder / "_static" / course_light.FONTS / "fa-solid-900.woff") as font:
            assert set(font.getBestCmap()) == {0x42, 0x2022, 0xF6C5}

    def test_say_so_when_the_theme_has_changed(self, folder):
        sheet = folder / "_static" / course_light.THEME
        sheet.write_text(sheet.read_text().replace(":before", "::before"))
        with pytest.raises(ExtensionError, match="names 0 icons"):
            course_light.fewer_icons(folder)
