"""Every chapter that asks for its profile is run in the full one, so that the code behind it cannot rot.

With made-up pictures, tiny budgets and no network: tiny/sitecustomize.py says how. All cells of such a chapter are run,
exercises included; what they print and draw is not looked at. A chapter that never asks for its profile (02-shapes,
05-results, trainer) is the same in both, and nbval runs it. A reader who has a GPU mostly has it on Colab, so this is
done with the older of the versions that stand for Colab's, where they can be had.
"""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import chapters
import pytest
from environments import CHAPTERS, WITH_PROFILES, code_cells
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

TINY = Path(__file__).resolve().parent / "tiny"


def does_without_a_download(cell: NotebookNode) -> bool:
    return all(part in cell.source for part in ("try:", "load_dataset(", "except CourseError"))


def failure(chapter: str, python: Path, scratch: Path) -> str:
    """What a reader would see of the first cell that fails; empty where none does.

    From the first cell that can do without a download, the chapter is run once more without one.
    """
    cells = code_cells(chapter)
    again = next((index for index, cell in enumerate(cells) if does_without_a_download(cell)), len(cells))
    if again < len(cells):
        cells += [new_code_cell("sitecustomize.unplug()"), *code_cells(chapter)[again:]]
    return chapters.failure(chapter, cells, python, scratch, TINY, {})


@pytest.fixture(scope="module")
def failures(
    request: pytest.FixtureRequest, oldest_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """Of each chapter that was asked for; two are run at a time."""
    asked_for = [item.callspec.params["chapter"] for item in request.session.items if item.path == Path(__file__)
                 and hasattr(item, "callspec")]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(failure, name, oldest_python, tmp_path_factory.mktemp(name)) for name in asked_for}


@pytest.mark.parametrize("chapter", WITH_PROFILES)
def test_runs_in_the_full_profile(chapter: str, failures: dict[str, Future[str]]) -> None:
    said = failures[chapter].result()
    if said:
        pytest.fail(said, pytrace=False)


def test_chapters_that_differ_are_among_them() -> None:
    """Whatever way a chapter asks for its profile or for CIFAR."""
    assert len(WITH_PROFILES) >= 5
    for name in set(CHAPTERS) - set(WITH_PROFILES):
        text = "".join(cell.source for cell in code_cells(name))
        assert not re.search(r"profile\(|load_dataset\(\"cifar", text), name
