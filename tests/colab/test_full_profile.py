"""Every chapter that asks for its profile is run in the full one, so that the code behind it cannot rot.

With made-up images, tiny budgets and no network: tiny/sitecustomize.py says how. All cells of such a chapter are run,
exercises included; what they print and draw is not looked at. A chapter that never asks for its profile (02-shapes,
05-results, trainer) is the same in both, and nbval runs it. A reader who has a GPU mostly has it on Colab, so this is
done with the older of the versions that stand for Colab's, where they can be had.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # what pytest does by itself
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import chapters
import pytest
from environments import CHAPTERS, WITH_PROFILES, code_cells
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from alexnet_course.files import write_text

TINY = Path(__file__).resolve().parent / "tiny"
STORED = chapters.BOOK / "full_profile.json"


def does_without_a_download(cell: NotebookNode) -> bool:
    needs = any(part in cell.source for part in ("load_dataset(", 'start="imagenet"', "start, count"))
    return needs and all(part in cell.source for part in ("try:", "except CourseError"))


class Rehearsal(NamedTuple):
    """What came of a chapter."""

    said: str
    """What a reader would see of the first cell that fails; empty where none does."""
    runs: list[dict[str, Any]]
    """The runs that it makes, as book/full_profile.json has them: equal ones together, in a fixed order."""


def rehearse(chapter: str, python: Path, scratch: Path) -> Rehearsal:
    """From the first cell that can do without a download, the chapter is run once more without one."""
    cells = code_cells(chapter)
    again = next((index for index, cell in enumerate(cells) if does_without_a_download(cell)), len(cells))
    if again < len(cells):
        cells += [new_code_cell("sitecustomize.unplug()"), *code_cells(chapter)[again:]]
    work = scratch / "work"
    work.touch()
    said = chapters.failure(chapter, cells, python, scratch, TINY, {"ALEXNET_COURSE_TINY_WORK": str(work)})
    lines = Counter(work.read_text(encoding="utf-8").splitlines())
    return Rehearsal(said, [{"runs": lines[line], **json.loads(line)} for line in sorted(lines)])


@pytest.fixture(scope="module")
def rehearsals(
    request: pytest.FixtureRequest, oldest_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Rehearsal]]]:
    """Of each chapter that was asked for; two are run at a time."""
    asked_for = {item.callspec.params["chapter"] for item in request.session.items if item.path == Path(__file__)
                 and hasattr(item, "callspec")}  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(rehearse, name, oldest_python, tmp_path_factory.mktemp(name)) for name in asked_for}


@pytest.mark.parametrize("chapter", WITH_PROFILES)
def test_runs_in_the_full_profile(chapter: str, rehearsals: dict[str, Future[Rehearsal]]) -> None:
    said = rehearsals[chapter].result().said
    if said:
        pytest.fail(said, pytrace=False)


@pytest.mark.parametrize("chapter", WITH_PROFILES)
def test_costs_what_its_page_says(chapter: str, rehearsals: dict[str, Future[Rehearsal]]) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert stored[chapter] == rehearsals[chapter].result().runs, "python tests/colab/test_full_profile.py writes it"


def test_chapters_that_differ_are_among_them() -> None:
    """Whatever way a chapter asks for its profile or for CIFAR."""
    assert len(WITH_PROFILES) >= 5
    for name in set(CHAPTERS) - set(WITH_PROFILES):
        text = "".join(cell.source for cell in code_cells(name))
        assert not re.search(r"profile\(|load_dataset\(\"cifar", text), name


def test_no_other_chapter_has_a_cost() -> None:
    assert sorted(json.loads(STORED.read_text(encoding="utf-8"))) == WITH_PROFILES


def write() -> None:
    """Write what each chapter trains into book/full_profile.json."""
    found = {}
    for name in WITH_PROFILES:
        with tempfile.TemporaryDirectory() as scratch:
            said, found[name] = rehearse(name, Path(sys.executable), Path(scratch))
        if said:
            sys.exit(said)
    rows = {name: ",\n  ".join(map(json.dumps, runs)) for name, runs in found.items()}
    text = ",\n".join(f' "{name}": [\n  {row}\n ]' for name, row in rows.items())
    write_text(STORED, f"{{\n{text}\n}}\n")



if __name__ == "__main__":
    write()
