"""Every chapter that asks for its profile is run in the full one, so that the code behind it cannot rot.

With made-up pictures, tiny budgets and no network: tiny/sitecustomize.py says how. All cells of such a chapter are run,
exercises included; what they print and draw is not looked at. A chapter that never asks for its profile (02-shapes,
05-results, trainer) is the same in both, and nbval runs it.
"""

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from alexnet_course.notebook import PROFILE_VARIABLE
from alexnet_course.records.predictions import LABELS

BOOK = Path(__file__).resolve().parents[2] / "book"
TINY = Path(__file__).resolve().parent / "tiny"
NOBODY = "http://127.0.0.1:9"  # a proxy that is not there, so that nothing can be downloaded
# What Python says of an error in sitecustomize when it starts is easily overlooked.
AT_WORK = f"import sitecustomize\nassert sitecustomize.__file__.startswith({str(TINY)!r})"


def code_cells(chapter: str) -> list[NotebookNode]:
    notebook = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def does_without_a_download(cell: NotebookNode) -> bool:
    return all(part in cell.source for part in ("try:", "load_dataset(", "except CourseError"))


NAMES = sorted(path.stem for path in BOOK.glob("*.ipynb"))
CHAPTERS = [name for name in NAMES if any("profile()" in cell.source for cell in code_cells(name))]


def run(client: NotebookClient, cell: NotebookNode, chapter: str) -> None:
    """Fails the test with what a reader would see."""
    if cell.source.startswith("!"):  # IPython goes on whatever became of a command
        cell.source += '\nassert _exit_code == 0, "The command failed."'
    client.nb.cells.append(cell)
    try:
        client.execute_cell(cell, len(client.nb.cells) - 1)
    except (CellExecutionError, DeadKernelError) as error:
        said = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without colours
        pytest.fail(f"{chapter} does not run in the full profile, cell {cell.get('id')}:\n{said}", pytrace=False)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_runs_in_the_full_profile(chapter: str, tmp_path: Path) -> None:
    """And, from the first cell that can do without a download, once more without one."""
    labels = tmp_path / "labels"
    shutil.copytree(LABELS, labels)
    environment = os.environ | {
        PROFILE_VARIABLE: "full",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(TINY), os.environ.get("PYTHONPATH")])),
        "ALEXNET_COURSE_TINY_LABELS": str(labels),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",  # quicker: the batches are too small to be shared out
        "http_proxy": NOBODY,
        "https_proxy": NOBODY,
        "no_proxy": "",
    }
    cells = code_cells(chapter)
    again = next((place for place, cell in enumerate(cells) if does_without_a_download(cell)), len(cells))
    client = NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
        extra_arguments=["--log-level=ERROR"],
    )
    with client.setup_kernel(env=environment):
        run(client, nbformat.v4.new_code_cell(AT_WORK), chapter)
        for cell in cells:
            run(client, cell, chapter)
        if again < len(cells):
            run(client, nbformat.v4.new_code_cell("sitecustomize.unplug()"), chapter)
            for cell in code_cells(chapter)[again:]:
                run(client, cell, chapter)


def test_chapters_that_train_are_among_them() -> None:
    """Whatever a chapter asks for its profile by."""
    assert len(CHAPTERS) >= 5
    for name in set(NAMES) - set(CHAPTERS):
        text = "".join(cell.source for cell in code_cells(name))
        assert not re.search(r"\bprofile\b|\bcifar100?\b\"", text), name
