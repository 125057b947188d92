"""``alexnet-course``: look at networks and data, train, evaluate.

Standard output carries only the result; progress and errors go to standard error. Wrong use exits with 2, a run that
cannot go on with 1, Ctrl-C with 130.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tomllib
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import torch

from alexnet_course import __version__
from alexnet_course.data import load_dataset, splits_of
from alexnet_course.errors import CourseError
from alexnet_course.files import write_text
from alexnet_course.models import MODELS, build_model, load_networks, summary
from alexnet_course.recipes import load_recipe
from alexnet_course.records import FOLDER as RECORDS
from alexnet_course.records.reproduce import find_record
from alexnet_course.training import Recipe, Run, TrainingStopped, choose_device, evaluate, load_run, resume, train
from alexnet_course.training.precision import device_name, resolve_precision
from alexnet_course.training.record import RECORD, git_commit
from alexnet_course.training.watching import summary_writer, watch


class Parser(argparse.ArgumentParser):
    """argparse, but wrong use gives one sentence instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


class Version(argparse.Action):
    """argparse's ``version``, but the text, which asks for a GPU, is made only when it is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(version_text())
        parser.exit()


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    warnings.showwarning = show_warning
    try:
        for file in getattr(options, "networks", []):
            load_networks(file)
        options.command(options)
        sys.stdout.flush()
    except CourseError as error:
        print(f"alexnet-course: {error}", file=sys.stderr)
        return 2
    except TrainingStopped as error:
        print(f"alexnet-course: {error}", file=sys.stderr)
        return 1 if error.signal is None else 128 + error.signal
    except KeyboardInterrupt:
        print("\nalexnet-course: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, say) has gone; what is still buffered must not complain at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one sentence, like an error, without the place in the code."""
    print(f"\nalexnet-course: {message}", file=sys.stderr)


def version_text() -> str:
    """The version and what an issue should say of the environment: no folders, no names of people."""
    lines = {
        "commit": git_commit() or "none: installed, not a checkout",
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": installed_version("torchvision"),
        "numpy": installed_version("numpy"),
        "device": device_name(choose_device()),
        "platform": platform.platform(),
    }
    return "\n".join([f"alexnet-course {__version__}", *(f"  {name:<11}  {text}" for name, text in lines.items())])


def installed_version(name: str) -> str:
    """Of a package, without importing it, which takes long; of a broken installation, too."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def make_parser() -> Parser:
    parser = Parser(prog="alexnet-course", description="Look at the course's networks and data, train, evaluate.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and the environment, and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Any, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n  alexnet-course {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        return sub

    add_networks(add("models", models_command, "list the networks and their sizes", "models"))

    example = "summary alexnet-cifar-3x3 --input 3,32,32"
    sub = add("summary", summary_command, "print the layer table of a network", example)
    sub.add_argument("model", metavar="MODEL")
    sub.add_argument("--input", metavar="C,H,W", help="channels, height and width (default: what it was made for)")
    sub.add_argument("--classes", type=int, metavar="N", help="number of classes (default: the published network's)")
    add_networks(sub)

    sub = add("data", data_command, "load a data set and describe it", "data folder:data/cifar10")
    sub.add_argument("spec", metavar="SPEC", help="cifar10, cifar100, cifar10.1, doodles or folder:PATH")

    sub = add(
        "train",
        train_command,
        "train a network and leave weights and a record",
        "train alexnet-cifar-3x3 --data folder:data/cifar10 --epochs 5 --set label_smoothing=0.1",
    )
    sub.add_argument("name", metavar="NAME", help="a recipe, a TOML file, or a network (its default recipe)")
    sub.add_argument("--data", dest="dataset", metavar="SPEC", help="train on this data set instead of the recipe's")
    sub.add_argument("--budget", default="long", metavar="B", help="long, or evening: the recipe's table of that name")
    sub.add_argument("--epochs", type=int, metavar="N")
    sub.add_argument("--batch-size", type=int, metavar="N")
    sub.add_argument("--lr", type=float, metavar="X", help="highest learning rate")
    sub.add_argument("--seed", type=int, metavar="S")
    sub.add_argument("--precision", metavar="P", help="auto, bf16, fp16 or fp32")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other key of the recipe")
    sub.add_argument(
        "--out", metavar="DIR", help="folder of the run; one that was interrupted goes on (default: runs/NAME-seedS)"
    )
    sub.add_argument("--deterministic", action="store_true", help="on a GPU, only kernels that repeat to the bit")
    sub.add_argument("--compile", action="store_true", help="run the network through torch.compile")
    add_run_options(sub)

    sub = add("resume", resume_command, "go on with a run that was interrupted", "resume runs/cnn4-seed0")
    sub.add_argument("run", metavar="RUN", help="the folder of the run")
    sub.add_argument("--data", metavar="SPEC", help="where the pictures are now, if they were moved")
    add_run_options(sub)

    sub = add(
        "evaluate",
        evaluate_command,
        "evaluate the network of a finished run",
        "evaluate runs/cnn4-seed0 --data folder:data/cifar10",
    )
    sub.add_argument("run", metavar="RUN", help="the folder of a finished run, or weights of the package by name")
    sub.add_argument("--data", metavar="SPEC", help="its test pictures are used (default: the run's own data set)")
    sub.add_argument("--device", default="auto", metavar="D")
    add_networks(sub)

    sub = add("results", results_command, "print the results table, computed from the records", "results --add runs")
    sub.add_argument("action", nargs="?", choices=["verify"], help="verify: compute every figure of every record again")
    sub.add_argument("--add", action="append", default=[], metavar="DIR", help="your own runs: folders of train --out")
    sub.add_argument("--all", action="store_true", help="the ablations, and what is not measured, as well")
    sub.add_argument("--format", choices=["text", "markdown", "csv"], default="text", help="csv has every figure")
    sub.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers of a Markdown file")
    sub.add_argument("--data", metavar="SPEC", help="with verify: check the labels against these pictures as well")
    sub.add_argument("--records", type=Path, default=RECORDS, metavar="DIR", help="default: the package's own")
    add_networks(sub)

    example = "reproduce cnn4.mine-seed0 --data folder:data/cifar10"
    sub = add("reproduce", reproduce_command, "repeat a run from its record and compare the two", example)
    sub.add_argument("record", metavar="RECORD", help="a record's name or path, or the folder of a run")
    sub.add_argument("--data", metavar="SPEC", help="where its pictures are (default: by the recorded name)")
    sub.add_argument("--out", metavar="DIR", help="keep the repetition; one that was interrupted goes on")
    sub.add_argument("--device", default="auto", metavar="D")
    sub.add_argument("--deterministic", action="store_true", help="on a GPU, only kernels that repeat to the bit")
    add_networks(sub)

    sub = add("bench", bench_command, "measure the trainer against the loop one would otherwise write", "bench")
    sub.add_argument("--model", default="alexnet-cifar-3x3", metavar="MODEL")
    sub.add_argument("--data", default="doodles", metavar="SPEC")
    sub.add_argument("--device", default="auto", metavar="D")
    sub.add_argument("--batch-size", type=int, metavar="N", help="of the trainer and of the tuned loop")
    sub.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of each contender (default: 5)")
    sub.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a turn (default: 3)")
    sub.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    sub.add_argument(
        "--json", default="bench.json", metavar="FILE", help="where every figure goes (default: bench.json)"
    )
    return parser


def add_run_options(sub: argparse.ArgumentParser) -> None:
    """What may differ from one part of an interrupted run to the next."""
    sub.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    sub.add_argument("--checkpoint-steps", type=int, default=0, metavar="N", help="save every N steps, not only epochs")
    sub.add_argument("--tensorboard", action="store_true", help="write the learning curves for TensorBoard as well")
    add_networks(sub)


def add_networks(sub: argparse.ArgumentParser) -> None:
    text = "run this Python file first, which registers networks of your own (register_model)"
    sub.add_argument("--networks", action="append", default=[], metavar="FILE", help=text)


def models_command(_: argparse.Namespace) -> None:
    width = max(map(len, MODELS))
    for name, spec in MODELS.items():
        size = "×".join(map(str, spec.input_size))
        print(f"{name:<{width}}  {size:>9}  {spec.parameters:>10,} parameters  {spec.source}")


def summary_command(options: argparse.Namespace) -> None:
    if options.model not in MODELS:
        build_model(options.model)  # raises, with the nearest names
    spec = MODELS[options.model]
    size = parse_size(options.input) if options.input else spec.input_size
    model = build_model(
        options.model,
        num_classes=spec.num_classes if options.classes is None else options.classes,
        in_channels=size[0],
    )
    print(summary(model, (1, *size)))


def parse_size(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise CourseError(f"--input {text!r} is not a size; give channels, height and width, as in 3,32,32.") from None
    if min(channels, height, width) < 1:
        raise CourseError(f"--input {text!r} has a number below 1; give channels, height and width, as in 3,32,32.")
    return channels, height, width


def data_command(options: argparse.Namespace) -> None:
    for split in splits_of(options.spec):
        dataset = load_dataset(options.spec, split)
        size = "×".join(map(str, dataset.images.shape[1:]))
        mean, std = dataset.channel_statistics()
        print(f"{dataset.name} {split}: {len(dataset):,} pictures of {size}, {len(dataset.classes)} classes")
        print(f"  mean {' '.join(f'{v:.4f}' for v in mean)}  std {' '.join(f'{v:.4f}' for v in std)}")
        print(f"  fingerprint {dataset.fingerprint}")
        counts = dataset.labels.bincount(minlength=len(dataset.classes)).tolist()
        print("  " + ", ".join(f"{name} {number:,}" for name, number in zip(dataset.classes, counts, strict=True)))


def train_command(options: argparse.Namespace) -> None:
    recipe = load_recipe(options.name, options.budget)
    given = ("dataset", "epochs", "batch_size", "lr", "seed", "precision")
    changes = {key: getattr(options, key) for key in given if getattr(options, key) is not None}
    recipe = recipe.replace(**{**changes, **parse_settings(options.set)})
    if options.tensorboard:
        summary_writer()  # before there is a folder, in case there is no TensorBoard
    folder = Path(options.out) if options.out else free_folder(Path("runs") / recipe.run_name)
    run = train(
        recipe,
        device=options.device,
        out=folder,
        checkpoint_steps=options.checkpoint_steps,
        deterministic=options.deterministic,
        compile=options.compile,
    )
    finish(run, options)


def resume_command(options: argparse.Namespace) -> None:
    moved = {f"{split}_set": load_dataset(options.data, split) for split in ("train", "test")} if options.data else {}
    run = resume(options.run, device=options.device, checkpoint_steps=options.checkpoint_steps, **moved)
    finish(run, options)


def finish(run: Run, options: argparse.Namespace) -> None:
    """Train to the end, with a progress bar, and print the result."""
    if run.record:
        print(f"{run.out} holds this run, finished", file=sys.stderr)
    elif run.steps_done:
        print(f"going on in {run.out} at step {run.steps_done:,} of {run.steps:,}", file=sys.stderr)
    watch(run, tensorboard=options.tensorboard)
    print(f"test accuracy {describe(run.record['test_accuracy'], run.record['test_accuracy_interval'])}, "
          f"validation {run.record['val_accuracy']:.2%}; record in {run.out}/{RECORD}")  # fmt: skip


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value is read as TOML (0.1, true, [3, 6], {dropout = 0.2}) and as plain text otherwise."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise CourseError(f"--set {setting!r} has no value; write KEY=VALUE, for example label_smoothing=0.1.")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text.strip()
    return values


def free_folder(folder: Path) -> Path:
    """``folder``, or ``folder-2``, ``-3``… where it is taken, so that no run overwrites another."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def evaluate_command(options: argparse.Namespace) -> None:
    from alexnet_course.pretrained import list_pretrained, load_pretrained

    model, record = load_pretrained(options.run) if options.run in list_pretrained() else load_run(options.run)
    recipe, trained_on = Recipe.from_dict(record["recipe"]), record["dataset"]
    dataset = load_dataset(options.data or recipe.dataset, "test")
    if list(dataset.classes) != trained_on["classes"]:
        raise CourseError(f"{dataset.name!r} has the classes {', '.join(dataset.classes)}, but the run was trained on "
                          f"{', '.join(trained_on['classes'])}; give data with the same classes.")  # fmt: skip
    device = choose_device(options.device)
    result = evaluate(
        model.to(device).to(memory_format=torch.channels_last),
        dataset,
        mean=trained_on["mean"],
        std=trained_on["std"],
        input_size=recipe.picture_size,
        precision=resolve_precision(recipe.precision, device),
    )
    print(f"{dataset.name}: accuracy {describe(result.accuracy, result.interval)}, loss {result.loss:.4f}, "
          f"{result.count:,} pictures")  # fmt: skip
    width = max(map(len, result.per_class))
    for name, accuracy in result.per_class.items():
        print(f"  {name:<{width}}  {accuracy:7.2%}")


def results_command(options: argparse.Namespace) -> None:
    from alexnet_course.records import results  # here and below: what they need takes a while to import
    from alexnet_course.records.verify import record_paths, verify

    if options.action == "verify":
        count = len(record_paths(options.records))
        if not count:
            raise CourseError(f"{str(options.records)!r} holds no record; give a folder of records, or of your runs.")
        problems = verify(options.records, load_dataset(options.data, "test") if options.data else None)
        for problem in problems:
            print(problem)
        if problems:
            raise CourseError(f"{len(problems)} of the figures and files in {options.records} do not fit; see above.")
        print(f"{count} records fit: schema, recipe, network, pictures, predictions and every figure")
        return
    own = [find_record(str(path.parent)) for folder in options.add for path in run_folders(Path(folder))]
    rows = results.results_table(options.records, own)
    if not options.all:
        rows = [row for row in rows if row.records and not row.recipe.startswith(results.ABLATION)]
    if options.write is not None:
        changed = results.write_between_markers(options.write, results.as_markdown(rows))
        print(f"{options.write} {'has the new table' if changed else 'had this table already'}")
        return
    write = {"text": results.as_text, "markdown": results.as_markdown, "csv": results.as_csv}[options.format]
    print(write(rows).rstrip("\n"))


def run_folders(folder: Path) -> list[Path]:
    """The records of the finished runs in ``folder``, which may be one of them."""
    found = sorted(folder.rglob(RECORD))
    if not found:
        raise CourseError(f"{str(folder)!r} holds no finished run; give the folder that train wrote to.")
    return found


def reproduce_command(options: argparse.Namespace) -> None:
    from alexnet_course.records.reproduce import Reproduction, repetition

    record = find_record(options.record)
    moved = {f"{split}_set": load_dataset(options.data, split) for split in ("train", "test")} if options.data else {}
    run = repetition(record, device=options.device, out=options.out, deterministic=options.deterministic, **moved)
    watch(run)
    print(Reproduction(record, run.record))


def bench_command(options: argparse.Namespace) -> None:
    from alexnet_course import bench  # here, because it imports torchvision

    result = bench.bench(
        options.model,
        options.data,
        device=options.device,
        batch_size=options.batch_size,
        repeats=options.repeats,
        seconds=options.seconds,
        compile=options.compile,
        progress=lambda text: print(text, file=sys.stderr),
    )
    write_text(Path(options.json), json.dumps(result, indent=1) + "\n")
    print(bench.table(result))
    print(f"every figure is in {options.json}")


def describe(accuracy: float, interval: tuple[float, float] | list[float]) -> str:
    return f"{accuracy:.2%} (95 % interval {interval[0]:.2%} to {interval[1]:.2%})"


if __name__ == "__main__":
    sys.exit(main())
