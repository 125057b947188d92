"""Kill a training run again and again, resume it, and compare its result with that of an uninterrupted run.

    python -m benchmarks.kill --times 40
    python -m benchmarks.kill --times 40 --background   # a thread writes the checkpoints, as on a GPU

Real training processes, on real image files, are killed with SIGKILL at random moments: while they start, in a step,
while a checkpoint is written, while they validate, test, and write the record. Exits with 1 if a run does not resume
exactly where it was saved last, or if its weights or its record differ in anything but times. Needs a POSIX system.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHASES = ("start-up", "between", "step", "checkpoint", "validation", "test", "record")
AIMS = ("step", "checkpoint", "validation", "test", "record", "start-up")
CLASSES = ("blue", "green", "red")
SAVING = ("--checkpoint-steps", "5", "--checkpoint-seconds", "0")
TIMES = ("seconds", "images_per_second", "wall_seconds")  # what may differ between two records

# Its server imports PyTorch once, computes nothing, and each training process is forked from it; five seconds a process
# are saved, and forking a process in which PyTorch has already computed is not safe.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["alexnet_course.recipes", "alexnet_course.watching", "torchvision.datasets", "safetensors.torch", "tqdm.auto"]
)


@dataclass
class Kill:
    """One kill: the phase that it hit, how far the run was saved then, and the outcome."""

    run: int
    phase: str
    saved: str  # in the form of ``saved_state``
    torn: bool  # an unfinished file was left
    went_on_from: str = "nowhere"
    identical: bool = False  # its result, to that of the uninterrupted run


class Watch:
    """The phase of a training process, in a file in shared memory, which outlives the process.

    The first row: the number of the phase, and whether a thread is writing a checkpoint, which then counts.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            np.zeros((3, len(PHASES))).tofile(path)
        self._now, self.begun, self.seconds = np.memmap(path, np.float64, "r+", shape=(3, len(PHASES)))
        self._born = time.perf_counter()

    @property
    def phase(self) -> str:
        return "checkpoint" if self._now[1] else PHASES[int(self._now[0])]

    @phase.setter
    def phase(self, name: str) -> None:
        self._now[0] = PHASES.index(name)

    def wrap(self, owner: Any, name: str, phase: str) -> None:
        """Record when the function ``owner.name`` runs."""
        function, number = getattr(owner, name), PHASES.index(phase)

        def noted(*args: Any, **options: Any) -> Any:
            if self.phase not in ("start-up", "between"):  # evaluation on test images calls the same function
                return function(*args, **options)
            start = time.perf_counter()
            if self.phase == "start-up":
                self.seconds[0] = start - self._born
            self.begun[number] += 1
            self.phase = phase
            try:
                return function(*args, **options)
            finally:
                self.seconds[number] += time.perf_counter() - start
                self.phase = "between"

        setattr(owner, name, noted)

    def wrap_in_thread(self, owner: Any, name: str, phase: str) -> None:
        """The same for a function that a thread runs beside the process."""
        function, number = getattr(owner, name), PHASES.index(phase)

        def noted(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            self._now[1] = 1
            self.begun[number] += 1
            try:
                return function(*args, **options)
            finally:
                self.seconds[number] += time.perf_counter() - start
                self._now[1] = 0

        setattr(owner, name, noted)


def train(arguments: list[str], watch_file: Path, log: Path, background: bool = False) -> None:
    """The body of a training process: the course's command line, watched; ``background``: a thread saves."""
    from tqdm.auto import tqdm

    from alexnet_course.cli import main  # not above: the killing process does not need PyTorch
    from alexnet_course.training import run
    from alexnet_course.training.folder import RunFolder
    from alexnet_course.training.saving import Checkpoints
    from alexnet_course.training.trainer import Trainer

    watch = Watch(watch_file)
    watch.begun[0] = 1
    watch.wrap(Trainer, "step", "step")
    if background:
        Checkpoints.background |= {"cpu"}
        watch.wrap_in_thread(RunFolder, "save", "checkpoint")
    else:
        watch.wrap(RunFolder, "save", "checkpoint")
    watch.wrap(Trainer, "evaluate", "test")
    watch.wrap(Trainer, "validate", "validation")
    for owner, name in ((run, "save_weights"), (run, "write_record"), (RunFolder, "discard_checkpoints")):
        watch.wrap(owner, name, "record")
    tqdm.set_lock(threading.RLock())  # its own lock belongs to the system, and a kill would leave it behind
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
    os.environ["ALEXNET_COURSE_CACHE"] = str(log.parent / "cache")
    os.environ["GIT_DIR"] = os.devnull  # a commit made in the meantime would be another environment
    with open(log, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(main(arguments))


class Process:
    """A training process; its log and its watch are kept in ``folder``."""

    def __init__(self, arguments: list[str], folder: Path, background: bool = False) -> None:
        number = len(list(folder.glob("*.log")))
        self.log = folder / f"{number}.log"
        self.log.touch()
        watch_file = folder / f"{number}.watch"
        self.watch = Watch(watch_file)
        self.process = PROCESSES.Process(target=train, args=(arguments, watch_file, self.log, background))
        self.process.start()

    def kill_in(self, phase: str, time_of: int, delay: float) -> str | None:
        """Kill it ``delay`` seconds after ``phase`` begins for the ``time_of``-th time.

        Returns the phase that was really hit, or None if the process ended before.
        """
        number = PHASES.index(phase)
        while self.process.is_alive() and self.watch.begun[number] < time_of:
            time.sleep(0.0005)
        time.sleep(delay)
        self.process.kill()
        self.process.join()
        return self.watch.phase if self.process.exitcode == -signal.SIGKILL else None

    def wait(self) -> None:
        """Wait for its end, which must be a successful one."""
        self.process.join()
        if self.process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"A training process exited with {self.process.exitcode}:\n{self.log.read_text()}")

    def went_on_from(self) -> str | None:
        """What it reported to the user, in the form of ``saved_state``; None if it did not get that far."""
        text = self.log.read_text()
        if "already holds this run, finished" in text:
            return "the end"
        found = re.search(r"resuming .* at step ([\d,]+) of", text)
        if found:
            return f"step {found[1].replace(',', '')}"
        # Not just any output: a finished run may still delete checkpoints before it reports its end.
        return "the beginning" if self.watch.begun[PHASES.index("step")] else None


def saved_state(out: Path) -> str:
    """How far the run in the folder ``out`` is saved."""
    if (out / "record.json").exists():
        return "the end"
    names = sorted(path.stem for path in out.glob("checkpoint-*.pt"))
    return f"step {int(names[-1].removeprefix('checkpoint-'))}" if names else "the beginning"


def make_images(root: Path, training: int = 240, test: int = 60) -> None:
    """A tree of PNG files, the same each time: noise with a slight tint of one colour."""
    values = np.random.default_rng(0)
    for split, count in (("train", training), ("test", test)):
        for number in range(count):
            colour = number % len(CLASSES)
            pixels = values.integers(0, 246, (32, 32, 3), dtype=np.uint8)
            pixels[..., 2 - colour] += 10
            file = root / split / CLASSES[colour] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


def train_arguments(images: Path, out: Path, model: str, seed: int, device: str = "cpu") -> list[str]:
    """The command of a small run that uses much of what there is to save: 3 × 12 steps, with random augmentation, an
    optimiser and a schedule with a state, and checkpoints inside an epoch."""
    recipe = {
        "validation_size": 60, "label_smoothing": 0.1, "optimiser": "adamw", "schedule": "plateau", "patience": 0,
        "crop": 2, "flip": "true", "cutout": 6, "colour_pca": 0.1, "precision": "fp32",
    }  # fmt: skip
    settings = [text for key, value in recipe.items() for text in ("--set", f"{key}={value}")]
    return [
        "train", model, "--data", f"folder:{images}", "--out", str(out), "--seed", str(seed), "--device", device,
        "--epochs", "3", "--batch-size", "15", "--lr", "0.002", *SAVING, "--deterministic", *settings,
    ]  # fmt: skip


def resume_arguments(out: Path, device: str = "cpu") -> list[str]:
    return ["resume", str(out), "--device", device, *SAVING]


def without_times(value: Any) -> Any:
    """A record, or a part of one, without the values that may differ between identical runs."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key not in TIMES}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def same_end(one: Path, other: Path) -> bool:
    """Whether two folders hold the same finished run and nothing else: bit-identical except for the record's times."""
    files = ("weights.safetensors", "predictions.npy")
    names = {"record.json", *files}
    if any({path.name for path in out.iterdir()} != names for out in (one, other)):
        return False
    records = [without_times(json.loads((out / "record.json").read_text())) for out in (one, other)]
    return records[0] == records[1] and all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def kill_again_and_again(
    folder: Path,
    times: int,
    model: str = "cnn4",
    seed: int = 0,
    aims: Sequence[str] = AIMS,
    device: str = "cpu",
    background: bool = False,
    keep: Callable[[list[Kill]], object] = lambda kills: None,
) -> list[Kill]:
    """Train in ``folder``, once without interruption and then with at least ``times`` kills over as many runs as that
    takes, each trained to its end; at least one kill hits each phase of ``aims``. ``keep`` gets the kills so far at the
    end of every run."""
    chance = random.Random(seed)
    make_images(folder / "images")
    alone = Process(train_arguments(folder / "images", folder / "alone", model, seed, device), folder, background)
    alone.wait()
    began = dict(zip(PHASES, alone.watch.begun.astype(int).tolist(), strict=True))
    lasted = {name: alone.watch.seconds[number] / max(1, began[name]) for number, name in enumerate(PHASES)}

    kills: list[Kill] = []

    def next_aim() -> str | None:
        """The phase that was hit least often; None when there were enough kills."""
        hits = Counter(kill.phase for kill in kills)
        enough = len(kills) >= times and all(hits[aim] for aim in aims)
        return None if enough else min(aims, key=lambda aim: hits[aim])

    run = 0
    while next_aim():
        run += 1
        out = folder / f"run-{run}"
        again = train_arguments(folder / "images", out, model, seed, device)
        unresolved: list[Kill] = []
        hit: str | None = "start-up"
        while hit is not None:
            either = (out / "run.json").exists() and chance.random() < 0.5
            trainer = Process(resume_arguments(out, device) if either else again, folder, background)
            hit, aim = None, next_aim()
            if aim:
                often = began[aim] if began[aim] <= 3 else began[aim] // 3  # so that a run can be killed several times
                hit = trainer.kill_in(aim, chance.randint(1, often), chance.uniform(0, lasted[aim]))
            trainer.wait()
            said = trainer.went_on_from()
            if said is not None:
                for kill in unresolved:
                    kill.went_on_from = said
                unresolved = []
            if hit is not None:
                kills.append(Kill(run, hit, saved_state(out), any(out.glob("*.unfinished"))))
                unresolved.append(kills[-1])
        identical = same_end(out, folder / "alone")
        for kill in kills:
            if kill.run == run:
                kill.identical = identical
        keep(kills)
    return kills


def good(kill: Kill) -> bool:
    return kill.identical and kill.went_on_from == kill.saved


def table(kills: list[Kill]) -> str:
    lines = ["killed in   kills  half a file left  went on where saved  same end"]
    for name in (*PHASES, "all"):
        hits = [kill for kill in kills if name in (kill.phase, "all")]
        went_on = sum(kill.went_on_from == kill.saved for kill in hits)
        counts = (len(hits), sum(kill.torn for kill in hits), went_on, sum(kill.identical for kill in hits))
        lines.append("{:<10}  {:>5}  {:>16}  {:>19}  {:>8}".format(name, *counts))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=40, metavar="N", help="kills (default: 40)")
    parser.add_argument("--model", default="cnn4", metavar="MODEL")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the training and of the kills' moments")
    parser.add_argument("--device", default="cpu", metavar="D")
    parser.add_argument("--background", action="store_true", help="a thread writes the checkpoints, as on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every kill there")
    options = parser.parse_args(arguments)

    def keep(kills: list[Kill]) -> None:
        if options.json:
            result = {"model": options.model, "seed": options.seed, "kills": [asdict(kill) for kill in kills]}
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        kills = kill_again_and_again(
            Path(folder),
            options.times,
            options.model,
            options.seed,
            device=options.device,
            background=options.background or options.device != "cpu",  # as the trainer does there
            keep=keep,
        )
    print(table(kills))
    print(f"{options.model}, {kills[-1].run} runs")
    return 0 if all(map(good, kills)) else 1


if __name__ == "__main__":
    sys.exit(main())
