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


def shortened(exercises, code: str, output: str):
    """A cell as myst_nb makes it, after the extension has seen it."""
    from docutils import nodes

    cell = nodes.container("", nb_element="cell_code")
    for element, text in (("cell_code_source", code), ("cell_code_output", output)):
        cell += nodes.container("", nodes.literal_block(text, text), nb_element=element)
    exercises.shorten(cell)
    return cell.astext()


CHECK = "def check_sum():\n    assert a == 2\n\n\nattempt(check_sum)"


def test_an_untouched_check_has_no_output(exercises):
    assert shortened(exercises, CHECK, "not yet: a is empty") == CHECK


@pytest.mark.parametrize(
    ("code", "output"),
    [(CHECK, "right"), ("a = 2\ncheck_sum()", "not yet: is only printed"), ("print('not yet: ')", "not yet: ")],
)
def test_other_outputs_stay(exercises, code, output):
    assert shortened(exercises, code, output).endswith(output)
