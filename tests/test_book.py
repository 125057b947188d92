"""The book's sources: what is stored in the notebooks, the one address of the repository, and the check of the HTML."""

import ast
import base64
import csv
import importlib
import io
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import check_html
import pytest
import yaml
from address import Address, address
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

import alexnet_course

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PAGES = check_html.toc_pages()
CHAPTERS = [page for page in PAGES if (BOOK / f"{page}.ipynb").exists()]
NOTEBOOKS = {name: json.loads((BOOK / f"{name}.ipynb").read_text(encoding="utf-8")) for name in CHAPTERS}
ADDRESS = address()
REPOSITORY = ADDRESS.repository
TAGS = {"hide-cell", "hide-input", "hide-output", "remove-cell", "remove-input", "nbval-ignore-output"}

INSTALL_CELL = f"""\
# Installs the course where it is missing; elsewhere it does nothing.
import importlib.util

if importlib.util.find_spec("alexnet_course") is None:
    %pip install -q "{PROJECT["name"]} @ {ADDRESS.release(PROJECT["version"])}\""""
[D2L] = re.findall(r"^d2l==\S+", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
INSTALL_D2L = f"""
if importlib.util.find_spec("d2l") is None:
    %pip install -q --no-deps {D2L}"""

each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def cells(name: str, kind: str) -> list[dict]:
    return [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def outputs(name: str) -> list[tuple[dict, dict]]:
    return [(cell, output) for cell in cells(name, "code") for output in cell["outputs"]]


def definitions(nodes: Iterable[ast.AST]) -> list[str]:
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def text_of(output: dict) -> str:
    parts = [output.get("text", "")]
    parts += [value for mime, value in output.get("data", {}).items() if mime.startswith("text/")]
    return "\n".join("".join(part) for part in parts)


def test_every_notebook_is_in_the_table_of_contents():
    assert sorted(path.stem for path in BOOK.glob("*.ipynb")) == CHAPTERS
    assert len(CHAPTERS) >= 2


class TestStoredNotebook:
    @each_chapter
    def test_was_run_from_top_to_bottom(self, name):
        counts = [cell["execution_count"] for cell in cells(name, "code") if source(cell).strip()]
        assert counts == list(range(1, len(counts) + 1))

    @each_chapter
    def test_holds_no_error_and_no_warning(self, name):
        for cell, output in outputs(name):
            assert output["output_type"] != "error", source(cell)
            assert output.get("name") != "stderr", source(cell)

    @each_chapter
    def test_is_the_same_on_every_machine(self, name):
        """No address of an object, no folder of whoever ran it, no time stamp."""
        for cell, output in outputs(name):
            assert not re.search(r" at 0x[0-9a-f]{6,}", text_of(output)), source(cell)
            assert not re.search(r"(?<![\w.])/(?:home|root|Users|tmp|work|opt|usr)/", text_of(output)), source(cell)
        for cell in NOTEBOOKS[name]["cells"]:
            assert "execution" not in cell["metadata"], "run `make execute`, which stores no time stamps"

    @each_chapter
    def test_gives_plain_numbers_to_the_text(self, name):
        """A numpy number would stand in the sentence as np.int64(4)."""
        for cell, output in outputs(name):
            for value in output.get("data", {}).values():
                assert not re.search(r"\bnp\.\w+\(", "".join(value)), source(cell)

    @each_chapter
    def test_is_small_and_runs_with_the_usual_kernel(self, name):
        assert (BOOK / f"{name}.ipynb").stat().st_size < 1_000_000
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        assert NOTEBOOKS[name]["metadata"]["kernelspec"] == kernel

    @each_chapter
    def test_is_compared_in_whole(self, name):
        """Cells may ask nbval not to compare what depends on training, but not to be left out."""
        for cell in cells(name, "code"):
            assert tags(cell) <= TAGS, source(cell)
            assert "NBVAL" not in source(cell)

    @each_chapter
    def test_cells_have_ids_of_their_own(self, name):
        ids = [cell["id"] for cell in NOTEBOOKS[name]["cells"]]
        assert len(ids) == len(set(ids))


class TestFigures:
    @each_chapter
    def test_are_png_with_caption_name_and_alternative_text(self, name):
        for cell, output in outputs(name):
            mimes = set(output.get("data", {}))
            images = {mime for mime in mimes if mime.startswith("image/")}
            assert images <= {"image/png"}, source(cell)
            assert not any("widget" in mime or "javascript" in mime for mime in mimes), source(cell)
            if images:
                png = base64.b64decode("".join(output["data"]["image/png"]))
                assert png.startswith(b"\x89PNG")
                with Image.open(io.BytesIO(png)) as image:
                    assert image.mode != "RGBA", "run `make execute`, which stores smaller images"
                shown = cell["metadata"]["mystnb"]
                assert len(shown["figure"]["caption"]) > 20, source(cell)
                assert shown["figure"]["name"].startswith("fig-"), source(cell)
                assert len(shown["image"]["alt"]) > 20, source(cell)

    @each_chapter
    def test_come_one_to_a_cell(self, name):
        for cell in cells(name, "code"):
            drawn = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
            assert len(drawn) == ("figure" in cell["metadata"].get("mystnb", {})), source(cell)

    def test_have_names_of_their_own(self):
        shown = [cell["metadata"].get("mystnb", {}) for name in CHAPTERS for cell in cells(name, "code")]
        names = Counter(figure["figure"]["name"] for figure in shown if "figure" in figure)
        assert len(names) >= 2
        assert max(names.values()) == 1


class TestCode:
    @each_chapter
    def test_first_cell_installs_the_course_where_it_is_missing(self, name):
        """And d2l in the chapter that uses it, and in no other."""
        first, *others = cells(name, "code")
        uses_d2l = any(re.search(r"^(import|from) d2l\b", source(cell), re.MULTILINE) for cell in others)
        assert source(first) == INSTALL_CELL + (INSTALL_D2L if uses_d2l else "")
        assert "hide-cell" in tags(first)

    @each_chapter
    def test_what_a_cell_prints_is_no_wider_than_its_code(self, name):
        """But for what a terminal shows, and for torchinfo's table, which is quoted to the letter."""
        for cell in cells(name, "code"):
            if source(cell).startswith("!") or "print(summary(" in source(cell):
                continue
            printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
            assert [line for line in printed.splitlines() if len(line) > 80] == [], source(cell)

    def test_no_two_chapters_share_a_cell(self):
        seen = Counter(
            source(cell).strip()
            for name in CHAPTERS
            for cell in cells(name, "code")[1:]
            if len(source(cell).splitlines()) > 2
        )
        assert [text for text, count in seen.items() if count > 1] == []

    def test_no_function_is_defined_twice(self):
        """Neither in two chapters, nor in a chapter and in the package."""
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "alexnet_course").rglob("*.py")]
        defined = Counter({name for tree in trees for name in definitions(tree.body)})
        for name in CHAPTERS:
            code = TransformerManager().transform_cell("\n".join(source(cell) for cell in cells(name, "code")[1:]))
            defined.update(set(definitions(ast.walk(ast.parse(code)))))
        assert [name for name, count in defined.items() if count > 1 and not name.startswith("__")] == []


def test_diagrams_are_stored_with_a_palette_and_photographs_as_they_are(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    few_colours = importlib.import_module("execute").few_colours
    diagram = Image.new("RGB", (100, 100), "white")
    diagram.paste((0, 114, 178), (20, 20, 60, 80))
    stored = few_colours(diagram)
    assert stored.mode == "P"
    assert stored.convert("RGB").tobytes() == diagram.tobytes()
    photograph = Image.effect_noise((100, 100), 80).convert("RGB")
    photograph = Image.merge("RGB", [photograph.getchannel(0).rotate(90 * turn) for turn in range(3)])
    assert few_colours(photograph) is photograph


class TestExercises:
    @each_chapter
    def test_have_a_start_that_fails_its_check_and_a_solution_that_passes(self, name):
        """After an exercise come code to begin with, its check and, folded, perhaps a text, then code.

        nbval runs all of it: the stored output of the check is that of the start, and the solution calls the check.
        """
        all_cells = NOTEBOOKS[name]["cells"]
        for index, cell in enumerate(all_cells):
            if ":class: exercise" not in source(cell):
                continue
            assert "{dropdown} Solution" not in source(cell), "the solution in words comes after the check"
            start, check, *after = all_cells[index + 1 : index + 5]
            solution = next(c for c in after if "{dropdown} Solution" not in source(c))
            assert [c["cell_type"] for c in (start, check, solution)] == ["code"] * 3, source(cell)
            assert not tags(start), source(start)
            assert tags(check) == {"hide-input"}, source(check)
            [look] = re.findall(r"^attempt\((check_\w+)\)$", source(check), re.MULTILINE)
            assert look in definitions(ast.parse(source(check)).body), source(check)
            assert "".join(map(text_of, check["outputs"])).startswith("not yet: "), source(check)
            assert "hide-cell" in tags(solution), source(solution)
            assert re.search(rf"^{look}\(\)$", source(solution), re.MULTILINE), source(solution)

    @each_chapter
    def test_are_marked_with_their_difficulty_and_solved_in_words(self, name):
        """One to three stars behind the title of each, what they mean in front of all, and no title twice."""
        texts = [source(cell) for cell in cells(name, "markdown")]
        exercises = [text for text in texts if ":class: exercise" in text]
        titles = [re.match(r"(?:\(.+\)=\n)?```\{admonition\} Exercise \d+: (.+) ★{1,3}\n", text) for text in exercises]
        assert all(titles), [text for text, title in zip(exercises, titles, strict=True) if not title]
        assert len({title[1] for title in titles}) == len(titles)
        legends = [text for text in texts if "★ a few minutes, ★★ a quarter of an hour, ★★★ an hour or more" in text]
        assert [text.startswith("## Exercises") or "\n## Exercises" in text for text in legends] == [True]
        assert sum(text.startswith("```{dropdown} Solution in words\n") for text in texts) == len(exercises)

    def test_there_are_enough(self):
        exercises = [cell for cell in cells("02-shapes", "markdown") if ":class: exercise" in source(cell)]
        assert len(exercises) >= 8
        for cell in exercises:
            assert source(cell).count(":class: exercise") == 1


class TestRepositoryAddress:
    """_config.yml is the one place; everything else must say the same."""

    def test_all_others_follow_from_it(self):
        here = Address("https://github.com/Somebody/a.course", "next")
        assert here.book == "https://somebody.github.io/a.course/"
        assert Address("https://github.com/Somebody/Somebody.github.io").book == "https://somebody.github.io/"
        assert here.file("x/y.py") == "https://github.com/Somebody/a.course/blob/next/x/y.py"
        assert here.colab("x.ipynb").endswith("google.com/github/Somebody/a.course/blob/next/x.ipynb")
        assert here.kaggle("x.ipynb").endswith("?src=https://github.com/Somebody/a.course/blob/next/x.ipynb")
        assert here.release("1.0") == "https://github.com/Somebody/a.course/archive/refs/tags/v1.0.tar.gz"

    def test_in_the_metadata(self):
        assert PROJECT["urls"] == {"Repository": REPOSITORY}
        assert CITATION["repository-code"] == REPOSITORY

    @pytest.mark.parametrize(
        "path",
        [ROOT / "README.md", BOOK / "index.md", *(BOOK / f"{name}.ipynb" for name in CHAPTERS)],
        ids=lambda path: path.name,
    )
    def test_in_the_text(self, path):
        owner_and_name = REPOSITORY.removeprefix("https://github.com/")
        # Of its files or of a release, whatever it is called; to other projects no page links in this way.
        links = r"(?:git clone https://github\.com|github(?:\.com)?(?=/[\w.-]+/[\w.-]+/(?:archive|blob)/))/([\w.-]+/[\w.-]+)"
        found = re.findall(links, path.read_text(encoding="utf-8"))
        assert found
        assert set(found) == {owner_and_name}

    def test_version_is_the_same_everywhere(self):
        assert PROJECT["version"] == alexnet_course.__version__ == CITATION["version"]

    def test_newest_entry_of_the_changelog_is_this_version_or_becomes_the_next(self):
        newest, *_ = re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert re.fullmatch(rf"Unreleased|{re.escape(PROJECT['version'])} – \d{{4}}-\d\d-\d\d", newest)


class TestFrontMatter:
    def test_links_of_the_readme_lead_somewhere(self):
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
        local = [link for link in links if "://" not in link]
        assert "book/alexnet.png" in local
        assert [link for link in local if not (ROOT / link).exists()] == []
        opened = [link for link in links if link.startswith(CONFIG["launch_buttons"]["colab_url"])]
        assert opened == [ADDRESS.colab(f"colab/{name}.ipynb") for name in CHAPTERS]

    def test_image_is_small(self):
        assert 10_000 < (BOOK / "alexnet.png").stat().st_size < 200_000

    def test_every_chapter_has_its_time(self):
        with (BOOK / "timings.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["Chapter"] for row in rows] == [*(f"{{doc}}`{name}`" for name in CHAPTERS), "measured on"]
        for row in rows[:-1]:
            assert re.fullmatch(r"(\d+ min )?\d+ s", row["On your computer"])
            assert re.fullmatch(r"(\d+ min )?\d+ s|not measured", row["On Colab"])
        assert "PyTorch" in rows[-1]["On your computer"]


def test_every_word_of_the_glossary_is_used():
    glossary = (BOOK / "glossary.md").read_text(encoding="utf-8").split("```{glossary}")[1]
    terms = re.findall(r"^(\S.*)\n  \S", glossary, re.MULTILINE)
    text = " ".join(source(cell) for name in CHAPTERS for cell in NOTEBOOKS[name]["cells"]).lower()
    assert len(terms) > 20
    assert terms == sorted(terms, key=str.lower)
    assert [term for term in terms if term.lower() not in text] == []


def test_every_reference_leads_to_what_it_names():
    entries = re.split(r"^@", (BOOK / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [entry.splitlines()[0] for entry in entries if not re.search(r"^  (doi|url) *= \{\S+\}", entry, re.M)] == []
    # Whoever moves a page keeps its DOI; preprints have one, too.
    assert [entry.splitlines()[0] for entry in entries if re.search(r"arxiv\.org|^  eprint", entry, re.M)] == []


def test_every_reference_is_cited():
    keys = re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [source(cell) for name in CHAPTERS for cell in cells(name, "markdown")]
    texts += [path.read_text(encoding="utf-8") for path in BOOK.glob("*.md")]
    cited = {
        key.strip()
        for text in texts
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for key in group.split(",")
    }
    assert len(keys) == len(set(keys))
    assert set(keys) == cited


class TestCheckHtml:
    """The check that `make book` runs finds what it is there to find."""

    WORDS = "word " * check_html.FEWEST_WORDS

    def problems(self, folder: Path, pages: list[str] = ("index",), **files: str) -> list[str]:
        for name, text in files.items():
            (folder / f"{name}.html").write_text(text, encoding="utf-8")
        return check_html.check(folder, list(pages))

    def test_passes_a_sound_page(self, tmp_path):
        page = (
            f'<a href="#here">there</a><a href="https://example.org/">out</a><article id="here">{self.WORDS}</article>'
        )
        assert self.problems(tmp_path, index=page) == []

    def test_finds_a_missing_page(self, tmp_path):
        (problem,) = self.problems(tmp_path, ["index", "lost"], index=f"<article>{self.WORDS}</article>")
        assert problem == "lost.html: is in _toc.yml and was not rendered"

    def test_finds_an_empty_page(self, tmp_path):
        page = f"<nav>{self.WORDS}</nav><article><h1>Title</h1></article>"
        assert self.problems(tmp_path, index=page) == ["index.html: is as good as empty (1 words)"]

    @pytest.mark.parametrize(
        "tag",
        [
            '<script src="https://cdn.example.org/x.js"></script>',
            '<script src="//cdn.example.org/x.js"></script>',
            '<script>import("https://cdn.example.org/x.mjs")</script>',
            '<link rel="stylesheet" href="https://cdn.example.org/x.css">',
            '<link rel="preconnect" href="https://fonts.example.org">',
            '<img src="https://example.org/x.png">',
            '<img srcset="https://example.org/x.png 2x">',
            '<iframe src="https://example.org/"></iframe>',
            "<style>@import 'https://example.org/x.css';</style>",
            '<p style="background: url(https://example.org/x.png)">',
        ],
    )
    def test_finds_what_is_loaded_from_elsewhere(self, tmp_path, tag):
        problems = self.problems(tmp_path, index=f"{tag}<article>{self.WORDS}</article>")
        assert len(problems) == 1
        assert problems[0].endswith("from another machine")

    def test_finds_a_font_in_a_style_sheet(self, tmp_path):
        (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/x.woff2') }", encoding="utf-8")
        (problem,) = self.problems(tmp_path, index=f"<article>{self.WORDS}</article>")
        assert problem == "x.css: loads url('https://example.org/x.woff2 from another machine"

    @pytest.mark.parametrize("link", ["lost.html", "#lost", "other.html#lost", "images/lost.png"])
    def test_finds_a_link_that_leads_nowhere(self, tmp_path, link):
        page = f'<article><a href="{link}">x</a>{self.WORDS}</article>'
        (problem,) = self.problems(tmp_path, index=page, other="<p id='there'>")
        assert problem.startswith(f"index.html: {link} leads ")

    def test_finds_a_formula_that_is_not_stored(self, tmp_path):
        """Such a page loads MathJax, and passes the limit of a page's size."""
        (tmp_path / "_static" / "mathjax").mkdir(parents=True)
        (tmp_path / "_static" / "mathjax" / "startup.js").touch()
        page = f'<script src="_static/mathjax/startup.js?v=1"></script><article>{self.WORDS}</article>'
        (problem,) = self.problems(tmp_path, index=page)
        assert problem == "index.html: has a formula that is not stored; run `make formulas`"

    def test_finds_an_error_of_sphinx(self, tmp_path):
        page = f'<article><span class="problematic">{{ref}}`x`</span>{self.WORDS}</article>'
        (problem,) = self.problems(tmp_path, index=page)
        assert "error of Sphinx" in problem
