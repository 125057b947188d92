"""One bad record hides no other: ``results`` and ``results verify`` go on past it, and exit with the list."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_course.cli import main
from alexnet_course.errors import CourseError
from alexnet_course.records import load_records, record_files, records_of
from alexnet_course.results.table import MARKERS
from alexnet_course.results.verify import verify

BAD, GOOD = "base-evening-seed0", "good-evening-seed0"
Damage = Callable[[Path], object]


@pytest.fixture
def folder(write) -> Path:
    """Two records that fit, of which one is to be damaged."""
    write("good", 30)
    return write("base", 35)


def changed(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(path: Path) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return damage


def inserted(before: str, text: str) -> Damage:
    """What Python's own ``json`` would not write."""
    return lambda path: path.write_text(path.read_text().replace(before, text + before, 1))


def becomes_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (changed(lambda r: r["confusion_matrix"][1].pop()), "has rows of different lengths"),
        (changed(lambda r: r.update(test_loss=float("nan"))), "NaN is not a JSON number"),
        (changed(lambda r: r["history"][0].update(lr=float("inf"))), "Infinity is not a JSON number"),
        (inserted('"seed"', '"seed": 0, '), "the key 'seed' is there twice"),
        (inserted('"blue": ', '"blue": 0.5, '), "the key 'blue' is there twice"),
        (changed(lambda r: r.update(parameters=10**400)), "parameters = 1000"),
        (changed(lambda r: r.update(test_accuracy=10**400)), "test_accuracy = 1000"),
        (changed(lambda r: r["dataset"].update(training_images=10**400)), "dataset/training_images = 1000"),
        (changed(lambda r: r["confusion_matrix"][0].__setitem__(0, 2**63)), "confusion_matrix/0/0 = 9223372"),
        (changed(lambda r: r["recipe"].update(model_options={"activation": 3})), "a cnn4 that cannot be built (activ"),
        (changed(lambda r: r["recipe"].update(input_size=1)), "a cnn4 that cannot be built (cnn4 cannot take"),
        (changed(lambda r: r["dataset"].update(name="\x1b[31m")), "dataset/name = '\\x1b[31m' has an unprintable"),
        (changed(lambda r: r["dataset"].update(classes=["red", "a\nb"])), "dataset/classes/1 = 'a\\nb' has an unprint"),
        (changed(lambda r: r["environment"].update(device="a\ud800")), "environment/device = 'a\\ud800' has an un"),
        (changed(lambda r: r["recipe"].update(name="../../x")), "name = '../../x' cannot be part of a path"),
        (becomes_a_folder, "cannot be read as a record"),
        (lambda path: path.write_text("[" * 100_000), "is not readable as JSON (maximum recursion depth"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"red", "r\xe9d".encode("latin-1"))), "can't decode"),
    ],
)  # fmt: skip
def test_a_bad_record_hides_no_other(folder, capsys, damage, found):
    damage(folder / f"{BAD}.json")
    assert main(["results", "--records", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "good" in out
    assert "base" not in out
    first, last = err.splitlines()
    assert first.startswith(f"{BAD}.json ")
    assert found in first
    assert last == "alexnet-course: 1 of the records cannot be used and are not in the table; see above."
    assert main(["results", "verify", "--records", str(folder)]) == 2
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{BAD}.json: it ")
    assert found in line
    with pytest.raises(CourseError, match=f"^{BAD}"):
        load_records(folder)


def claims(*shape: int) -> Damage:
    def damage(path: Path) -> None:
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            file.write(bytes(50))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        becomes_a_folder,
        claims(10**12),
        claims(10**40),
        lambda path: path.write_bytes(b"PK\x03\x04, as an archive begins"),
        lambda path: np.save(path, np.array([{}]), allow_pickle=True),
    ],
    ids=["folder", "terabyte", "beyond 64 bits", "archive", "objects"],
)
def test_bad_predictions_hide_no_other_record(folder, damage):
    changed(lambda r: r.update(val_accuracy=0.123))(folder / f"{GOOD}.json")
    damage(folder / f"{BAD}.npy")
    about_predictions, about_the_other = verify(folder)
    assert about_predictions.startswith(f"{BAD}.json: {BAD}.npy cannot be read as predictions (")
    assert about_the_other.startswith(f"{GOOD}.json: val_accuracy is ")


def test_two_bad_records_are_both_named(folder, capsys):
    for name in (BAD, GOOD):
        (folder / f"{name}.json").write_text("{")
    assert main(["results", "--records", str(folder)]) == 2
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()[:2]] == [f"{BAD}.json", f"{GOOD}.json"]
    assert len(verify(folder)) == 2


def test_a_bad_run_of_one_s_own_hides_neither_records_nor_other_runs(folder, finished, tmp_path, capsys):
    for name in ("torn", "whole"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    (folder / f"{BAD}.json").unlink()
    (tmp_path / "runs" / "torn" / "record.json").write_text("{")
    assert main(["results", "--records", str(folder), "--add", str(tmp_path / "runs")]) == 2
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] in (["good", "base"], ["base", "good"])
    assert err.startswith(f"{tmp_path / 'runs' / 'torn'}: record.json is not readable")


def test_a_run_among_the_records_does_not_take_their_place(folder, finished):
    shutil.copytree(finished, folder / "run")
    changed(lambda r: r.update(val_accuracy=0.123))(folder / f"{BAD}.json")
    assert any(problem.startswith(f"{BAD}.json: val_accuracy is ") for problem in verify(folder))


def test_a_table_without_the_bad_record_is_not_written_over_the_whole_one(folder, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"{MARKERS[0]}\n| base | good |\n{MARKERS[1]}\n")
    before = page.read_text()
    (folder / f"{BAD}.json").write_text("{")
    assert main(["results", "--records", str(folder), "--write", str(page)]) == 2
    assert page.read_text() == before
    assert f"so {page} was not changed" in capsys.readouterr().err


# --- No folder at all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "No such file or directory"),
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
@pytest.mark.parametrize("command", [["results"], ["results", "verify"], ["results", "--all", "--format", "csv"]])
def test_a_folder_of_records_that_is_none_is_an_error(tmp_path, capsys, command, name, reason):
    (tmp_path / "file").write_text("")
    assert main([*command, "--records", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    sentence = f"cannot be read as a folder of records ({reason}); give the folder that holds them."
    assert err == f"alexnet-course: {str(tmp_path / name)!r} {sentence}\n"
    for read in (load_records, lambda folder: records_of("base", folder), record_files, verify):
        with pytest.raises(CourseError, match="cannot be read as a folder of records"):
            read(tmp_path / name)


def test_an_empty_folder_of_records_says_so(tmp_path, capsys):
    assert main(["results", "--records", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"{str(tmp_path)!r} holds no record\n"
    assert main(["results", "verify", "--records", str(tmp_path)]) == 2
    assert f"{str(tmp_path)!r} holds no record; give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../base", "/etc/passwd", "", "[", "bas?", "\0"])
def test_a_name_of_no_recipe_has_no_records(folder, name):
    (folder / "below").mkdir()
    assert records_of(name, folder / "below") == records_of(name, folder) == []
