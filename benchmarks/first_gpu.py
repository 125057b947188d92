"""The first thing to run on a machine with a GPU, within minutes and without a network: all that only a GPU can show.

    python -m benchmarks.first_gpu OUT --data cifar10=folder:data/cifar10 --minutes 20

Two parts run alone, because they are timed: the bench, and each network's images per second and peak memory. Then,
side by side until the time is up: repeated runs compared bit for bit, training processes killed and resumed, every
chapter in the profile ``full``, and processes of the campaign, which make the records of full length, the most
valuable first. Each part writes into the folder OUT as it goes, and ``summary.json`` there has its outcome; a part
that fails does not affect the others. Where a command may take ten minutes only, run ``--group alone --minutes 9.5``
first and then ``--group together``. Records are in OUT/records. Interrupted runs are resumed by the next call if
OUT/runs is kept.

    python -m benchmarks.first_gpu OUT --data cifar10=folder:data/cifar10 --part times

runs the chapters alone in the profile ``full``, and writes how long each takes, and its peak memory, to book/gpu.json,
which their pages read.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
NETWORKS = ("alexnet-cifar-3x3", "alexnet-cifar-5x5", "alexnet-cifar-5x5-lrn", "alexnet-cifar-5x5-v1", "vgg-style",
            "vgg-style-bn", "alexnet-d2l", "alexnet-lrn")  # fmt: skip
REPEATED = ("cnn4", "alexnet-cifar-5x5-v1", "vgg-style-bn")  # with nothing, LRN and dropout, batch norm and dropout
LARGE_BATCHES = (1024, 2048)  # of S0's network, whose recipe has 512
IMAGES, EPOCHS = 45_000, 2  # of random images: speed does not depend on what they show
TIMED = {"bench": 300.0, "speed": 240.0}  # the most seconds that a part may take that runs alone
LAST_SECONDS = 20.0  # in which the campaign's processes save their state


@dataclass
class Part:
    """One command, which writes to ``NAME.log``. ``status`` is its exit status, or None if its time was up."""

    name: str
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    seconds: float = 0.0


class Board:
    """Starts parts, writes their outcomes to ``summary.json``, and stops those that are late."""

    def __init__(self, out: Path, deadline: float) -> None:
        self.out, self.deadline = out, deadline
        self.done: list[Part] = []
        self._running: dict[str, tuple[Part, subprocess.Popen[bytes], float]] = {}

    def start(self, part: Part) -> None:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        variables = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **part.variables}
        log = (self.out / f"{part.name}.log").open("wb")
        process = subprocess.Popen(part.command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=variables)
        self._running[part.name] = part, process, time.monotonic()

    def wait(self, limit: float | None = None) -> None:
        """Wait until all parts have ended, or until ``limit`` (``time.monotonic()``) or the deadline."""
        until = min(self.deadline, limit if limit is not None else self.deadline)
        while self._running:
            for part, process, began in list(self._running.values()):
                status = process.poll()
                if status is None and time.monotonic() >= until:
                    process.kill()
                    process.wait()
                elif status is None:
                    continue
                part.status, part.seconds = status, time.monotonic() - began
                del self._running[part.name]
                self.done.append(part)
                self.report()
            time.sleep(0.05)

    def report(self) -> None:
        parts = [{key: value for key, value in asdict(part).items() if key != "variables"} for part in self.done]
        (self.out / "summary.json").write_text(json.dumps(parts, indent=1) + "\n")


def parts_alone(out: Path, options: argparse.Namespace) -> list[Part]:
    bench = [
        "bench",
        "--data",
        specs(options).get("cifar10", "doodles"),
        "--device",
        options.device,
        "--repeats",
        "3",
        "--seconds",
        "1",
    ]  # most of its time is spent on starting a dozen processes
    return [
        Part("bench", [*python(), "alexnet_course", *bench, "--json", str(out / "bench.json")]),
        Part("speed", [*python(), "benchmarks.first_gpu", str(out), "--device", options.device, "--part", "speed"]),
    ]


def parts_together(out: Path, options: argparse.Namespace, minutes: float) -> list[Part]:
    own = [*python(), "benchmarks.first_gpu", str(out), "--device", options.device]
    data = [text for name, spec in specs(options).items() for text in ("--data", f"{name}={spec}")]
    campaign = [*python(), "benchmarks.campaign", *data, "--device", options.device, "--budget", "long",
                "--minutes", f"{minutes:.3f}", "--records", str(out / "records"), "--runs", str(out / "runs"),
                "--only", *options.only]  # fmt: skip
    return [
        Part("repeat", [*own, "--part", "repeat"]),
        Part("kill", [*python(), "benchmarks.kill", "--times", str(options.kills), "--device", options.device,
                      "--json", str(out / "kill.json")]),
        Part("chapters", [*own, *data, "--part", "chapters", "--chapters", *options.chapters],
             {"ALEXNET_COURSE_PROFILE": "full"}),
        *(Part(f"campaign-{number}", campaign) for number in range(1, options.processes + 1)),
    ]  # fmt: skip


def python() -> list[str]:
    return [sys.executable, "-m"]


def specs(options: argparse.Namespace) -> dict[str, str]:
    from benchmarks.campaign import parse_source

    found = dict(map(parse_source, options.data))
    for name, spec in found.items():
        kind, is_folder, path = spec.partition("folder:")
        if is_folder and not kind:  # a chapter runs in another folder
            found[name] = f"folder:{Path(path).expanduser().absolute()}"
    return found


# --- Our own parts ---------------------------------------------------------------------------------------------------


def speeds_to_measure() -> list[dict[str, Any]]:
    """Network, batch size (None: its recipe's) and options of ``train``, the most valuable first."""
    from alexnet_course.bench import ALL_WAYS, WAYS

    s0 = NETWORKS[0]
    ways: list[tuple[str, int | None, dict[str, bool]]] = [
        *((name, None, {}) for name in NETWORKS),
        *((name, None, {"graph": True}) for name in NETWORKS),
        *((s0, None, options) for options in WAYS.values() if options != {"graph": True}),
        *((s0, size, options) for size in LARGE_BATCHES for options in ({}, WAYS[ALL_WAYS])),
        (s0, None, {"compile": True}),
    ]
    return [{"network": name, "batch_size": size, "options": options} for name, size, options in ways]


def measure_speed(out: Path, options: argparse.Namespace) -> None:
    """Images per second in the second epoch, and peak memory, of each network with its recipe of full length, and with
    each speed-up that only a GPU can test."""
    import torch

    from alexnet_course.data import Dataset
    from alexnet_course.recipes import load_recipe
    from alexnet_course.training import choose_device, train

    device = choose_device(options.device)
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=draw)
    classes = tuple(f"class {number}" for number in range(10))
    dataset = Dataset(images, torch.arange(IMAGES) % 10, classes, "random")
    measured = []
    run = last = None
    for way in speeds_to_measure():
        del run, last
        gc.collect()  # the last run's memory is not this one's
        recipe = load_recipe(f"{way['network']}.modern").replace(epochs=EPOCHS, lr=1e-5)
        recipe = recipe.replace(batch_size=way["batch_size"] or recipe.batch_size)
        sets = {"train_set": dataset, "test_set": dataset.subset(range(100))}
        with warnings.catch_warnings(record=True) as said:  # a step that cannot be recorded or compiled is reported
            warnings.simplefilter("always")
            run = train(recipe, device=options.device, **sets, **way["options"])
            next(run)  # in which cuDNN tries kernels that need more memory than those it chooses
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            *_, last = run
        measured.append({
            **way,
            "batch_size": recipe.batch_size,
            "images_per_second": last.images_per_second,
            "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
            "warnings": [str(warning.message) for warning in said],
            "environment": run.environments[-1],
        })  # fmt: skip
        (out / "speed.json").write_text(json.dumps(measured, indent=1) + "\n")
        print(f"{way['network']}, batches of {recipe.batch_size}, {way['options'] or 'as it is'}: "
              f"{last.images_per_second:,.0f} images/s", flush=True)  # fmt: skip


def compare_repeats(out: Path, options: argparse.Namespace) -> None:
    """Whether two runs of the same seed have bit-identical weights, with and without ``deterministic``."""
    import torch

    from alexnet_course import Recipe, train

    result = {}
    for deterministic in (False, True):
        for model in REPEATED:
            recipe = Recipe(model=model, epochs=1, train_size=1000, validation_size=200, cutout=8)
            ends = []
            for _ in range(2):  # one after the other: dropout draws from the generators of the whole process
                run = train(recipe, device=options.device, deterministic=deterministic)
                list(run)
                ends.append(run.model.state_dict().values())
            weights = zip(*ends, strict=True)
            name = f"{model}{', deterministic' if deterministic else ''}"
            result[name] = all(torch.equal(one, other) for one, other in weights)
            (out / "repeat.json").write_text(json.dumps(result, indent=1) + "\n")
            print(f"{name}: {'the same' if result[name] else 'OTHER weights'}", flush=True)


def run_chapter(path: Path, options: argparse.Namespace) -> tuple[float, dict[str, Any]]:
    """The seconds that a chapter takes on the images of ``--data``; device, PyTorch and peak memory of its kernel."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(NO_DOWNLOAD.format(specs(options))))
    notebook.cells.append(nbformat.v4.new_code_cell(SAY_WHERE))
    began = time.monotonic()
    nbclient.NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": BOOK}}).execute()
    # A busy kernel sends what one print writes in several outputs.
    said = "".join(output.text for output in notebook.cells[-1].outputs if output.get("name") == "stdout")
    return time.monotonic() - began, json.loads(said)


def chapters(options: argparse.Namespace) -> list[Path]:
    return [path for path in sorted(BOOK.glob("*.ipynb")) if not options.chapters or path.stem in options.chapters]


def run_chapters(out: Path, options: argparse.Namespace) -> None:
    """Run every chapter from its first cell to its last; the seconds of each, with other parts running beside it."""
    result: dict[str, float | str] = {}
    for path in chapters(options):
        try:
            result[path.stem], _ = run_chapter(path, options)
        except Exception as error:  # any error of a chapter; the others are run nevertheless
            result[path.stem] = str(error)[-2000:]
        (out / "chapters.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"{path.stem}: {result[path.stem]}", flush=True)


def time_chapters(out: Path, options: argparse.Namespace) -> None:
    """The time and memory of every chapter on a machine that does nothing else."""
    from alexnet_course.files import write_text

    os.environ["ALEXNET_COURSE_PROFILE"] = "full"
    found: dict[str, dict[str, float]] = {}
    for path in chapters(options):
        seconds, where = run_chapter(path, options)
        found[path.stem] = {"seconds": round(seconds, 1), "peak_bytes": where.pop("peak_bytes")}
        write_text(BOOK / "gpu.json", json.dumps({**where, "chapters": found}, indent=1) + "\n")
        print(f"{path.stem}: {seconds:.0f} s", flush=True)


# There is no network for downloads, so data sets are read from where they are.
NO_DOWNLOAD = """
from alexnet_course.data import SOURCES, Source, load_dataset
for name, spec in {}.items():
    SOURCES[name] = Source(lambda split, root, spec=spec: load_dataset(spec, split))
"""

SAY_WHERE = """
import json
import torch
from alexnet_course.training.device import choose_device, device_name
print(json.dumps({
    "device": device_name(choose_device()),
    "torch": torch.__version__,
    "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
}))
"""

OWN: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "speed": measure_speed,
    "repeat": compare_repeats,
    "chapters": run_chapters,
    "times": time_chapters,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder for everything that comes out")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=SPEC", help="cifar10=folder:data/cifar10")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M")
    parser.add_argument("--group", choices=("alone", "together"), help="only the timed parts, or only the others")
    parser.add_argument("--device", default="cuda", metavar="D")
    parser.add_argument("--processes", type=int, default=6, metavar="N", help="of the campaign (default: 6)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="runs of the campaign")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="of training processes (default: 20)")
    parser.add_argument("--chapters", nargs="*", default=[], metavar="CHAPTER", help="those to run (default: all)")
    parser.add_argument("--part", choices=OWN, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    specs(options)  # an error of them comes before anything is started
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.part:
        OWN[options.part](out, options)
        return 0
    board = Board(out, time.monotonic() + 60 * options.minutes)
    share = 60 * options.minutes / (1 if options.group else 2)  # of the timed parts
    (out / "bench.json").unlink(missing_ok=True)  # of an earlier call; the bench overwrites no file
    for part in parts_alone(out, options) if options.group != "together" else []:
        board.start(part)
        board.wait(time.monotonic() + min(1, share / sum(TIMED.values())) * TIMED[part.name])
    left = board.deadline - time.monotonic() - LAST_SECONDS
    for part in parts_together(out, options, max(0.0, left) / 60) if options.group != "alone" else []:
        board.start(part)
    board.wait()
    for part in board.done:
        print(f"{part.name}: {'stopped by the clock' if part.status is None else f'exit status {part.status}'}, "
              f"{part.seconds:.0f} s")  # fmt: skip
    return 0 if all(part.status in (0, None) for part in board.done) else 1


if __name__ == "__main__":
    from benchmarks.command import run

    sys.exit(run(main, "first_gpu"))
