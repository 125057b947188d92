"""Files that appear whole or not at all."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alexnet_course
from alexnet_course.errors import CourseError
from alexnet_course.files import (
    UNFINISHED,
    check_target,
    discard,
    present,
    shown,
    whole_file,
    write_tensors,
    write_text,
)
from alexnet_course.recipe import Recipe
from alexnet_course.records.predictions import load_predictions
from alexnet_course.records.record import read_record
from alexnet_course.training.folder import read_plan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_text(tmp_path / "thing.json", "old")
    return tmp_path / "thing.json"


def test_the_file_has_its_name_only_when_it_is_whole(path):
    with whole_file(path) as part:
        part.write_text("ne")
        assert path.read_text() == "old"
        assert part.parent == path.parent  # or the renaming would be a copy
        assert part.name.endswith(UNFINISHED)
        part.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_was_not_there_appears(tmp_path):
    write_text(tmp_path / "first.txt", "größer\n")
    assert (tmp_path / "first.txt").read_bytes() == "größer\n".encode()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("wrong")])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(path, error):
    def write() -> None:
        with whole_file(path) as part:
            part.write_text("half of")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("operation", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file_and_nothing_beside_it(path, operation, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(operation, fail)
        with pytest.raises(OSError, match="Input/output error"):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_thereafter(path, monkeypatch):
    """In this order a crash at any moment leaves a whole file."""
    done = []
    flush, rename = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        done.append(("flush", os.fstat(descriptor).st_ino))
        flush(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append(("rename", self.stat().st_ino))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(path, "new")
    file, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert done == [("flush", file), ("rename", file), ("flush", folder)][: None if os.name == "posix" else 2]


def test_a_folder_that_is_missing_is_an_error_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "thing.txt", "new")
    assert not list(tmp_path.iterdir())


def test_something_that_writes_no_file_is_an_error(path):
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert path.read_text() == "old"


def test_two_processes_write_to_different_temporary_files_even_with_one_number(path):
    """As in two containers that share a folder; a process has one for as long as it lives."""
    code = "import os; os.getpid = lambda: 1; from alexnet_course.files import beside; from pathlib import Path; "
    code += "print(beside(Path('x')), beside(Path('x')))"
    one, two = (subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2))
    assert one != two
    assert len(set(one.split())) == 1


@pytest.mark.skipif(os.name == "nt", reason="it has no such modes")
def test_a_file_that_is_replaced_keeps_its_mode(path):
    path.chmod(0o600)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_others_can_read_the_file_as_the_system_s_rules_say(tmp_path, umask):
    """Not as safetensors makes its files, which nobody else can read; in a process of its own, which has one umask."""
    code = """
from pathlib import Path
import torch
from alexnet_course.files import write_tensors
write_tensors(Path("weights"), {"one": torch.zeros(3)})
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, umask=umask, check=True)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o666 & ~umask


def test_tensors_are_written_to_no_file_but_the_one_that_the_next_start_clears_away(path, monkeypatch):
    """As safetensors' own function does, whose file stays where the process is killed."""
    written = []
    monkeypatch.setattr(Path, "write_bytes", lambda part, content: written.append(part.name) or part.touch())
    write_tensors(path, {"one": torch.zeros(3)})
    assert [name.endswith(UNFINISHED) for name in written] == [True]
    source = Path(alexnet_course.__file__).parent
    assert [file.name for file in source.rglob("*.py") if "save_file(" in file.read_text(encoding="utf-8")] == []


# --- Where no file can go --------------------------------------------------------------------------------------------


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


def a_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def a_link_to_a_device(path: Path) -> Path:
    path.symlink_to(os.devnull)
    return path


@pytest.mark.parametrize("make", [a_folder, a_pipe, a_link_to_a_device])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path, make):
    """As /dev/null would be, for all of the machine, by somebody who may."""
    there = make(tmp_path / "there")
    before = there.stat().st_mode
    with pytest.raises(OSError, match="not a file"):
        write_text(there, "new")
    assert there.stat().st_mode == before
    assert list(tmp_path.iterdir()) == [there]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_folder, "not a file"),
        (a_pipe, "not a file"),
        (a_link_to_a_device, "not a file"),
        (lambda path: path / "missing" / "x", "No such file or directory"),
        (lambda path: path.with_name("long" * 100), "File name too long"),
    ],
)
def test_a_target_is_tried_before_the_work_whose_result_goes_there(tmp_path, make, reason):
    there = make(tmp_path / "there")
    with pytest.raises(CourseError) as refused:
        check_target(there)
    assert str(refused.value).startswith(f"{str(there)!r} cannot be written to ({reason}); give the path of a file in ")


def test_a_target_that_can_be_written_to_is_left_as_it_was(path):
    check_target(path)
    check_target(path.with_name("another"))
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def an_endless_one(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("make", [a_folder, a_pipe, an_endless_one])
@pytest.mark.parametrize(
    ("read", "name", "sentence"),
    [
        (Recipe.from_toml, "mine.toml", "is not valid TOML"),
        (read_record, "record.json", "cannot be read as a record"),
        (lambda path: read_plan(path.parent), "run.json", "cannot be read (not a file); mount its drive again"),
        (load_predictions, "predictions.npy", "cannot be read as predictions"),
    ],
    ids=["recipe", "record", "plan", "predictions"],
)
def test_what_is_no_file_is_not_read(tmp_path, make, read, name, sentence):
    """One would wait for a pipe, and never come to the end of a device."""
    with pytest.raises(CourseError) as refused:
        read(make(tmp_path / name))
    assert sentence in str(refused.value)
    assert "not a file" in str(refused.value)


# --- Removing, finding and naming ------------------------------------------------------------------------------------


def test_what_is_discarded_is_empty_before_it_is_gone(path, monkeypatch):
    """So that in the bin of a mounted drive it takes no room."""
    unlink, sizes = Path.unlink, []
    monkeypatch.setattr(Path, "unlink", lambda found: sizes.append(found.stat().st_size) or unlink(found))
    discard(path)
    discard(path)  # which is no longer there
    assert sizes == [0]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_what_has_another_name_keeps_its_content(path, link):
    other = path.with_name("other")
    link(path, other)
    discard(other)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_half_written_file_is_emptied_too(path, monkeypatch):
    emptied, truncate = [], os.truncate
    monkeypatch.setattr(os, "truncate", lambda part, size: emptied.append(part.name) or truncate(part, size))

    def write() -> None:
        with whole_file(path) as part:
            part.write_text("half of")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    (name,) = emptied
    assert name.endswith(UNFINISHED)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_cannot_be_looked_at_is_not_taken_for_absent(path, monkeypatch, number):
    assert present(path)
    assert not present(path.with_name("missing"))
    assert not present(path / "below a file")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        present(path)


def test_a_path_is_shown_as_it_is_seen_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "one") == shown(Path("runs/one")) == "runs/one"
    assert shown(tmp_path.parent) == str(tmp_path.parent)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert shown(tmp_path / "runs") == str(tmp_path / "runs")
