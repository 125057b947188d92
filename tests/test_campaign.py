"""The campaign on made-up pictures: what it makes, in which order, what it leaves alone, and how it stops."""

import json
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.files import whole_file
from alexnet_course.recipes import ABLATIONS, ablations, merged
from alexnet_course.records import check_record, load_records
from alexnet_course.training import Recipe, Run, TrainingStopped
from benchmarks import campaign as module
from benchmarks.campaign import Outcome, Pictures, campaign, is_recorded, main, plan

FOREVER = float("inf")


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
    return Recipe(name=name, precision="fp32", budget="cpu", **{**values, **changes})


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a millisecond, and pictures that are there at once; of CIFAR-100 there are none."""

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

    monkeypatch.setattr("alexnet_course.training.loop.build_model", build)
    monkeypatch.setattr("alexnet_course.training.record.build_model", build)
    monkeypatch.setattr(module, "load_dataset", load)
    monkeypatch.setattr("alexnet_course.records.fit.check_fit", lambda *_: None)  # these networks are no such ones
    monkeypatch.setenv("GIT_DIR", "/dev/null")


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., list[Outcome]]:
    """Runs a campaign to its end; its records and runs are beside each other in ``tmp_path``."""

    def call(*recipes: Recipe, **changes: Any) -> list[Outcome]:
        options = {"device": "cpu", "deadline": FOREVER, "keep_weights": False, "progress": False, **changes}
        places = {"records": tmp_path / "records", "runs": tmp_path / "runs"}
        return list(campaign(list(recipes), Pictures({}), **places, **options))

    return call


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the run of each optimiser step that is done while the test runs."""
    done: list[str] = []
    train_step = Run._train_step

    def noted(run: Any, images: torch.Tensor, labels: torch.Tensor) -> None:
        done.append(run.recipe.run_name)
        train_step(run, images, labels)

    monkeypatch.setattr(Run, "_train_step", noted)
    return done


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- The plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["full", "cpu"])
def test_every_run_of_the_plan_has_a_name_of_its_own_and_is_of_the_budget(budget):
    runs = plan(budget, 3)
    assert max(Counter(recipe.run_name for recipe in runs).values()) == 1
    assert {recipe.budget for recipe in runs} == {budget}
    assert Counter(recipe.seed for recipe in runs) == dict.fromkeys(range(3), len(runs) // 3)


@pytest.mark.parametrize("budget", ["full", "cpu"])
def test_the_plan_begins_with_what_is_worth_most(budget):
    runs = plan(budget, 2)
    assert [recipe.seed for recipe in runs] == sorted(recipe.seed for recipe in runs)  # one of all before two of any
    first = [recipe for recipe in runs if recipe.seed == 0]
    assert [recipe.replace(seed=1) for recipe in first] == [recipe for recipe in runs if recipe.seed == 1]

    def worth(recipe: Recipe) -> tuple[bool, int]:
        kinds = (re.search(r"\.(modern|best|small)$", recipe.name), recipe.name.startswith("ablation."),
                 ".published" in recipe.name)  # fmt: skip
        assert sum(map(bool, kinds)) == 1
        return recipe.dataset != "cifar10", [bool(kind) for kind in kinds].index(True)

    assert [worth(recipe) for recipe in first] == sorted(worth(recipe) for recipe in first)
    assert Counter(worth(recipe) for recipe in first)[False, 0] == 9  # the table, the best, the small one
    assert Counter(recipe.dataset for recipe in first)["cifar100"] == 3


def test_options_of_the_model_are_merged_one_by_one_and_everything_else_is_replaced():
    values = {"lr": 1.0, "lr_steps": [1], "model_options": {"width": 0.5, "hidden": 7}}
    changes = {"lr": 2.0, "model_options": {"hidden": 8, "lrn": True}}
    assert merged(values, changes) == {
        "lr": 2.0, "lr_steps": [1], "model_options": {"width": 0.5, "hidden": 8, "lrn": True}
    }  # fmt: skip
    assert merged({"lr": 1.0}, {"lr_steps": [2]}) == {"lr": 1.0, "lr_steps": [2], "model_options": {}}
    assert (values["lr"], values["model_options"]) == (1.0, {"width": 0.5, "hidden": 7})  # which others share


@pytest.mark.parametrize("budget", ["full", "cpu"])
def test_an_ablation_is_its_base_with_what_it_names_changed(budget):
    tables = tomllib.loads(ABLATIONS.read_text(encoding="utf-8"))
    recipes = {recipe.name: recipe for recipe in ablations(budget)}
    assert set(recipes) == {f"ablation.{g}.{v}" for g, table in tables.items() for v in ["base", *table["variants"]]}
    for group, table in tables.items():
        base = recipes[f"ablation.{group}.base"].as_dict()
        written = {**table["base"], **(table["cpu"] if budget == "cpu" else {})}
        assert {key: base[key] for key in written} == written
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


def test_what_is_left_out_without_a_gpu_is_left_out_only_there():
    full, short = ({recipe.name: recipe for recipe in ablations(budget)} for budget in ("full", "cpu"))
    assert set(full) == set(short)
    for name, recipe in full.items():
        assert short[name].epochs < recipe.epochs or short[name].train_size != 1
        assert recipe.train_size == 1
        assert not {"width"} & set(recipe.model_options)
    assert short["ablation.alexnet.hidden-256"].model_options == {"width": 0.5, "hidden": 256}
    assert short["ablation.alexnet.batch-norm"].model_options == {"width": 0.5, "hidden": 1024, "batch_norm": True}
    assert full["ablation.alexnet.batch-norm"].model_options == {"batch_norm": True}


@pytest.mark.parametrize("budget", ["full", "cpu"])
def test_every_network_of_the_ablations_can_be_built_and_takes_its_pictures(budget):
    from alexnet_course.models import build_model

    for recipe in ablations(budget):
        with torch.device("meta"):
            model = build_model(recipe.model, **recipe.model_options).eval()
            side = recipe.picture_size
            assert model(torch.zeros(1, 3, side, side)).shape == (1, 10), recipe.name


# --- What is recorded ------------------------------------------------------------------------------------------------


def test_a_campaign_makes_a_record_of_each_run_and_then_has_nothing_to_do(go, tmp_path, steps):
    recipes = tiny("a"), tiny("b", seed=1)
    outcomes = go(*recipes)
    assert [outcome.name for outcome in outcomes] == ["a-cpu-seed0", "b-cpu-seed1"]
    assert all(outcome.recorded for outcome in outcomes)
    assert names(tmp_path / "records") == [
        "a-cpu-seed0.json", "a-cpu-seed0.npy", "b-cpu-seed1.json", "b-cpu-seed1.npy"]  # fmt: skip
    for recipe, outcome, record in zip(recipes, outcomes, load_records(tmp_path / "records"), strict=True):
        assert record["recipe"] == recipe.as_dict()
        accuracies = f"test {record['test_accuracy']:.2%}, validation {record['val_accuracy']:.2%}"
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
    assert names(tmp_path / "runs" / "a-cpu-seed0") == ["predictions.npy", "record.json", "weights.safetensors"]


def test_a_run_of_a_changed_recipe_does_not_count(go, tmp_path):
    go(tiny("a"))
    records = tmp_path / "records"
    assert is_recorded(tiny("a"), records)
    assert not is_recorded(tiny("a", lr=0.01), records)
    assert not is_recorded(tiny("a", seed=1), records)
    assert not is_recorded(tiny("a").replace(budget="full"), records)
    assert not is_recorded(tiny("a"), tmp_path / "nowhere")


@pytest.mark.parametrize("keep_weights", [True, False])
def test_a_changed_recipe_is_not_given_the_record_of_the_old_one(go, tmp_path, keep_weights):
    """Whose run may still lie in the folder; both are kept, and the way out is named."""
    go(tiny("a"), keep_weights=keep_weights)
    before = (tmp_path / "records" / "a-cpu-seed0.json").read_bytes()
    (outcome,) = go(tiny("a", lr=0.01))
    assert not outcome.recorded
    assert re.match(r"left: .*'.*a-cpu-seed0'.*lr was 0\.02 and is 0\.01", outcome.result)
    assert (tmp_path / "records" / "a-cpu-seed0.json").read_bytes() == before
    for path in (tmp_path / "runs" / "a-cpu-seed0").iterdir():
        path.unlink()
    (tmp_path / "runs" / "a-cpu-seed0").rmdir()
    assert go(tiny("a", lr=0.01))[0].recorded
    assert load_records(tmp_path / "records")[0]["recipe"]["lr"] == 0.01


def test_a_run_whose_predictions_are_gone_is_made_again(tmp_path, go):
    [outcome] = go(tiny("a"))
    predictions = (tmp_path / "records" / "a-cpu-seed0.npy").read_bytes()
    (tmp_path / "records" / "a-cpu-seed0.npy").unlink()
    (tmp_path / "runs" / "a-cpu-seed0" / "predictions.npy").unlink()
    [left] = go(tiny("a"))  # the folder of the run has lost them as well
    assert not left.recorded
    assert "predictions.npy" in left.result
    for path in (tmp_path / "runs" / "a-cpu-seed0").iterdir():
        path.unlink()
    assert go(tiny("a")) == [outcome]
    assert (tmp_path / "records" / "a-cpu-seed0.npy").read_bytes() == predictions


def test_a_file_that_is_no_record_is_not_taken_for_one(tmp_path):
    (tmp_path / "a-cpu-seed0.json").write_text('{"recipe": {}}')
    with pytest.raises(CourseError, match=r"^a-cpu-seed0\.json is not a record of this course"):
        is_recorded(tiny("a"), tmp_path)


def test_a_record_is_written_whole(go, tmp_path, monkeypatch):
    """By the writer that gives a file its name when it is complete."""
    written: list[Path] = []

    def noted(path: Path, text: str) -> None:
        check_record(json.loads(text))
        assert not path.exists()
        with whole_file(path) as part:
            part.write_text(text)
            assert part != path
            assert names(tmp_path / "records") == [part.name, "a-cpu-seed0.npy"]
        written.append(path)

    monkeypatch.setattr(module, "write_text", noted)
    go(tiny("a"))
    assert written == [tmp_path / "records" / "a-cpu-seed0.json"]


@pytest.mark.parametrize("weights", [True, False])
def test_a_finished_run_whose_record_was_not_copied_is_picked_up(go, tmp_path, steps, weights):
    """The campaign died between the end of the run and the copy, or after it and before the weights were gone."""
    go(tiny("a"), keep_weights=weights)
    record = tmp_path / "records" / "a-cpu-seed0.json"
    before = record.read_bytes()
    record.unlink()
    kept = ["predictions.npy", "record.json", "weights.safetensors"]
    assert names(tmp_path / "runs" / "a-cpu-seed0") == kept[: 2 + weights]
    done = len(steps)
    (outcome,) = go(tiny("a"))
    assert outcome.recorded
    assert json.loads(record.read_bytes()) == json.loads(before)
    assert len(steps) == done
    assert names(tmp_path / "runs" / "a-cpu-seed0") == ["predictions.npy", "record.json"]


# --- Stopping and going on -------------------------------------------------------------------------------------------


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    history = [{k: v for k, v in entry.items() if k not in ("seconds", "images_per_second")} for entry in
               record["history"]]  # fmt: skip
    return {**record, "history": history, "wall_seconds": 0, "images_per_second": 0}


@pytest.mark.parametrize("at", [1, 3, 4, 7])
def test_a_campaign_stops_at_its_deadline_and_goes_on_with_the_next(go, tmp_path, monkeypatch, steps, at):
    """By a clock whose seconds are optimiser steps."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(len(steps))))
    stopped, *left = go(tiny("a"), tiny("b"), tiny("c"), deadline=at)
    assert len(steps) == at
    assert re.match(f"stopped: Stopped by SIGTERM at step {at} of 8; the run is in ", stopped.result)
    assert left == [Outcome(f"{name}-cpu-seed0", "left: the time is up") for name in "bc"]
    assert names(tmp_path / "records") == []
    assert signal.getsignal(signal.SIGTERM) == before
    assert [outcome.recorded for outcome in go(tiny("a"), tiny("b"))] == [True, True]
    assert steps == ["a-cpu-seed0"] * 8 + ["b-cpu-seed0"] * 8  # no step was done twice
    interrupted = load_records(tmp_path / "records")[0]
    alone = list(campaign([tiny("a")], Pictures({}), records=tmp_path / "other", runs=tmp_path / "other-runs",
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
        heed = options["on_step"]

        def on_step() -> None:
            heed()
            if len(steps) == 3:
                signal.raise_signal(signal.SIGTERM)

        return train(*arguments, **{**options, "on_step": on_step})

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", train_and_wish)
        with pytest.raises(TrainingStopped, match="Stopped by SIGTERM at step 3 of 8"):
            go(tiny("a"), tiny("b"))
    assert names(tmp_path / "runs") == ["a-cpu-seed0"]
    assert go(tiny("a"))[0].recorded
    assert len(steps) == 8


def test_a_run_that_cannot_go_on_is_named_and_the_others_are_made(go, tmp_path):
    broken, fine = go(tiny("a", lr=100.0, momentum=0.9999, schedule="constant", epochs=60), tiny("b"))
    assert not broken.recorded
    assert re.match(r"stopped: The .* in epoch \d+ at step \d+ of 4", broken.result)
    assert fine.recorded
    assert names(tmp_path / "records") == ["b-cpu-seed0.json", "b-cpu-seed0.npy"]


# --- Pictures --------------------------------------------------------------------------------------------------------


def test_runs_without_pictures_are_named_and_the_others_are_made(go, tmp_path):
    outcomes = go(tiny("a", dataset="cifar100"), tiny("b"), tiny("c", dataset="cifar100"))
    assert [outcome.result for outcome in (outcomes[0], outcomes[2])] == ["left: There is no 'cifar100' here."] * 2
    assert outcomes[1].recorded
    assert names(tmp_path / "records") == ["b-cpu-seed0.json", "b-cpu-seed0.npy"]
    assert names(tmp_path / "runs") == ["b-cpu-seed0"]


def test_pictures_are_looked_for_once(monkeypatch):
    asked: list[tuple[str, str]] = []
    load = module.load_dataset

    def noted(spec: str, split: str) -> Dataset:
        asked.append((spec, split))
        return load(spec, split)

    monkeypatch.setattr(module, "load_dataset", noted)
    pictures = Pictures({})
    for _ in range(2):
        assert pictures["cifar10"] == {"train_set": SETS["train"], "test_set": SETS["test"]}
        with pytest.raises(CourseError, match="There is no 'cifar100' here"):
            pictures["cifar100"]
    assert asked == [("cifar10", "train"), ("cifar10", "test"), ("cifar100", "train")]


def test_other_pictures_than_the_recipe_s_are_refused():
    pictures = Pictures({"cifar10": "others", "cifar100": "cifar10"})
    for _ in range(2):
        with pytest.raises(
            CourseError, match=r"^'others' holds 'flowers', not 'cifar10'; give .* --data cifar10=SPEC\.$"
        ):
            pictures["cifar10"]
    with pytest.raises(CourseError, match="'cifar10' holds 'cifar10', not 'cifar100'"):
        pictures["cifar100"]


# --- Several campaigns -----------------------------------------------------------------------------------------------

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1] + "/.lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_is_making_is_left_to_it(go, tmp_path, steps):
    folder = tmp_path / "runs" / "a-cpu-seed0"
    folder.mkdir(parents=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes) as other:
        assert other.stdout.readline() == "held\n"
        left, made = go(tiny("a"), tiny("b"))
        other.stdin.close()
    assert re.match(r"left: '.*a-cpu-seed0' is in use by another process", left.result)
    assert (left.recorded, made.recorded) == (False, True)
    assert [outcome.recorded for outcome in go(tiny("a"), tiny("b"))] == [True, True]
    assert steps == ["b-cpu-seed0"] * 8 + ["a-cpu-seed0"] * 8


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
    monkeypatch.setattr(module, "plan", lambda budget, seeds: [
        tiny(name, dataset=dataset, seed=seed).replace(budget=budget)
        for seed in range(seeds) for name, dataset in (("a", "cifar10"), ("b", "cifar100"))
    ])  # fmt: skip

    def call(*arguments: str) -> tuple[int, str, str]:
        places = ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
        status = main([*arguments, *places])
        return status, *capfd.readouterr()

    return call


def test_the_command_names_what_it_made_and_what_it_left(command, tmp_path):
    status, out, err = command("--only", "*seed0")
    assert status == 0
    first, second, last = out.splitlines()
    assert re.fullmatch(r"a-cpu-seed0: test \d+\.\d\d%, validation \d+\.\d\d%", first)
    assert second == "b-cpu-seed0: left: There is no 'cifar100' here."
    assert last == f"1 of 2 runs are recorded in {tmp_path / 'records'}"
    assert re.search(r"^  a-cpu-seed0 2/2: training loss \d\.\d{3}, validation ", err, re.MULTILINE)


def test_the_command_at_its_time_limit_ends_well(command, tmp_path):
    status, out, _ = command("--minutes", "0")
    assert status == 0
    assert out.splitlines()[:2] == [f"{name}-cpu-seed0: left: the time is up" for name in "ab"]
    assert names(tmp_path / "runs") == []


def test_the_list_makes_nothing(command, tmp_path):
    assert command("--list")[:2] == (0, "to do     a-cpu-seed0\nto do     b-cpu-seed0\n")
    assert names(tmp_path) == []
    command()
    assert command("--list")[:2] == (0, "recorded  a-cpu-seed0\nto do     b-cpu-seed0\n")
    assert command("--list", "--only", "b*", "c*")[1] == "to do     b-cpu-seed0\n"
    assert command("--list", "--budget", "full")[1].split() == [
        word for seed in range(3) for name in "ab" for word in ("to", "do", f"{name}-seed{seed}")
    ]
    assert len(command("--list", "--seeds", "2")[1].splitlines()) == 4


def test_a_place_of_the_pictures_is_used(command):
    status, out, _ = command("--data", "cifar100=cifar10", "--data", "cifar10=others")
    assert status == 0
    assert "a-cpu-seed0: left: 'others' holds 'flowers', not 'cifar10'" in out
    assert "b-cpu-seed0: left: 'cifar10' holds 'cifar10', not 'cifar100'" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "zzz*", "y"], "No run of the campaign is called zzz* or y; --list names them all."),
        (
            ["--data", "data/cifar10"],
            "--data 'data/cifar10' is not a place; write NAME=SPEC, as in cifar10=folder:data",
        ),
        (["--data", "=folder:x"], "--data '=folder:x' is not a place; write NAME=SPEC"),
        (["--data", "cifar10="], "--data 'cifar10=' is not a place; write NAME=SPEC"),
        (["--data", "cifar11=doodles"], "--data cifar11=…: no run of the campaign uses 'cifar11'; name cifar10 or"),
        (["--seeds", "0"], "--seeds 0 is no number of runs; give at least 1."),
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
    assert out.startswith("a-cpu-seed0: stopped: Stopped by SIGINT")
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


def test_new_pictures_are_tried_where_their_place_is_given(command, tmp_path, monkeypatch):
    new = coloured(30, seed=3, name="cifar10.1")
    load = module.load_dataset
    monkeypatch.setattr(module, "load_dataset", lambda spec, split: new if spec == "cifar10.1" else load(spec, split))
    status, *_ = command("--data", "cifar10.1=cifar10.1")
    assert status == 0
    record = json.loads((tmp_path / "records" / "a-cpu-seed0.json").read_text())
    check_record(record)
    found = record["new_pictures"]
    assert (found["name"], found["fingerprint"], found["images"]) == ("cifar10.1", new.fingerprint, 30)
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert round(30 * found["accuracy"], 6) % 1 == 0


def test_a_reader_who_has_seen_enough_of_the_list_gets_no_traceback():
    command = [sys.executable, "-m", "benchmarks.campaign", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as head does, only sooner
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""
