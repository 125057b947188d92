"""Make the course's records: every recipe and every ablation, with several seeds, the most valuable first.

    python -m benchmarks.campaign --data cifar10=folder:data/cifar10 --minutes 120

Our recipes are run with the settings of their tables ``[evening]``; with ``--budget long`` they are also run in full
length, after everything else. Recorded runs are skipped, interrupted ones are resumed, and several of these commands
side by side share the work. A run whose images are missing, or that cannot be resumed, is reported and skipped; the
others are made. With ``--data cifar10.1=cifar10.1`` each network trained on CIFAR-10 is also evaluated on the new
images, at the end of its run.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from alexnet_course.data import Dataset, load_dataset
from alexnet_course.errors import CourseError, first_line
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import ablations, list_recipes, load_recipe
from alexnet_course.records import FOLDER as RECORDS
from alexnet_course.records import PREDICTIONS, RECORD, WEIGHTS
from alexnet_course.records.curves import published_curve
from alexnet_course.records.hardware import PROCESSOR
from alexnet_course.records.predictions import load_predictions, save_predictions
from alexnet_course.records.record import Environment, NewImages, Record, read_record, write_record
from alexnet_course.results.table import CLASSES, PUBLISHED, costs
from alexnet_course.training import TrainingStopped, choose_device, train
from alexnet_course.training.device import BF16_FLAGS, device_name
from alexnet_course.training.division import image_count
from alexnet_course.training.folder import refuse_changes

SEEDS = 3
NEW = "cifar10.1"
IMAGES = 50_000  # to train on, in CIFAR-10 as in CIFAR-100
SAVED_EVERY = 60.0  # seconds; an epoch on a fast GPU ends before its checkpoint is written


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run: its record, or the reason why there is none."""

    name: str
    result: str
    recorded: bool = False


def plan(budget: str, seeds: int) -> list[Recipe]:
    """Every run of the campaign, the most valuable first; with the budget ``long`` there are more at the end.

    First, on CIFAR-10, our recipes with the budget ``evening``, then the write-ups' recipes, which have no such table,
    then ours with the other seeds; then the ablations and CIFAR-100. Last come runs that take long and add little: the
    write-ups' recipes with the other seeds and, with the budget ``long``, our recipes in full length, then the plain.
    """
    ours = [load_recipe(name, "evening") for name in list_recipes("evening")]
    others = [load_recipe(name) for name in list_recipes() if name not in list_recipes("evening")]
    theirs = [recipe for recipe in others if PUBLISHED in recipe.name]
    plain = [recipe for recipe in others if recipe not in theirs]

    def on(recipes: list[Recipe], dataset: str, few: range) -> list[Recipe]:
        return [recipe.replace(seed=seed) for seed in few for recipe in recipes if recipe.dataset == dataset]

    first, other = range(1), range(1, seeds)
    runs = on(ours, "cifar10", first) + on(theirs, "cifar10", first) + on(ours, "cifar10", other)
    runs += on(ablations(), "cifar10", range(seeds))
    runs += on(ours, "cifar100", range(seeds)) + on(theirs, "cifar100", first)
    runs += on(theirs, "cifar10", other) + on(theirs, "cifar100", other)
    if budget == "long":
        extra = [load_recipe(recipe.name) for recipe in ours] + plain
        runs += on(extra, "cifar10", range(seeds)) + on(extra, "cifar100", range(seeds))
    return runs


def is_recorded(recipe: Recipe, records: Path) -> bool:
    """Whether ``records`` holds a run of exactly this recipe, with its predictions.

    A record of an older recipe of the same name does not count.
    """
    path = records / f"{recipe.run_name}.json"
    if not path.exists():
        return False
    same = read_record(path).recipe == recipe  # a key that is newer than the record has its default
    return same and path.with_suffix(".npy").exists()


def expected_epochs(recipe: Recipe) -> tuple[int, bool]:
    """The number of epochs of a run, and whether that is only a maximum.

    For a recipe that stops early it is the number of the published run, on the other data set if there is none on its
    own and that one stops by the same rule. Where no such run is known, it is the recipe's maximum.
    """
    here = recipe.name.removesuffix("-cifar100")
    for name in (recipe.name, here, f"{here}-cifar100") if recipe.stop_after else ():
        curve = published_curve(name)
        if curve is not None and (name == recipe.name or load_recipe(name).stop_after == recipe.stop_after):
            return len(curve.epochs), False
    return recipe.epochs, recipe.stop_after > 0 or recipe.stop_at > 0


def work(recipe: Recipe) -> float:
    """Multiply-adds of the forward passes over the training images, to which the time of a run is proportional."""
    epochs, _ = expected_epochs(recipe)
    images = IMAGES - image_count("validation_size", recipe.validation_size, IMAGES)
    if recipe.train_size != 1:
        images = image_count("train_size", recipe.train_size, images)
    return costs(recipe, CLASSES.get(recipe.dataset, 10))[1] * epochs * images


def rates(records: Path, device: str) -> dict[str, float]:
    """Multiply-adds per second of the recorded runs on ``device``, by network: the median of several."""
    found: dict[str, list[float]] = {}
    for path in records.glob("*-seed*.json"):
        try:
            record = read_record(path)
        except CourseError:  # the run is listed as damaged, or is none of this campaign
            continue
        recipe = record.recipe
        alone = all(is_on(environment, device) for environment in record.environments)
        if alone and recipe.dataset in ("cifar10", "cifar100"):
            done = work(recipe) * len(record.history) / expected_epochs(recipe)[0]  # it may have stopped early
            found.setdefault(recipe.model, []).append(done / record.wall_seconds)
    return {model: statistics.median(those) for model, those in found.items()}


def is_on(environment: Environment, device: str) -> bool:
    """Whether a run was on ``device``. Older records name a CPU without its flag for bf16; their precision tells it."""
    plain = re.sub(rf", ({'|'.join(BF16_FLAGS)}) (?={re.escape(PROCESSOR)}$)", " ", device)
    if environment.device not in (device, plain):
        return False
    return not device.endswith(PROCESSOR) or (environment.precision == "bf16") is (plain != device)


def estimate(recipe: Recipe, known: Mapping[str, float]) -> float | None:
    """Hours of a run, at the rate of its network or, if there is none, of the others; None without any rate."""
    if not known:
        return None
    return work(recipe) / known.get(recipe.model, statistics.median(known.values())) / 3600


class Images:
    """The data sets of the campaign, each loaded once. ``specs`` maps a name to the spec to read it from.

    ``new`` are newer images of CIFAR-10's classes, if their source is given. Raises ``CourseError`` if they cannot be
    loaded.
    """

    def __init__(self, specs: Mapping[str, str]) -> None:
        self.specs = specs
        self.new = load_dataset(specs[NEW], "test") if NEW in specs else None
        self._loaded: dict[str, dict[str, Dataset]] = {}
        self._missing: dict[str, str] = {}

    def __getitem__(self, name: str) -> dict[str, Dataset]:
        """``train_set`` and ``test_set``; raises ``CourseError`` if they are missing, or are other images."""
        if name in self._missing:  # a failed download is not tried again for every run
            raise CourseError(self._missing[name])
        if name not in self._loaded:
            spec = self.specs.get(name, name)
            try:
                found = {f"{split}_set": load_dataset(spec, split) for split in ("train", "test")}
            except CourseError as error:
                self._missing[name] = str(error)
                raise
            for dataset in found.values():
                if dataset.name != name:
                    self._missing[name] = (f"{spec!r} holds {dataset.name!r}, not {name!r}; give the source of {name} "
                                           f"with --data {name}=SPEC.")  # fmt: skip
                    raise CourseError(self._missing[name])
            self._loaded[name] = found
        return self._loaded[name]


def campaign(
    recipes: list[Recipe],
    images: Images,
    *,
    records: Path,
    runs: Path,
    device: str,
    deadline: float,
    keep_weights: bool,
    progress: bool = True,
) -> Iterator[Outcome]:
    """Make the runs of ``recipes`` that are not in ``records``, until ``deadline`` (``time.monotonic()``).

    An interrupted run stays in the folder ``runs`` and is resumed by the next campaign.
    """
    for recipe in recipes:
        name = recipe.run_name
        try:
            recorded = is_recorded(recipe, records)
        except CourseError as error:
            yield Outcome(name, f"left: {error}")
            continue
        if recorded:
            yield Outcome(name, "recorded before", recorded=True)
            continue
        if time.monotonic() >= deadline:
            yield Outcome(name, "left: the time is up")
            continue
        try:
            record = make(recipe, images, runs / name, device, deadline, progress)
            predictions = load_predictions(runs / name / PREDICTIONS)
            records.mkdir(parents=True, exist_ok=True)
            save_predictions(records / f"{name}.npy", predictions)
            write_record(records / f"{name}.json", record)
        except TrainingStopped as error:
            yield Outcome(name, f"stopped: {error}")
            if error.signal is not None:  # by somebody, not by the deadline
                raise
            continue
        except BrokenPipeError:  # of standard error
            raise
        # No images, another process has it, its folder is incomplete, or the disk is full; the run stays in its folder.
        except (CourseError, OSError) as error:
            yield Outcome(name, f"left: {error}")
            continue
        except RuntimeError as error:  # a bug; it must not cost the other runs
            traceback.print_exc()
            yield Outcome(name, f"failed: {first_line(error)}")
            continue
        if not keep_weights:
            (runs / name / WEIGHTS).unlink(missing_ok=True)
        yield Outcome(name, f"test {record.test_accuracy:.2%}, validation {record.val_accuracy:.2%}", True)


def make(recipe: Recipe, images: Images, folder: Path, device: str, deadline: float, progress: bool) -> Record:
    """The record of ``recipe``, made in ``folder`` or found there."""
    if (folder / RECORD).exists() and not (folder / WEIGHTS).exists():
        record = read_record(folder / RECORD)
        nothing: dict[str, Any] = {"data": {}, "options": {}}
        refuse_changes({"recipe": record.recipe.as_dict(), **nothing}, {"recipe": recipe.as_dict(), **nothing}, folder)
        return record

    run = train(
        recipe,
        **images[recipe.dataset],
        device=device,
        out=folder,
        checkpoint_seconds=SAVED_EVERY,
        deadline=deadline,
    )
    for epoch in run:
        if progress:
            print(f"  {recipe.run_name} {epoch.epoch}/{recipe.epochs}: training loss {epoch.train_loss:.3f}, "
                  f"validation {epoch.val_accuracy:.2%}, {epoch.images_per_second:,.0f} images/s",
                  file=sys.stderr, flush=True)  # fmt: skip
    record = run.record
    assert record is not None  # at its end, it has one
    if recipe.dataset == "cifar10" and images.new is not None and record.new_images is None:
        result = run.evaluate(images.new)
        new = NewImages(
            name=images.new.name,
            fingerprint=images.new.fingerprint,
            images=result.count,
            accuracy=result.accuracy,
            interval=result.interval,
        )
        record = record.replace(new_images=new)
        write_record(folder / RECORD, record)  # so that the run's own record is the one that is kept
    return record


def main(arguments: list[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        device = choose_device(options.device)
        specs = dict(parse_source(text) for text in options.data)
        if options.seeds is not None and options.seeds < 1:
            raise CourseError(f"--seeds {options.seeds} is not a number of runs; give at least 1.")
        if options.threads is not None:
            if options.threads < 1:
                raise CourseError(f"--threads {options.threads} is not a number of threads; give at least 1.")
            torch.set_num_threads(options.threads)
        recipes = plan(options.budget, options.seeds or SEEDS)
        for name in specs:
            known = sorted({NEW, *(recipe.dataset for recipe in recipes)})
            if name not in known:
                raise CourseError(f"--data {name}=…: no run of the campaign uses {name!r}; name {' or '.join(known)}.")
        recipes = [r for r in recipes if any(fnmatch(r.run_name, pattern) for pattern in options.only)]
        if not recipes:
            raise CourseError(f"No run of the campaign is called {' or '.join(options.only)}; --list names them all.")
        if options.list:
            print_list(recipes, options.records, device_name(device))
            return 0
        outcomes = []
        for outcome in campaign(
            recipes,
            Images(specs),
            records=options.records,
            runs=options.runs,
            device=str(device),
            deadline=time.monotonic() + 60 * options.minutes,
            keep_weights=options.keep_weights,
        ):
            outcomes.append(outcome)
            print(f"{outcome.name}: {outcome.result}", flush=True)
    except CourseError as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2
    except TrainingStopped as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # outside a run, as while images are decoded
        print("\ncampaign: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (say, head) has gone; the buffer must not raise an error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    print(f"{sum(outcome.recorded for outcome in outcomes)} of {len(outcomes)} runs are recorded in {options.records}")
    return 0


def print_list(recipes: list[Recipe], records: Path, device: str) -> None:
    """List the recorded and the missing runs, and the time these need if runs on this machine are recorded."""
    known, left = rates(records, device), {True: 0.0, False: 0.0}
    for recipe in recipes:
        try:
            done = is_recorded(recipe, records)
        except CourseError as error:
            print(f"damaged   {recipe.run_name}: {error}")
            continue
        hours = None if done else estimate(recipe, known)
        _, is_maximum = expected_epochs(recipe)
        left[is_maximum] += hours or 0
        about = "" if hours is None else f"  {'at most ' * is_maximum}{hours:.1f} h"
        print(f"{'recorded' if done else 'to do':8}  {recipe.run_name}{about}")
    parts = [f"about {left[False]:.1f} hours"] if left[False] else []
    parts += [f"at most {left[True]:.1f} hours for runs that may stop early"] if left[True] else []
    if parts:
        print(f"left on {device}: {', and '.join(parts)}")
    sys.stdout.flush()


def parse_source(text: str) -> tuple[str, str]:
    name, equals, spec = text.partition("=")
    if not equals or not name or not spec:
        raise CourseError(
            f"--data {text!r} is not a name and a source; write NAME=SPEC, as in cifar10=folder:data/cifar10."
        )
    return name, spec


def make_parser() -> argparse.ArgumentParser:
    budgets = "long: at the end, our recipes in full length, too (default: evening)"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description="Make the course's records.")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=SPEC", help="cifar10=folder:data/cifar10")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="as in 'vgg*'")
    parser.add_argument("--list", action="store_true", help="list the runs and which are recorded; make none")
    parser.add_argument("--minutes", type=float, default=1e6, metavar="M", help="stop then; the next call resumes")
    parser.add_argument("--budget", choices=["evening", "long"], default="evening", help=budgets)
    parser.add_argument("--seeds", type=int, metavar="N", help=f"of each recipe (default: {SEEDS})")
    parser.add_argument("--device", default="auto", metavar="D")
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch, where several campaigns share a machine")
    parser.add_argument("--records", type=Path, default=RECORDS, metavar="DIR", help="default: the package's own")
    parser.add_argument("--runs", type=Path, default=Path("runs/campaign"), metavar="DIR", help="unfinished runs")
    parser.add_argument("--keep-weights", action="store_true", help="of finished runs, in their folders")
    return parser


if __name__ == "__main__":
    sys.exit(main())
