"""The campaign on made-up images: what it makes, in which order, what it leaves alone, and how it stops."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.files import whole_file
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import ABLATIONS, ablations, list_recipes, load_recipe, merged
from alexnet_course.records import load_records
from alexnet_course.records.record import Record, dump_record, read_record
from alexnet_course.training import Trainer, TrainingStopped, hooks
from benchmarks import campaign as module
from benchmarks.campaign import (
    Images,
    Outcome,
    campaign,
    estimate,
    expected_epochs,
    is_on,
    is_recorded,
    main,
    plan,
    work,
)

FOREVER = float("inf")

# The small images that stand for CIFAR-10 here have its name.
pytestmark = pytest.mark.filterwarnings("ignore:These images are called")


def coloured(count: int, seed: int, name: str = "cifar10") -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images[labels == 0, 0] += 100
    images[labels == 1, 2] += 100
    return Dataset(images, labels, ("red", "blue"), name)


SETS = {"train": coloured(60, seed=1), "test": coloured(20, seed=2)}


def tiny(name: str, **changes: object) -> Recipe:
    """Two epochs of 4 steps."""
    values = {"model": "cnn4", "dataset": "cifar10", "epochs": 2, "batch_size": 12, "validation_size": 12}
    return Recipe(name=name, precision="fp32", budget="evening", **{**values, **changes})


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a millisecond, and images that are there at once; of CIFAR-100 there are none."""

    def build(name: str, num_classes: int, in_channels: int, **_: object) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_channels, 4, 3, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(64, num_classes)
        )

    def load(spec: str, split: str) -> Dataset:
        if spec == "cifar10":
            return SETS[split]
        if spec == "others":
            return SETS[split].renamed("flowers")
        raise CourseError(f"There is no {spec!r} here.")

    monkeypatch.setattr("alexnet_course.training.trainer.build_model", build)
    monkeypatch.setattr("alexnet_course.training.finished.build_model", build)
    monkeypatch.setattr(module, "load_dataset", load)
    monkeypatch.setattr("alexnet_course.records.check.check_fit", lambda *_: None)  # these networks are no such ones
    monkeypatch.setenv("GIT_DIR", "/dev/null")


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., list[Outcome]]:
    """Runs a campaign to its end; its records and runs are beside each other in ``tmp_path``."""

    def call(*recipes: Recipe, **changes: Any) -> list[Outcome]:
        options = {"device": "cpu", "deadline": FOREVER, "keep_weights": False, "progress": False, **changes}
        folders = {"records": tmp_path / "records", "runs": tmp_path / "runs"}
        return list(campaign(list(recipes), Images({}), **folders, **options))

    return call


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the run of each optimiser step that is done while the test runs."""
    done: list[str] = []
    train_step = Trainer.step

    def noted(trainer: Trainer, images: torch.Tensor, labels: torch.Tensor) -> None:
        done.append(trainer.recipe.run_name)
        train_step(trainer, images, labels)

    monkeypatch.setattr(Trainer, "step", noted)
    return done


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- The plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["evening", "long"])
def test_every_run_of_the_plan_has_a_name_of_its_own_and_every_seed(budget):
    runs = plan(budget, 3)
    assert max(Counter(recipe.run_name for recipe in runs).values()) == 1
    assert Counter(recipe.seed for recipe in runs) == dict.fromkeys(range(3), len(runs) // 3)


def kind(recipe: Recipe) -> str:
    """What the plan is ordered by, apart from the seed."""
    if recipe.name.startswith("ablation."):
        return "ablation"
    word = re.search(r"\.(modern|best|small|published|plain)", recipe.name)[1]
    what = {"published": "theirs", "plain": "extra"}.get(word, "ours")
    if recipe.budget == "long" and what == "ours":
        return "extra"
    return f"{what} on 100" if recipe.dataset == "cifar100" else what


@pytest.mark.parametrize("budget", ["evening", "long"])
def test_the_plan_is_in_the_order_of_what_its_runs_are_worth(budget):
    runs = plan(budget, 3)
    assert [name for name, _ in groupby((kind(run), run.seed) for run in runs)] == [
        *[("ours", 0), ("theirs", 0), ("ours", 1), ("ours", 2)],
        *[("ablation", 0), ("ablation", 1), ("ablation", 2)],
        *[("ours on 100", 0), ("ours on 100", 1), ("ours on 100", 2), ("theirs on 100", 0)],
        *[("theirs", 1), ("theirs", 2), ("theirs on 100", 1), ("theirs on 100", 2)],
        *([("extra", seed) for _ in ("cifar10", "cifar100") for seed in range(3)] if budget == "long" else []),
    ]
    first = [run for run in runs if run.seed == 0]
    assert {(kind(run), run.budget) for run in first if kind(run) != "extra"} == {
        ("ours", "evening"), ("ours on 100", "evening"), ("theirs", "long"), ("theirs on 100", "long"),
        ("ablation", "ablation"),
    }  # fmt: skip
    assert {run.model for run in first if kind(run) == "ours"} == {run.model for run in first} - {"cnn4"}
    if budget == "long":
        assert runs[: len(plan("evening", 3))] == plan("evening", 3)
        evening = {run.name for run in first if run.budget == "evening"}
        assert {run.name for run in first if kind(run) == "extra"} == evening | {
            f"{name}.plain" for name in ("alexnet-d2l", "alexnet-lrn", "vgg-style", "vgg-style-bn")
        }


def test_no_recipe_of_the_package_is_forgotten():
    assert {run.name for run in plan("long", 1)} == {*list_recipes(), *(recipe.name for recipe in ablations())}


def test_options_of_the_model_are_merged_one_by_one_and_everything_else_is_replaced():
    values = {"lr": 1.0, "lr_steps": [1], "model_options": {"width": 0.5, "hidden": 7}}
    changes = {"lr": 2.0, "model_options": {"hidden": 8, "lrn": True}}
    assert merged(values, changes) == {
        "lr": 2.0, "lr_steps": [1], "model_options": {"width": 0.5, "hidden": 8, "lrn": True}
    }  # fmt: skip
    assert merged({"lr": 1.0}, {"lr_steps": [2]}) == {"lr": 1.0, "lr_steps": [2], "model_options": {}}
    assert (values["lr"], values["model_options"]) == (1.0, {"width": 0.5, "hidden": 7})  # which others share


def test_an_ablation_is_its_base_with_what_it_names_changed():
    tables = tomllib.loads(ABLATIONS.read_text(encoding="utf-8"))
    recipes = {recipe.name: recipe for recipe in ablations()}
    assert {recipe.budget for recipe in recipes.values()} == {"ablation"}
    with_base = {group: table["base"] for group, table in tables.items() if not isinstance(table["base"], str)}
    assert set(tables) - set(with_base) == {"faster"}
    names = {f"ablation.{g}.{v}" for g, table in tables.items() for v in table["variants"]}
    assert set(recipes) == names | {f"ablation.{group}.base" for group in with_base}
    for group, table in tables.items():
        owner = group if group in with_base else table["base"]
        base = recipes[f"ablation.{owner}.base"].as_dict()
        assert {key: base[key] for key in with_base[owner]} == with_base[owner]
        for variant, changes in table["variants"].items():
            values = recipes[f"ablation.{group}.{variant}"].as_dict()
            for key, value in changes.items():
                if key == "model_options":
                    assert values[key] == {**base[key], **value}
                else:
                    assert values[key] == value
            same = set(base) - set(changes) - {"name"}
            assert {key: values[key] for key in same} == {key: base[key] for key in same}
            assert values != {**base, "name": values["name"]}, f"{variant} changes nothing"


def test_every_network_of_the_ablations_can_be_built_and_takes_its_images():
    from alexnet_course.models import build_model

    for recipe in ablations():
        with torch.device("meta"):
            model = build_model(recipe.model, **recipe.model_options).eval()
            side = recipe.image_size
            assert model(torch.zeros(1, 3, side, side)).shape == (1, 10), recipe.name


# --- What is recorded ------------------------------------------------------------------------------------------------


def test_a_campaign_makes_a_record_of_each_run_and_then_has_nothing_to_do(go, tmp_path, steps):
    recipes = tiny("a"), tiny("b", seed=1)
    outcomes = go(*recipes)
    assert [outcome.name for outcome in outcomes] == ["a-evening-seed0", "b-evening-seed1"]
    assert all(outcome.recorded for outcome in outcomes)
    assert names(tmp_path / "records") == [
        "a-evening-seed0.json", "a-evening-seed0.npy", "b-evening-seed1.json", "b-evening-seed1.npy"]  # fmt: skip
    for recipe, outcome, record in zip(recipes, outcomes, load_records(tmp_path / "records"), strict=True):
        assert record.recipe == recipe
        accuracies = f"test {record.test_accuracy:.2%}, validation {record.val_accuracy:.2%}"
        assert outcome.result == accuracies
        assert is_recorded(recipe, tmp_path / "records")
        # No weights, which would fill the disk.
        assert names(tmp_path / "runs" / outcome.name) == ["predictions.npy", "record.json"]
    before = [path.read_bytes() for path in sorted((tmp_path / "records").iterdir())]
    assert len(steps) == 16
    assert go(*recipes) == [Outcome(outcome.name, "recorded before", True) for outcome in outcomes]
    assert len(steps) == 16
    assert [path.read_bytes() for path in sorted((tmp_path / "records").iterdir())] == before


def test_weights_are_kept_where_they_are_asked_for(go, tmp_path):
    go(tiny("a"), keep_weights=True)
    assert names(tmp_path / "runs" / "a-evening-seed0") == ["predictions.npy", "record.json", "weights.safetensors"]


def test_a_run_of_a_changed_recipe_does_not_count(go, tmp_path):
    go(tiny("a"))
    records = tmp_path / "records"
    assert is_recorded(tiny("a"), records)
    assert not is_recorded(tiny("a", lr=0.01), records)
    assert not is_recorded(tiny("a", seed=1), records)
    assert not is_recorded(tiny("a").replace(budget="long"), records)
    assert not is_recorded(tiny("a"), tmp_path / "nowhere")


@pytest.mark.parametrize("keep_weights", [True, False])
def test_a_changed_recipe_is_not_given_the_record_of_the_old_one(go, tmp_path, keep_weights):
    """Whose run may still lie in the folder; both are kept, and the way out is named."""
    go(tiny("a"), keep_weights=keep_weights)
    before = (tmp_path / "records" / "a-evening-seed0.json").read_bytes()
    (outcome,) = go(tiny("a", lr=0.01))
    assert not outcome.recorded
    assert re.match(r"left: .*'.*a-evening-seed0'.*lr was 0\.02 and is 0\.01", outcome.result)
    assert (tmp_path / "records" / "a-evening-seed0.json").read_bytes() == before
    for path in (tmp_path / "runs" / "a-evening-seed0").iterdir():
        path.unlink()
    (tmp_path / "runs" / "a-evening-seed0").rmdir()
    assert go(tiny("a", lr=0.01))[0].recorded
    assert load_records(tmp_path / "records")[0].recipe.lr == 0.01


def test_a_run_whose_predictions_are_gone_is_made_again(tmp_path, go):
    [outcome] = go(tiny("a"))
    predictions = (tmp_path / "records" / "a-evening-seed0.npy").read_bytes()
    (tmp_path / "records" / "a-evening-seed0.npy").unlink()
    (tmp_path / "runs" / "a-evening-seed0" / "predictions.npy").unlink()
    [left] = go(tiny("a"))  # the folder of the run has lost them as well
    assert not left.recorded
    assert "predictions.npy" in left.result
    for path in (tmp_path / "runs" / "a-evening-seed0").iterdir():
        path.unlink()
    assert go(tiny("a")) == [outcome]
    assert (tmp_path / "records" / "a-evening-seed0.npy").read_bytes() == predictions


def test_a_file_that_is_no_record_is_not_taken_for_one(tmp_path):
    (tmp_path / "a-evening-seed0.json").write_text('{"recipe": {}}')
    with pytest.raises(CourseError, match=r"^a-evening-seed0\.json is not a record of this course"):
        is_recorded(tiny("a"), tmp_path)


def test_a_record_is_written_whole(go, tmp_path, monkeypatch):
    """By the writer that gives a file its name when it is complete."""
    written: list[Path] = []

    def noted(path: Path, text: str) -> None:
        Record.from_dict(json.loads(text))
        assert not path.exists()
        with whole_file(path) as part:
            part.write_text(text)
            assert part != path
            assert part.name in names(path.parent)
        written.append(path)

    monkeypatch.setattr("alexnet_course.records.record.write_text", noted)
    go(tiny("a"))
    run = tmp_path / "runs" / "a-evening-seed0" / "record.json"
    assert written == [run, tmp_path / "records" / "a-evening-seed0.json"]


@pytest.mark.parametrize("weights", [True, False])
def test_a_finished_run_whose_record_was_not_copied_is_picked_up(go, tmp_path, steps, weights):
    """The campaign died between the end of the run and the copy, or after it and before the weights were gone."""
    go(tiny("a"), keep_weights=weights)
    record = tmp_path / "records" / "a-evening-seed0.json"
    before = record.read_bytes()
    record.unlink()
    kept = ["predictions.npy", "record.json", "weights.safetensors"]
    assert names(tmp_path / "runs" / "a-evening-seed0") == kept[: 2 + weights]
    done = len(steps)
    (outcome,) = go(tiny("a"))
    assert outcome.recorded
    assert json.loads(record.read_bytes()) == json.loads(before)
    assert len(steps) == done
    assert names(tmp_path / "runs" / "a-evening-seed0") == ["predictions.npy", "record.json"]


# --- Stopping and going on -------------------------------------------------------------------------------------------


def without_times(record: Record) -> Record:
    history = [replace(entry, seconds=1.0, images_per_second=1.0) for entry in record.history]
    return record.replace(history=history, wall_seconds=1.0, images_per_second=1.0)


@pytest.mark.parametrize("at", [1, 3, 4, 7])
def test_a_campaign_stops_at_its_deadline_and_goes_on_with_the_next(go, tmp_path, monkeypatch, steps, at):
    """By a clock whose seconds are optimiser steps."""
    before = signal.getsignal(signal.SIGTERM)
    for clock in (module, hooks):
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: float(len(steps))))
    stopped, *left = go(tiny("a"), tiny("b"), tiny("c"), deadline=at)
    assert len(steps) == at
    assert re.match(f"stopped: Stopped by its deadline at step {at} of 8; the run is in ", stopped.result)
    assert left == [Outcome(f"{name}-evening-seed0", "left: the time is up") for name in "bc"]
    assert names(tmp_path / "records") == []
    assert signal.getsignal(signal.SIGTERM) == before
    assert [outcome.recorded for outcome in go(tiny("a"), tiny("b"))] == [True, True]
    assert steps == ["a-evening-seed0"] * 8 + ["b-evening-seed0"] * 8  # no step was done twice
    interrupted = load_records(tmp_path / "records")[0]
    alone = list(campaign([tiny("a")], Images({}), records=tmp_path / "other", runs=tmp_path / "other-runs",
                          device="cpu", deadline=FOREVER, keep_weights=False, progress=False))  # fmt: skip
    assert alone[0].recorded
    assert without_times(interrupted) == without_times(load_records(tmp_path / "other")[0])


def test_what_is_recorded_is_named_as_such_when_the_time_is_up(go):
    go(tiny("b"))
    outcomes = go(tiny("a"), tiny("b"), deadline=-1.0)
    assert [(outcome.result, outcome.recorded) for outcome in outcomes] == [
        ("left: the time is up", False),
        ("recorded before", True),
    ]


def test_someone_s_wish_to_stop_ends_the_campaign(go, tmp_path, monkeypatch, steps):
    """And is not taken for the deadline; what was going on is saved."""
    train = module.train

    def train_and_wish(*arguments: Any, **options: Any) -> Any:
        def on_step() -> None:
            if len(steps) == 3:
                signal.raise_signal(signal.SIGTERM)

        return train(*arguments, **{**options, "on_step": on_step})

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", train_and_wish)
        with pytest.raises(TrainingStopped, match="Stopped by SIGTERM at step 3 of 8"):
            go(tiny("a"), tiny("b"))
    assert names(tmp_path / "runs") == ["a-evening-seed0"]
    assert go(tiny("a"))[0].recorded
    assert len(steps) == 8


def test_a_run_that_cannot_go_on_is_named_and_the_others_are_made(go, tmp_path):
    broken, fine = go(tiny("a", lr=100.0, momentum=0.9999, schedule="constant", epochs=60), tiny("b"))
    assert not broken.recorded
    assert re.match(r"stopped: The .* in epoch \d+ at step \d+ of 4", broken.result)
    assert fine.recorded
    assert names(tmp_path / "records") == ["b-evening-seed0.json", "b-evening-seed0.npy"]


def test_a_bug_without_a_text_costs_its_own_run_only(go, monkeypatch):
    def broken(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(module, "make", broken)
    assert [outcome.result for outcome in go(tiny("a"), tiny("b"))] == ["failed: NotImplementedError"] * 2


def test_a_damaged_record_is_named_and_the_other_runs_are_made(go, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a-evening-seed0.json").write_text("{")
    damaged, fine = go(tiny("a"), tiny("b"))
    assert damaged.result.startswith("left: a-evening-seed0.json is not readable as JSON")
    assert fine.recorded


def test_a_record_that_cannot_be_written_is_named_and_its_run_stays(go, tmp_path, monkeypatch, steps):
    save = module.save_predictions

    def full(path: Path, predictions: Any) -> None:
        if path.name.startswith("a-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(path, predictions)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_predictions", full)
        lost, fine = go(tiny("a"), tiny("b"))
    assert (lost.recorded, fine.recorded) == (False, True)
    assert "No space left on device" in lost.result
    steps.clear()
    assert go(tiny("a"))[0].recorded
    assert steps == []


# --- Images --------------------------------------------------------------------------------------------------------


def test_runs_without_images_are_named_and_the_others_are_made(go, tmp_path):
    outcomes = go(tiny("a", dataset="cifar100"), tiny("b"), tiny("c", dataset="cifar100"))
    assert [outcome.result for outcome in (outcomes[0], outcomes[2])] == ["left: There is no 'cifar100' here."] * 2
    assert outcomes[1].recorded
    assert names(tmp_path / "records") == ["b-evening-seed0.json", "b-evening-seed0.npy"]
    assert names(tmp_path / "runs") == ["b-evening-seed0"]


def test_images_are_looked_for_once(monkeypatch):
    asked: list[tuple[str, str]] = []
    load = module.load_dataset

    def noted(spec: str, split: str) -> Dataset:
        asked.append((spec, split))
        return load(spec, split)

    monkeypatch.setattr(module, "load_dataset", noted)
    images = Images({})
    for _ in range(2):
        assert images["cifar10"] == {"train_set": SETS["train"], "test_set": SETS["test"]}
        with pytest.raises(CourseError, match="There is no 'cifar100' here"):
            images["cifar100"]
    assert asked == [("cifar10", "train"), ("cifar10", "test"), ("cifar100", "train")]


def test_other_images_than_the_recipe_s_are_refused():
    images = Images({"cifar10": "others", "cifar100": "cifar10"})
    for _ in range(2):
        with pytest.raises(
            CourseError, match=r"^'others' holds 'flowers', not 'cifar10'; give .* --data cifar10=SPEC\.$"
        ):
            images["cifar10"]
    with pytest.raises(CourseError, match="'cifar10' holds 'cifar10', not 'cifar100'"):
        images["cifar100"]


# --- Several campaigns -----------------------------------------------------------------------------------------------

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1] + "/.lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_is_making_is_left_to_it(go, tmp_path, steps):
    folder = tmp_path / "runs" / "a-evening-seed0"
    folder.mkdir(parents=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes) as other:
        assert other.stdout.readline() == "held\n"
        left, made = go(tiny("a"), tiny("b"))
        other.stdin.close()
    assert re.match(r"left: '.*a-evening-seed0' is in use by another process", left.result)
    assert (left.recorded, made.recorded) == (False, True)
    assert [outcome.recorded for outcome in go(tiny("a"), tiny("b"))] == [True, True]
    assert steps == ["b-evening-seed0"] * 8 + ["a-evening-seed0"] * 8


def test_a_run_that_another_process_has_just_finished_is_not_made_again(go, monkeypatch, steps):
    """It was not recorded when this campaign looked, and is when it comes to the folder."""
    first = go(tiny("a"))
    monkeypatch.setattr(module, "is_recorded", lambda *_: False)
    assert go(tiny("a")) == first
    assert len(steps) == 8


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., tuple[int, str, str]]:
    """The command line with a plan of two runs; gives status, output and errors."""
    monkeypatch.setattr(module, "SEEDS", 1)
    monkeypatch.setattr(module, "plan", lambda budget, seeds: [
        tiny(name, dataset=dataset, seed=seed).replace(budget=budget)
        for seed in range(seeds) for name, dataset in (("a", "cifar10"), ("b", "cifar100"))
    ])  # fmt: skip

    def call(*arguments: str) -> tuple[int, str, str]:
        folders = ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
        status = main([*arguments, *folders])
        return status, *capfd.readouterr()

    return call


def test_the_command_names_what_it_made_and_what_it_left(command, tmp_path):
    status, out, err = command("--only", "*seed0")
    assert status == 0
    first, second, last = out.splitlines()
    assert re.fullmatch(r"a-evening-seed0: test \d+\.\d\d%, validation \d+\.\d\d%", first)
    assert second == "b-evening-seed0: left: There is no 'cifar100' here."
    assert last == f"1 of 2 runs are recorded in {tmp_path / 'records'}"
    assert re.search(r"^  a-evening-seed0 2/2: training loss \d\.\d{3}, validation ", err, re.MULTILINE)


def test_the_command_at_its_time_limit_ends_well(command, tmp_path):
    status, out, _ = command("--minutes", "0")
    assert status == 0
    assert out.splitlines()[:2] == [f"{name}-evening-seed0: left: the time is up" for name in "ab"]
    assert names(tmp_path / "runs") == []


def test_the_list_makes_nothing(command, tmp_path):
    assert command("--list")[:2] == (0, "to do     a-evening-seed0\nto do     b-evening-seed0\n")
    assert names(tmp_path) == []
    assert command("--list", "--only", "b*", "c*")[1] == "to do     b-evening-seed0\n"
    assert command("--list", "--budget", "long")[1] == "to do     a-seed0\nto do     b-seed0\n"
    assert len(command("--list", "--seeds", "2")[1].splitlines()) == 4


def test_the_list_says_how_long_the_rest_takes_where_a_run_of_this_machine_is_recorded(command, tmp_path, monkeypatch):
    command()
    path = tmp_path / "records" / "a-evening-seed0.json"
    record = json.loads(path.read_text())
    device = "abacus (cpu)"
    record["wall_seconds"], record["environment"]["device"] = 3600.0, device
    path.write_text(json.dumps(record))
    monkeypatch.setattr(module, "device_name", lambda _: device)
    status, out, _ = command("--list", "--seeds", "2")
    assert status == 0
    assert out.splitlines() == [
        "recorded  a-evening-seed0",
        "to do     b-evening-seed0  1.0 h",  # the last layer, for 100 classes, is little
        "to do     a-evening-seed1  1.0 h",
        "to do     b-evening-seed1  1.0 h",
        f"left on {device}: about 3.0 hours",
    ]
    early = [tiny("b", stop_after=1), tiny("c", stop_after=1, epochs=4)]
    monkeypatch.setattr(module, "plan", lambda *_: early)
    assert command("--list")[1].splitlines() == [
        "to do     b-evening-seed0  at most 1.0 h",
        "to do     c-evening-seed0  at most 2.0 h",
        f"left on {device}: at most 3.0 hours for runs that may stop early",
    ]
    early.append(tiny("d"))
    both = f"left on {device}: about 1.0 hours, and at most 3.0 hours for runs that may stop early"
    assert command("--list")[1].splitlines()[-1] == both
    # If two epochs of S3's recipe took an hour, the 95 of the published run take 47.5 hours.
    record["recipe"].update(name="alexnet-cifar-5x5-v1.published-cifar100", stop_after=41, epochs=3000)
    path.write_text(json.dumps(record))
    early[:] = [Recipe.from_dict(record["recipe"]).replace(seed=1)]
    assert command("--list")[1].splitlines()[-1] == f"left on {device}: about 47.5 hours"
    record["environment"]["device"] = "another"
    path.write_text(json.dumps(record))
    assert " h" not in command("--list", "--seeds", "2")[1]


@pytest.mark.parametrize(
    ("recorded", "precision", "device", "same"),
    [
        ("EPYC, avx512_bf16 (cpu)", "bf16", "EPYC, avx512_bf16 (cpu)", True),
        ("EPYC, avx512_bf16 (cpu)", "bf16", "EPYC (cpu)", False),
        ("EPYC, avx512_bf16 (cpu)", "bf16", "EPYC, amx_bf16 (cpu)", False),
        ("EPYC (cpu)", "fp32", "EPYC (cpu)", True),
        ("EPYC (cpu)", "fp32", "EPYC, avx512_bf16 (cpu)", False),
        ("EPYC (cpu)", "bf16", "EPYC, avx512_bf16 (cpu)", True),  # of a version that did not note the flag
        ("EPYC (cpu)", "bf16", "EPYC (cpu)", False),
        ("Xeon (cpu)", "fp32", "EPYC (cpu)", False),
        ("Tesla T4", "fp16", "Tesla T4", True),
        ("NVIDIA H100", "bf16", "NVIDIA H100", True),
    ],
)
def test_times_are_those_of_the_same_device_with_or_without_bf16(recorded, precision, device, same):
    assert is_on(SimpleNamespace(device=recorded, precision=precision), device) is same


def test_a_damaged_record_does_not_hide_the_list(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, "plan", lambda *_: [tiny("a"), tiny("b")])
    (tmp_path / "a-evening-seed0.json").write_text("{")
    (tmp_path / "other-seed0.json").write_text("{")
    assert module.main(["--list", "--records", str(tmp_path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("damaged   a-evening-seed0: a-evening-seed0.json is not readable as JSON")
    assert second == "to do     b-evening-seed0"


def test_no_threads_and_an_interruption_are_a_sentence(monkeypatch, capsys):
    assert module.main(["--list", "--threads", "-1"]) == 2
    assert capsys.readouterr().err == "campaign: --threads -1 is not a number of threads; give at least 1.\n"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "plan", interrupted)
    assert module.main([]) == 130
    assert capsys.readouterr().err == "\ncampaign: stopped\n"


def test_an_estimate_is_in_proportion_to_the_work_of_a_run():
    known = {"cnn4": 1e9, "lenet5": 3e9, "vgg-style": 2e9}
    run = tiny("a")
    hours = estimate(run, known)
    assert hours == work(run) / 1e9 / 3600
    assert estimate(run.replace(epochs=4), known) == pytest.approx(2 * hours)
    whole = run.replace(validation_size=5000)
    assert work(whole.replace(train_size=0.5)) == pytest.approx(work(whole) / 2)
    assert work(whole.replace(train_size=4500)) == pytest.approx(work(whole) / 10)
    assert work(whole.replace(validation_size=0.1)) == pytest.approx(work(whole))
    early = load_recipe("alexnet-cifar-5x5-v1.published-cifar100")  # 3,000 epochs at most; the published run had 95
    assert work(early) == pytest.approx(work(early.replace(name="of-ours", epochs=95)))
    assert expected_epochs(early) == (95, False)
    elsewhere = load_recipe("alexnet-cifar-5x5-v1.published")  # that curve, which is of CIFAR-100, has another rule
    assert expected_epochs(elsewhere) == (3000, True)
    assert expected_epochs(elsewhere.replace(stop_after=41)) == (95, False)
    assert expected_epochs(load_recipe("alexnet-cifar-5x5-v1.published-1e-4-cifar100")) == (3000, True)
    assert expected_epochs(run.replace(epochs=7)) == (7, False)
    assert expected_epochs(run.replace(epochs=7, stop_at=0.9)) == (7, True)
    assert estimate(run, {"lenet5": 3e9, "vgg-style": 1e9}) == pytest.approx(hours / 2)  # the rate in the middle
    assert estimate(run, {}) is None


def test_a_place_of_the_images_is_used(command):
    status, out, _ = command("--data", "cifar100=cifar10", "--data", "cifar10=others")
    assert status == 0
    assert "a-evening-seed0: left: 'others' holds 'flowers', not 'cifar10'" in out
    assert "b-evening-seed0: left: 'cifar10' holds 'cifar10', not 'cifar100'" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "zzz*", "y"], "No run of the campaign is called zzz* or y; --list names them all."),
        (
            ["--data", "data/cifar10"],
            "--data 'data/cifar10' is not a name and a source; write NAME=SPEC, as in cifar10=folder:data",
        ),
        (["--data", "=folder:x"], "--data '=folder:x' is not a name and a source; write NAME=SPEC"),
        (["--data", "cifar10="], "--data 'cifar10=' is not a name and a source; write NAME=SPEC"),
        (["--data", "cifar11=doodles"], "--data cifar11=…: no run of the campaign uses 'cifar11'; name cifar10 or"),
        (["--seeds", "0"], "--seeds 0 is not a number of runs; give at least 1."),
        (["--device", "gpu"], "device = 'gpu' is not a device"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(command, tmp_path, capfd, arguments, sentence):
    if "--device" in arguments:
        status = main([*arguments, "--records", str(tmp_path)])
        out, err = capfd.readouterr()
    else:
        status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"campaign: {sentence}")
    assert err.count("\n") == 1
    assert names(tmp_path) == []


def test_a_wish_to_stop_is_status_1(command, tmp_path, monkeypatch):
    def wish(*_: object, **__: object) -> None:
        error = TrainingStopped("Stopped by SIGINT at step 3 of 8; the run is there.")
        error.signal = signal.SIGINT
        raise error

    monkeypatch.setattr(module, "make", wish)
    status, out, err = command()
    assert status == 1
    assert out.startswith("a-evening-seed0: stopped: Stopped by SIGINT")
    assert err == "campaign: Stopped by SIGINT at step 3 of 8; the run is there.\n"


def test_a_record_from_before_a_key_was_there_still_counts(go, tmp_path):
    recipe = tiny("early")
    go(recipe)
    path = tmp_path / "records" / f"{recipe.run_name}.json"
    record = json.loads(path.read_text())
    del record["recipe"]["decay"]
    path.write_text(json.dumps(record))
    assert is_recorded(recipe, tmp_path / "records")
    assert not is_recorded(recipe.replace(decay="weights"), tmp_path / "records")
    assert json.loads(dump_record(read_record(path))) == record  # without the key


def test_new_images_are_tried_where_their_place_is_given(command, tmp_path, monkeypatch):
    new = coloured(30, seed=3, name="cifar10.1")
    load = module.load_dataset
    monkeypatch.setattr(module, "load_dataset", lambda spec, split: new if spec == "cifar10.1" else load(spec, split))
    status, *_ = command("--data", "cifar10.1=cifar10.1")
    assert status == 0
    kept = tmp_path / "records" / "a-evening-seed0.json"
    found = read_record(kept).new_images
    assert (found.name, found.fingerprint, found.images) == ("cifar10.1", new.fingerprint, 30)
    assert found.interval[0] <= found.accuracy <= found.interval[1]
    assert round(30 * found.accuracy, 6) % 1 == 0
    assert (tmp_path / "runs" / "a-evening-seed0" / "record.json").read_bytes() == kept.read_bytes()


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_of_the_list_gets_no_traceback():
    command = [sys.executable, "-m", "benchmarks.campaign", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as head does, only sooner
        assert process.wait(timeout=300) == 0
        assert process.stderr.read() == ""
