"""Give the command line random arguments and damaged files, again and again: the worst outcome allowed is a sentence.

    python -m benchmarks.fuzz --arguments 2000 --flips 500

Random argument lists are made from the parser's own commands and options, with values that are right, nearly right and
absurd. Of each kind of file that the course reads (record, checkpoint, recipe, cache of decoded images, weights), a few
bytes are changed, and the commands that read it are run. Each attempt is a process in a folder of its own, with tiny
data and no network. Faults are a traceback, an end by a signal or with a status that the course does not use, a failure
without a message, and a damaged file that changes a result unnoticed. Exits with 1 if there is one.
Needs a POSIX system.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alexnet_course.results.table import MARKERS
from benchmarks.kill import make_images, train_arguments

SECONDS = 20  # that an attempt may take; one that works for longer is stopped, and is no fault
LATE = -signal.SIGALRM
STATUSES = (0, 1, 2, 130, 141)  # done, cannot go on, wrong use, Ctrl-C, nobody reads
TEXTS = (
    "", " ", "-1", "0", "1", "2", "1e400", "nan", "-inf", "0x10", "1_000", "٣", "10" * 30, "true", "=", "a=", "=b",
    "a=b=c", "..", "/", "../../x", "~nobody/x", "/dev/null", "/dev/full", "/proc/self/mem", "missing", "missing/x",
    "a\nb", "\x1b[31m", "|", "=HYPERLINK(1)", "$\\frac{", "ä", "a\u0308", "\udcff", "💥", "%s", "{}", "-", "--",
    "x" * 300, "[1,", "folder:", "folder:missing", "folder:/dev/null", "folder:images/train", "cifar10",
)  # fmt: skip
GOOD = {
    "model": ("cnn4", "lenet5", "vgg-style-bn"),
    "recipe": ("lenet5", "cnn4", "recipe.toml", "vgg-style-bn.small"),
    "run": ("finished", "interrupted", "vgg-style-bn.small"),
    "record": ("finished", "finished/record.json"),
    "data": ("folder:images", "doodles"),
    "spec": ("folder:images", "doodles"),
    "device": ("cpu", "auto", "cuda", "mps", "cpu:0"),
    "precision": ("auto", "bf16", "fp16", "fp32"),
    "epochs": ("1", "2"),
    "batch_size": ("4", "16"),
    "lr": ("0.01", "1e-3"),
    "seed": ("0", "7"),
    "set": ("crop=2", "validation_size=40", "train_size=60", "model_options={}", "optimiser=adamw", "augment={}"),
    "out": ("finished", "interrupted", "new", "records"),
    "records": ("records",),
    "add": ("finished", "."),
    "write": ("table.md",),
    "json": ("out.json",),
    "seconds": ("0.01",),
    "repeats": ("1",),
    "checkpoint_steps": ("0", "1"),
    "checkpoint_seconds": ("0", "1.5"),
}
LEFT_OUT = ("bench", "reproduce")  # a dozen processes each; a run as long as the record's: only wrong uses are tried

# Its server imports PyTorch once and computes nothing, so that processes can be forked from it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["alexnet_course.recipes", "alexnet_course.watching", "torchvision.datasets", "safetensors.torch", "tqdm.auto",
     "alexnet_course.results.table", "alexnet_course.results.verify", "alexnet_course.pretrained"]
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The outcome of one attempt; ``fault`` says what is wrong with it, and is empty if nothing is."""

    kind: str
    arguments: Sequence[str]
    status: int | None
    fault: str
    said: str  # the end of standard error


# --- One attempt -----------------------------------------------------------------------------------------------------


def run_here(arguments: list[str], folder: Path) -> None:
    """The body of a process: the command line in ``folder``, its two streams in files there."""
    os.chdir(folder)
    os.environ.update(ALEXNET_COURSE_CACHE=str(folder / "cache"), HOME=str(folder), GIT_DIR=os.devnull)
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        with open(name, "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    signal.alarm(SECONDS)
    import socket

    import torch

    from alexnet_course.cli import main
    from alexnet_course.data import sources

    def no_network(*_: object) -> None:
        raise OSError("no network in here")

    socket.socket.connect = no_network  # type: ignore[method-assign,assignment]
    torch.set_num_threads(1)
    whole = sources.SOURCES["doodles"]
    sources.SOURCES["doodles"] = sources.Source(
        lambda split, root: whole.load(split, root).subset(range(120 if split == "train" else 40))
    )
    try:
        sys.exit(main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def attempt(arguments: list[str], folder: Path) -> tuple[int | None, str, str]:
    """Exit status, standard output and standard error of ``alexnet-course ARGUMENTS`` in ``folder``."""
    process = PROCESSES.Process(target=run_here, args=(arguments, folder))
    process.start()
    process.join(3 * SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    out, err = (
        (folder / name).read_bytes().decode(errors="replace") if (folder / name).exists() else ""
        for name in ("stdout", "stderr")
    )
    return process.exitcode, out, err


def fault_in(status: int | None, err: str) -> str:
    if "Traceback (most recent call last)" in err:
        return "a traceback"
    if status == LATE:
        return ""
    if status not in STATUSES:
        return f"an end with status {status}"
    if status != 0 and not err.strip():
        return "a failure without a word"
    return ""


# --- Random argument lists -------------------------------------------------------------------------------------------


def random_arguments(chance: random.Random) -> list[str]:
    """A command with some of its options, most of them well formed, and now and then one that is not."""
    from alexnet_course.cli.parser import make_parser

    commands = next(action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    name = chance.choice(list(commands.choices))
    arguments = [name]
    for action in commands.choices[name]._actions:
        if isinstance(action, argparse._HelpAction) and chance.random() > 0.02:
            continue
        if action.option_strings and chance.random() > 0.25:
            continue
        arguments += [chance.choice(action.option_strings)] if action.option_strings else []
        if action.nargs != 0:
            arguments.append(random_value(chance, action.dest))
    if name == "train" and "--epochs" not in arguments:  # or it could train for as long as its recipe says
        arguments += ["--epochs", "1"]
    if name in LEFT_OUT or chance.random() < 0.3:
        change_list(chance, arguments)
    return [text for text in arguments if "\0" not in text]


def random_value(chance: random.Random, name: str) -> str:
    good = GOOD.get(name, ())
    if good and chance.random() < 0.7:
        return chance.choice(good)
    text = chance.choice(TEXTS)
    if name == "set" and chance.random() < 0.7:
        from alexnet_course.recipe import Recipe

        return f"{chance.choice(list(Recipe().as_dict()))}={text}"
    return text


def change_list(chance: random.Random, arguments: list[str]) -> None:
    position = chance.randrange(len(arguments))
    change = chance.choice(("insert", "drop", "double", "cut", "replace"))
    if change == "insert":
        arguments.insert(position, chance.choice(TEXTS))
    elif change == "drop":
        del arguments[position]
    elif change == "double":
        arguments.insert(position, arguments[position])
    elif change == "cut":
        arguments[position] = arguments[position][: chance.randrange(len(arguments[position]) + 1)]
    else:
        arguments[position] = chance.choice(TEXTS)


# --- Damaged files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file: its pattern, the commands that read it, and their results if nothing is wrong."""

    pattern: str
    commands: Sequence[list[str]]
    result: Callable[[Path, str], Any]  # of the folder and what the last command wrote


def output(folder: Path, text: str) -> str:
    return text


def weights(folder: Path, text: str) -> bytes:
    return (folder / "interrupted" / "weights.safetensors").read_bytes()


def nothing(folder: Path, text: str) -> None:
    """Files that people write may be changed to mean something else, so no result is expected."""


KINDS = {
    "record": Kind("finished/record.json", [
        ["results", "verify", "--records", "finished"], ["results", "--add", "finished"],
        ["evaluate", "finished", "--data", "folder:images"],
    ], nothing),
    "checkpoint": Kind("interrupted/checkpoint-*.pt", [["resume", "interrupted", "--device", "cpu"]], weights),
    "recipe": Kind("recipe.toml", [["train", "recipe.toml", "--data", "folder:images", "--epochs", "1"]], nothing),
    "cache": Kind("cache/**/*.safetensors", [["data", "folder:images"]], output),
    "weights": Kind("finished/weights.safetensors", [["evaluate", "finished", "--data", "folder:images"]], output),
}  # fmt: skip


def damage(chance: random.Random, path: Path) -> None:
    """Change some bytes, or cut the file off."""
    content = bytearray(path.read_bytes())
    if chance.random() < 0.1:
        content = content[: chance.randrange(len(content))]
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


# --- All of it -------------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Images, a recipe, a finished and an interrupted run, and the cache of decoded images."""
    make_images(folder / "images", training=120, test=40)
    recipe = [
        "model = 'lenet5'",
        "dataset = 'doodles'",
        "epochs = 1",
        "batch_size = 16",
        "validation_size = 20",
        "crop = 2",
    ]
    (folder / "recipe.toml").write_text("\n".join(recipe) + "\n")
    (folder / "table.md").write_text("\n".join(["# Mine", "", *MARKERS, ""]))
    for name in ("finished", "interrupted"):
        status, _, err = attempt(train_arguments(Path("images"), Path(name), "lenet5", 0), folder)
        assert status == 0, err
    shutil.rmtree(folder / "interrupted")
    interrupt(folder)
    (folder / "records").mkdir()
    for file in (folder / "finished").iterdir():
        if file.suffix in (".json", ".npy"):
            shutil.copy(file, folder / "records" / f"mine-seed0{file.suffix}")


def interrupt(folder: Path) -> None:
    """Leave a run with two checkpoints in ``folder``/interrupted."""
    process = PROCESSES.Process(
        target=run_here, args=(train_arguments(Path("images"), Path("interrupted"), "lenet5", 0), folder)
    )
    process.start()
    while process.is_alive() and len(list((folder / "interrupted").glob("checkpoint-*.pt"))) < 2:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert not (folder / "interrupted" / "record.json").exists(), "it finished before it could be interrupted"


def fuzz(arguments: int, flips: int, seed: int = 0, progress: Callable[[str], object] = print) -> list[Outcome]:
    """Try this many random argument lists, and this many damaged files of each of ``KINDS``."""
    chance = random.Random(seed)
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        prepare(whole)

        def fresh() -> Path:
            copy = Path(scratch) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(whole, copy)
            return copy

        def note(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if outcome.fault:
                progress(f"{outcome.kind}: {outcome.fault}: {outcome.arguments}\n{outcome.said}")

        for _ in range(arguments):
            given = random_arguments(chance)
            status, _, err = attempt(given, fresh())
            note(Outcome("arguments", given, status, fault_in(status, err), err[-2000:]))
        for name, kind in KINDS.items():
            if not flips:
                break
            results = []
            for number in range(flips + 1):
                folder = fresh()
                if number:  # the first one is left as it is
                    damage(chance, chance.choice(sorted(folder.glob(kind.pattern))))
                for command in kind.commands:
                    status, out, err = attempt(command, folder)
                    fault = fault_in(status, err)
                    if fault:
                        break
                if status == 0 and not fault:
                    results.append(kind.result(folder, out))
                    fault = "" if results[-1] == results[0] else "another result, and not a word"
                note(Outcome(name, command, status, fault, err[-2000:]))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    lines = ["kind        attempts  done  refused  late  faults"]
    for kind in ("arguments", *KINDS):
        those = [outcome for outcome in outcomes if outcome.kind == kind]
        counts = Counter(
            "fault" if it.fault else "late" if it.status == LATE else "refused" if it.status else "done" for it in those
        )
        lines.append(f"{kind:<10}  {len(those):>8}  {counts['done']:>4}  {counts['refused']:>7}  {counts['late']:>4}  "
                     f"{counts['fault']:>6}")  # fmt: skip
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arguments", type=int, default=2000, metavar="N", help="random argument lists")
    parser.add_argument("--flips", type=int, default=500, metavar="N", help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every attempt there")
    options = parser.parse_args(arguments)
    outcomes = fuzz(options.arguments, options.flips, options.seed)
    print(table(outcomes))
    if options.json:
        options.json.write_text(
            json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8"
        )
    return 1 if any(outcome.fault for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
