"""``results verify`` holds a record against its recipe, its images, its weights and the other records."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import ExponentialLR

from alexnet_course import pretrained
from alexnet_course.cli import main
from alexnet_course.errors import CourseError
from alexnet_course.optim import SCHEDULES
from alexnet_course.recipe import Recipe
from alexnet_course.records import FOLDER
from alexnet_course.records.predictions import digest, labels_of, load_predictions, save_predictions
from alexnet_course.results.verify import verify
from alexnet_course.training import load_run
from alexnet_course.watching import fit

NAME = "base-evening-seed0"
Change = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Change) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# --- Learning rates --------------------------------------------------------------------------------------------------


@pytest.fixture
def own_schedule(monkeypatch) -> None:
    """One that the course does not know, which moves the rate at every step."""
    monkeypatch.setitem(SCHEDULES, "mine", lambda optimiser, recipe, steps: (ExponentialLR(optimiser, 0.9), None))


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "constant"},
        {"schedule": "step", "lr_steps": [1, 3]},
        {"schedule": "plateau", "patience": 0, "max_drops": 2},
        {"schedule": "plateau", "patience": 0, "keep_dropping": True},
        {"schedule": "one-cycle", "warmup": 0.4},
        {"schedule": "mine"},
    ],
    ids=lambda settings: settings["schedule"],
)
def test_learning_rates_are_those_of_the_schedule(data, tmp_path, own_schedule, settings):
    recipe = Recipe(model="lenet5", epochs=4, batch_size=50, validation_size=10, lr=1e-3, **settings)
    fit(recipe, progress=False, out=tmp_path / "run", **data)
    assert verify(tmp_path / "run") == []
    edit(tmp_path / "run" / "record.json", lambda r: r["history"][2].update(lr=2 * r["history"][2]["lr"]))
    [problem] = verify(tmp_path / "run")
    assert "lr of epoch 3 is 0.00" in problem
    assert f"but the recipe's schedule {settings['schedule']!r} gives 0.0" in problem


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"schedule": "constant"}, {"warmup": 0.75}, {"batch_size": 60}])
def test_rates_of_another_recipe_are_found(write, change):
    folder = write("base", 30)
    edit(folder / f"{NAME}.json", lambda r: r["recipe"].update(change))
    assert any("lr of epoch 1 is " in problem for problem in verify(folder))


# --- Parts and constants of the images -------------------------------------------------------------------------------


def cifar(change: Change, tmp_path: Path) -> list[str]:
    """What is found in a committed record, after a change."""
    name = "alexnet-d2l.modern-evening-seed0"
    for suffix in (".json", ".npy"):
        shutil.copy(FOLDER / f"{name}{suffix}", tmp_path)
    edit(tmp_path / f"{name}.json", change)
    return verify(tmp_path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: r["recipe"].update(validation_size=0.2), "validation_images is 10, but the recipe makes that 24"),
        (lambda r: r["dataset"].update(validation_images=20), "training_images is 110, but the recipe makes that 120"),
        (lambda r: r["recipe"].update(train_size=100), "training_images is 110, but the recipe asks for 100"),
        (lambda r: r["recipe"].update(validation_size=500), "validation_size = 500 would be 500 of 120 tr"),
    ],
)  # fmt: skip
def test_parts_of_another_size_are_found(write, change, found):
    folder = write("base", 30)
    edit(folder / f"{NAME}.json", change)
    assert any(found in problem for problem in verify(folder))


def test_of_published_images_and_of_those_at_hand_all_are_counted(write, data, tmp_path):
    change = {"training_images": 44_000, "validation_images": 4_889}  # a tenth of 48,889 images
    problems = cifar(lambda r: r["dataset"].update(change), tmp_path)
    assert any("training_images is 44,000, but the recipe makes that 45,000 of 50,000" in found for found in problems)
    folder = write("base", 30)
    edit(folder / f"{NAME}.json", lambda r: r["recipe"].update(train_size=0.5))
    assert verify(folder) == []  # there may be twice as many
    problems = verify(folder, training_images=data["train_set"])
    assert any("training_images is 110, but the recipe makes that 55 of 120" in problem for problem in problems)
    edit(folder / f"{NAME}.json", lambda r: r["recipe"].update(train_size=110))  # as many as there are
    assert verify(folder, training_images=data["train_set"]) == []


def brighter(record: dict[str, Any]) -> None:
    record["dataset"]["mean"][0] += 0.1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (brighter, "dataset/mean is (0."),
        (lambda r: r["dataset"]["std"].reverse(), "dataset/std is (0."),
        (lambda r: r["recipe"].update(normalisation="half"), "but the other figures give (0.5, 0.5, 0.5)"),
        (lambda r: r["dataset"]["std"].pop(), "mean is of 3 channels, but std of 2"),
    ],
)
def test_constants_are_those_of_the_images_at_hand(write, data, change, found):
    folder = write("base", 30)
    assert verify(folder, training_images=data["train_set"]) == []
    edit(folder / f"{NAME}.json", change)
    assert any(found in problem for problem in verify(folder, training_images=data["train_set"]))


def test_constants_are_those_of_the_other_records_where_no_images_are_at_hand(write):
    for name, right in (("one", 30), ("two", 35)):
        write(name, right)
    folder = write("base", 40)
    assert verify(folder) == []
    edit(folder / f"{NAME}.json", brighter)
    [problem] = verify(folder)
    assert problem.startswith(f"{NAME}.json: dataset/mean and dataset/std are not those of one-evening-seed0.json, ")


def test_the_command_looks_at_the_images_that_it_is_given(write, data, monkeypatch, capsys):
    folder = write("base", 30)
    edit(folder / f"{NAME}.json", brighter)
    monkeypatch.setattr("alexnet_course.data.load_dataset", lambda spec, split, **_: data[f"{split}_set"])
    assert main(["results", "verify", "--records", str(folder)]) == 0  # nothing to hold it against
    assert main(["results", "verify", "--records", str(folder), "--data", "folder:two-colours"]) == 2
    assert "dataset/mean is (" in capsys.readouterr().out


@pytest.mark.slow
def test_doodles_are_always_at_hand(tmp_path):
    recipe = Recipe(model="lenet5", dataset="doodles", epochs=1, train_size=50, validation_size=50)
    fit(recipe, progress=False, out=tmp_path / "run", device="cpu")
    assert verify(tmp_path / "run") == []
    edit(tmp_path / "run" / "record.json", brighter)
    assert ["dataset/mean is (" in problem for problem in verify(tmp_path / "run")] == [True]


# --- Predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [{"name": "base", "seed": 1}, {"name": "other"}, {"name": "base", "lr": 0.5}])
def test_one_run_under_two_names_or_seeds_is_found(write, again):
    write("base", 30)
    folder = write(**{"name": "base", "right": 30, "budget": "long", **again})
    [problem] = (problem for problem in verify(folder) if "its predictions are" in problem)
    assert problem.endswith("all 20 mistakes among them, though the recipes or seeds differ; repeat one of the two "
                            "runs.")  # fmt: skip


@pytest.mark.parametrize("right", [50, 47, "red"])
def test_networks_that_agree_as_any_two_may_are_not_taken_for_one(write, data, right):
    """Nearly always right, or one class for everything."""
    if right == "red":
        right = np.flatnonzero(labels_of(data["test_set"]) == 1).tolist()
    write("base", right)
    assert verify(write("other", right)) == []


def test_a_copy_of_a_run_is_the_same_run(finished, tmp_path):
    for name in ("one", "copy"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    assert verify(tmp_path / "runs") == []


@pytest.mark.parametrize("change", [lambda p: p * 0, lambda p: p * 0 + 1, lambda p: np.append(1 - p[:1], p[1:])])
def test_columns_are_counted_where_the_labels_are_not_at_hand(write, known_labels, change):
    folder = write("base", 10)
    next(known_labels.iterdir()).unlink()
    assert verify(folder) == []
    predictions = change(load_predictions(folder / f"{NAME}.npy"))
    save_predictions(folder / f"{NAME}.npy", predictions)
    edit(folder / f"{NAME}.json", lambda r: r.update(predictions=digest(predictions)))
    [problem] = verify(folder)
    assert problem.endswith(f"but those beside it are {np.bincount(predictions, minlength=2).tolist()}.")


# --- Weights ---------------------------------------------------------------------------------------------------------


def nudge(path: Path) -> None:
    weights = load_file(path)
    next(weight for weight in weights.values() if weight.is_floating_point()).view(-1)[0] += 0.5
    save_file(weights, path)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (nudge, "weights.safetensors holds the weights "),
        (lambda path: save_file({"one": torch.zeros(1)}, path), "weights.safetensors holds the weights "),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "weights.safetensors does not hold the weights of"),
        (lambda path: path.unlink() or path.mkdir(), "weights.safetensors does not hold the weights of"),
    ],
    ids=["nudged", "of another network", "torn", "folder"],
)  # fmt: skip
def test_weights_that_are_not_those_of_the_record_are_found(finished, tmp_path, damage, found):
    run = shutil.copytree(finished, tmp_path / "run")
    assert verify(run) == []
    damage(run / "weights.safetensors")
    [problem] = verify(run)
    assert problem.startswith(f"record.json: {found}")
    with pytest.raises(CourseError, match=r"has no weights\.safetensors|weights\.safetensors'? (holds|does not hold)"):
        load_run(run)


def test_a_record_that_names_no_weights_fits_any(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    edit(run / "record.json", lambda r: r.pop("weights"))
    nudge(run / "weights.safetensors")
    assert verify(run) == []
    load_run(run)


def test_evaluate_notices_a_network_that_is_not_as_its_record_says(finished, data, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr("alexnet_course.data.load_dataset", lambda spec, split, **_: data[f"{split}_set"])
    edit(run / "record.json", lambda r: r["dataset"].update(mean=[0.0, 0.0, 1.0], std=[1.0, 1.0, 1.0]))
    edit(run / "record.json", lambda r: r.update(test_accuracy_interval=[0.9, 1.0], test_accuracy=1.0))
    assert main(["evaluate", str(run), "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("two-colours: accuracy ")
    assert "but its record says 100.00% (95 % interval 90.00% to 100.00%) of the same ones" in err


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Copies of the records that have weights, and of the weights, in place of the package's; one record's path."""
    records, weights = tmp_path / "records", shutil.copytree(pretrained.FOLDER, tmp_path / "weights")
    records.mkdir()
    for path in FOLDER.glob("*.small-*"):
        shutil.copy(path, records)
    monkeypatch.setattr(pretrained, "RECORDS", records)
    for function in (pretrained.load_pretrained, pretrained.list_pretrained, pretrained.verify_pretrained):
        monkeypatch.setattr(function, "__defaults__", (*function.__defaults__[:-1], weights))
    monkeypatch.setattr("alexnet_course.cli.results.RECORDS", records)
    return next(records.glob("vgg-style-bn.small-*.json")), weights


@pytest.mark.parametrize(
    "change",
    [brighter, lambda r: r["dataset"]["classes"].reverse(), lambda r: r.update(test_accuracy=0.99)],
    ids=["mean", "classes", "accuracy"],
)
def test_a_record_of_the_package_s_weights_that_was_changed_is_refused(shipped, capsys, change):
    record, _ = shipped
    assert pretrained.verify_pretrained() == []
    edit(record, change)
    assert main(["evaluate", "vgg-style-bn.small", "--data", "doodles"]) == 2
    assert "is not the one that came with the weights vgg-style-bn.small" in capsys.readouterr().err
    assert main(["results", "verify", "--records", str(record.parent)]) == 2
    assert "is not the one that came with the weights vgg-style-bn.small" in capsys.readouterr().out


def test_verify_looks_at_the_package_s_weights(shipped, capsys):
    record, weights = shipped
    nudge(weights / "vgg-style-bn.small.safetensors")
    assert main(["results", "verify", "--records", str(record.parent)]) == 2
    assert capsys.readouterr().out.startswith("The weights vgg-style-bn.small.safetensors have the hash ")


def test_the_package_s_weights_are_tested_again_on_images_at_hand(shipped, data, monkeypatch):
    images = data["test_set"]
    model, record = pretrained.load_pretrained("vgg-style-bn.small")
    tested = record.replace(dataset=record.dataset.model_copy(update={"test_fingerprint": images.fingerprint}))
    monkeypatch.setattr(pretrained, "load_pretrained", lambda name, folder: (model, tested))
    problem, *_ = pretrained.verify_pretrained(images)
    assert "of the two-colours test images right, but its record says " in problem
    assert pretrained.verify_pretrained() == []
