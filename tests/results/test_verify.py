"""``results verify``: what is right passes, and whatever is changed afterwards is found and named."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_course.cli import main
from alexnet_course.data import load_dataset
from alexnet_course.data.folder import KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError
from alexnet_course.records import FOLDER, load_records, predictions
from alexnet_course.records.predictions import (
    LABELS,
    digest,
    labels_of,
    load_predictions,
    save_predictions,
    stored_labels,
)
from alexnet_course.results.verify import verify, verify_record
from alexnet_course.training.evaluation import wilson_interval

NAME = "base-evening-seed0"
CIFAR10 = next(iter(KNOWN_FINGERPRINTS))


@pytest.fixture
def folder(write) -> Path:
    """One record that fits."""
    return write("base", 30)


@pytest.fixture
def tamper(folder) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """``tamper(change)`` lets ``change`` do its worst with the record, and writes it back."""

    def edit(change: Callable[[dict[str, Any]], object]) -> None:
        path = folder / f"{NAME}.json"
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return edit


def test_a_record_that_fits_passes(folder, data, capsys):
    assert verify(folder) == verify(folder, data["test_set"]) == []
    assert main(["results", "verify", "--records", str(folder)]) == 0
    said, not_proved = capsys.readouterr().out.splitlines()
    assert said.startswith("1 records fit: their test accuracies follow from the predictions")
    assert not_proved.startswith("not recomputed: losses, training and validation accuracies, environment, weights")
    assert "only `alexnet-course reproduce` detects forged predictions" in not_proved


def one_more_right(record: dict[str, Any]) -> None:
    """Everything that follows from one more image is changed with it; only the predictions say otherwise."""
    confusion = record["confusion_matrix"]
    confusion[0][1] -= 1
    confusion[0][0] += 1
    correct = confusion[0][0] + confusion[1][1]
    record["test_accuracy"] = correct / 50
    record["test_accuracy_interval"] = list(wilson_interval(correct, 50))
    record["per_class_accuracy"]["red"] = confusion[0][0] / sum(confusion[0])


def rename_the_network(record: dict[str, Any]) -> None:
    record["recipe"]["model"] = "lenet5"


def move(record: dict[str, Any], *keys: Any, by: float) -> None:
    *path, last = keys
    for key in path:
        record = record[key]
    record[last] += by


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: r.pop("budget"), "is not a record of this course: budget is missing"),
        (lambda r: r.update(extra=1), "'extra' is not a key of a record; nearest: "),
        (rename_the_network, "is the record of a lenet5 with 81,378 parameters, but its recipe builds one with"),
        (lambda r: r["recipe"].update(model_options={"width": 2.0}), "has no override 'width'"),
        (lambda r: r.update(parameters=81_379), "with 81,379 parameters, but its recipe builds one with 81,378"),
        (lambda r: r["recipe"].update(name="alexnet-lrn.modern"), "has a recipe named 'alexnet-lrn.modern' with"),
        (lambda r: r["recipe"].update(seed=1), "says budget 'evening' and seed 0, but its recipe 'evening' and 1"),
        (lambda r: r.update(budget="long"), "says budget 'long' and seed 0, but its recipe 'evening' and 0"),
        (lambda r: r["recipe"].update(name="better"), "so it must be called better-evening-seed0.json"),
        (lambda r: r["dataset"].update(name="cifar10"), "images that it calls 'cifar10', but their fingerprint"),
        (lambda r: r["dataset"].update(test_fingerprint=CIFAR10), "is not that of 'two-colours'"),
        (lambda r: move(r, "test_accuracy", by=0.02), "test_accuracy is 0.62, but the other figures give 0.6."),
        (lambda r: move(r, "test_accuracy_interval", 0, by=0.02), "test_accuracy_interval is ("),
        (lambda r: move(r, "per_class_accuracy", "red", by=0.1), "per_class_accuracy of red is "),
        (lambda r: r["per_class_accuracy"].update(green=1.0), "does not name the classes"),
        (lambda r: move(r, "confusion_matrix", 0, 0, by=1), "confusion_matrix counts 51 images, and"),
        (lambda r: r["confusion_matrix"].pop(), "confusion_matrix has the shape (1, 2), for 2 classes"),
        (one_more_right, "its confusion matrix is not that of the predictions beside it, which have 30 of 50 right"),
        (lambda r: r.update(predictions="0" * 32), "its predictions are named 00000000000000000000000000000000, but"),
        (lambda r: r.pop("predictions"), "predictions is missing"),
        (lambda r: r["history"].pop(), "history has not one entry for each of the recipe's 2 epochs"),
        (lambda r: r["recipe"].update(epochs=3), "history has not one entry for each of the recipe's 3 epochs"),
        (lambda r: move(r, "val_accuracy", by=-0.1), "val_accuracy is "),
        (lambda r: move(r, "history", 0, "val_accuracy", by=-0.001), "val_accuracy of epoch 1 is not a share of 10"),
        (lambda r: move(r, "history", 0, "train_accuracy", by=-0.001), "train_accuracy of epoch 1 is not a share"),
        (lambda r: r.update(wall_seconds=1e-9), "wall_seconds is 0.0, less than its epochs'"),
        (lambda r: move(r, "images_per_second", by=1000), "images_per_second is "),
        (lambda r: r.update(augmented_test_accuracy=0.501), "augmented_test_accuracy is not a share of 50"),
        (
            lambda r: r.update(new_images={"name": "cifar10.1", "fingerprint": "0" * 32, "images": 10,
                                             "accuracy": 0.5, "interval": [0.4, 0.6]}),
            "new_images/interval is (0.4, 0.6), but",
        ),
    ],
)  # fmt: skip
def test_a_record_that_was_tampered_with_is_found(tamper, folder, capsys, change, found):
    tamper(change)
    problems = verify(folder)
    assert any(problem.startswith(f"{NAME}.json: ") and found in problem for problem in problems), problems
    assert main(["results", "verify", "--records", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert found in out
    assert re.search(r"^alexnet-course: .* has (1 problem|\d+ problems); see above\.$", err)


def swap_for_another_run(path: Path) -> None:
    save_predictions(path, 1 - load_predictions(path))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (Path.unlink, "cannot be read as predictions"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be read as predictions"),
        (swap_for_another_run, "but those beside it are"),
        (lambda path: save_predictions(path, load_predictions(path)[:-1]), "there are 49 predictions up to class 1"),
        (lambda path: save_predictions(path, load_predictions(path) + np.uint8(1)), "predictions up to class 2"),
        (lambda path: np.save(path, load_predictions(path).astype(float)), "does not hold one unsigned class number"),
    ],
)  # fmt: skip
def test_predictions_that_were_tampered_with_are_found(folder, damage, found):
    damage(folder / f"{NAME}.npy")
    assert any(found in problem for problem in verify_record(folder / f"{NAME}.json"))


def test_predictions_and_their_name_changed_together_do_not_fit_the_figures(folder, tamper):
    path = folder / f"{NAME}.npy"
    swap_for_another_run(path)
    tamper(lambda record: record.update(predictions=digest(load_predictions(path))))
    assert any("which have 20 of 50 right" in problem for problem in verify(folder))


def test_a_file_that_is_no_json_and_predictions_without_a_record_are_found(folder):
    (folder / f"{NAME}.json").rename(folder / "moved.json")
    (folder / "broken.json").write_text("{")
    problems = verify(folder)
    assert any(problem.startswith("broken.json: it is not readable as JSON") for problem in problems)
    assert any(problem.startswith("moved.json: it is a record of the run base-evening-seed0") for problem in problems)
    assert any(problem.startswith(f"{NAME}.npy: there is no record {NAME}.json") for problem in problems)


def test_labels_that_were_tampered_with_are_found(folder, data, known_labels):
    path = next(known_labels.iterdir())
    save_predictions(path, 1 - load_predictions(path))
    assert any("which have 20 of 50 right" in problem for problem in verify(folder))
    [about_labels, _] = verify(folder, data["test_set"])
    assert "are not those of the images; restore" in about_labels
    [_, about_images] = verify(folder, data["train_set"])
    assert "No record is of the test images of two-colours, which have the fingerprint" in about_images


def test_labels_that_the_package_does_not_keep_are_read_off_the_images(folder, tamper, data, known_labels):
    next(known_labels.iterdir()).unlink()
    assert verify(folder, data["test_set"]) == []
    tamper(one_more_right)
    [problem] = verify(folder, data["test_set"])
    assert "is not that of the predictions beside it, which have 30 of 50 right" in problem


def test_someone_s_own_images_are_compared_as_far_as_it_goes(folder, tamper, known_labels):
    next(known_labels.iterdir()).unlink()
    assert verify(folder) == []
    tamper(lambda record: record.update(predictions="0" * 32))
    assert len(verify(folder)) == 1


def test_the_order_of_the_classes_does_not_matter_to_the_labels(data):
    """CIFAR-10 from a folder and from its archive may number the classes otherwise."""
    test_set = data["test_set"]
    turned = test_set.of_classes(tuple(reversed(test_set.classes)))
    assert labels_of(turned).tolist() == labels_of(test_set).tolist()


def test_a_record_that_does_not_fit_is_not_loaded(tamper, folder):
    tamper(lambda record: record.update(parameters=1))
    with pytest.raises(
        CourseError, match=rf"^{NAME}\.json is the record of a cnn4 with 1 parameters, but its recipe builds one"
    ):
        load_records(folder)


def test_every_committed_record_fits(monkeypatch):
    monkeypatch.setattr(predictions, "LABELS", LABELS)
    assert len(load_records()) >= 20
    assert verify(FOLDER) == []


def test_the_kept_labels_are_those_of_the_test_images_of_cifar_and_of_doodles(monkeypatch):
    monkeypatch.setattr(predictions, "LABELS", LABELS)
    doodles = load_dataset("doodles", "test")
    kept = {path.stem for path in LABELS.iterdir()} - {doodles.fingerprint}
    cifar = {KNOWN_FINGERPRINTS[fingerprint]: stored_labels(fingerprint) for fingerprint in kept}
    assert len(kept) == len(cifar) == 2
    assert np.bincount(cifar["cifar10"]).tolist() == [1000] * 10
    assert np.bincount(cifar["cifar100"]).tolist() == [100] * 100
    assert stored_labels(doodles.fingerprint).tolist() == labels_of(doodles).tolist()
