"""An interrupted run loses nothing: its end is, to the bit, that of a run which was left alone.

The long form of the first test is ``python -m benchmarks.kill``.
"""

import os
import pickle
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from short_runs import recipe, wait_for_checkpoint

from alexnet_course.cli import main
from alexnet_course.data import Dataset, load_dataset
from alexnet_course.errors import CourseError
from alexnet_course.files import UNFINISHED
from alexnet_course.recipe import Recipe
from alexnet_course.training import Run, TrainingStopped, resume, train
from alexnet_course.training import folder as folder_module
from alexnet_course.training.checkpoint import FORMAT, read_checkpoint
from alexnet_course.watching import fit
from benchmarks.kill import (
    Process,
    good,
    kill_again_and_again,
    make_images,
    resume_arguments,
    same_end,
    saved_state,
    train_arguments,
    without_times,
)

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = {"crop": 4, "flip": True, "cutout": 8, "colour_pca": 0.1, "label_smoothing": 0.1}


class Crash(Exception):
    """In place of SIGKILL, where a test stops a run inside its own process: nothing is saved on the way out."""


pytestmark = pytest.mark.usefixtures("no_commit")


def stop_at(step: int, plan: Recipe, **options: Any) -> Run:
    """Train until ``step`` steps are done, of which those after the last checkpoint are lost."""
    run = train(plan, **options)

    def crash() -> None:
        if run.steps_done == step:
            raise Crash

    run.on_step = crash
    with pytest.raises(Crash):
        list(run)
    torch.manual_seed(999)  # another process would have other random numbers
    return run


def finish(run: Run) -> Run:
    list(run)
    return run


def alike(one: Run, other: Run) -> bool:
    """Whether two finished runs are the same: weights and buffers to the bit, record and history but for times."""
    weights = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    records = [without_times({**run.record.as_dict(), "history": run.history}) for run in (one, other)]
    return all(torch.equal(a, b) for a, b in weights) and records[0] == records[1]


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def checkpoint(step: int) -> str:
    return f"checkpoint-{step:09d}.pt"


# --- Killed, and asked to stop ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(tmp_path):
    aims = ("step", "checkpoint", "validation")
    kills = kill_again_and_again(tmp_path, 5, aims=aims)
    assert len(kills) >= 5
    assert {kill.phase for kill in kills} >= set(aims)
    assert [kill for kill in kills if not good(kill)] == []
    assert any(kill.saved.startswith("step") for kill in kills)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A folder with images and with a run of 96 steps that was left alone."""
    root = tmp_path_factory.mktemp("left-alone")
    make_images(root / "images")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ALEXNET_COURSE_CACHE", str(root / "cache"))
        environment.setenv("GIT_DIR", os.devnull)
        assert main([*train_arguments(root / "images", root / "run", "cnn4", seed=0), "--epochs", "8"]) == 0
    return root


def hear_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and this test may run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize(("wish", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_is_asked_to_stop_saves_first(alone, tmp_path, monkeypatch, capfd, wish, status):
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(alone / "cache"))
    out = tmp_path / "run"
    arguments = [*train_arguments(alone / "images", out, "cnn4", seed=0), "--epochs", "8"]
    command = [sys.executable, "-m", "alexnet_course", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=hear_ctrl_c) as process:
        try:
            wait_for_checkpoint(process, out)
            process.send_signal(wish)
            printed, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, printed) == (status, "")
    state = saved_state(out)
    assert state.startswith("step ")
    last = errors.splitlines()[-1]
    assert last == f"alexnet-course: Stopped by {wish.name} at {state} of 96; the run is in {out}, resume it to go on."
    assert main(resume_arguments(out)) == 0
    assert f"resuming {out} at {state} of 96\n" in capfd.readouterr().err
    assert same_end(out, alone / "run")


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Sends Ctrl-C to this process, which raises ``KeyboardInterrupt`` where no run takes it."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    assert all(signal.getsignal(number) is signal.default_int_handler for number in before)  # the run gave them back
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("during", "at", "epochs"), [("step", 8, 1), ("validation", 12, 1), ("test", 18, 3)])
def test_ctrl_c_saves_at_once_wherever_it_comes(tiny, tmp_path, monkeypatch, ctrl_c, during, at, epochs):
    plan = recipe(schedule="plateau", patience=0, **EVERYTHING)
    run = train(plan, out=tmp_path / "run", **tiny)
    with monkeypatch.context() as patch:
        from alexnet_course.training import trainer

        evaluate, calls = trainer.evaluate_batches, []

        def evaluate_and_wish(*arguments: Any) -> Any:
            calls.append(arguments)
            if (during, len(calls)) in (("validation", 2), ("test", 4)):
                ctrl_c()
            return evaluate(*arguments)

        patch.setattr(trainer, "evaluate_batches", evaluate_and_wish)
        run.on_step = lambda: ctrl_c() if (during, run.steps_done) == ("step", at) else None
        with pytest.raises(TrainingStopped) as stopped:
            list(run)
    assert str(stopped.value) == (
        f"Stopped by SIGINT at step {at} of 18; the run is in {tmp_path / 'run'}, resume it to go on."
    )
    assert stopped.value.signal == signal.SIGINT
    assert len(run.history) == epochs  # it did not wait for the end of the validation
    resumed = resume(tmp_path / "run", **tiny)
    assert resumed.steps_done == at
    assert alike(finish(resumed), fit(plan, progress=False, **tiny))


@pytest.mark.parametrize("during", ["step", "save"])
def test_a_second_ctrl_c_does_not_wait(tiny, tmp_path, monkeypatch, ctrl_c, during):
    run = train(recipe(), out=tmp_path / "run", **tiny)
    save = torch.save

    def wish() -> None:
        if run.steps_done == 8:
            ctrl_c()
            if during == "step":
                ctrl_c()

    def save_and_wish(state: dict[str, Any], path: Path) -> None:
        save(state, path)
        if run.steps_done == 8:
            ctrl_c()

    run.on_step = wish
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_and_wish)
        with pytest.raises(KeyboardInterrupt):
            list(run)
    assert names(tmp_path / "run") == [".lock", checkpoint(6), "run.json"]
    assert alike(finish(resume(tmp_path / "run", **tiny)), fit(recipe(), progress=False, **tiny))


# --- Everything is in a checkpoint -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "step", "plateau", "one-cycle"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
def test_every_optimiser_and_schedule_goes_on_inside_an_epoch(tiny, tmp_path, optimiser, schedule):
    changes = {"step": {"lr_steps": [1, 2]}, "plateau": {"patience": 0}}.get(schedule, {})
    plan = recipe(optimiser=optimiser, schedule=schedule, **changes, **EVERYTHING)
    stop_at(11, plan, out=tmp_path / "run", checkpoint_steps=4, **tiny)
    resumed = resume(tmp_path / "run", **tiny)
    assert resumed.steps_done == 10
    assert alike(finish(resumed), fit(plan, progress=False, **tiny))


@pytest.mark.slow
def test_a_run_that_goes_back_to_its_best_weights_goes_on_with_them(tiny, tmp_path):
    changes = {"restore_best": True, "augmented_validation": True, "alternate_flip": True}
    plan = recipe(schedule="plateau", patience=0, max_drops=2, lr=0.3, epochs=6, **changes, **EVERYTHING)
    alone = fit(plan, progress=False, **tiny)
    assert len({entry["lr"] for entry in alone.history}) == 3  # it did go back, twice
    for step in range(8, alone.steps, 9):
        stop_at(step, plan, out=tmp_path / str(step), checkpoint_steps=2, **tiny)
        assert alike(finish(resume(tmp_path / str(step), **tiny)), alone), step


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_two_groups_of_weights_and_a_part_of_the_images_go_on_inside_an_epoch(tiny, tmp_path, optimiser):
    plan = recipe(optimiser=optimiser, decay="weights", weight_decay=0.1, train_size=64, autoaugment=True, crop=4)
    stop_at(6, plan, out=tmp_path / "run", checkpoint_steps=3, **tiny)
    resumed = resume(tmp_path / "run", **tiny)
    assert resumed.steps_done == 4  # the end of the first epoch
    assert alike(finish(resumed), fit(plan, progress=False, **tiny))


def test_a_run_that_saves_by_the_clock_goes_on_where_it_was_asked_to_stop(tiny, tmp_path, ctrl_c):
    run = train(recipe(**EVERYTHING), out=tmp_path / "run", **{**tiny, "checkpoint_seconds": 1e6})
    run.on_step = lambda: ctrl_c() if run.steps_done == 14 else None
    with pytest.raises(TrainingStopped):
        list(run)
    assert names(tmp_path / "run") == [".lock", checkpoint(14), "run.json"]
    resumed = resume(tmp_path / "run", **{**tiny, "checkpoint_seconds": 1e6})
    assert resumed.steps_done == 14
    assert alike(finish(resumed), fit(recipe(**EVERYTHING), progress=False, **tiny))


def test_a_run_that_saves_by_the_clock_and_is_killed_before_begins_anew(tiny, tmp_path):
    stop_at(14, recipe(**EVERYTHING), out=tmp_path / "run", **{**tiny, "checkpoint_seconds": 1e6})
    resumed = resume(tmp_path / "run", **{**tiny, "checkpoint_seconds": 1e6})
    assert resumed.steps_done == 0
    assert alike(finish(resumed), fit(recipe(**EVERYTHING), progress=False, **tiny))


@pytest.mark.slow
def test_a_run_can_stop_after_any_step(tiny, tmp_path):
    plan = recipe(optimiser="adamw", schedule="plateau", patience=0, **EVERYTHING)
    alone = fit(plan, progress=False, **tiny)
    for step in range(1, alone.steps + 1):
        out = tmp_path / str(step)
        stop_at(step, plan, out=out, checkpoint_steps=1, **tiny)
        resumed = train(plan, out=out, **tiny)
        assert resumed.steps_done == step - 1  # the crash came before the save
        assert alike(finish(resumed), alone), step


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_goes_on_with_its_scaler(tiny, tmp_path, precision):
    def start(**options: Any) -> Run:
        run = train(recipe(precision=precision, **EVERYTHING), **options, **tiny)
        if precision == "fp16":  # so that the scale grows, overflows and shrinks within these few steps
            run.trainer.scaler.set_growth_interval(2)
        scales.append([])
        run.on_step = lambda: scales[-1].append(run.trainer.scaler.get_scale())
        return run

    scales: list[list[float]] = []
    alone = finish(start())
    run = start(out=tmp_path / "run", checkpoint_steps=5)
    next(run)
    run.on_step = lambda: (_ for _ in ()).throw(Crash) if run.steps_done == 12 else None
    with pytest.raises(Crash):
        next(run)
    resumed = start(out=tmp_path / "run")
    assert resumed.steps_done == 11
    assert alike(finish(resumed), alone)
    assert scales[2] == scales[0][11:]
    assert len(set(scales[2])) == 1 if precision != "fp16" else len(set(scales[2])) > 2


def test_the_random_numbers_of_other_code_go_on_too(tiny, tmp_path):
    def draw() -> None:
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))

    drawn: list[tuple[float, ...]] = []
    random.seed(1)
    np.random.seed(1)
    finish(train(recipe(), on_step=draw, **tiny))
    alone, drawn = drawn, []
    random.seed(1)
    np.random.seed(1)
    run = train(recipe(), out=tmp_path / "run", on_step=draw, **tiny)
    next(run), run.close()
    random.seed(2)
    np.random.seed(2)
    finish(resume(tmp_path / "run", on_step=draw, **tiny))
    assert len(alone) == 18
    assert drawn == alone


# --- A full disk, and a disk that forgets ----------------------------------------------------------------------------


@contextmanager
def disk_full() -> Iterator[None]:
    """No file of this process can grow beyond 1 kB; Python ignores the signal that goes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def disk_full_at_the_flush() -> Iterator[None]:
    """As file systems do that take everything first and look for room later."""

    def fail(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


@pytest.mark.parametrize("full", [disk_full, disk_full_at_the_flush])
def test_a_full_disk_costs_one_checkpoint_and_not_the_run(tiny, tmp_path, full):
    out, alone = tmp_path / "run", fit(recipe(), progress=False, **tiny)
    run = train(recipe(), out=out, **tiny)
    next(run)
    before = (out / checkpoint(6)).read_bytes()
    with (
        full(),
        pytest.warns(UserWarning, match=r"^The checkpoint of step 12 could not be saved in .*run \(.*; training"),
    ):
        assert next(run).epoch == 2
    assert names(out) == [".lock", checkpoint(6), "run.json"]
    assert (out / checkpoint(6)).read_bytes() == before
    run.close()
    resumed = resume(out, **tiny)
    assert resumed.steps_done == 6
    next(resumed)
    with full(), pytest.warns(UserWarning, match="step 18"), pytest.raises(TrainingStopped) as stopped:
        next(resumed)
    assert str(stopped.value).startswith("The run is finished, with a test accuracy of ")
    assert str(stopped.value).endswith("; free some space and resume it.")
    assert names(out) == [".lock", checkpoint(6), checkpoint(12), "run.json"]
    assert alike(finish(resume(out, **tiny)), alone)
    assert names(out) == ["predictions.npy", "record.json", "weights.safetensors"]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def noise_over_a_tensor(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        weights = max(archive.infolist(), key=lambda entry: entry.file_size * ("/data/" in entry.filename))
    with open(path, "r+b") as file:
        file.seek(weights.header_offset + 512 + weights.file_size // 2)
        file.write(random.Random(0).randbytes(64))
    torch.load(path, weights_only=True)  # PyTorch does not notice


def noise_over_all(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


DAMAGES = {
    truncate: "is damaged",
    empty: "is damaged",
    noise_over_a_tensor: r"is damaged \(wrong checksum of data/\d+\)",
    noise_over_all: "is damaged",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tiny, tmp_path, damage, reason):
    plan, out = recipe(**EVERYTHING), tmp_path / "run"
    stop_at(17, plan, out=out, checkpoint_steps=4, **tiny)
    damage(out / checkpoint(16))
    with pytest.warns(UserWarning, match=rf"{checkpoint(16)}' {reason}.*\. Resuming from {checkpoint(12)}\.$"):
        resumed = resume(out, **tiny)
    assert resumed.steps_done == 12
    assert alike(finish(resumed), fit(plan, progress=False, **tiny))


def test_where_all_are_damaged_the_run_starts_anew_and_is_saved_anew(tiny, tmp_path):
    plan, out = recipe(**EVERYTHING), tmp_path / "run"
    stop_at(17, plan, out=out, checkpoint_steps=4, **tiny)
    for path in out.glob("*.pt"):
        truncate(path)
    with pytest.warns(UserWarning, match="is damaged") as said:
        stop_at(11, plan, out=out, checkpoint_steps=4, **tiny)
    assert [str(warning.message).rpartition(". ")[2] for warning in said] == [
        f"Resuming from {checkpoint(12)}.",
        "Starting from the beginning.",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the damaged ones are gone
        resumed = resume(out, **tiny)
    assert resumed.steps_done == 10
    assert alike(finish(resumed), fit(plan, progress=False, **tiny))


class Trap:
    """What is unpickled as a call of ``os.mkdir``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [torch.save, pickle.dump])
def test_a_checkpoint_with_code_in_it_is_not_opened(tiny, tmp_path, write):
    plan, out = recipe(), tmp_path / "run"
    stop_at(17, plan, out=out, checkpoint_steps=4, **tiny)
    with open(out / checkpoint(16), "wb") as file:
        write({"format": FORMAT, "model": Trap(tmp_path / "sprung")}, file)
    if write is torch.save:  # it is whole, so somebody may want it
        with pytest.raises(CourseError, match=r"could execute code, so it is not opened; move it out of the folder\.$"):
            resume(out, **tiny)
        (out / checkpoint(16)).rename(tmp_path / "moved")
        resumed = resume(out, **tiny)
    else:
        with pytest.warns(UserWarning, match=rf"is damaged.* Resuming from {checkpoint(12)}\.$"):
            resumed = resume(out, **tiny)
    assert not (tmp_path / "sprung").exists()
    assert alike(finish(resumed), fit(plan, progress=False, **tiny))
    with open(tmp_path / "trap", "wb") as file:
        write(Trap(tmp_path / "sprung"), file)
    with open(tmp_path / "trap", "rb") as file:  # and it would have sprung
        torch.load(file, weights_only=False) if write is torch.save else pickle.load(file)
    assert (tmp_path / "sprung").exists()


@pytest.mark.slow
def test_no_damage_goes_unnoticed(tmp_path):
    """Wherever a byte is wrong or the file ends: it is refused, or nothing that is read differs."""
    path = tmp_path / "some.pt"
    torch.save({"format": FORMAT, "model": torch.arange(300.0), "history": [1, 2.5, "three"]}, path)
    whole = path.read_bytes()
    refused = 0
    for offset in range(0, len(whole), 3):
        for damaged in (whole[:offset], whole[:offset] + bytes([whole[offset] ^ 0x55]) + whole[offset + 1 :]):
            path.write_bytes(damaged)
            try:
                state = read_checkpoint(path)
            except CourseError:
                refused += 1
            else:
                assert torch.equal(state.pop("model"), torch.arange(300.0))
                assert state == {"format": FORMAT, "history": [1, 2.5, "three"]}
    assert refused > len(whole) / 3  # every file that ends early, and more


# --- A drive that comes and goes -------------------------------------------------------------------------------------

# A runtime of Colab's: its drive is there only after ``mount``. What follows are the lines that the book gives.
RUNTIME = """
import sys, types
from pathlib import Path
from alexnet_course import Recipe
from alexnet_course.training import checkpoint

checkpoint.DRIVE = Path({mount!r})
mounted = []
Path.is_mount = lambda path: str(path) in mounted
colab, drive = types.ModuleType("google.colab"), types.ModuleType("google.colab.drive")
colab.drive, drive.mount = drive, mounted.append
sys.modules |= {{"google": types.ModuleType("google"), "google.colab": colab, "google.colab.drive": drive}}
recipe = Recipe(**{recipe!r})
"""
SHORT = {"model": "lenet5", "epochs": 12, "train_size": 128, "validation_size": 64, "batch_size": 32}


@pytest.mark.slow
def test_the_book_s_lines_go_on_in_another_runtime_after_the_first_has_died(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the steps are so small that a second thread is in the way
    chapter = nbformat.read(ROOT / "book" / "trainer.ipynb", as_version=4)
    (text,) = (cell.source for cell in chapter.cells if cell.id == "trainer-drive")
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    mount = tmp_path / "content" / "drive"
    assert str(folder_module.DRIVE) in lines
    lines = lines.replace(str(folder_module.DRIVE), str(mount))
    command = [sys.executable, "-c", RUNTIME.format(mount=str(mount), recipe=SHORT) + lines]
    (mount / "MyDrive").mkdir(parents=True)
    out = mount / "MyDrive" / "my-run"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while len(list(out.glob("*.pt"))) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.005)
        process.kill()
    truncate(max(out.glob("*.pt")))  # the upload was not over
    assert not (out / "record.json").exists()
    again = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "is damaged" in again.stderr
    subprocess.run([*command[:-1], command[-1].replace(out.name, "alone")], stderr=subprocess.DEVNULL, check=True)
    assert same_end(out, out.with_name("alone"))


def test_a_drive_that_is_not_mounted(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "DRIVE", tmp_path / "drive")
    out = tmp_path / "drive" / "MyDrive" / "run"
    for start in (lambda: train(recipe(), out=out, **tiny), lambda: resume(out, **tiny)):
        with pytest.raises(CourseError) as refused:
            start()
        assert str(refused.value) == (
            f"{str(out)!r} is on Google Drive, which is not mounted; run from google.colab import drive; "
            f"drive.mount({str(tmp_path / 'drive')!r}) first."
        )
    assert not (tmp_path / "drive").exists()  # a folder in its place would stand in the way of the drive
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "drive")
    finish(train(recipe(epochs=1), out=out, **tiny))
    assert "record.json" in names(out)


def test_a_drive_whose_connection_is_lost(tiny, tmp_path, monkeypatch):
    def lost(*_: object, **__: object) -> None:
        raise OSError(107, os.strerror(107))

    train(recipe(), out=tmp_path / "run", **tiny).close()
    for function, start in (
        ("iterdir", lambda: train(recipe(), out=tmp_path / "run", **tiny)),
        ("read_bytes", lambda: resume(tmp_path / "run", **tiny)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, function, lost)
            with pytest.raises(CourseError, match=r"cannot be read \(Transport endpoint .*; mount its drive again, or"):
                start()


def test_a_folder_that_vanishes_costs_checkpoints_and_not_the_run(tiny, tmp_path):
    out, away = tmp_path / "run", tmp_path / "away"
    alone = fit(recipe(), progress=False, **tiny)
    run = train(recipe(), out=out, **tiny)
    next(run)
    out.rename(away)
    message = (
        "^The checkpoint of step 12 .*the folder is gone.; training continues, so mount its drive again before it ends"
    )
    with pytest.warns(UserWarning, match=message):
        next(run)
    with pytest.warns(UserWarning, match="step 18"), pytest.raises(TrainingStopped) as stopped:
        next(run)
    assert str(stopped.value).startswith("The run is finished, with a test accuracy of ")
    assert str(stopped.value).endswith("; mount its drive again and resume it.")
    assert not out.exists()  # nothing was written where the drive had been
    away.rename(out)
    assert alike(finish(resume(out, **tiny)), alone)


# --- One folder, one run ---------------------------------------------------------------------------------------------


def test_a_run_that_is_started_again_takes_the_folder_over(tiny, tmp_path):
    """As a cell of a notebook that is interrupted and run again does."""
    older = train(recipe(), out=tmp_path / "run", **tiny)
    next(older)
    newer = train(recipe(), out=tmp_path / "run", **tiny)
    assert newer.steps_done == 6
    with pytest.raises(CourseError, match="was taken over by a later run of this process, so this one stops"):
        next(older)
    assert older.steps_done == 6  # and has drawn no random numbers, which both share
    assert alike(finish(newer), fit(recipe(), progress=False, **tiny))


@pytest.mark.slow
def test_a_second_process_is_refused_at_once(data, tmp_path):
    run = train(recipe(), out=tmp_path / "run", **data)
    next(run)
    before = names(run.out)
    second = Process(resume_arguments(run.out), tmp_path)
    second.process.join()
    assert second.process.exitcode == 2
    assert second.log.read_text() == (
        f"alexnet-course: {str(run.out)!r} is in use by process {os.getpid()} on {socket.gethostname()}; wait until it "
        "ends, or give another folder.\n"
    )
    assert names(run.out) == before
    assert alike(finish(run), fit(recipe(), progress=False, **data))


def test_a_finished_run_is_loaded(data, tmp_path):
    run = finish(train(recipe(epochs=2), out=tmp_path / "run", **data))
    files = {path: path.read_bytes() for path in run.out.iterdir()}
    again = train(recipe(epochs=2), out=run.out, **data)
    assert list(again) == []
    assert alike(again, run)
    assert again.record == run.record
    assert again.evaluate(data["test_set"]).accuracy == run.record.test_accuracy
    assert {path: path.read_bytes() for path in run.out.iterdir()} == files


def test_what_a_crash_after_the_record_leaves_is_cleared(data, tmp_path, monkeypatch):
    run = train(recipe(epochs=1), out=tmp_path / "run", **data)
    with monkeypatch.context() as patch:
        patch.setattr(run.folder, "discard_checkpoints", lambda: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            next(run)
    assert checkpoint(6) in names(run.out)
    assert list(resume(run.out, **data)) == []
    assert names(run.out) == ["predictions.npy", "record.json", "weights.safetensors"]


def test_unfinished_files_are_cleared(tiny, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / f"run.json.1{UNFINISHED}").write_text("{")  # after a crash before there was a plan
    stop_at(8, recipe(), out=out, **tiny)
    assert names(out) == [".lock", checkpoint(6), "run.json"]
    (out / f"{checkpoint(8)}.1{UNFINISHED}").write_bytes(b"PK")
    resumed = resume(out, **tiny)
    assert resumed.steps_done == 6
    assert names(out) == [".lock", checkpoint(6), "run.json"]


@pytest.mark.parametrize("finished", [False, True])
def test_a_changed_recipe_is_refused_field_by_field(data, tmp_path, finished):
    run = train(recipe(epochs=1), out=tmp_path / "run", checkpoint_steps=2, **data)
    if finished:
        finish(run)
    run.close()
    with pytest.raises(CourseError) as refused:
        train(recipe(epochs=1, lr=0.02, flip=False, optimiser="adam"), out=run.out, **data)
    assert str(refused.value) == (
        f"The run in {str(run.out)!r} cannot be resumed with other settings: optimiser was 'sgd' and is 'adam'; lr was "
        "0.01 and is 0.02; flip was True and is False. Give the old ones to resume it, or a new folder to start again."
    )
    train(recipe(epochs=1), out=run.out, **data).close()  # with the old ones it goes on


def test_a_changed_option_is_refused(tiny, tmp_path):
    train(recipe(), out=tmp_path / "run", **tiny).close()
    with pytest.raises(CourseError, match=r"other settings: deterministic was False and is True\. "):
        train(recipe(), out=tmp_path / "run", deterministic=True, **tiny)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("split", "which"), [("train_set", "training"), ("test_set", "test")])
def test_changed_images_are_refused(data, tmp_path, finished, split, which):
    run = train(recipe(epochs=1), out=tmp_path / "run", **data)
    if finished:
        finish(run)
    run.close()
    images = data[split].images.clone()
    images[0, 0, 0, 0] += 1
    changed = Dataset(images, data[split].labels, data[split].classes, data[split].name)
    sentence = rf"other settings: the {which} images are not those that it was started with\. Give the old ones"
    with pytest.raises(CourseError, match=sentence):
        train(recipe(epochs=1), out=run.out, **{**data, split: changed})


def test_where_there_is_nothing_to_resume(data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    run = finish(train(recipe(epochs=1), out=tmp_path / "run", **data))
    none, empty = tmp_path / "none", tmp_path / "empty"
    for out, state in (
        (none, f"There is no folder {str(none)!r}"),
        (empty, f"{str(empty)!r} holds no run"),
        (run.out, f"{str(run.out)!r} holds a finished run"),
    ):
        before = sorted(tmp_path.rglob("*"))
        assert main(["resume", str(out)]) == 2
        advice = "; give the folder of the run, and mount its drive if it is on one" if out == none else ""
        sentence = f"alexnet-course: {state}, so there is nothing to resume{advice}.\n"
        assert capsys.readouterr() == ("", sentence)
        assert sorted(tmp_path.rglob("*")) == before


def test_images_may_have_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "cache"))
    make_images(tmp_path / "before", training=60, test=15)
    plan = recipe(dataset=f"folder:{tmp_path / 'before'}", validation_size=12)
    alone = fit(plan, progress=False, device="cpu")
    stop_at(5, plan, out=tmp_path / "run", device="cpu")
    (tmp_path / "before").rename(tmp_path / "after")
    command = ["resume", str(tmp_path / "run"), "--device", "cpu"]
    assert main(command) == 2
    assert f"There is no folder '{tmp_path / 'before'}' here, where the images" in capsys.readouterr().err
    assert main([*command, "--data", f"folder:{tmp_path / 'after'}"]) == 0
    assert f"resuming {tmp_path / 'run'} at step 3 of 9\n" in capsys.readouterr().err
    moved = {f"{split}_set": load_dataset(f"folder:{tmp_path / 'after'}", split) for split in ("train", "test")}
    ended = train(plan, out=tmp_path / "run", device="cpu", **moved)
    before = ended.record.dataset.model_copy(update={"name": "folder:before"})
    ended.record = ended.record.replace(dataset=before)
    assert alike(ended, alone)
