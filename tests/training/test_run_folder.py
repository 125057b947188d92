"""A run's folder: what cannot be read now is left alone, another run's is refused, and one process has it."""

import errno
import io
import itertools
import json
import os
import socket
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import recipe

from alexnet_course.cli import main
from alexnet_course.cli.common import free_folder
from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training import checkpoint as checkpoint_module
from alexnet_course.training import lock as lock_module
from alexnet_course.training import resume, train
from alexnet_course.training.checkpoint import read_checkpoint
from alexnet_course.training.lock import FolderLock
from alexnet_course.watching import fit

pytestmark = pytest.mark.usefixtures("no_commit")


def begun(out: Path, epochs: int = 2, plan: Recipe | None = None, **options: Any) -> Path:
    """The folder of a run that was interrupted after so many epochs, two checkpoints in it."""
    run = train(plan or recipe(), out=out, **options)
    for _ in range(epochs):
        next(run)
    run.close()
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != ".lock"}


def checkpoint(step: int) -> str:
    return f"checkpoint-{step:09d}.pt"


def test_a_run_in_the_home_folder_is_there(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    begun(Path("~/run"), epochs=1, **tiny)
    assert resume("~/run", **tiny).steps_done == begun_steps(tmp_path / "home" / "run")
    assert not Path("~").exists()


def begun_steps(out: Path) -> int:
    return max(int(path.stem.split("-")[1]) for path in out.glob("checkpoint-*.pt"))


# --- What cannot be read now -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("after", [0, 2, "whole"])
def test_a_checkpoint_that_cannot_be_read_now_is_neither_passed_over_nor_deleted(
    tiny, tmp_path, monkeypatch, number, after
):
    """From the first time that the disk is asked, from the third, or when PyTorch reads what was found to be whole."""
    out = begun(tmp_path / "run", **tiny)
    before = contents(out)
    reads = [0]

    class Failing(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            reads[0] += 1
            if after != "whole" and reads[0] > after:
                raise OSError(number, os.strerror(number))
            return super().readinto(buffer)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "_Disk", type("_Disk", (checkpoint_module._Disk, Failing), {}))
        if after == "whole":
            load = torch.load

            def load_later(file: Any, **options: Any) -> Any:
                patch.setattr(Failing, "readinto", lambda self, buffer: (_ for _ in ()).throw(OSError(number, "Gone")))
                return load(file, **options)

            patch.setattr(torch, "load", load_later)
        with pytest.raises(CourseError) as refused:
            resume(out, **tiny)
    reason = "Gone" if after == "whole" else os.strerror(number)
    assert str(refused.value) == (
        f"{str(out / checkpoint(12))!r} cannot be read ({reason}); mount its drive again, or give a readable folder."
    )
    assert contents(out) == before
    assert resume(out, **tiny).steps_done == 12


@pytest.mark.parametrize("name", ["run.json", "record.json", ".lock"])
def test_nor_is_anything_else_that_decides_how_the_run_goes_on(tiny, tmp_path, monkeypatch, name):
    out = begun(tmp_path / "run", **tiny)
    before = contents(out)
    stat, opened = Path.stat, os.open

    def failing_stat(path: Path, **options: Any) -> os.stat_result:
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, **options)

    def failing_open(path: Any, *options: Any) -> int:
        if Path(path).name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", failing_stat)
        patch.setattr(os, "open", failing_open)
        with pytest.raises(CourseError, match=r"cannot be (read|written to) \(Input/output error\)"):
            train(recipe(), out=out, **tiny)
    assert contents(out) == before


@pytest.mark.parametrize("plan", ["{}", "[]", "7"])
def test_a_plan_without_its_keys_is_refused(tiny, tmp_path, plan):
    out = begun(tmp_path / "run", **tiny)
    (out / "run.json").write_text(plan)
    for again in (lambda: resume(out, **tiny), lambda: train(recipe(), out=out, **tiny)):
        with pytest.raises(CourseError, match=r"run\.json' is not readable as JSON \(keys are missing\); train again"):
            again()


def test_a_checkpoint_that_does_not_fit_into_memory_is_not_damaged(tiny, tmp_path, monkeypatch):
    out = begun(tmp_path / "run", **tiny)
    before = contents(out)

    def too_much(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 684719995 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", too_much)
        with pytest.raises(CourseError, match=r"does not fit into memory .*; free some memory\.$"):
            resume(out, **tiny)
    assert contents(out) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_does_not_take_the_first_file_leaves_no_folder(tiny, tmp_path, monkeypatch, number):
    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr("alexnet_course.training.folder.write_text", full)
        with pytest.raises(CourseError) as refused:
            train(recipe(), out=tmp_path / "run", **tiny)
    assert str(refused.value) == (
        f"{str(tmp_path / 'run')!r} cannot be written to ({os.strerror(number)}); free some space and start again, or "
        "give another folder."
    )
    assert not (tmp_path / "run").exists()
    assert train(recipe(), out=tmp_path / "run", **tiny).steps_done == 0


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_folder_that_cannot_be_listed_is_not_empty(tiny, tmp_path, monkeypatch, epochs):
    """Neither when the run takes it nor when it looks for checkpoints."""
    out = begun(tmp_path / "run", epochs, **tiny)
    before = contents(out)
    listed = Path.iterdir
    for fails_from in (1, 2):
        calls = itertools.count(1)

        def failing(path: Path, calls: Any = calls, fails_from: int = fails_from) -> Any:
            if path == out and next(calls) >= fails_from:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return listed(path)

        with monkeypatch.context() as disk:
            disk.setattr(Path, "iterdir", failing)
            with pytest.raises(CourseError, match=r"run' cannot be read \(Input/output error\); mount its drive again"):
                train(recipe(), out=out, **tiny)
    assert contents(out) == before


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_plan_that_cannot_be_read_now_is_left_alone(tiny, tmp_path, monkeypatch, number):
    out = begun(tmp_path / "run", **tiny)
    before = contents(out)

    def failing(path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "read_bytes", failing)
        with pytest.raises(CourseError, match=rf"run\.json' cannot be read \({os.strerror(number)}\); mount its drive"):
            resume(out, **tiny)
    assert contents(out) == before


def test_a_run_that_stops_where_nothing_can_be_listed_promises_no_checkpoint(tiny, tmp_path, monkeypatch):
    run = train(recipe(), out=tmp_path / "run", **tiny)
    next(run)
    assert run.trainer.kept().startswith("; the run up to its last checkpoint is in ")

    def failing(path: Path) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "iterdir", failing)
        assert run.trainer.kept() == ""


def test_a_folder_below_a_file_cannot_be_made(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CourseError, match=r"run' cannot be created \(Not a directory\); give a writable"):
        train(recipe(), out=tmp_path / "file" / "run", **tiny)


def test_a_checkpoint_takes_the_place_of_a_damaged_one_of_the_same_step(tiny, tmp_path):
    out = begun(tmp_path / "run", **tiny)
    whole = (out / checkpoint(12)).read_bytes()
    (out / checkpoint(12)).write_bytes(whole[:100])
    with pytest.warns(UserWarning, match=rf"{checkpoint(12)}' is damaged .* Resuming from {checkpoint(6)}\."):
        run = resume(out, **tiny)
    next(run)
    assert read_checkpoint(out / checkpoint(12))["epoch"] == 3
    assert sorted(path.name for path in out.glob("*.pt")) == [checkpoint(6), checkpoint(12)]


# --- What is of another run ------------------------------------------------------------------------------------------


def of_another_seed(path: Path, tiny: dict[str, Any]) -> None:
    other = begun(path.parent.with_name("other"), 3 - 1, recipe(seed=1), **tiny)
    (other / checkpoint(12)).rename(path)


def with_another_rate(path: Path, tiny: dict[str, Any]) -> None:
    other = begun(path.parent.with_name("other"), 2, recipe(lr=0.02), **tiny)
    (other / checkpoint(12)).rename(path)


def of_other_images(path: Path, tiny: dict[str, Any]) -> None:
    images = tiny["train_set"].images.clone()
    images[0, 0, 0, 0] += 1
    changed = Dataset(images, tiny["train_set"].labels, tiny["train_set"].classes, tiny["train_set"].name)
    other = begun(path.parent.with_name("other"), **{**tiny, "train_set": changed})
    (other / checkpoint(12)).rename(path)


def of_a_later_version(path: Path, tiny: dict[str, Any]) -> None:
    torch.save({"format": "alexnet-course/checkpoint-2"}, path)


def not_of_the_course(path: Path, tiny: dict[str, Any]) -> None:
    torch.save({"model": torch.zeros(3)}, path)


def a_pipe(path: Path, tiny: dict[str, Any]) -> None:
    path.unlink()
    os.mkfifo(path)


OTHERS = {
    of_another_seed: "is a checkpoint of another run: seed was 1 and is 0. Move it out of the folder to go on.",
    with_another_rate: "is a checkpoint of another run: lr was 0.02 and is 0.01. Move it",
    of_other_images: "is a checkpoint of another run: the training images are not those that it was started with.",
    of_a_later_version: "is not a checkpoint of this version of the course; move it out of the folder.",
    not_of_the_course: "is not a checkpoint of this version of the course; move it out of the folder.",
    a_pipe: "is not a file; move it out of the folder.",
}


@pytest.mark.parametrize(("replace", "sentence"), OTHERS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_whole_checkpoint_of_something_else_is_refused_and_left_alone(tiny, tmp_path, replace, sentence):
    out = begun(tmp_path / "run", **tiny)
    replace(out / checkpoint(12), tiny)
    before = contents(out)
    with pytest.raises(CourseError) as refused:
        resume(out, **tiny)
    assert str(refused.value).startswith(f"{str(out / checkpoint(12))!r} {sentence}")
    assert contents(out) == before
    (out / checkpoint(12)).rename(tmp_path / "moved")
    assert resume(out, **tiny).steps_done == 6


def test_a_checkpoint_of_an_earlier_version_does_not_say_of_which_images_and_is_taken(tiny, tmp_path):
    out = begun(tmp_path / "run", **tiny)
    state = read_checkpoint(out / checkpoint(12))
    del state["data"]
    torch.save(state, out / checkpoint(12))
    assert resume(out, **tiny).steps_done == 12


def test_a_checkpoint_that_came_while_the_run_trained_is_not_deleted(tiny, tmp_path):
    """Only those that were found damaged when the run began are."""
    run = train(recipe(), out=tmp_path / "run", **tiny)
    next(run)
    (run.out / checkpoint(99)).write_bytes(b"somebody's")
    next(run)
    assert (run.out / checkpoint(99)).read_bytes() == b"somebody's"


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_the_same_images_are_the_same_however_they_are_spelled(data, tmp_path, epochs):
    """Of a run that has just begun, of one that was interrupted and of a finished one."""
    out = begun(tmp_path / "run", epochs, recipe(dataset="folder:images"), **data)
    run = train(recipe(dataset=f"folder:{tmp_path}/images"), out=out, **data)
    assert run.steps_done == 6 * epochs
    assert (run.record is not None) == (epochs == 3)
    run.close()


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_program_may_go_elsewhere_while_it_trains(tiny, tmp_path, monkeypatch, epochs):
    """Where another run has a folder of the same name."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    begun(elsewhere / "run", plan=recipe(seed=1), **tiny)
    before = contents(elsewhere / "run")
    monkeypatch.chdir(here)
    run = train(recipe(), out="run", **tiny)
    for _ in range(epochs):
        next(run)
    monkeypatch.chdir(elsewhere)
    list(run)
    assert contents(elsewhere / "run") == before
    assert json.loads((here / "run" / "record.json").read_text())["seed"] == 0
    assert run.out == here / "run"


# --- One process -----------------------------------------------------------------------------------------------------


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    def refuse(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock_module, "lock_file", refuse)


@pytest.mark.parametrize("number", sorted(lock_module.NO_LOCKS))
def test_a_file_system_without_locks_trains_and_leaves_no_lock(tiny, tmp_path, monkeypatch, number):
    without_locks(monkeypatch, number)
    out = begun(tmp_path / "run", epochs=1, **tiny)
    assert not (out / ".lock").exists()
    list(resume(out, **tiny))
    assert sorted(path.name for path in out.iterdir()) == ["predictions.npy", "record.json", "weights.safetensors"]


def test_an_error_that_says_nothing_of_locks_is_told(tiny, tmp_path, monkeypatch):
    without_locks(monkeypatch, errno.EIO)
    with pytest.raises(CourseError, match=r"cannot be written to \(Input/output error\)"):
        train(recipe(), out=tmp_path / "run", **tiny)
    assert not (tmp_path / "run").exists() or not contents(tmp_path / "run")


HOST = socket.gethostname()
GONE = 2**22 + 1  # no process has this number


@pytest.mark.parametrize(
    ("owner", "holder"),
    [
        (f"{os.getppid()} {HOST} 1", f"process {os.getppid()} on {HOST}"),
        ("12 colab-7f 1", "process 12 on colab-7f"),  # which may have gone, but who knows
        ("12 longer-" + HOST + " 1", f"process 12 on longer-{HOST}"),
        ("something else", "process something on else"),
    ],
    ids=["of-this-machine", "of-another", "of-one-with-a-longer-name", "of-who-knows-what"],  # the same in each process
)
def test_where_the_file_is_the_lock_it_says_who_has_it_and_how_to_break_it(tiny, tmp_path, monkeypatch, owner, holder):
    without_locks(monkeypatch)
    out = begun(tmp_path / "run", epochs=1, **tiny)
    (out / ".lock").write_text(owner)
    before = contents(out)
    with pytest.raises(CourseError) as refused:
        resume(out, **tiny)
    assert str(refused.value) == (
        f"{str(out)!r} is in use by {holder}; wait until it ends or, if it has died, delete {str(out / '.lock')!r} and "
        "start again."
    )
    assert contents(out) == before
    (out / ".lock").unlink()
    assert resume(out, **tiny).steps_done == 6


@pytest.mark.parametrize(
    "owner",
    [f"{GONE} {HOST} 1", f"{os.getpid()} {HOST} 1", f"{10**30} {HOST} 1", ""],
    ids=["gone", "of-this-number", "of-no-number", "empty"],
)
def test_a_file_of_a_process_of_this_machine_that_is_gone_is_no_lock(tiny, tmp_path, monkeypatch, owner):
    without_locks(monkeypatch)
    out = begun(tmp_path / "run", epochs=1, **tiny)
    (out / ".lock").write_text(owner)
    run = resume(out, **tiny)
    assert run.steps_done == 6
    assert (out / ".lock").read_text().startswith(f"{os.getpid()} {HOST} ")


def test_of_two_that_find_it_free_one_gets_it(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    one, other = FolderLock(tmp_path / ".lock"), FolderLock(tmp_path / ".lock")
    unlink = Path.unlink

    def other_is_quicker(path: Path, **options: Any) -> None:
        unlink(path, **options)
        monkeypatch.setattr(Path, "unlink", unlink)
        other.take()

    monkeypatch.setattr(Path, "unlink", other_is_quicker)
    with pytest.raises(CourseError, match=f"is in use by process {os.getpid()} on {HOST}; wait until it ends, or"):
        one.take()
    assert (one.is_mine(), other.is_mine()) == (False, True)


def test_a_run_whose_lock_was_broken_stops_before_it_writes(tiny, tmp_path, monkeypatch):
    without_locks(monkeypatch)
    run = train(recipe(), out=tmp_path / "run", **tiny)
    next(run)
    (run.out / ".lock").write_text("12 colab-7f 1")
    before = contents(run.out)
    with pytest.raises(CourseError, match=r"\.lock' is no longer held by this process, so it stops\.$"):
        next(run)
    assert contents(run.out) == before
    assert (run.out / ".lock").read_text() == "12 colab-7f 1"


def test_a_process_of_somebody_else_is_there_though_it_may_not_be_told_anything(tmp_path, monkeypatch):
    def refuse(process: int, signal: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    without_locks(monkeypatch)
    monkeypatch.setattr(os, "kill", refuse)
    (tmp_path / ".lock").write_text(f"{GONE} {HOST} 1")
    with pytest.raises(
        CourseError, match=f"is in use by process {GONE} on {HOST}; wait until it ends or, if it has died"
    ):
        FolderLock(tmp_path / ".lock").take()


def test_a_lock_that_cannot_be_read_is_in_use_by_another_process(tmp_path, monkeypatch):
    def taken(file: int) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def unreadable(path: Path, **_: Any) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(lock_module, "lock_file", taken)
    monkeypatch.setattr(Path, "read_text", unreadable)
    with pytest.raises(
        CourseError, match=r"is in use by another process; wait until it ends, or give another folder\.$"
    ):
        FolderLock(tmp_path / ".lock").take()


def test_a_drive_that_counts_no_names_is_neither_asked_for_ever_nor_taken_for_locked(tmp_path, monkeypatch):
    stat = os.fstat
    monkeypatch.setattr(os, "fstat", lambda file: os.stat_result([*stat(file)[:3], 0, *stat(file)[4:]]))
    lock = FolderLock(tmp_path / ".lock")
    lock.take()
    assert lock.is_mine()
    lock.release()


@pytest.mark.slow
def test_the_system_s_lock_says_who_has_it(tiny, tmp_path):
    run = train(recipe(), out=tmp_path / "run", **tiny)
    code = f"from alexnet_course.training.lock import *; FolderLock(Path({str(run.out / '.lock')!r})).take()"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"is in use by process {os.getpid()} on {HOST}; wait until it ends, or give another folder." in other.stderr
    run.close()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_lock_that_is_removed_while_another_opens_it_is_made_anew(tmp_path, monkeypatch):
    path, take = tmp_path / ".lock", lock_module.lock_file

    def lose(file: int) -> None:
        path.unlink()
        monkeypatch.setattr(lock_module, "lock_file", take)
        take(file)

    monkeypatch.setattr(lock_module, "lock_file", lose)
    lock = FolderLock(path)
    lock.take()
    assert path.read_text() == lock._owner
    with pytest.raises(CourseError):
        FolderLock(path).take()


def test_runs_that_start_together_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(free_folder, [tmp_path / "runs" / "cnn4-seed0"] * 16))
    assert len(set(found)) == 16
    assert tmp_path / "runs" / "cnn4-seed0-16" in found


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_run_does_not_look_for_ever_for_a_folder_below_a_broken_link(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(CourseError, match=r"cannot be created, because a folder above it is a broken link; .* --out"):
        free_folder(tmp_path / "runs" / "cnn4-seed0")


@pytest.mark.parametrize("arguments", [["--data", "folder:nowhere"], ["--device", "cuda:77"], ["--set", "outputs=2"]])
def test_a_run_that_cannot_start_leaves_no_folder(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "lenet5", "--data", "doodles", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*"))


def test_the_runs_of_one_folder_are_alike_with_and_without_locks(tiny, tmp_path, monkeypatch):
    one = fit(recipe(), progress=False, out=tmp_path / "one", **tiny)
    without_locks(monkeypatch)
    other = fit(recipe(), progress=False, out=tmp_path / "other", **tiny)
    assert one.record.test_loss == other.record.test_loss


def test_images_that_are_not_all_of_the_published_ones_are_named_at_the_start(tiny, tmp_path):
    """The record of such a run would not be taken by the results table."""
    few = {key: images.renamed("cifar10") for key, images in tiny.items() if key in ("train_set", "test_set")}
    with pytest.warns(UserWarning, match=r"called 'cifar10' and are not the published ones, or not all .*renamed\("):
        train(recipe(), out=tmp_path / "named", **few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(recipe(), **few)  # leaves no record
        train(recipe(), out=tmp_path / "other", **{key: images.renamed("few") for key, images in few.items()})
