"""Finished runs: one JSON file each. Every result that the course states comes from one of them."""

from __future__ import annotations

import glob
import json
from functools import cache
from pathlib import Path
from typing import Any

from alexnet_course.errors import CourseError

FOLDER = Path(__file__).parent
SCHEMA_FILE = FOLDER / "schema.json"
SCHEMA_NAME = "alexnet-course/record-1"
NOT_MEASURED = "not measured"  # stands wherever there is no record of a run


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def check_record(record: Any, origin: str = "the record") -> None:
    """Raise ``CourseError`` where ``record`` is not of the form of ``schema.json``, naming what is off."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(record))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "its top level"
        raise CourseError(f"{origin} is not a record of this course: at {where}, {error.message}.")


def load_records(folder: str | Path = FOLDER, pattern: str = "*") -> list[dict[str, Any]]:
    """Every record in ``folder`` (the package's own by default), in the order of their file names.

    Of the files whose names fit ``pattern.json`` alone, if it is given. Raises ``CourseError`` for one that is not of
    the schema's form, or whose recipe, network or pictures are not those that go by their names here.

    >>> from alexnet_course import load_records
    >>> records = load_records(pattern="alexnet-cifar-3x3.modern-*")
    >>> {record["dataset"]["name"] for record in records}
    {'cifar10'}
    """
    from alexnet_course.records.check import (
        check_fit,  # here, because the trainer needs the schema and this the trainer
    )

    records = []
    for path in sorted(Path(folder).glob(f"{pattern}.json")):
        if path.name == SCHEMA_FILE.name:
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CourseError(f"{path.name} is not readable as JSON ({error}); restore or delete it.") from None
        check_record(record, path.name)
        check_fit(record, path.name)
        records.append(record)
    return records


def records_of(recipe: str, folder: str | Path = FOLDER) -> list[dict[str, Any]]:
    """The recorded runs of the recipe named ``recipe``, by seed: those of the longest budget that has any.

    Never of two: a run of one budget says nothing about another's. An empty list where nothing is recorded.

    >>> from alexnet_course.records import records_of
    >>> {record["budget"] for record in records_of("ablation.vgg.base")}
    {'ablation'}
    """
    from alexnet_course.recipe import BUDGETS  # here, as above

    begins = glob.escape(recipe)  # as the names of its records do, and perhaps those of another recipe
    found = [record for record in load_records(folder, f"{begins}-*seed*") if record["recipe"]["name"] == recipe]
    longest = min((BUDGETS.index(record["budget"]) for record in found), default=0)
    runs = [record for record in found if record["budget"] == BUDGETS[longest]]
    return sorted(runs, key=lambda record: record["seed"])
