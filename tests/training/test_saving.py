"""When a run is saved, and the thread that writes on a GPU, which is let do so on the CPU here."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import short_runs
import torch

from alexnet_course.cli import main
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training import Hook, TrainingStopped, folder, resume, saving, train
from alexnet_course.training.checkpoint import read_checkpoint, write_checkpoint
from alexnet_course.training.folder import RunFolder
from alexnet_course.training.saving import Checkpoints, HostCopy
from alexnet_course.watching import fit

pytestmark = pytest.mark.usefixtures("no_commit")


def recipe(**changes: object) -> Recipe:
    """With an optimiser that has a state of two tensors a weight."""
    return short_runs.recipe(**{"optimiser": "adamw", **changes})


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def checkpoint(step: int) -> str:
    return f"checkpoint-{step:09d}.pt"


# --- How often -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "save", "saved"),
    [
        (200.0, 1.4, range(1, 11)),  # S0's network on a CPU
        (10.0, 2.0, [1, 5, 9, 10]),  # 38 seconds or more after a save of 2, and the last
        (0.3, 2.0, [1, 10]),  # the same network on a fast GPU
        (0.3, 0.01, range(1, 11)),  # a small one
    ],
)
def test_by_default_saving_takes_a_twentieth_of_the_time(tiny, tmp_path, monkeypatch, epoch, save, saved):
    """By a clock that only training and saving move."""
    clock, found = SimpleNamespace(now=0.0), []

    class Clock(Hook):
        def on_epoch_end(self, trainer: Any, result: Any) -> None:
            clock.now += epoch

    def save_slowly(self: RunFolder, state: dict[str, Any], step: int) -> None:
        clock.now += save
        found.append(step // 6)

    monkeypatch.setattr(saving, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(RunFolder, "save", save_slowly)
    options = {**tiny, "checkpoint_seconds": None}
    fit(recipe(epochs=10), progress=False, out=tmp_path / "run", hooks=[Clock()], **options)
    assert found == list(saved)
    assert save * (len(saved) - 1) <= clock.now / 20 + save  # but for the last one, which is always made


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"checkpoint_steps": -1}, "checkpoint_steps = -1 is not a number of steps; give an integer"),
        ({"checkpoint_steps": 2.5}, "checkpoint_steps = 2.5 is not a number of steps"),
        ({"checkpoint_steps": True}, "checkpoint_steps = True is not a number of steps"),
        ({"checkpoint_seconds": -60}, "checkpoint_seconds = -60 is not a time; give seconds, 0 to save after every"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds = nan is not a time"),
        ({"checkpoint_seconds": "60"}, "checkpoint_seconds = '60' is not a time"),
    ],
)
def test_what_is_no_interval_is_refused_before_anything_is_made(data, tmp_path, options, sentence):
    with pytest.raises(CourseError, match=sentence):
        train(recipe(), out=tmp_path / "run", **{**data, **options})
    assert names(tmp_path) == []


@pytest.mark.parametrize("option", [["--checkpoint-steps", "-3"], ["--checkpoint-seconds", "-1"]])
def test_on_the_command_line_too(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "lenet5", "--data", "doodles", *option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"alexnet-course: {option[0][2:].replace('-', '_')} = {option[1]}")
    assert not list(tmp_path.glob("runs/*"))


# --- A thread that writes --------------------------------------------------------------------------------------------


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "background", frozenset({"cpu"}))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, threaded: None) -> Iterator[SimpleNamespace]:
    """A disk that writes when it is let: ``disk.go`` is an event, ``disk.before`` is called in the writing thread."""
    found = SimpleNamespace(go=threading.Event(), before=lambda name: None, threads=set())
    found.go.set()

    def write(path: Path, state: dict[str, Any]) -> None:
        found.threads.add(threading.current_thread())
        assert found.go.wait(60)
        found.before(path.name)
        write_checkpoint(path, state)

    monkeypatch.setattr(folder, "write_checkpoint", write)
    yield found
    found.go.set()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a state but for its times."""
    if isinstance(value, dict):
        value = {str(key): entry for key, entry in value.items() if key not in ("seconds", "images_per_second")}
    elif isinstance(value, list | tuple):
        value = {str(number): entry for number, entry in enumerate(value)}
    else:
        return {path: value.tolist() if isinstance(value, torch.Tensor) else value}
    return {name: leaf for key, entry in value.items() for name, leaf in flat(entry, f"{path}/{key}").items()}


class Crash(Exception):
    """In place of SIGKILL: nothing is saved on the way out."""


def at(step: int, run: Any, action: Callable[[], object]) -> None:
    before = run.on_step
    run.on_step = lambda: (before(), action() if run.steps_done == step else None)


def crash() -> None:
    raise Crash


def test_a_checkpoint_is_of_its_step_though_the_training_goes_on_while_it_is_written(tiny, tmp_path, monkeypatch, disk):
    plan = recipe()
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "background", frozenset())
        run = train(plan, out=tmp_path / "waits", checkpoint_steps=4, **tiny)
        at(6, run, crash)
        with pytest.raises(Crash):
            list(run)
    assert disk.threads == {threading.main_thread()}

    run = train(plan, out=tmp_path / "goes-on", checkpoint_steps=4, **tiny)
    at(4, run, disk.go.clear)
    seen: list[list[str]] = []
    at(6, run, lambda: (seen.append(names(run.out)), disk.go.set(), crash()))
    with pytest.raises(Crash):
        list(run)
    assert len(disk.threads) == 2
    assert [name for name in seen[0] if name.endswith(".pt")] == []  # two steps were made in the meantime
    one, other = (flat(read_checkpoint(tmp_path / name / checkpoint(4))) for name in ("waits", "goes-on"))
    assert one == other
    alone = fit(plan, progress=False, **tiny)
    resumed = resume(run.out, **tiny)
    assert resumed.steps_done == 4
    list(resumed)
    for weights, others in zip(resumed.model.state_dict().values(), alone.model.state_dict().values(), strict=True):
        assert torch.equal(weights, others)


def test_one_is_written_at_a_time_and_all_are_whole(tiny, tmp_path, disk):
    """With saves so close that each has to wait for the one before."""
    under_way, most, states = [0], [0], []

    def slow(name: str) -> None:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.01)
        under_way[0] -= 1

    disk.before = slow
    run = train(recipe(), out=tmp_path / "run", checkpoint_steps=1, **tiny)
    run.on_step = lambda: states.append([path.name for path in run.out.glob("*.pt")])
    list(run)
    assert most == [1]
    assert threading.main_thread() not in disk.threads
    assert checkpoint(15) in states[16]  # that of step 15 was whole before that of step 16 was begun
    assert names(run.out) == ["predictions.npy", "record.json", "weights.safetensors"]


def full() -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize(("step", "every"), [(4, 4), (6, 0), (18, 4)])
def test_a_full_disk_is_told_of_later_and_costs_one_checkpoint(tiny, tmp_path, disk, step, every):
    """Within an epoch, at its end (which is left out while another is written), and at the end of the run."""
    disk.before = lambda name: full() if name.startswith(checkpoint(step)) else None
    run = train(recipe(), out=tmp_path / "run", checkpoint_steps=every, **tiny)
    said = rf"^The checkpoint of step {step} could not be saved in .*run \(.*No space.*\); training continues, so free"
    with pytest.warns(UserWarning, match=said) as warned:
        list(run)
    assert len(warned) == 1
    assert run.record


def test_an_error_that_is_no_disk_s_ends_the_run(tiny, tmp_path, disk):
    disk.before = lambda name: crash()
    run = train(recipe(), out=tmp_path / "run", **tiny)
    with pytest.raises(Crash):
        list(run)
    assert names(run.out) == [".lock", "run.json"]


@pytest.mark.parametrize("stop", ["signal", "program", "deadline"])
def test_a_stop_waits_until_all_is_written(tiny, tmp_path, disk, stop):
    disk.before = lambda name: time.sleep(0.2)
    run = train(recipe(), out=tmp_path / "run", checkpoint_steps=7, **tiny)
    stops = {
        "signal": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "program": run.stop,
        "deadline": lambda: setattr(run._stop, "deadline", 0.0),
    }
    at(8, run, stops[stop])
    with pytest.raises(TrainingStopped, match=r"at step 8 of 18; the run is in "):
        list(run)
    assert names(run.out) == [".lock", checkpoint(6), checkpoint(8), "run.json"]
    assert len(read_checkpoint(run.out / checkpoint(8))["rates"]) == 2  # of the second epoch


def test_a_run_that_takes_the_folder_over_waits_for_the_one_that_writes_there(tiny, tmp_path, disk):
    """As a cell of a notebook that is interrupted and run again."""
    older = train(recipe(), out=tmp_path / "run", **tiny)
    disk.go.clear()
    next(older)
    threading.Timer(0.2, disk.go.set).start()
    newer = train(recipe(), out=tmp_path / "run", **tiny)
    assert newer.steps_done == 6
    with pytest.raises(CourseError, match="was taken over by a later run"):
        next(older)


def test_there_is_one_copy_and_it_is_in_the_same_place_each_time():
    weight, rates = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last), [0.1]
    state = {"model": {"weight": weight}, "rates": rates, "best": (weight, 1)}
    memory = HostCopy()
    before = weight.clone()
    first = memory.of(state)
    weight.zero_()
    rates.append(0.2)
    assert torch.equal(first["model"]["weight"], before)
    assert first["model"]["weight"].stride() == weight.stride()
    assert (first["rates"], first["best"][1]) == ([0.1], 1)
    second = memory.of(state)
    assert second["model"]["weight"].data_ptr() == first["model"]["weight"].data_ptr()
    assert torch.equal(second["model"]["weight"], weight)
    assert memory.of({"model": {"weight": torch.ones(2)}})["model"]["weight"].tolist() == [1, 1]  # of another shape


@pytest.mark.parametrize("granted", [True, False])
def test_memory_that_cannot_be_locked_is_done_without(monkeypatch, granted):
    asked = []

    def empty_like(like: Any, device: str, pin_memory: bool = False) -> torch.Tensor:
        asked.append(pin_memory)
        if pin_memory and not granted:
            raise RuntimeError("CUDA error: out of memory")
        return torch.zeros(2)

    monkeypatch.setattr(torch, "empty_like", empty_like)
    assert saving._host_memory(SimpleNamespace(is_cuda=True)).tolist() == [0, 0]
    assert asked == ([True] if granted else [True, False])


# --- A drive whose bin counts ----------------------------------------------------------------------------------------


def test_what_is_deleted_is_empty_and_at_every_moment_a_checkpoint_is_whole(tiny, tmp_path, monkeypatch):
    """The moments are those before and after each change of the folder."""
    binned, whole = [], []
    run = train(recipe(), out=tmp_path / "run", checkpoint_steps=2, **tiny)

    def watched(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def look(path: Path, *arguments: Any, **options: Any) -> Any:
            if name == "unlink" and path.match("checkpoint-*"):
                binned.append(path.stat().st_size if path.exists() else 0)
            try:
                return function(path, *arguments, **options)
            finally:
                newest = max(run.out.glob("*.pt"), default=None)
                if newest is not None and not (run.out / "record.json").exists():
                    read_checkpoint(newest)
                    whole.append(newest.name)

        monkeypatch.setattr(owner, name, look)

    for owner, name in ((Path, "unlink"), (Path, "replace"), (os, "truncate")):
        watched(owner, name)
    list(run)
    assert len(whole) > 20
    assert len(binned) > 7
    assert set(binned) == {0}


def test_a_crash_between_emptying_a_checkpoint_and_deleting_it_costs_nothing(tiny, tmp_path, monkeypatch):
    run = train(recipe(), out=tmp_path / "run", checkpoint_steps=2, **tiny)
    truncate = os.truncate

    def truncate_and_crash(path: Path, size: int) -> None:
        truncate(path, size)
        if path.suffix == ".pt":
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", truncate_and_crash)
        with pytest.raises(Crash):
            list(run)
    assert [(run.out / checkpoint(step)).stat().st_size > 0 for step in (2, 4, 6)] == [False, True, True]
    resumed = resume(run.out, **tiny)
    assert resumed.steps_done == 6


@pytest.mark.parametrize("moment", range(1, 6))
def test_a_crash_while_a_finished_run_is_tidied_up_costs_nothing(data, tmp_path, monkeypatch, moment):
    """After each file that is emptied or deleted: two checkpoints and the plan."""
    run = train(recipe(epochs=2), out=tmp_path / "run", **data)
    changes = [0]

    def crash_after(change: Callable[..., None]) -> Callable[..., None]:
        def changed(path: Path, *arguments: Any, **options: Any) -> None:
            change(path, *arguments, **options)
            if path.suffix == ".pt" or path.name == "run.json":
                changes[0] += (run.out / "record.json").exists()
                if changes[0] == moment:
                    raise Crash

        return changed

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", crash_after(os.truncate))
        patch.setattr(Path, "unlink", crash_after(Path.unlink))
        with pytest.raises(Crash):
            list(run)
    again = resume(run.out, **data) if (run.out / "run.json").exists() else train(recipe(epochs=2), out=run.out, **data)
    assert again.record
    assert names(run.out) == ["predictions.npy", "record.json", "weights.safetensors"]


def test_the_trainer_page_says_how_much_time_saving_gets():
    page = (Path(__file__).resolve().parents[2] / "book" / "trainer.ipynb").read_text(encoding="utf-8")
    assert "a twentieth of the time" in page
    assert "after a save of one second, epochs that end within the next 19 seconds are not saved" in page
    assert pytest.approx(19) == 1 / saving.SHARE - 1
