"""The directive ``{course-status} PART``: what this book was built from.

Each part is computed from the current files when the book is built; nothing is
written into the source tree. The extension also copies the records into the
book, so that links to them work offline.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from docutils.statemachine import StringList
from reading import SPEED, minutes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from alexnet_course import __version__
from alexnet_course.records import FOLDER, NOT_MEASURED
from alexnet_course.results.verify import record_paths, verify
from alexnet_course.training.device import device_name
from alexnet_course.version import git_commit

UNKNOWN = "unknown"
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "jupyter-book",
    "myst-nb",
    "nbval",
)
COPIED_TO = Path("_static", "records")  # in the built book

Table = tuple[list[str], list[list[str]]]
"""Header and rows; each cell is MyST Markdown."""


# --- The contents of the parts: pure functions of folders --------------------


def versions() -> Table:
    """Python, the packages that build the book, and the course's package."""
    rows = [["Python", platform.python_version()]]
    for name in PACKAGES:
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    rows.append(["alexnet-course", f"{__version__}, commit {commit()}"])
    return ["", "Version"], rows


def commit() -> str:
    """The first digits of the package's commit, and whether files changed."""
    found = git_commit()
    if found is None:
        return UNKNOWN
    number, _, changes = found.partition("+")
    return f"`{number[:10]}`{' with changes' if changes else ''}"


def machine() -> Table:
    """The machine on which the book was built."""
    cpu = device_name(torch.device("cpu")).removesuffix(" (cpu)")
    rows = [
        ["Processor", cpu],
        ["Cores", str(os.cpu_count() or UNKNOWN)],
        ["Memory", memory()],
        ["System", platform.system()],
    ]
    return ["", "This build"], rows


def memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not Linux or macOS
        return UNKNOWN
    return f"{size / 2**30:.0f} GiB"


@dataclass(frozen=True)
class Cells:
    """The number of a notebook's code cells, by how the tests treat them."""

    strict: int
    """Run, and the output compared with the stored output."""
    executed: int
    """Run, without a comparison of the output."""

    @property
    def share(self) -> str:
        """The fraction of cells that are compared."""
        count = self.strict + self.executed
        return f"{self.strict / count:.0%}" if count else "–"


def count_cells(notebook: Path) -> Cells:
    """Count the code cells of a notebook; like nbval, ignore empty ones."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    ignored = [
        "nbval-ignore-output" in cell["metadata"].get("tags", [])
        for cell in cells
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
    ]
    return Cells(strict=ignored.count(False), executed=ignored.count(True))


def chapters(book: Path, pages: Iterable[str]) -> Table:
    """Each notebook of ``pages`` in the folder ``book``: times and cells."""
    times = read_times(book / "timings.csv")
    found = {page: count_cells(book / f"{page}.ipynb") for page in pages}
    reading = {page: minutes(book, page) for page in pages}
    rows = [
        [
            f"{{doc}}`{page}`",
            f"{reading[page]} min",
            times.get(f"{{doc}}`{page}`", NOT_MEASURED),
            str(cells.strict),
            str(cells.executed),
            cells.share,
        ]
        for page, cells in found.items()
    ]
    everything = Cells(
        sum(cells.strict for cells in found.values()),
        sum(cells.executed for cells in found.values()),
    )
    rows.append(
        [
            "in all",
            f"{sum(reading.values())} min",
            "",
            str(everything.strict),
            str(everything.executed),
            everything.share,
        ]
    )
    return ["Chapter", "Reading", "Time", "Compared", "Run only", "Share"], rows


def read_times(file: Path) -> dict[str, str]:
    """The chapters' times on the computer on which they were last run."""
    if not file.exists():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        return {
            row["Chapter"]: row["On your computer"]
            for row in csv.DictReader(lines)
        }


def times(book: Path) -> Table:
    """The table of the front page: timings.csv, with the time for reading.

    A column in which nothing is measured yet is left out.
    """
    file = book / "timings.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        chapter, *places = zip(*csv.reader(lines), strict=True)
    reading = ["Reading"]
    for name in chapter[1:]:
        page = name.removeprefix("{doc}`").removesuffix("`")
        reading.append(f"{minutes(book, page)} min" if page != name else "")
    kept = [place for place in places if {*place[1:]} != {NOT_MEASURED}]
    heads, *rows = (
        list(row) for row in zip(chapter, reading, *kept, strict=True)
    )
    return heads, rows


def timed_on(book: Path) -> str:
    return read_times(book / "timings.csv").get("measured on", NOT_MEASURED)


def records(folder: Path) -> Table:
    """The number of records for each data set and budget."""
    counts: Counter[tuple[str, str]] = Counter()
    recipes: dict[tuple[str, str], set[str]] = {}
    for path in record_paths(folder):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            kind = record["dataset"]["name"], record["budget"]
            recipe = record["recipe"]["name"]
        except (ValueError, KeyError, TypeError):  # reported by verify
            kind, recipe = (UNKNOWN, UNKNOWN), path.stem
        counts[kind] += 1
        recipes.setdefault(kind, set()).add(recipe)
    rows = [
        [dataset, budget, str(len(recipes[dataset, budget])), str(count)]
        for (dataset, budget), count in sorted(counts.items())
    ]
    rows.append(["in all", "", "", str(counts.total())])
    return ["Data set", "Budget", "Recipes", "Records"], rows


def newest(folder: Path) -> str:
    """The day of the last commit that added or changed a record; unknown in a
    shallow clone, whose first commit seems to add every file."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=True,
            timeout=30,
        ).stdout.strip()

    try:
        if git("rev-parse", "--is-shallow-repository") == "true":
            return UNKNOWN
        log = git(
            *("log", "-1", "--format=%cs", "--diff-filter=AM", "--", "*.json")
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return log or UNKNOWN


def check(folder: Path) -> tuple[Table, list[str]]:
    """The number of records that pass ``results verify``, and its problems."""
    problems = verify(folder)
    names = [str(path.relative_to(folder)) for path in record_paths(folder)]
    bad = {problem.partition(": ")[0] for problem in problems}
    fitting = sum(name not in bad for name in names)
    share = f"{fitting} of {len(names)}" if names else NOT_MEASURED
    rows = [
        ["Records that fit", share],
        ["Newest record", newest(folder)],
    ]
    return (["", "Found"], rows), problems


# --- As Markdown -------------------------------------------------------------


def as_markdown(table: Table) -> str:
    """Write the table; columns of numbers after the first align right."""
    heads, rows = table
    numbers = [
        position > 0
        and not any(character.isalpha() for character in "".join(cells))
        for position, cells in enumerate(zip(*rows, strict=True))
    ]
    rule = ["---:" if number else "---" for number in numbers]
    lines = [heads, rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def content(part: str, book: Path, pages: Iterable[str], folder: Path) -> str:
    """The text on the page for ``part``, as Markdown.

    ``book`` is the folder of the book's sources, ``pages`` its notebooks in
    reading order, and ``folder`` the folder of the records.
    """

    reading = (
        f"Reading is computed from the words at {SPEED} a minute, code and "
        "exercises apart."
    )

    def chapter_part() -> str:
        where = f"{reading} The times were measured on {timed_on(book)}."
        return f"{as_markdown(chapters(book, pages))}\n\n{where}"

    def check_part() -> str:
        table, problems = check(folder)
        fence = ["```text", *problems, "```"] if problems else []
        return "\n".join([as_markdown(table), "", *fence])

    parts: dict[str, Callable[[], str]] = {
        "versions": lambda: as_markdown(versions()),
        "machine": lambda: as_markdown(machine()),
        "chapters": chapter_part,
        "times": lambda: f"{as_markdown(times(book))}\n\n{reading}",
        "records": lambda: as_markdown(records(folder)),
        "check": check_part,
    }
    if part not in parts:
        raise ExtensionError(
            f"course-status {part!r} is not one of {', '.join(parts)}."
        )
    return parts[part]()


def copy_records(folder: Path, target: Path) -> int:
    """Copy each record and its predictions to ``target``, and nothing else.

    Existing files there are removed. Returns the number of files.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    wanted = [*record_paths(folder), *sorted(folder.glob("*.npy"))]
    for path in wanted:
        shutil.copyfile(path, target / path.name)
    return len(wanted)


# --- Sphinx ------------------------------------------------------------------


class CourseStatus(SphinxDirective):
    """``{course-status} PART``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the files may change without the page
        book = Path(self.env.srcdir)
        pages = [
            path.stem
            for path in sorted(book.glob("*.ipynb"))
            if path.stem in self.env.found_docs
        ]
        folder = Path(self.config.course_records)
        text = content(self.arguments[0], book, pages, folder)
        part = nodes.container(classes=["course-status"])
        lines = StringList(text.splitlines(), source="course-status")
        self.state.nested_parse(lines, self.content_offset, part)
        return [part]


def copy_into_book(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        copy_records(
            Path(app.config.course_records), Path(app.outdir) / COPIED_TO
        )


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("course_records", str(FOLDER), "env", [str])
    app.add_directive("course-status", CourseStatus)
    app.connect("build-finished", copy_into_book)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
