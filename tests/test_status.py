"""The status page: its content follows from the files, and from the records above all."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from alexnet_course.recipe import Recipe
from alexnet_course.records import NOT_MEASURED
from alexnet_course.records.record import Record, dump_record
from alexnet_course.watching import fit

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"


@pytest.fixture(scope="module")
def status():
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    spec = importlib.util.spec_from_file_location("course_status", BOOK / "_ext" / "course_status.py")
    module = sys.modules["course_status"] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    recipe = Recipe(name="one", model="cnn4", epochs=1, batch_size=10, validation_size=10, budget="evening")
    return fit(recipe, progress=False, out=tmp_path_factory.mktemp("run") / "one", **data).out


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """Two records of one recipe, one of another, and what else lies in a folder of records."""
    record = json.loads((finished / "record.json").read_text())
    for name, seed in (("one", 0), ("one", 1), ("two", 0)):
        changed = {**record, "seed": seed, "recipe": {**record["recipe"], "name": name, "seed": seed}}
        (tmp_path / f"{name}-evening-seed{seed}.json").write_text(dump_record(Record.from_dict(changed)))
        shutil.copy(finished / "predictions.npy", tmp_path / f"{name}-evening-seed{seed}.npy")
    (tmp_path / "published.toml").write_text("")
    return tmp_path


def page(status, folder: Path) -> str:
    parts = ("check", "records", "chapters", "versions", "machine")
    return "\n".join(status.content(part, BOOK, ["01-paper"], folder) for part in parts)


def test_the_page_counts_the_records_and_follows_when_one_is_deleted(status, folder):
    before = page(status, folder)
    assert "| Records that fit | 3 of 3 |" in before
    assert "| two-colours | evening | 2 | 3 |" in before
    (folder / "two-evening-seed0.json").unlink()
    (folder / "two-evening-seed0.npy").unlink()
    after = page(status, folder)
    assert "| Records that fit | 2 of 2 |" in after
    assert "| two-colours | evening | 1 | 2 |" in after


def test_a_record_that_does_not_fit_is_counted_out_and_named(status, folder):
    path = folder / "one-evening-seed1.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"test_accuracy": 0.999}))
    (folder / "two-evening-seed0.json").write_text("{")
    text = page(status, folder)
    assert "| Records that fit | 1 of 3 |" in text
    assert "one-evening-seed1.json: test_accuracy is 0.999, but the other figures give" in text
    assert "two-evening-seed0.json: it is not readable as JSON" in text
    assert "| unknown | unknown | 1 | 1 |" in text


def test_without_any_record_it_says_so(status, tmp_path):
    text = page(status, tmp_path)
    assert f"| Records that fit | {NOT_MEASURED} |" in text
    assert "| in all |  |  | 0 |" in text


def test_the_newest_record_is_the_last_one_committed(status, folder, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))  # no checkout around it
    assert status.newest(folder) == "unknown"

    def git(*arguments: str, date: str = "2026-01-01") -> None:
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{who}_NAME", "x")
            monkeypatch.setenv(f"GIT_{who}_EMAIL", "x@example.org")
            monkeypatch.setenv(f"GIT_{who}_DATE", f"{date}T12:00:00+0000")
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)

    git("init", "-q")
    assert status.newest(folder) == "unknown"
    git("add", ".")
    git("commit", "-q", "-m", "records", date="2026-02-03")
    (folder / "published.toml").write_text("changed")
    git("rm", "-q", "two-evening-seed0.json")
    git("commit", "-q", "-a", "-m", "no record", date="2026-04-05")
    assert status.newest(folder) == "2026-02-03"
    shallow = folder.parent / "shallow"
    git("clone", "-q", "--depth", "1", folder.as_uri(), str(shallow))
    assert status.newest(shallow) == "unknown"  # its one commit seems to add all records


def test_what_git_says_need_not_be_text(status, tmp_path):
    """It repeats the name of a folder that is not there."""
    assert status.newest(tmp_path / os.fsdecode(b"gr\xf6\xdfe")) == "unknown"


def cell(source: str, kind: str = "code", **more: object) -> dict[str, object]:
    return {"cell_type": kind, "source": [source], "metadata": more}


def test_cells_are_counted_by_how_they_are_tested(status, tmp_path):
    ignored = {"tags": ["hide-cell", "nbval-ignore-output"]}
    cells = [cell("# Title", "markdown"), cell("a"), cell("b", tags=["hide-cell"]), cell("c", **ignored), cell(" \n")]
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "two.ipynb").write_text(json.dumps({"cells": [cell("d", **ignored)]}))
    (tmp_path / "timings.csv").write_text(
        'Chapter,On your computer,On Colab\n{doc}`one`,3 s,not measured\nmeasured on,"A, 2 cores",not measured\n'
    )
    text = status.content("chapters", tmp_path, ["one", "two"], tmp_path)
    assert "| {doc}`one` | 1 min | 3 s | 2 | 1 | 67% |" in text
    assert f"| {{doc}}`two` | 1 min | {NOT_MEASURED} | 0 | 1 | 0% |" in text
    assert "| in all | 2 min |  | 2 | 2 | 50% |" in text
    assert "| --- | --- | --- | ---: | ---: | ---: |" in text
    assert "measured on A, 2 cores." in text

    text = status.content("times", tmp_path, ["one", "two"], tmp_path)
    assert "| Chapter | Reading | On your computer |\n" in text  # nothing is measured on Colab
    assert "| {doc}`one` | 1 min | 3 s |\n" in text
    assert "| measured on |  | A, 2 cores |\n" in text
    csv = tmp_path / "timings.csv"
    csv.write_text(csv.read_text().replace(f"3 s,{NOT_MEASURED}", "3 s,2 s"))
    text = status.content("times", tmp_path, ["one", "two"], tmp_path)
    assert "| Chapter | Reading | On your computer | On Colab |\n" in text
    assert "| {doc}`one` | 1 min | 3 s | 2 s |\n" in text


def test_most_cells_of_the_book_are_compared(status):
    """What only has to run cannot be wrong."""
    counts = [status.count_cells(path) for path in BOOK.glob("*.ipynb")]
    compared, run_only = sum(cells.strict for cells in counts), sum(cells.executed for cells in counts)
    assert run_only > 0
    assert compared / (compared + run_only) >= 0.7


def test_versions_are_those_that_are_installed(status, monkeypatch):
    heads, rows = status.versions()
    found = dict(rows)
    assert len(heads) == 2
    assert found["numpy"] == metadata.version("numpy")
    assert found["jupyter-book"].startswith("1.")
    assert found["alexnet-course"].startswith(f"{status.__version__}, commit ")
    monkeypatch.setattr(status, "git_commit", lambda: "0123456789abcdef+changes")
    assert status.commit() == "`0123456789` with changes"
    monkeypatch.setattr(status, "git_commit", lambda: None)
    assert status.commit() == "unknown"
    monkeypatch.setattr(status, "PACKAGES", ("no-such-package",))
    assert ["no-such-package", "not installed"] in status.versions()[1]


def test_the_machine_is_described(status):
    found = dict(status.machine()[1])
    assert set(found) == {"Processor", "Cores", "Memory", "System"}
    assert all(found.values())


def test_records_and_predictions_are_copied_into_the_book_and_nothing_else(status, folder, tmp_path):
    target = tmp_path / "html" / "_static" / "records"
    target.mkdir(parents=True)
    (target / "gone.json").write_text("{}")  # of a record that was deleted since
    app = SimpleNamespace(
        builder=SimpleNamespace(format="html"), outdir=tmp_path / "html",
        config=SimpleNamespace(course_records=str(folder)),
    )  # fmt: skip
    status.copy_into_book(app, None)
    names = {
        f"{name}.{kind}"
        for name in ("one-evening-seed0", "one-evening-seed1", "two-evening-seed0")
        for kind in ("json", "npy")
    }
    assert {path.name for path in target.iterdir()} == names
    assert (target / "one-evening-seed0.json").read_bytes() == (folder / "one-evening-seed0.json").read_bytes()


def test_every_part_of_the_page_is_there_and_a_wrong_one_is_refused(status, tmp_path):
    lines = [line for page in ("index.md", "status.md") for line in (BOOK / page).read_text().splitlines()]
    parts = [line.split()[1] for line in lines if line.startswith("```{course")]
    assert sorted(parts) == ["chapters", "check", "machine", "records", "times", "versions"]
    with pytest.raises(Exception, match="course-status 'weather' is not one of versions, machine, chapters"):
        status.content("weather", BOOK, [], tmp_path)
