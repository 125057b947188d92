"""The quizzes and the boxes at the top of a page: their files, their numbers, and their HTML without JavaScript."""

import csv
import importlib.util
import json
import math
import re
import shutil
import statistics
import sys
from html.parser import HTMLParser
from pathlib import Path

import check_html
import numpy as np
import pytest
import torch
from torch import nn

from alexnet_course import build_model, conv_output_size, layer_table
from alexnet_course.models import MODELS
from alexnet_course.results.compare import mcnemar, paired_over_seeds
from alexnet_course.training import wilson_interval

BOOK = Path(__file__).resolve().parents[1] / "book"
QUIZZES = sorted(path.stem for path in (BOOK / "quizzes").glob("*.toml"))
PAGES = [page for page in check_html.toc_pages() if (BOOK / f"{page}.ipynb").exists()]
NUMBER = re.compile(r"(?<![\w.,^{])\d+(?:,\d{3})*(?:\.\d+)?")

each_quiz = pytest.mark.parametrize("name", QUIZZES)


@pytest.fixture(scope="module")
def quiz():
    pytest.importorskip("myst_parser", reason="the book's tools are not installed")
    spec = importlib.util.spec_from_file_location("quiz", BOOK / "_ext" / "quiz.py")
    module = sys.modules["quiz"] = importlib.util.module_from_spec(spec)  # dataclasses and Sphinx look there
    spec.loader.exec_module(module)
    return module


def markdown_cells(page: str) -> list[str]:
    cells = json.loads((BOOK / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


# --- What is asked ---


def layers(network: str) -> list:
    """The layers of a network that have parameters."""
    spec = MODELS[network]
    model = build_model(network, num_classes=spec.num_classes)
    return [row for row in layer_table(model, spec.input_size) if row.parameters]


def field(*stack: nn.Module) -> int:
    """The receptive field, in pixels, of the last of these layers."""
    return layer_table(nn.Sequential(*stack), (3, 32, 32))[-1].receptive_field


def mcnemar_p(first_alone: int, second_alone: int) -> float:
    counts = (first_alone, second_alone)
    return mcnemar(np.repeat([True, False], counts), np.repeat([False, True], counts)).p


KNOWN = {
    "math": math, "nn": nn, "MODELS": MODELS, "conv_output_size": conv_output_size, "field": field,
    "layers": layers, "wilson_interval": wilson_interval, "mcnemar_p": mcnemar_p,
    "paired_over_seeds": paired_over_seeds, "statistics": statistics,
}  # fmt: skip


def texts(question) -> list[str]:
    """What is said besides the question itself."""
    return [question.otherwise or ""] + [
        part for answer in question.answers for part in (answer.text or "", answer.why)
    ]


def test_each_notebook_has_a_box_and_at_its_end_a_quiz():
    assert sorted(PAGES) == QUIZZES
    assert len(PAGES) >= 8
    for page in PAGES:
        cells = markdown_cells(page)
        assert cells[1].startswith("```{before-you-start}\n:needs: "), page
        assert sum("{before-you-start}" in cell for cell in cells) == 1
        assert [cell for cell in cells if "```{quiz}" in cell] == cells[-1:], page
        assert cells[-1].startswith("## Check yourself\n\nFive questions on what the "), page
        assert f"```{{quiz}} {page}\n" in cells[-1]


@each_quiz
def test_numbers_are_those_that_the_package_computes(quiz, name):
    for question in quiz.read_quiz(BOOK / "quizzes" / f"{name}.toml"):
        for printed, expression in question.computed.items():
            with torch.device("meta"):  # networks without memory
                value = eval(expression, dict(KNOWN))
            decimals = len(printed.partition(".")[2])
            assert f"{value:,.{decimals}f}" == printed, f"{question.text}: {expression}"


@each_quiz
def test_no_number_is_typed_unchecked(quiz, name):
    """A figure in an answer is computed, or given in the question. (Numbers of one or two digits are settings.)"""
    for question in quiz.read_quiz(BOOK / "quizzes" / f"{name}.toml"):
        given = set(NUMBER.findall(question.text)) | set(question.computed)
        for text in texts(question):
            unchecked = {figure for figure in set(NUMBER.findall(text)) - given if len(figure) > 2}
            assert not unchecked, text


@each_quiz
def test_computed_numbers_are_printed(quiz, name):
    for question in quiz.read_quiz(BOOK / "quizzes" / f"{name}.toml"):
        printed = {quiz.shown(answer.number) for answer in question.answers if question.wants_number}
        words = " ".join([question.text, question.unit, *texts(question)])
        for number in question.computed:
            assert number in printed or re.search(rf"(?<![\d.,]){re.escape(number)}(?!\d)", words), number


def test_the_right_answer_has_no_favourite_position(quiz):
    positions = [
        [answer.right for answer in question.answers].index(True)
        for name in QUIZZES
        for question in quiz.read_quiz(BOOK / "quizzes" / f"{name}.toml")
        if not question.wants_number
    ]
    assert len(positions) >= 15
    assert set(positions) == {0, 1, 2, 3}
    assert max(positions.count(position) for position in set(positions)) <= len(positions) / 2


# --- Files that are refused ---

CHOICE = """
[[question]]
text = "What is $1 + 1$?"
[[question.answers]]
text = "two"
right = true
why = "One and one more."
[[question.answers]]
text = "three"
why = "One too many."
[[question.answers]]
text = "`one` & not 2 < 1"
why = "One too *few*."
"""
WANTED = """
[[question]]
text = "What is a thousand and a half?"
unit = "things"
tolerance = 0.1
otherwise = "Add a half."
[question.computed]
"1,000.5" = "1000 + 0.5"
"1,000" = "10**3"
[[question.answers]]
number = 1000.5
right = true
why = "So it is."
[[question.answers]]
number = 1000
why = "The half is missing."
"""
SOUND = CHOICE * 4 + WANTED


def test_a_sound_file_is_read(quiz, tmp_path):
    (tmp_path / "sums.toml").write_text(SOUND, encoding="utf-8")
    questions = quiz.read_quiz(tmp_path / "sums.toml")
    assert [question.wants_number for question in questions] == [False] * 4 + [True]
    assert questions[0].answers[1] == quiz.Answer(text="three", why="One too many.")
    assert (questions[4].tolerance, questions[4].answers[1].number) == (0.1, 1000)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("right = true\nwhy = \"One and", "why = \"One and", "1: none of the answers are right, but one must be;"),
        ("why = \"One too many", "right = true\nwhy = \"One too many", "question 1: 2 of the answers are right"),
        ("why = \"One too many.\"", "", "question 1, answer b: why is missing."),
        ("why = \"One too many.\"", "why = \" \"", "question 1, answer b: why = ' ' is blank; write something."),
        ("why = \"One too many.\"", "why = 3", "1, answer b: why = 3 has the wrong type; give a string in quotes."),
        ("text = \"three\"", "", "question 1, answer b: there must be a text or a number; write one."),
        ("text = \"three\"", "texts = \"three\"", "'texts' is not a key of sums.toml, question 1, answer b; nearest"),
        ("text = \"What is $1", "unit = \"m\"\ntext = \"What is $1", "1: otherwise, unit and tolerance are for num"),
        ("text = \"What is $1 + 1$?\"", "", "question 1: text is missing."),
        (CHOICE[CHOICE.index("[[question.answers]]"):], "", "question 1: answers is missing; each begins with [["),
        (CHOICE[CHOICE.rindex("[[question.answers]]"):], "", "1: there are 2 answers to choose from"),
        (CHOICE, "", "sums.toml: question has 4 entries, but at least 5 are needed; each begins with [["),
        (SOUND, "", "sums.toml: question is missing; each begins with [[question]]."),
        (SOUND, "question = 3", "sums.toml: question = 3 has the wrong type; give a list."),
        ("[[question]]", "[[question", "sums.toml is not TOML: "),
        ("otherwise = \"Add a half.\"", "", "question 5: otherwise, for any other number, is missing."),
        ("\"1,000\" = \"10**3\"", "", "question 5: 1,000 has no expression that computes it; add one to `computed`."),
        ("tolerance = 0.1", "tolerance = 1", "1,000.5 and 1,000 are within the tolerance of each other"),
        ("tolerance = 0.1", "tolerance = true", "5: tolerance = True has the wrong type; give a finite number."),
        ("number = 1000.5", "number = inf", "5, answer a: number = inf has the wrong type; give a finite"),
        ("number = 1000.5", "text = \"1,000.5\"", "question 5: all answers must be texts, or all numbers."),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_a_sentence(quiz, tmp_path, old, new, sentence):
    assert old in SOUND
    (tmp_path / "sums.toml").write_text(SOUND.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(Exception, match=re.escape(sentence)) as caught:
        quiz.read_quiz(tmp_path / "sums.toml")
    assert type(caught.value).__name__ == "ExtensionError"
    assert "sums.toml" in str(caught.value)


def test_a_missing_file_is_refused_with_the_names_of_the_others(quiz):
    with pytest.raises(Exception, match=r"There is no quiz '06'; write 06\.toml or use one of 01-paper, 02-shapes"):
        quiz.read_quiz(BOOK / "quizzes" / "06.toml")


# --- The page ---

PAGE = """\
# Sums

```{before-you-start}
:needs: Ten *fingers*, and `two` hands: no more.

- add up small numbers,
- know when to stop.
```

```{quiz} sums
```
"""
TIMINGS = 'Chapter,On your computer,On Colab\n{doc}`sums`,3 s,not measured\nmeasured on,"A, 2 cores",not measured\n'


@pytest.fixture(scope="module")
def source(quiz, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "quizzes").mkdir()
    (folder / "quizzes" / "sums.toml").write_text(SOUND, encoding="utf-8")
    (folder / "timings.csv").write_text(TIMINGS, encoding="utf-8")
    (folder / "sums.md").write_text(PAGE, encoding="utf-8")
    return folder


def build(source: Path, builder: str = "html") -> Path:
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    out = source / "_build" / builder
    settings = {
        "extensions": ["myst_parser", "quiz"],
        "root_doc": "sums",
        "myst_enable_extensions": ["dollarmath"],
        "html_theme": "basic",
    }
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            str(source), None, str(out), str(out / "doctrees"), builder, settings, status=None, freshenv=True,
            warningiserror=True,
        )  # fmt: skip
        app.build()
    return out


@pytest.fixture(scope="module")
def html(source) -> str:
    return (build(source) / "sums.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Start tags with their attributes, in order, and whether they are closed in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("input", "link", "meta"):  # which have no end
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_html_is_complete_without_javascript(html):
    page = Elements(html)
    assert page.open == []
    assert len(page.all("fieldset")) == len(page.all("legend")) == len(page.all("details")) == 5
    assert not any("open" in attributes for attributes in page.all("details"))

    inputs = [attributes for attributes in page.all("input") if attributes.get("id", "").startswith("quiz-")]
    radios = [attributes for attributes in inputs if attributes["type"] == "radio"]
    assert len(radios) == 4 * 3
    assert {attributes["name"] for attributes in radios} == {f"quiz-sums-{number}" for number in range(1, 5)}
    assert [attributes["id"] for attributes in radios[:3]] == ["quiz-sums-1-a", "quiz-sums-1-b", "quiz-sums-1-c"]
    (entry,) = [attributes for attributes in inputs if attributes["type"] == "text"]
    assert entry["inputmode"] == "decimal"
    labelled = [attributes.get("for") for attributes in page.all("label")]
    assert [attributes["id"] for attributes in inputs] == [name for name in labelled if name]

    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    for said in (
        "Question 1 of 5. What is \\(1 + 1\\)?", "(c) one &amp; not 2 &lt; 1", "Solution of question 1",
        "(a) is right: One and one more.", "(c) is wrong: One too few.", "Your answer (things):",
        "1,000.5 is right: So it is.", "1,000 is wrong: The half is missing.", "Any other number is wrong: Add a half.",
    ):  # fmt: skip
        assert said in text, said
    assert "<em>few</em>" in html
    assert "<button" not in html.partition('<div class="quiz">')[2].partition("</details></div>")[0]


def test_what_the_script_needs_is_in_the_html(html):
    page = Elements(html)
    items = [attributes for attributes in page.all("li") if "data-answer" in attributes]
    assert [attributes["data-answer"] for attributes in items[:3]] == ["a", "b", "c"]
    assert ["data-right" in attributes for attributes in items] == [True, False, False] * 4 + [True, False]
    assert [attributes["data-answer"] for attributes in items[-2:]] == ["1000.5", "1000"]
    tolerances = [attributes.get("data-tolerance") for attributes in page.all("fieldset")]
    assert tolerances == [None] * 4 + ["0.1"]


def test_the_box_says_needs_goals_and_time(html):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.partition("before-you-start")[2]))
    for said in (
        "Before you start", "What you need Ten fingers , and two hands: no more.", "add up small numbers,",
        "Time About 1 minute of reading (computed from the words at 200 a minute, code and exercises apart). "
        "All cells together: 3 s on your computer, with the doodles; not measured on Colab.",
    ):  # fmt: skip
        assert said in text, said


def test_a_book_made_with_latex_lists_the_answers(source):
    latex = next(build(source, "latex").glob("*.tex")).read_text(encoding="utf-8")
    assert re.search(r"\(b\).*three\}\n\n", latex)
    assert re.search(r"is wrong:.*One too many\.\}\n\n", latex)


def test_a_bad_quiz_stops_the_build(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "book", ignore=shutil.ignore_patterns("_build"))
    (copy / "quizzes" / "sums.toml").write_text(CHOICE * 4, encoding="utf-8")
    with pytest.raises(Exception, match=r"sums\.toml: question has 4 entries, but at least 5 are needed"):
        build(copy)


def test_a_box_without_needs_stops_the_build(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "book", ignore=shutil.ignore_patterns("_build"))
    (copy / "sums.md").write_text("# Sums\n\n```{before-you-start}\n- add\n```\n", encoding="utf-8")
    with pytest.raises(Exception, match="before-you-start in sums is incomplete: write :needs:"):
        build(copy)


def test_times_come_from_the_file(quiz):
    with (BOOK / "timings.csv").open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["Chapter"] == "{doc}`02-shapes`"]
    sentence = quiz.running_time(BOOK / "timings.csv", "02-shapes")
    assert f"{row['On your computer']} on your computer" in sentence
    assert f"{row['On Colab']} on Colab" in sentence
    assert "not measured on your computer" in quiz.running_time(BOOK / "no-such.csv", "02-shapes")


def test_reading_minutes_are_those_of_the_text(quiz, tmp_path):
    """Of 1,000 words and a formula; exercises, their solutions, code and directives' fences do not count."""
    texts = [
        "word " * 800,
        "```{admonition} Note\n:class: tip\n" + "$x$ is 9,216. " * 66 + "\n```",
        "$$\n" + "x " * 900 + "$$",
    ]
    exercises = [
        "```{admonition} Exercise 1\n:class: exercise\n" + "word " * 900,
        "```{dropdown} Solution\n" + "word " * 900,
    ]
    cells = [{"cell_type": "markdown", "source": [text]} for text in [*texts, *exercises]]
    cells.append({"cell_type": "code", "source": ["x = 1\n" * 900]})
    (tmp_path / "sums.ipynb").write_text(json.dumps({"cells": cells}))
    assert quiz.running_time(tmp_path / "timings.csv", "sums").startswith("About 5 minutes of reading (computed from ")


# --- Notation ---


def symbols(text: str) -> set[str]:
    """Letters and Greek letters in the mathematics of a text."""
    found = set()
    formulas = r"```\{math\}(.*?)```|\$\$(.*?)\$\$|(?<![$\\])\$([^$]+?)\$(?!\$)"
    for block, display, inline in re.findall(formulas, text, re.DOTALL):
        maths = re.sub(r":label:.*|\\text\{[^}]*\}|_\\text\w+|\\(?:begin|end)\{\w+\}", " ", block + display + inline)
        found |= set(re.findall(r"\\(?:alpha|beta|gamma|epsilon|varepsilon|eta|lambda|mu|sigma)\b", maths))
        found |= set(re.findall(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])", re.sub(r"\\[A-Za-z]+", " ", maths)))
    return found


def test_the_notation_page_has_every_symbol():
    listed = symbols((BOOK / "notation.md").read_text(encoding="utf-8"))
    for page in PAGES:
        used = set().union(*map(symbols, markdown_cells(page)))
        assert used <= listed, page
    assert {"\\varepsilon", "r", "M", "K"} <= listed


def test_symbols_are_found():
    assert symbols(r"With $C_\text{in}/g$ and $$\lfloor n_\text{out} \rfloor \cdot \mu^2$$, 5 $") == {
        "C",
        "g",
        "n",
        r"\mu",
    }
