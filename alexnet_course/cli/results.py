"""``alexnet-course results`` and ``results verify``."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_course.cli.common import Commands, add_command, add_networks
from alexnet_course.errors import CourseError
from alexnet_course.files import expanded
from alexnet_course.records import FOLDER as RECORDS
from alexnet_course.records import RECORD, record_files, sift_records
from alexnet_course.terminal import say

if TYPE_CHECKING:
    from alexnet_course.data import Dataset
    from alexnet_course.records.record import Record

VERIFY = (
    "verify: recompute each test accuracy from the stored predictions, and check that the rest of the record agrees; "
    "losses, training and validation accuracies, environment and weights are not recomputed, and only repeating a run "
    "detects forged predictions"
)


def add(commands: Commands) -> None:
    text = "print the results table, computed from the records, or verify the records"
    sub = add_command(commands, "results", results_command, text, "results --add runs")
    sub.add_argument("action", nargs="?", choices=["verify"], help=VERIFY)
    sub.add_argument(
        "--add", action="append", default=[], metavar="DIR", help="your own runs: folders that train --out wrote"
    )
    sub.add_argument("--all", action="store_true", help="also show the ablations, and recipes without a record")
    sub.add_argument("--format", choices=["text", "markdown", "csv"], help="default: text; csv has every figure")
    sub.add_argument("--write", metavar="FILE", help="write the table between the markers of a Markdown file")
    sub.add_argument("--data", metavar="SPEC", help="with verify: check labels and constants against these images")
    sub.add_argument("--records", default=RECORDS, metavar="DIR", help="default: the package's own")
    add_networks(sub)


def results_command(options: argparse.Namespace) -> None:
    options.records, options.add = expanded(options.records), [expanded(folder) for folder in options.add]
    options.write = expanded(options.write) if options.write is not None else None
    if options.action == "verify":
        of_the_table = {"--all": options.all, "--format": options.format, "--write": options.write is not None}
        for option, given in of_the_table.items():
            if given:
                raise CourseError(f"{option} is for the table and has no effect with verify; leave one of the two out.")
        verify_records(options)
    elif options.data is not None:
        raise CourseError("--data has an effect with verify only; write results verify, or leave --data out.")
    else:
        print_table(options)


def verify_records(options: argparse.Namespace) -> None:
    from alexnet_course.pretrained import verify_pretrained
    from alexnet_course.results.verify import record_paths, verify

    folders = [options.records, *options.add]
    paths = {folder: record_paths(folder) for folder in folders}
    count = sum(map(len, paths.values()))
    for folder, found in paths.items():
        if not found:
            raise CourseError(f"{str(folder)!r} holds no record; give a folder of records, or of your runs.")
    given = images_of(options.data, [path for found in paths.values() for path in found]) if options.data else {}
    problems = []
    for folder in folders:
        begins = "" if folder == options.records else f"{folder}/"
        problems += [f"{begins}{problem}" for problem in verify(folder, given.get("test"), given.get("train"))]
    if options.records == RECORDS:
        problems += verify_pretrained(given.get("test"))
    for problem in problems:
        print(problem)
    if problems:
        where = f"{' and '.join(map(str, folders))} {'has' if len(folders) == 1 else 'have'}"
        raise CourseError(f"{where} {len(problems)} problem{'s' if len(problems) > 1 else ''}; see above.")
    print(f"{count} records fit: their test accuracies follow from the predictions, and the rest agrees")
    print("not recomputed: losses, training and validation accuracies, environment, weights; and only `alexnet-course "
          "reproduce` detects forged predictions")  # fmt: skip


def images_of(spec: str, paths: list[Path]) -> dict[str, Dataset]:
    """The splits of a data set. Images of different sizes in a folder are loaded at the size that a record used."""
    from alexnet_course.data import load_dataset, splits_of
    from alexnet_course.records.record import read_record

    given: dict[str, Dataset] = {}
    tried = set()
    for path in paths if spec.startswith("folder:") else []:
        with suppress(CourseError):  # an unreadable record, which verify reports
            record = read_record(path)
            recipe = record.recipe
            way = record.dataset.side or recipe.loaded_size, recipe.resize
            if way not in tried:
                tried.add(way)
                given = {split: recipe.images(split, spec, way[0]) for split in splits_of(spec)}
            if given["test"].fingerprint == record.dataset.test_fingerprint:
                return given
    return {split: load_dataset(spec, split) for split in splits_of(spec)}


def print_table(options: argparse.Namespace) -> None:
    if options.write is not None and options.format not in (None, "markdown"):
        raise CourseError(f"--format {options.format} has no effect with --write, which writes Markdown; leave one of "
                          "the two out.")  # fmt: skip
    paths = [path for folder in options.add for path in run_folders(folder)]  # before the imports
    if not record_files(options.records):
        say(f"{str(options.records)!r} holds no record")
    from alexnet_course.results import table

    if options.write is not None:
        table.around_table(options.write)  # before the work

    records, problems = sift_records(options.records)
    own, more_problems = sift_runs(paths)
    problems += more_problems
    for problem in problems:
        say(problem)
    if problems and options.write is not None:
        raise CourseError(f"{len(problems)} of the records cannot be used, see above, so {options.write} was not "
                          "changed; restore or delete them first.")  # fmt: skip
    rows = table.rows_of(records, own, options.networks)
    counted = {id(record) for row in rows for record in row.records}
    for path, record in own:
        if id(record) not in counted:
            say(f"{path.parent} is not in the table: another run of {record.recipe.name!r} has the same recipe, images "
                f"and seed {record.seed}; give one of them another seed, or its recipe a name of its own")  # fmt: skip
    if not options.all:  # your own runs are shown in any case
        rows = [row for row in rows if row.records and (any(row.paths) or not row.recipe.startswith(table.ABLATION))]
    if options.write is not None:
        changed = table.write_between_markers(options.write, table.as_markdown(rows))
        print(f"{options.write} {'has the new table' if changed else 'had this table already'}")
        return
    write = {"text": table.as_text, "markdown": table.as_markdown, "csv": table.as_csv}[options.format or "text"]
    print(write(rows).rstrip("\n"))
    if problems:
        raise CourseError(f"{len(problems)} of the records cannot be used and are not in the table; see above.")


def run_folders(folder: Path) -> list[Path]:
    """The records of the finished runs in ``folder``, which may itself be one."""
    found = sorted(folder.rglob(RECORD))
    if not found:
        raise CourseError(f"{str(folder)!r} holds no finished run; give the folder that train wrote to.")
    return found


def sift_runs(paths: list[Path]) -> tuple[list[tuple[Path, Record]], list[str]]:
    """The usable records of these runs, each after its path, and a sentence on each unusable one."""
    from alexnet_course.records.check import read_fitting

    records, problems = [], []
    for path in paths:
        try:
            records.append((path, read_fitting(path)))
        except CourseError as error:
            problems.append(f"{path.parent}: {error}")
    return records, problems
