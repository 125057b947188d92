"""Records in a folder of their own, as the campaign leaves them, on images whose labels the package keeps."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_course.recipe import Recipe
from alexnet_course.records import predictions as module
from alexnet_course.records.predictions import digest, labels_of, save_predictions
from alexnet_course.records.record import Record, write_record
from alexnet_course.training import wilson_interval
from alexnet_course.watching import fit

RECIPE = Recipe(name="base", model="cnn4", epochs=2, batch_size=10, validation_size=10, budget="evening")


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory) -> Path:
    """The folder of a finished run."""
    return fit(RECIPE, progress=False, out=tmp_path_factory.mktemp("runs") / "one", **data).out


@pytest.fixture(autouse=True)
def known_labels(data, tmp_path, monkeypatch) -> Path:
    """The package keeps the labels of the test images here."""
    folder = tmp_path / "labels"
    folder.mkdir()
    test_set = data["test_set"]
    save_predictions(folder / f"{test_set.fingerprint}.npy", labels_of(test_set))
    monkeypatch.setattr(module, "LABELS", folder)
    return folder


@pytest.fixture
def write(finished, data, tmp_path) -> Callable[..., Path]:
    """``write(name, right)`` records a run that has the first ``right`` of the images right, or those ``right``
    names; returns the folder of records."""
    example = json.loads((finished / "record.json").read_text())
    labels = labels_of(data["test_set"]).astype(int)  # blue 0, red 1
    folder = tmp_path / "records"
    folder.mkdir(exist_ok=True)

    def record(name: str, right: Any, seed: int = 0, budget: str = "evening", **changes: Any) -> Path:
        made = copy.deepcopy(example)
        hits = np.arange(len(labels)) < right if isinstance(right, int) else np.isin(np.arange(len(labels)), right)
        named = np.where(hits, labels, 1 - labels)  # alphabetical; the record's classes are red, blue
        predictions = (1 - named).astype(np.uint8)
        confusion = np.zeros((2, 2), dtype=int)
        np.add.at(confusion, (1 - labels, predictions), 1)
        made["recipe"] |= {"name": name, "seed": seed, "budget": budget, **changes}
        made |= {
            "seed": seed,
            "budget": budget,
            "test_accuracy": hits.mean(),
            "test_accuracy_interval": list(wilson_interval(int(hits.sum()), len(labels))),
            "per_class_accuracy": {c: confusion[i, i] / confusion[i].sum() for i, c in enumerate(("red", "blue"))},
            "confusion_matrix": confusion.tolist(),
            "predictions": digest(predictions),
        }
        run_name = Recipe.from_dict(made["recipe"]).run_name
        write_record(folder / f"{run_name}.json", Record.from_dict(made))
        save_predictions(folder / f"{run_name}.npy", predictions)
        return folder

    return record
