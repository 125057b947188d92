"""What of an exercise stands on a page of the book."""

import importlib.util
from pathlib import Path

import pytest

EXTENSION = Path(__file__).resolve().parents[1] / "book" / "_ext" / "exercises.py"


@pytest.fixture(scope="module")
def exercises():
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    spec = importlib.util.spec_from_file_location("exercises", EXTENSION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shortened(exercises, code: str, output: str, hide: str = "input"):
    """A cell as myst_nb makes it, after the extension has seen it."""
    from docutils import nodes

    prompts = {"hide_mode": hide, "prompt_show": "Show code cell source", "prompt_hide": "Hide code cell source"}
    cell = nodes.container("", nb_element="cell_code", **prompts)
    for element, text in (("cell_code_source", code), ("cell_code_output", output)):
        cell += nodes.container("", nodes.literal_block(text, text), nb_element=element)
    exercises.shorten(cell)
    return cell


def test_an_untouched_check_is_one_line_that_is_folded(exercises):
    cell = shortened(exercises, "def check_sum():\n    assert a == 2\n\n\nattempt(check_sum)", "not yet: a is empty")
    assert cell["prompt_show"] == "Show the check"
    assert cell["prompt_hide"] == "Hide the check"
    assert "not yet" not in cell.astext()
    assert "attempt(check_sum)" in cell.astext()


def test_what_a_solution_prints_stays(exercises):
    cell = shortened(exercises, "a = 2\nprint(a)\ncheck_sum()", "not yet: is only what it prints", hide="all")
    assert cell["prompt_show"] == "Show the solution in code"
    assert "is only what it prints" in cell.astext()


def test_other_cells_are_left_alone(exercises):
    cell = shortened(exercises, "print('not yet: ')", "not yet: ")
    assert cell["prompt_show"] == "Show code cell source"
    assert "not yet: " in cell.children[1].astext()
