"""Every chapter in the profile that a reader with Colab's T4 gets.

With made-up images and tiny budgets, in processes of their own; start/sitecustomize.py puts the card there.
"""

import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from chapters import BOOK, failure
from nbformat.v4 import new_code_cell

START = Path(__file__).resolve().parent / "start"
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb"))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_on_a_gpu(chapter: str, tmp_path: Path) -> None:
    notebook = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = failure(chapter, cells, Path(sys.executable), tmp_path, START, {"ALEXNET_COURSE_EMULATED": "T4"})
    if said:
        pytest.fail(said, pytrace=False)


def test_the_kernel_of_a_chapter_ends_with_it(tmp_path: Path) -> None:
    """Eight kernels with a chapter each would fill the memory of a small machine."""
    cell = new_code_cell(f"import os, pathlib\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))")
    assert not failure("none", [cell], Path(sys.executable), tmp_path, START, {"ALEXNET_COURSE_EMULATED": "T4"})
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
