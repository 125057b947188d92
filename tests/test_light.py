"""What book/_ext/course_light.py changes in a rendered page."""

import sys
from pathlib import Path

from PIL import Image, ImageChops

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))
import course_light

WITH_FORMULAS = (
    '<script>window.MathJax = {"tex": {}}</script><script defer="defer" src="_static/mathjax/startup.js"></script>'
    r'<p><span class="math notranslate nohighlight">\(a &lt; b\)</span></p>'
    '<div class="math notranslate nohighlight" id="e">\n<span class="eqno">(1)<a href="#e">#</a></span>'
    r"\[\begin{split}x\end{split}\]</div>"
)
SET = {r"\(a < b\)": "<mjx-container>1</mjx-container>", r"\[\begin{split}x\end{split}\]": "<mjx-container>2"}


def test_images_get_their_size_and_come_late(tmp_path):
    (tmp_path / "_images").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "_images" / "x.png")
    page = course_light.images_when_seen(
        '<img alt="an image" src="_images/x.png" /><img src="_static/y.png">', tmp_path
    )
    assert 'loading="lazy"' in page
    assert 'width="30" height="20"' in page
    assert page.endswith('<img src="_static/y.png">')
    assert course_light.images_when_seen(page, tmp_path) == page


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


def test_images_as_webp_show_the_same(tmp_path):
    (tmp_path / "_images").mkdir()
    drawn = Image.linear_gradient("L").convert("RGBA")
    drawn.putpixel((0, 0), (1, 2, 3, 4))
    drawn.save(tmp_path / "_images" / "x.png")
    page = course_light.images_as_webp('<a href="_images/x.png"><img src="_images/x.png"></a>', tmp_path)
    assert page == '<a href="_images/x.webp"><img src="_images/x.webp"></a>'
    with Image.open(tmp_path / "_images" / "x.webp") as shown:
        assert ImageChops.difference(shown.convert("RGBA"), drawn).getbbox(alpha_only=False) is None
