"""The directives ``{quiz} NAME`` and ``{before-you-start}`` of the chapters.

A quiz is a file ``book/quizzes/NAME.toml`` with five questions. On the page
they are plain HTML that can be read without scripts, with folded solutions;
``_static/quiz.js`` adds the controls for checking answers.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from string import ascii_lowercase
from typing import Annotated, Any, Self, TypeAlias

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from full_profile import MEASURED, RUNS, cost
from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from reading import SPEED, minutes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from alexnet_course.checked import Location, Part, sentence, wrong
from alexnet_course.records import NOT_MEASURED

QUESTIONS = 5  # in each quiz
FEWEST, MOST = 3, 5  # choices of a question


# --- The file: pure functions ------------------------------------------------


def _not_blank(text: str) -> str:
    if not text.strip():
        raise wrong("is blank; write something")
    return text


def _as_written(number: Any, check: Callable[[Any], float]) -> float:
    """A float, except that 3 stays 3 and does not become 3.0."""
    check(number)
    return number


Text: TypeAlias = Annotated[str, AfterValidator(_not_blank)]
Number: TypeAlias = Annotated[
    float, Field(strict=True), WrapValidator(_as_written)
]


class Answer(Part):
    """One answer, and why it is right or wrong. Text is inline Markdown."""

    why: Text
    right: Annotated[bool, Field(strict=True)] = False
    text: Text | None = None
    """The text of a choice; None if the question asks for a number."""
    number: Number | None = None
    """The number; None if the question has choices."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.text is None) == (self.number is None):
            raise ValueError("there must be a text or a number; write one")
        return self


class Question(Part):
    """One question, with choices or with a number as its answer."""

    text: Text
    answers: Annotated[
        tuple[Answer, ...],
        Field(
            min_length=1, description="each begins with [[question.answers]]"
        ),
    ]
    otherwise: Text | None = None
    """For numbers: the explanation of every number without its own."""
    unit: str = ""
    tolerance: Number = 0.0
    """The largest error of a number that counts as right."""
    computed: dict[str, str] = Field(default_factory=dict)
    """Numbers as printed, with the Python expressions that tests (and only
    tests) evaluate to check them."""

    @property
    def wants_number(self) -> bool:
        return self.answers[0].number is not None

    @model_validator(mode="after")
    def _can_be_answered(self) -> Self:
        right = sum(answer.right for answer in self.answers)
        if right != 1:
            raise ValueError(
                f"{right or 'none'} of the answers are right, but one must "
                "be; mark it with `right = true`"
            )
        if len({answer.number is None for answer in self.answers}) > 1:
            raise ValueError("all answers must be texts, or all numbers")
        if self.wants_number:
            self._check_numbers()
        elif not FEWEST <= len(self.answers) <= MOST:
            raise ValueError(
                f"there are {len(self.answers)} answers to choose from, but "
                f"there must be {FEWEST} to {MOST}"
            )
        elif self.otherwise or self.unit or self.tolerance:
            raise ValueError(
                "otherwise, unit and tolerance are for numbers; leave them out"
            )
        return self

    def _check_numbers(self) -> None:
        """Each number is computed, and can be distinguished from the others."""
        if not self.otherwise:
            raise ValueError("otherwise, for any other number, is missing")
        seen: list[float] = []
        for answer in self.answers:
            assert answer.number is not None
            if shown(answer.number) not in self.computed:
                raise ValueError(
                    f"{shown(answer.number)} has no expression that computes "
                    "it; add one to `computed`"
                )
            for other in seen:
                if abs(other - answer.number) <= 2 * self.tolerance:
                    raise ValueError(
                        f"{shown(other)} and {shown(answer.number)} are within "
                        "the tolerance of each other; make it smaller"
                    )
            seen.append(answer.number)


class Questions(Part):
    """The content of a quiz file."""

    question: Annotated[
        tuple[Question, ...],
        Field(
            min_length=QUESTIONS,
            max_length=QUESTIONS,
            description="each begins with [[question]]",
        ),
    ]


def read_quiz(path: Path) -> tuple[Question, ...]:
    """Read the questions from a file.

    Raises ExtensionError, with one sentence, if the file is not valid.
    """
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*")))
        raise ExtensionError(
            f"There is no quiz {path.stem!r}; write {path.name} or use one of "
            f"{known or 'none so far'}."
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Questions(**values).question
    except tomllib.TOMLDecodeError as error:
        raise ExtensionError(f"{path.name} is not TOML: {error}.") from error
    except ValidationError as error:

        def name(location: Location) -> str:
            return f"{path.name}{_name(location)}"

        found = sentence(error, Questions, "a quiz", name)
        raise ExtensionError(found) from error


def _name(location: Location) -> str:
    """``, question 1, answer b: why``."""
    text, rest = "", list(location)
    if rest[:1] == ["question"] and len(rest) > 1:
        text, rest = f", question {int(rest[1]) + 1}", rest[2:]
    if rest[:1] == ["answers"] and len(rest) > 1:
        text, rest = f"{text}, answer {ascii_lowercase[int(rest[1])]}", rest[2:]
    return f"{text}{': ' if rest else ''}{'/'.join(map(str, rest))}"


def shown(number: float) -> str:
    """A number in the book's format: 9,216 and 0.91."""
    return f"{number:,}"


def running_time(file: Path, page: str) -> str:
    """A sentence with the times of ``page``, measured and for reading."""
    here = colab = NOT_MEASURED
    if file.exists():
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row["Chapter"] == f"{{doc}}`{page}`":
                    here, colab = row["On your computer"], row["On Colab"]
    count = minutes(file.parent, page)
    return (
        f"About {count} minute{'s' if count > 1 else ''} of reading (computed "
        f"from the words at {SPEED} a minute, code and exercises apart). All "
        f"cells together: {here} on your computer, with the doodles; {colab} "
        "on Colab."
    )


# --- The page ----------------------------------------------------------------


class Tag(nodes.General, nodes.Element):
    """An HTML element; in other formats, only its content."""


def tag(
    kind: str, /, *children: nodes.Node, css: str = "", **attributes: str
) -> Tag:
    """Make a tag; ``css`` is its class, and ``_`` in attributes means ``-``."""
    named = {key.replace("_", "-"): value for key, value in attributes.items()}
    return Tag("", *children, tag=kind, attributes=named, classes=css.split())


def visit_html(self: Any, node: Tag) -> None:
    given = {"class": " ".join(node["classes"])} | node["attributes"]
    words = [f' {key}="{escape(given[key])}"' for key in given if given[key]]
    self.body.append(f"<{node['tag']}{''.join(words)}>")


def depart_html(self: Any, node: Tag) -> None:
    if node["tag"] != "input":
        self.body.append(f"</{node['tag']}>")


def visit_other(self: Any, node: Tag) -> None:
    pass


def depart_latex(self: Any, node: Tag) -> None:
    if node["tag"] in ("legend", "label", "summary", "li"):
        self.body.append("\n\n")


class Quiz(SphinxDirective):
    """``{quiz} NAME``: the questions of ``quizzes/NAME.toml``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        path = Path(self.env.srcdir, "quizzes", f"{name}.toml")
        self.env.note_dependency(str(path))
        children: list[nodes.Node] = []
        for number, question in enumerate(read_quiz(path), start=1):
            field = f"quiz-{name}-{number}"
            children += [
                self.question(question, number, field),
                self.solution(question, number),
            ]
        return [tag("div", *children, css="quiz")]

    def inline(self, text: str, css: str = "quiz-text") -> nodes.inline:
        """Inline Markdown in a span."""
        found, messages = self.state.inline_text(text, self.lineno)
        return nodes.inline("", "", *found, *messages, classes=[css])

    def question(self, question: Question, number: int, field: str) -> Tag:
        heading = nodes.strong("", f"Question {number} of {QUESTIONS}. ")
        legend = tag("legend", heading, self.inline(question.text))
        if question.wants_number:
            kind = {"data_tolerance": str(question.tolerance)}
            rows = [self.number_field(question, field)]
        else:
            kind = {}
            rows = [
                self.choice(answer, letter, field)
                for letter, answer in letters(question)
            ]
        return tag("fieldset", legend, *rows, css="quiz-question", **kind)

    def choice(self, answer: Answer, letter: str, field: str) -> Tag:
        here = f"{field}-{letter}"
        button = tag("input", type="radio", name=field, id=here, value=letter)
        text = self.inline(answer.text or "")
        label = tag("label", nodes.inline("", f"({letter}) "), text)
        label["attributes"]["for"] = here
        return tag("div", button, label, css="quiz-answer")

    def number_field(self, question: Question, field: str) -> Tag:
        unit = f" ({question.unit})" if question.unit else ""
        label = tag("label", nodes.Text(f"Your answer{unit}: "))
        label["attributes"]["for"] = field
        entry = tag(
            "input",
            type="text",
            inputmode="decimal",
            autocomplete="off",
            id=field,
        )
        return tag("div", label, entry, css="quiz-answer")

    def solution(self, question: Question, number: int) -> Tag:
        """Each answer with its explanation, which the script also reads."""
        rows = []
        for letter, answer in letters(question):
            if answer.number is None:
                name, key = f"({letter})", {"data_answer": letter}
            else:
                name, key = (
                    shown(answer.number),
                    {"data_answer": str(answer.number)},
                )
            rows.append(self.explanation(name, answer.right, answer.why, key))
        if question.otherwise:
            why = question.otherwise
            rows.append(self.explanation("Any other number", False, why, {}))
        summary = tag("summary", nodes.Text(f"Solution of question {number}"))
        return tag("details", summary, tag("ul", *rows), css="quiz-solution")

    def explanation(
        self, name: str, right: bool, why: str, key: dict[str, str]
    ) -> Tag:
        """A list item: "(b) is right: ..."."""
        verdict = nodes.strong(
            "", f"{name} is {'right' if right else 'wrong'}: "
        )
        mark = {"data_right": "yes"} if right else {}
        text = self.inline(why, "quiz-why")
        return tag("li", verdict, text, **key, **mark)


def letters(question: Question) -> Iterable[tuple[str, Answer]]:
    return zip(ascii_lowercase, question.answers, strict=False)


class BeforeYouStart(SphinxDirective):
    """``{before-you-start}``: a page's prerequisites, goals and time.

    The option ``needs`` is inline Markdown, the body a list of what the
    reader will be able to do. The time comes from ``timings.csv``, and the
    time on a GPU from ``full_profile.py``.
    """

    has_content = True
    option_spec = {"needs": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        needs = self.options.get("needs")
        if not needs or not "".join(self.content).strip():
            raise ExtensionError(
                f"before-you-start in {self.env.docname} is incomplete: write "
                ":needs: and, below it, a list of what the reader will be able "
                "to do."
            )
        timings = Path(self.env.srcdir, "timings.csv")
        self.env.note_dependency(str(timings))
        goals = nodes.definition()
        self.state.nested_parse(
            StringList(self.content), self.content_offset, goals
        )
        wanted, messages = self.state.inline_text(needs, self.lineno)
        time = nodes.Text(running_time(timings, self.env.docname))
        rows = {
            "What you need": paragraph(*wanted, *messages),
            "What you will be able to do": goals,
            "Time": paragraph(time),
        }
        for name in (RUNS, MEASURED):
            self.env.note_dependency(str(Path(self.env.srcdir, name)))
        if full := cost(Path(self.env.srcdir), self.env.docname):
            rows["Time in full, on a GPU"] = paragraph(nodes.Text(full))
        items = [
            nodes.definition_list_item("", nodes.term("", head), body)
            for head, body in rows.items()
        ]
        box = nodes.admonition(classes=["before-you-start"])
        box += [
            nodes.title("", "Before you start"),
            nodes.definition_list("", *items),
        ]
        return [box]


def paragraph(*children: nodes.Node) -> nodes.definition:
    return nodes.definition("", nodes.paragraph("", "", *children))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(
        Tag,
        html=(visit_html, depart_html),
        latex=(visit_other, depart_latex),
    )
    app.add_directive("quiz", Quiz)
    app.add_directive("before-you-start", BeforeYouStart)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
