"""The quizzes at the end of the chapters, answered by a reader: with the mouse, with keys alone, rightly and wrongly.

Chapter 2 has both kinds of question: the first asks for a number, the second to choose.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

QUIZZES = Path(__file__).resolve().parents[2] / "book" / "quizzes"
CHAPTER = "02-shapes"
NUMBER, CHOICE = 0, 1  # indices of the two questions
ANSWERED = """() => document.querySelectorAll("input:checked").length
  + [...document.querySelectorAll(".quiz input[type=text]")].filter((field) => field.value).length"""


def questions(chapter: str) -> list[dict[str, Any]]:
    return tomllib.loads((QUIZZES / f"{chapter}.toml").read_text(encoding="utf-8"))["question"]


def of(question: dict[str, Any], right: bool) -> tuple[int, dict[str, Any]]:
    """Place and content of the right answer of a question, or of its first wrong one."""
    return next(
        (index, each) for index, each in enumerate(question["answers"]) if each.get("right", False) == right
    )  # fmt: skip


def fieldset(page: Page, index: int) -> Locator:
    return page.locator(".quiz fieldset").nth(index)


def check(page: Page, index: int) -> str:
    """Press the button of a question; what the verdict says then."""
    fieldset(page, index).get_by_role("button", name="Check").click()
    return verdict(page, index)


def verdict(page: Page, index: int) -> str:
    return " ".join(fieldset(page, index).get_by_role("status").inner_text().split())


def answer(page: Page, index: int, right: bool, chapter: str = CHAPTER) -> str:
    """Give the right or a wrong answer to a question and check it."""
    question = questions(chapter)[index]
    which, chosen = of(question, right)
    if "number" in chosen:
        fieldset(page, index).get_by_label("Your answer").fill(str(chosen["number"]))
    else:
        fieldset(page, index).get_by_role("radio").nth(which).check()
    return check(page, index)


def count(page: Page) -> str:
    return page.locator(".quiz-count").inner_text()


def plain(text: str) -> str:
    """The words of an explanation up to the first mark-up."""
    return text.split("$")[0].split("*")[0].split("`")[0].strip()


@pytest.fixture
def quiz(page: Page) -> Page:
    page.goto(f"{CHAPTER}.html")
    assert len(questions(CHAPTER)) == fieldset(page, 0).locator("xpath=..").locator("fieldset").count()
    return page


def test_a_wrong_answer_is_called_wrong_and_says_why(quiz):
    said = answer(quiz, CHOICE, right=False)
    assert said.startswith("✗ Not right. ")
    assert plain(of(questions(CHAPTER)[CHOICE], right=False)[1]["why"]) in said
    assert count(quiz) == "0 of 5 right, 4 to go"


def test_a_right_answer_is_called_right_and_says_why(quiz):
    said = answer(quiz, CHOICE, right=True)
    assert said.startswith("✓ Right. ")
    assert plain(of(questions(CHAPTER)[CHOICE], right=True)[1]["why"]) in said
    assert count(quiz) == "1 of 5 right, 4 to go"


def test_nothing_chosen_is_no_wrong_answer(quiz):
    assert check(quiz, CHOICE) == "Choose an answer first."
    assert check(quiz, NUMBER).startswith("Write a number first")
    assert count(quiz) == ""


def test_a_verdict_does_not_stay_beside_another_answer(quiz):
    answer(quiz, CHOICE, right=True)
    wrong, _ = of(questions(CHAPTER)[CHOICE], right=False)
    fieldset(quiz, CHOICE).get_by_role("radio").nth(wrong).check()
    assert verdict(quiz, CHOICE) == ""
    assert count(quiz) == ""


def test_a_number_is_compared_as_a_number(quiz):
    field = fieldset(quiz, NUMBER).get_by_label("Your answer")
    right = of(questions(CHAPTER)[NUMBER], right=True)[1]["number"]
    slip = of(questions(CHAPTER)[NUMBER], right=False)[1]
    for written in (f"{right}", f" {right}.0 ", f"{right},0"):
        field.fill(written)
        assert check(quiz, NUMBER).startswith("✓ Right. "), written
    field.fill(str(slip["number"]))
    assert plain(slip["why"]) in check(quiz, NUMBER)
    field.fill("123456")
    assert plain(questions(CHAPTER)[NUMBER]["otherwise"]) in check(quiz, NUMBER)
    field.fill("many")
    assert check(quiz, NUMBER).startswith("Write a number first")


def test_thousands_may_be_grouped_and_a_tolerance_is_kept(page):
    page.goto("01-paper.html")
    chapter = questions("01-paper")
    numbers = [index for index, each in enumerate(chapter) if "otherwise" in each]
    large, rounded = sorted(numbers, key=lambda index: -of(chapter[index], right=True)[1]["number"])
    right = of(chapter[large], right=True)[1]["number"]
    for written in (f"{right:,}", f"{right:,}".replace(",", " ")):
        fieldset(page, large).get_by_label("Your answer").fill(written)
        assert check(page, large).startswith("✓ Right. "), written
    right, reach = of(chapter[rounded], right=True)[1]["number"], chapter[rounded]["tolerance"]
    for off, sign in ((0.9, "✓"), (-0.9, "✓"), (1.5, "✗")):
        fieldset(page, rounded).get_by_label("Your answer").fill(f"{right + off * reach:.5f}")
        assert check(page, rounded).startswith(sign), off


@pytest.mark.parametrize(
    ("chapter", "index", "written", "sign"),
    [
        ("04-batch-norm", 3, "0,028", "✓"),
        ("your-result", 2, "0,031", "✓"),
        ("01-paper", 4, "0,910", "✓"),
        ("01-paper", 4, "910", "✗"),
        ("mistakes", 1, "4,985", "✓"),
        ("mistakes", 1, "4985", "✗"),
        ("mistakes", 3, "2,500", "✓"),
    ],
)
def test_a_comma_may_be_a_decimal_point(page, chapter, index, written, sign):
    page.goto(f"{chapter}.html")
    fieldset(page, index).get_by_label("Your answer").fill(written)
    assert check(page, index).startswith(sign)


@pytest.mark.parametrize("chapter", sorted(path.stem for path in QUIZZES.glob("*.toml")))
def test_all_right_answers_count(page, chapter):
    page.goto(f"{chapter}.html")
    for index in range(5):
        assert answer(page, index, right=True, chapter=chapter).startswith("✓ Right. ")
    assert count(page) == "5 of 5 right"


def test_try_again_starts_from_the_beginning(quiz):
    again = quiz.get_by_role("button", name="Try again")
    assert again.is_hidden()
    for index in range(5):
        answer(quiz, index, right=index < 3)
    assert count(quiz) == "3 of 5 right"
    quiz.get_by_text("Solution of question 1").click()
    again.click()
    assert count(quiz) == ""
    assert [verdict(quiz, index) for index in range(5)] == [""] * 5
    assert quiz.evaluate(ANSWERED) == 0
    assert quiz.locator(".quiz details[open]").count() == 0
    assert quiz.evaluate("document.activeElement.closest('fieldset').matches('.quiz fieldset:first-child')")
    assert again.is_hidden()


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until what has the focus fits; formulas on the way may have it, too."""
    for _ in range(15):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not lead to {selector}")


def test_keys_alone_suffice(quiz):
    fieldset(quiz, NUMBER).get_by_label("Your answer").focus()
    quiz.keyboard.type(str(of(questions(CHAPTER)[NUMBER], right=True)[1]["number"]))
    quiz.keyboard.press("Enter")
    assert verdict(quiz, NUMBER).startswith("✓ Right. ")

    tab_to(quiz, "[aria-label='Check question 1 of 5']")
    assert quiz.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    tab_to(quiz, ".quiz summary")
    quiz.keyboard.press("Enter")
    assert quiz.locator(".quiz details").first.evaluate("details => details.open")

    tab_to(quiz, "input[type=radio]")
    quiz.keyboard.press("Space")  # the first answer
    for _ in range(of(questions(CHAPTER)[CHOICE], right=True)[0]):
        quiz.keyboard.press("ArrowDown")
    tab_to(quiz, "[aria-label='Check question 2 of 5']")
    quiz.keyboard.press("Space")
    assert verdict(quiz, CHOICE).startswith("✓ Right. ")


def test_a_file_opened_without_a_server_does_the_same(browser, book):
    context = browser.new_context()
    page = context.new_page()
    page.goto((book / f"{CHAPTER}.html").as_uri(), wait_until="domcontentloaded")
    assert answer(page, CHOICE, right=True).startswith("✓ Right. ")
    context.close()


def test_without_javascript_there_is_nothing_to_press_and_all_to_read(browser, book):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((book / f"{CHAPTER}.html").as_uri(), wait_until="domcontentloaded")
    assert page.locator(".quiz button").count() == 0
    assert page.locator(".quiz details").count() == 5
    page.locator(".quiz summary").nth(CHOICE).click()
    assert plain(of(questions(CHAPTER)[CHOICE], right=True)[1]["why"]) in page.locator(".quiz").inner_text()
    context.close()


def test_on_paper_there_are_answers_and_solutions_and_no_buttons(quiz):
    quiz.emulate_media(media="print")
    assert quiz.locator(".quiz button:visible").count() == 0
    solution = quiz.locator(".quiz .quiz-solution").nth(CHOICE).locator("li").first
    assert solution.evaluate("item => item.checkVisibility({contentVisibilityAuto: true}) && item.offsetHeight > 0")


def test_a_page_without_a_quiz_is_left_alone(page):
    page.goto("glossary.html")
    assert page.locator("fieldset, .quiz, .quiz-bar").count() == 0
