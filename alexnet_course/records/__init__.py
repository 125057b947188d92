"""Finished runs, one JSON file each. Every result of the course comes from one of them."""

from __future__ import annotations

import glob
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_course.errors import CourseError
from alexnet_course.names import same_form

if TYPE_CHECKING:
    from alexnet_course.records.record import Record

FOLDER = Path(__file__).parent
RECORD, PREDICTIONS, WEIGHTS = "record.json", "predictions.npy", "weights.safetensors"  # of a run, in its folder
NOT_MEASURED = "not measured"  # shown wherever a run has no record


def load_records(folder: str | Path = FOLDER, pattern: str = "*") -> list[Record]:
    """Every record in ``folder`` (by default the package's own) whose file name matches ``pattern.json``, by name.

    Raises ``CourseError`` if there is no such folder, for a file that is not a valid ``Record``, and for a record whose
    recipe, network or images differ from those of the same name in the package.

    >>> from alexnet_course import load_records
    >>> records = load_records(pattern="alexnet-cifar-3x3.modern-*")
    >>> {record.dataset.name for record in records}
    {'cifar10'}
    """
    records, problems = sift_records(folder, pattern)
    if problems:
        raise CourseError(problems[0])
    return records


def sift_records(folder: str | Path = FOLDER, pattern: str = "*") -> tuple[list[Record], list[str]]:
    """The valid records, and one sentence about each file that is not one."""
    from alexnet_course.records.check import read_fitting  # here, because the names above do not need it

    records, problems = [], []
    for path in record_files(folder, pattern):
        try:
            records.append(read_fitting(path))
        except CourseError as error:
            problems.append(str(error))
    return records, problems


def record_files(folder: str | Path, pattern: str = "*") -> list[Path]:
    """Each ``pattern.json`` in ``folder``, by name. Raises ``CourseError`` if ``folder`` is not a readable folder."""
    folder = Path(folder)
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise CourseError(f"{str(folder)!r} cannot be read as a folder of records ({error.strerror}); give the folder "
                          "that holds them.") from None  # fmt: skip
    return sorted(folder / name for name in names if fnmatchcase(same_form(name), f"{pattern}.json"))


def records_of(recipe: str, folder: str | Path = FOLDER) -> list[Record]:
    """The recorded runs of the recipe named ``recipe``, by seed: those of the longest budget that has any.

    Runs of two budgets are never mixed, and of two records with one seed, such as a copy, the first counts. The list is
    empty if nothing is recorded. Raises ``CourseError`` if there is no such folder.

    >>> from alexnet_course.records import records_of
    >>> {record.budget for record in records_of("ablation.vgg.base")}
    {'ablation'}
    """
    from alexnet_course.recipe import BUDGETS  # here, as above

    begins = glob.escape(recipe)  # the file names of its records begin with it, and perhaps those of other recipes
    found = [record for record in load_records(folder, f"{begins}-*seed*") if record.recipe.name == recipe]
    longest = min((BUDGETS.index(record.budget) for record in found), default=0)
    runs: dict[int, Record] = {}
    for record in found:
        if record.budget == BUDGETS[longest]:
            runs.setdefault(record.seed, record)
    return [runs[seed] for seed in sorted(runs)]
