"""Make the course's records: every recipe and every ablation, several seeds, in the order of their value.

    python -m benchmarks.campaign --data cifar10=folder:data/cifar10 --minutes 120

With a GPU each recipe is run in full with three seeds, without one as its table ``[cpu]`` says, with one seed. What is
recorded is skipped, what was interrupted goes on, and several of these commands side by side share the work. A run
whose pictures are not there, or that cannot go on, is named and left out; the others are made. With
``--data cifar10.1=cifar10.1`` each network trained on CIFAR-10 is tried on the new pictures as well, at its end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
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
from alexnet_course.errors import CourseError
from alexnet_course.files import write_text
from alexnet_course.recipes import ablations, list_recipes, load_recipe
from alexnet_course.records import FOLDER as RECORDS
from alexnet_course.records import check_record
from alexnet_course.records.predictions import load_predictions, save_predictions
from alexnet_course.training import Recipe, TrainingStopped, choose_device, train
from alexnet_course.training.checkpoint import refuse_changes
from alexnet_course.training.record import PREDICTIONS, RECORD, WEIGHTS, dump_record

SEEDS = {"long": 3, "evening": 3}
NEW = "cifar10.1"
SAVED_EVERY = 60.0  # seconds; an epoch on a fast GPU is over before its checkpoint would be written


@dataclass(frozen=True)
class Outcome:
    """What became of one run: its record, or why there is none."""

    name: str
    result: str
    recorded: bool = False


def plan(budget: str, seeds: int) -> list[Recipe]:
    """Every run of the campaign, the most valuable first.

    One seed of everything comes before the second of anything. Our recipe for each network of the five write-ups is
    worth most; the ablations explain it; the write-ups' own settings come last, because their figures are published.
    """
    theirs = [name for name in list_recipes() if ".published" in name]
    ours = [name for name in list_recipes() if name not in theirs]
    first = [load_recipe(name, budget) for name in ours] + ablations() + [load_recipe(n) for n in theirs]
    first.sort(key=lambda recipe: recipe.dataset != "cifar10")  # stable: what the table needs stays in front
    return [recipe.replace(seed=seed) for seed in range(seeds) for recipe in first]


def is_recorded(recipe: Recipe, records: Path) -> bool:
    """Whether ``records`` holds a run of just this recipe, with its predictions.

    One of an older recipe of the same name does not count.
    """
    path = records / f"{recipe.run_name}.json"
    if not path.exists():
        return False
    record = json.loads(path.read_text(encoding="utf-8"))
    check_record(record, path.name)
    same = Recipe.from_dict(record["recipe"]) == recipe  # a key that is newer than the record has its default
    return same and path.with_suffix(".npy").exists()


class Pictures:
    """The data sets of the campaign, each loaded once. ``places`` says where to read one: its name → a spec.

    ``new`` are newer pictures of CIFAR-10's classes, where their place is given. Raises ``CourseError`` where they
    cannot be had.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places
        self.new = load_dataset(places[NEW], "test") if NEW in places else None
        self._loaded: dict[str, dict[str, Dataset]] = {}
        self._missing: dict[str, str] = {}

    def __getitem__(self, name: str) -> dict[str, Dataset]:
        """``train_set`` and ``test_set``; ``CourseError`` where they are not there, or are other pictures."""
        if name in self._missing:  # a download that failed is not tried for every run again
            raise CourseError(self._missing[name])
        if name not in self._loaded:
            spec = self.places.get(name, name)
            try:
                found = {f"{split}_set": load_dataset(spec, split) for split in ("train", "test")}
            except CourseError as error:
                self._missing[name] = str(error)
                raise
            for dataset in found.values():
                if dataset.name != name:
                    self._missing[name] = (f"{spec!r} holds {dataset.name!r}, not {name!r}; give the place of {name} "
                                           f"with --data {name}=SPEC.")  # fmt: skip
                    raise CourseError(self._missing[name])
            self._loaded[name] = found
        return self._loaded[name]


def campaign(
    recipes: list[Recipe],
    pictures: Pictures,
    *,
    records: Path,
    runs: Path,
    device: str,
    deadline: float,
    keep_weights: bool,
    progress: bool = True,
) -> Iterator[Outcome]:
    """Make the runs of ``recipes`` that are not in ``records``, until ``deadline`` (``time.monotonic()``).

    An interrupted run stays in the folder ``runs`` and goes on with the next campaign.
    """
    for recipe in recipes:
        name = recipe.run_name
        if is_recorded(recipe, records):
            yield Outcome(name, "recorded before", recorded=True)
            continue
        if time.monotonic() >= deadline:
            yield Outcome(name, "left: the time is up")
            continue
        try:
            record = make(recipe, pictures, runs / name, device, deadline, progress)
            predictions = load_predictions(runs / name / PREDICTIONS)
        except TrainingStopped as error:
            yield Outcome(name, f"stopped: {error}")
            if error.signal is not None and time.monotonic() < deadline:  # by someone, not by the clock
                raise
            continue
        except CourseError as error:  # no pictures, or another process has it, or the folder is incomplete
            yield Outcome(name, f"left: {error}")
            continue
        except RuntimeError as error:  # a defect; it must not cost the runs that come after
            traceback.print_exc()
            yield Outcome(name, f"failed: {str(error).splitlines()[0]}")
            continue
        records.mkdir(parents=True, exist_ok=True)
        save_predictions(records / f"{name}.npy", predictions)
        write_text(records / f"{name}.json", dump_record(record))
        if not keep_weights:
            (runs / name / WEIGHTS).unlink(missing_ok=True)
        yield Outcome(name, f"test {record['test_accuracy']:.2%}, validation {record['val_accuracy']:.2%}", True)


def make(
    recipe: Recipe, pictures: Pictures, folder: Path, device: str, deadline: float, progress: bool
) -> dict[str, Any]:
    """The record of ``recipe``, made in ``folder`` or found there."""
    if (folder / RECORD).exists() and not (folder / WEIGHTS).exists():
        record = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
        nothing: dict[str, Any] = {"data": {}, "options": {}}
        refuse_changes({"recipe": record["recipe"], **nothing}, {"recipe": recipe.as_dict(), **nothing}, folder)
        return record

    def heed_deadline() -> None:
        if time.monotonic() >= deadline:
            signal.raise_signal(signal.SIGTERM)  # at which the trainer saves and stops

    run = train(
        recipe,
        **pictures[recipe.dataset],
        device=device,
        out=folder,
        checkpoint_seconds=SAVED_EVERY,
        on_step=heed_deadline,
    )
    for epoch in run:
        if progress:
            print(f"  {recipe.run_name} {epoch.epoch}/{recipe.epochs}: training loss {epoch.train_loss:.3f}, "
                  f"validation {epoch.val_accuracy:.2%}, {epoch.images_per_second:,.0f} images/s",
                  file=sys.stderr, flush=True)  # fmt: skip
    record = dict(run.record)
    if recipe.dataset == "cifar10" and pictures.new is not None:
        result = run.evaluate(pictures.new)
        record["new_pictures"] = {
            "name": pictures.new.name,
            "fingerprint": pictures.new.fingerprint,
            "images": result.count,
            "accuracy": result.accuracy,
            "interval": list(result.interval),
        }
        check_record(record)
    return record


def main(arguments: list[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    try:
        device = choose_device(options.device)
        budget = options.budget
        places = dict(parse_place(text) for text in options.data)
        if options.seeds is not None and options.seeds < 1:
            raise CourseError(f"--seeds {options.seeds} is no number of runs; give at least 1.")
        if options.threads:
            torch.set_num_threads(options.threads)
        recipes = plan(budget, options.seeds or SEEDS[budget])
        for name in places:
            known = sorted({NEW, *(recipe.dataset for recipe in recipes)})
            if name not in known:
                raise CourseError(f"--data {name}=…: no run of the campaign uses {name!r}; name {' or '.join(known)}.")
        recipes = [r for r in recipes if any(fnmatch(r.run_name, pattern) for pattern in options.only)]
        if not recipes:
            raise CourseError(f"No run of the campaign is called {' or '.join(options.only)}; --list names them all.")
        if options.list:
            for recipe in recipes:
                state = "recorded" if is_recorded(recipe, options.records) else "to do"
                print(f"{state:8}  {recipe.run_name}")
            sys.stdout.flush()
            return 0
        outcomes = []
        for outcome in campaign(
            recipes,
            Pictures(places),
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
    except BrokenPipeError:  # the reader (head, say) has gone; what is still buffered must not complain at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    print(f"{sum(outcome.recorded for outcome in outcomes)} of {len(outcomes)} runs are recorded in {options.records}")
    return 0


def parse_place(text: str) -> tuple[str, str]:
    name, equals, spec = text.partition("=")
    if not equals or not name or not spec:
        raise CourseError(f"--data {text!r} is not a place; write NAME=SPEC, as in cifar10=folder:data/cifar10.")
    return name, spec


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description="Make the course's records.")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=SPEC", help="cifar10=folder:data/cifar10")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="as in 'vgg*'")
    parser.add_argument("--list", action="store_true", help="name the runs and what is recorded, and make none")
    parser.add_argument("--minutes", type=float, default=1e6, metavar="M", help="stop after so long, to go on later")
    parser.add_argument("--budget", choices=list(SEEDS), default="evening", help="evening or long (default: evening)")
    parser.add_argument("--seeds", type=int, metavar="N", help="of each recipe (default: 3 in full, 1 on a CPU)")
    parser.add_argument("--device", default="auto", metavar="D")
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch, where several campaigns share a machine")
    parser.add_argument("--records", type=Path, default=RECORDS, metavar="DIR", help="default: the package's own")
    parser.add_argument("--runs", type=Path, default=Path("runs/campaign"), metavar="DIR", help="unfinished runs")
    parser.add_argument("--keep-weights", action="store_true", help="of finished runs, in their folders")
    return parser


if __name__ == "__main__":
    sys.exit(main())
