"""``results verify``: every figure of every record computed again, from the predictions and the public labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.optim import epochs_without_progress
from alexnet_course.records import FOLDER, PREDICTIONS, RECORD, record_files
from alexnet_course.records.check import check_fit
from alexnet_course.records.interval import wilson_interval
from alexnet_course.records.predictions import Predictions, digest, labels_of, load_predictions, stored_labels
from alexnet_course.records.record import Record, read_record

CLOSE = 1e-9  # figures of fractions that were computed in another order


def verify(folder: str | Path = FOLDER, pictures: Dataset | None = None) -> list[str]:
    """What does not fit in the records of ``folder``, one sentence each; an empty list where everything does.

    ``folder`` may hold runs of your own, as ``train`` leaves them, instead (``record_paths``).

    Of each record: its form, its name, that it fits the package (``check_fit``), that its figures agree with one
    another, and that they are those of the predictions beside it. With ``pictures``, the test pictures themselves, the
    labels that the package keeps are computed again as well.
    """
    folder = Path(folder)
    problems = []
    if pictures is not None:
        kept = stored_labels(pictures.fingerprint)
        if kept is None:
            problems.append(f"The package keeps no labels of {pictures.name} with the fingerprint "
                            f"{pictures.fingerprint}; give the published test pictures.")  # fmt: skip
        elif not np.array_equal(kept, labels_of(pictures)):
            problems.append(f"The labels that the package keeps of {pictures.name} are not those of the pictures; "
                            "restore alexnet_course/records/labels.")  # fmt: skip
    records = record_paths(folder)
    for path in records:
        problems += [f"{path.relative_to(folder)}: {problem}" for problem in verify_record(path)]
    found = {predictions_path(path) for path in records}
    problems += [f"{path.name}: there is no record {path.stem}.json of these predictions; restore or delete them."
                 for path in sorted(folder.glob("*.npy")) if path not in found]  # fmt: skip
    return problems


def record_paths(folder: Path) -> list[Path]:
    """The records of ``folder``: each ``NAME.json`` in it, and those of the runs in folders below; of a run's own
    folder, its record alone. Raises ``CourseError`` where that is no folder that can be read."""
    files = record_files(folder)
    return [folder / RECORD] if folder / RECORD in files else files + sorted(folder.rglob(RECORD))


def predictions_path(record: Path) -> Path:
    """Where the predictions of the run lie whose record is at ``record``."""
    return record.with_name(PREDICTIONS) if record.name == RECORD else record.with_suffix(".npy")


def verify_record(path: Path) -> list[str]:
    """What does not fit in one record and the predictions beside it."""
    try:
        record = read_record(path, "it")
        check_fit(record, "it", build=True)
    except CourseError as error:
        return [str(error)]
    problems = list(_disagreements(record))
    run_name = record.recipe.run_name
    if path.name != RECORD and path.stem != run_name:
        problems.append(f"it is a record of the run {run_name}, so it must be called {run_name}.json.")
    try:
        predictions = load_predictions(predictions_path(path))
    except CourseError as error:
        return [*problems, str(error)]
    return problems + list(_contradictions(record, predictions))


def _disagreements(record: Record) -> Iterator[str]:
    """Where the figures of a record do not agree with one another."""
    dataset, recipe, history = record.dataset, record.recipe, record.history
    classes, confusion = dataset.classes, np.array(record.confusion_matrix)
    if confusion.shape != (len(classes), len(classes)):
        yield f"confusion_matrix has the shape {confusion.shape}, for {len(classes)} classes."
        return
    count, correct = int(confusion.sum()), int(confusion.trace())
    if count != dataset.test_images:
        yield f"confusion_matrix counts {count:,} pictures, and dataset/test_images {dataset.test_images:,}."
        return
    yield from _differ("test_accuracy", record.test_accuracy, correct / count)
    yield from _differ("test_accuracy_interval", record.test_accuracy_interval, wilson_interval(correct, count))
    totals = confusion.sum(axis=1)
    shares = {name: float(confusion[i, i] / max(1, totals[i])) for i, name in enumerate(classes)}
    if set(record.per_class_accuracy) != set(shares):
        yield "per_class_accuracy does not name the classes of dataset/classes."
    else:
        for name, share in shares.items():
            yield from _differ(f"per_class_accuracy of {name}", record.per_class_accuracy[name], share)
    accuracies = [entry.val_accuracy for entry in history]
    stopped = 0 < recipe.stop_after <= epochs_without_progress(accuracies)
    if [entry.epoch for entry in history] != list(range(1, len(history) + 1)):
        yield "history does not count its epochs from 1."
    if len(history) > recipe.epochs or (len(history) < recipe.epochs and not stopped):
        yield f"history has not one entry for each of the recipe's {recipe.epochs} epochs."
    yield from _differ("val_accuracy", record.val_accuracy, history[-1].val_accuracy)
    for entry in history:
        for part, images in (("val", dataset.validation_images), ("train", _seen(record))):
            right = getattr(entry, f"{part}_accuracy") * images
            if abs(right - round(right)) > 1e-3:
                yield f"{part}_accuracy of epoch {entry.epoch} is not a share of {images:,} pictures."
    if record.augmented_test_accuracy is not None:
        right = record.augmented_test_accuracy * count
        if abs(right - round(right)) > 1e-3:
            yield f"augmented_test_accuracy is not a share of {count:,} pictures."
    new = record.new_pictures
    if new is not None:
        interval = wilson_interval(round(new.accuracy * new.images), new.images)
        yield from _differ("new_pictures/interval", new.interval, interval)
    seconds = sum(entry.seconds for entry in history)
    if record.wall_seconds < seconds * (1 - CLOSE):
        yield f"wall_seconds is {record.wall_seconds:.1f}, less than its epochs' {seconds:.1f}."
    train_seconds = sum(_seen(record) / entry.images_per_second for entry in history)
    yield from _differ("images_per_second", record.images_per_second, _seen(record) * len(history) / train_seconds)


def _seen(record: Record) -> int:
    """Training pictures an epoch: a short last batch is left out."""
    images = record.dataset.training_images
    batch = min(record.recipe.batch_size, images)
    return images // batch * batch


def _differ(name: str, stated: Any, computed: Any) -> Iterator[str]:
    if not np.allclose(stated, computed, rtol=CLOSE, atol=CLOSE):
        yield f"{name} is {stated}, but the other figures give {computed}."


def _contradictions(record: Record, predictions: Predictions) -> Iterator[str]:
    """Where a record does not say what its predictions say."""
    dataset, named = record.dataset, record.predictions
    classes = dataset.classes
    if named != digest(predictions):
        yield f"its predictions are named {named}, but those beside it are {digest(predictions)}."
    if len(predictions) != dataset.test_images or predictions.max(initial=0) >= len(classes):
        yield (f"there are {len(predictions):,} predictions up to class {predictions.max(initial=0)} beside it, for "
               f"{dataset.test_images:,} pictures of {len(classes)} classes.")  # fmt: skip
        return
    labels = stored_labels(dataset.test_fingerprint)
    if labels is None:
        return  # someone's own pictures: the confusion matrix can be compared with their labels only
    position = np.array([classes.index(name) for name in sorted(classes)])
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (position[labels], predictions), 1)
    if not np.array_equal(confusion, record.confusion_matrix):
        correct = int(confusion.trace())
        yield (f"its confusion matrix is not that of the predictions beside it, which have {correct:,} of "
               f"{len(labels):,} right.")  # fmt: skip
