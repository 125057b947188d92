"""``results verify``: test accuracies recomputed from the predictions and public labels, and the rest compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet_course.data import Dataset, load_dataset
from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError
from alexnet_course.names import same_form
from alexnet_course.optim import ends_early, make_schedule
from alexnet_course.recipe import NORMALISATIONS
from alexnet_course.records import FOLDER, PREDICTIONS, RECORD, WEIGHTS, record_files
from alexnet_course.records.check import check_fit
from alexnet_course.records.interval import wilson_interval
from alexnet_course.records.predictions import Predictions, digest, labels_of, load_predictions, stored_labels
from alexnet_course.records.record import Record, read_record
from alexnet_course.training.division import divide, image_count, normalisation
from alexnet_course.training.finished import load_weights

CLOSE = 1e-9  # figures of fractions that were computed in another order
CIFAR_TRAINING_IMAGES = 50_000  # of CIFAR-10, and of CIFAR-100
# Two networks that make as many mistakes do not make the same ones by chance.
TELLING_MISTAKES = 5


def verify(
    folder: str | Path = FOLDER, images: Dataset | None = None, training_images: Dataset | None = None
) -> list[str]:
    """The problems of the records in ``folder``, one sentence each; an empty list if there are none.

    ``folder`` may also hold runs of your own, as ``train`` writes them (``record_paths``).

    Recomputed from the predictions and the public labels: test accuracy, its interval, the accuracy of each class and
    the confusion matrix. Compared: form, name, recipe, network and images with what the package knows (``check_fit``);
    the learning rates with the schedule; the numbers of the record with one another; a run's weights file with the
    record's hash of it. Over all records: no run has two names, and the same images were normalised alike. With
    ``images``, the test images themselves, the labels are read from them and compared with the package's; with
    ``training_images``, and always for the doodles, mean and standard deviation are recomputed.

    Not recomputed: losses, training and validation accuracies, the environment and the weights. Predictions that were
    forged together with their record are not detected; only repeating the run (``repetition``) shows that.
    """
    folder = Path(folder)
    problems = []
    if images is not None:
        kept = stored_labels(images.fingerprint)
        if kept is not None and not np.array_equal(kept, labels_of(images)):
            problems.append(f"The labels that the package keeps of {images.name} are not those of the images; "
                            "restore alexnet_course/records/labels.")  # fmt: skip
    paths, records = record_paths(folder), {}
    for path in paths:
        name = str(path.relative_to(folder))
        record, found = _examine(path, images, training_images)
        problems += [f"{name}: {problem}" for problem in found]
        if record is not None:
            records[name] = record
    if images is not None and all(r.dataset.test_fingerprint != images.fingerprint for r in records.values()):
        problems.append(f"No record is of the test images of {images.name}, which have the fingerprint "
                        f"{images.fingerprint}; give those of the records.")  # fmt: skip
    problems += [*_run_twice(records), *_normalised_differently(records)]
    expected = {predictions_path(path) for path in paths}
    problems += [f"{path.name}: there is no record {path.stem}.json of these predictions; restore or delete them."
                 for path in sorted(folder.glob("*.npy")) if path not in expected]  # fmt: skip
    return problems


def other_accuracy(record: Record, images: Dataset, accuracy: float) -> str | None:
    """The problem if ``accuracy`` is outside the record's interval on the record's own test images; else None."""
    low, high = record.test_accuracy_interval
    if images.fingerprint != record.dataset.test_fingerprint or low <= accuracy <= high:
        return None
    return (f"The network has {accuracy:.2%} of the {images.name} test images right, but its record says "
            f"{record.test_accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}) of the same ones; restore its weights "
            "and its record, of which one was changed.")  # fmt: skip


def record_paths(folder: Path) -> list[Path]:
    """The records of ``folder``: each ``NAME.json`` in it, and those of runs in subfolders; for a run's own folder, its
    record alone. Raises ``CourseError`` if it is not a readable folder."""
    files = record_files(folder)
    return [folder / RECORD] if folder / RECORD in files else files + sorted(folder.rglob(RECORD))


def predictions_path(record: Path) -> Path:
    """The path of the predictions that belong to the record at ``record``."""
    return record.with_name(PREDICTIONS) if record.name == RECORD else record.with_suffix(".npy")


def verify_record(path: Path) -> list[str]:
    """The problems of one record and the predictions and weights beside it."""
    return _examine(path)[1]


def _examine(
    path: Path, test_images: Dataset | None = None, training_images: Dataset | None = None
) -> tuple[Record | None, list[str]]:
    """The record, or None if it does not fit the package, and its problems."""
    try:
        record = read_record(path, "it")
        check_fit(record, "it", build=True)
    except CourseError as error:
        return None, [str(error)]
    images = _at_hand(record, training_images)
    problems = [*_disagreements(record), *_other_rates(record)]
    problems += [*_other_split(record, images), *_other_constants(record, images)]
    run_name = record.recipe.run_name
    if path.name != RECORD and same_form(path.stem) != run_name:
        problems.append(f"it is a record of the run {run_name}, so it must be called {run_name}.json.")
    weights = path.with_name(WEIGHTS)
    try:
        if path.name == RECORD and record.weights is not None and weights.exists():
            load_weights(weights, record, WEIGHTS)
    except CourseError as error:
        problems.append(str(error))
    try:
        predictions = load_predictions(predictions_path(path))
    except CourseError as error:
        return record, [*problems, str(error)]
    return record, problems + list(_contradictions(record, predictions, test_images))


def _disagreements(record: Record) -> Iterator[str]:
    """Numbers of a record that do not agree with one another."""
    dataset, recipe, history = record.dataset, record.recipe, record.history
    classes, confusion = dataset.classes, np.array(record.confusion_matrix)
    if confusion.shape != (len(classes), len(classes)):
        yield f"confusion_matrix has the shape {confusion.shape}, for {len(classes)} classes."
        return
    count, correct = int(confusion.sum()), int(confusion.trace())
    if count != dataset.test_images:
        yield f"confusion_matrix counts {count:,} images, and dataset/test_images {dataset.test_images:,}."
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
    if [entry.epoch for entry in history] != list(range(1, len(history) + 1)):
        yield "history does not count its epochs from 1."
    stopped = ends_early(recipe, [asdict(entry) for entry in history])
    if len(history) > recipe.epochs or (len(history) < recipe.epochs and not stopped):
        yield f"history has not one entry for each of the recipe's {recipe.epochs} epochs."
    yield from _differ("val_accuracy", record.val_accuracy, history[-1].val_accuracy)
    for entry in history:
        for part, images in (("val", dataset.validation_images), ("train", _seen(record))):
            right = getattr(entry, f"{part}_accuracy") * images
            if abs(right - round(right)) > 1e-3:
                yield f"{part}_accuracy of epoch {entry.epoch} is not a share of {images:,} images."
    if record.augmented_test_accuracy is not None:
        right = record.augmented_test_accuracy * count
        if abs(right - round(right)) > 1e-3:
            yield f"augmented_test_accuracy is not a share of {count:,} images."
    new = record.new_images
    if new is not None:
        interval = wilson_interval(round(new.accuracy * new.images), new.images)
        yield from _differ("new_images/interval", new.interval, interval)
    seconds = sum(entry.seconds for entry in history)
    if record.wall_seconds < seconds * (1 - CLOSE):
        yield f"wall_seconds is {record.wall_seconds:.1f}, less than its epochs' {seconds:.1f}."
    train_seconds = sum(_seen(record) / entry.images_per_second for entry in history)
    yield from _differ("images_per_second", record.images_per_second, _seen(record) * len(history) / train_seconds)


def _other_rates(record: Record) -> Iterator[str]:
    """An epoch whose learning rate is not the one that the recipe's schedule gives for the record's accuracies."""
    recipe = record.recipe
    for entry, rate in zip(
        record.history, _rates(record), strict=False
    ):  # _disagreements reports a history that is too long
        if not math.isclose(entry.lr, rate, rel_tol=CLOSE, abs_tol=CLOSE * recipe.lr):
            yield (f"lr of epoch {entry.epoch} is {entry.lr:g}, but the recipe's schedule {recipe.schedule!r} gives "
                   f"{rate:g}.")  # fmt: skip
            return  # the later ones follow from it


def _rates(record: Record) -> Iterator[float]:
    """The learning rate of each epoch's last step, as the trainer sets it."""
    from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

    optimiser = torch.optim.SGD([torch.zeros(1)], record.recipe.lr)
    steps = _seen(record) // min(record.recipe.batch_size, record.dataset.training_images)
    every_step, every_epoch = make_schedule(optimiser, record.recipe, steps)
    optimiser.step()  # or the schedulers warn that it was not
    for epoch, entry in enumerate(record.history, 1):
        if isinstance(every_step, LambdaLR):  # which can jump, and an epoch has hundreds of steps
            every_step.last_epoch = epoch * steps - 2
            every_step.step()
        elif every_step is not None:
            for _ in range(steps - (epoch == 1)):
                every_step.step()
        yield optimiser.param_groups[0]["lr"]
        if isinstance(every_epoch, ReduceLROnPlateau):
            every_epoch.step(entry.val_accuracy)
        elif every_epoch is not None:
            every_epoch.step()


def _other_split(record: Record, images: Dataset | None) -> Iterator[str]:
    """Numbers of images that differ from the recipe's division; ``images`` are the images if they are at hand."""
    recipe, dataset = record.recipe, record.dataset
    found = {"training_images": dataset.training_images, "validation_images": dataset.validation_images}
    if images is not None:
        available = len(images)
    elif dataset.fingerprint in KNOWN_FINGERPRINTS:
        available = CIFAR_TRAINING_IMAGES
    elif recipe.train_size == 1:
        available = sum(found.values())  # all that there are
    else:  # how many of someone's own images are left out is unknown
        for key, size in (("training_images", recipe.train_size), ("validation_images", recipe.validation_size)):
            if size >= 1 and found[key] != size:
                yield f"{key} is {found[key]:,}, but the recipe asks for {size:,.0f}."
        return
    try:
        if dataset.division == "own validation":
            held_out = dataset.validation_images if images is None else len(divide(recipe, images)[1])
        else:
            held_out = image_count("validation_size", recipe.validation_size, available)
        used = available - held_out
        if recipe.train_size not in (1, used):
            used = image_count("train_size", recipe.train_size, used)
    except CourseError as error:
        yield str(error)
        return
    for key, expected in (("training_images", used), ("validation_images", held_out)):
        if found[key] != expected:
            yield f"{key} is {found[key]:,}, but the recipe makes that {expected:,} of {available:,} images."


def _other_constants(record: Record, images: Dataset | None) -> Iterator[str]:
    """A mean or standard deviation that differs from the recipe's or from that of the images, if they are at hand."""
    recipe, dataset = record.recipe, record.dataset
    if len(dataset.mean) != len(dataset.std):
        yield f"mean is of {len(dataset.mean)} channels, but std of {len(dataset.std)}."
        return
    if recipe.normalisation != "dataset":
        expected: tuple[tuple[float, ...], ...] = NORMALISATIONS[recipe.normalisation]
    elif images is not None:
        try:
            expected = normalisation(recipe, images, divide(recipe, images)[0])
        except CourseError:
            return  # _other_split reports images that cannot be divided like this
    else:
        return
    for key, constants in zip(("mean", "std"), expected, strict=True):
        yield from _differ(f"dataset/{key}", getattr(dataset, key), constants)


def _at_hand(record: Record, images: Dataset | None) -> Dataset | None:
    """The training images of the record, if they are those that were given, or the doodles."""
    if record.dataset.name == "doodles" and images is None:
        images = load_dataset("doodles", "train")
    return images if images is not None and images.fingerprint == record.dataset.fingerprint else None


# --- All records together --------------------------------------------------------------------------------------------


def _run_twice(records: Mapping[str, Record]) -> Iterator[str]:
    """Two recipes, or two seeds of one, with the same predictions, down to every mistake."""
    first: dict[tuple[str, str], str] = {}
    for name, record in records.items():
        confusion = np.array(record.confusion_matrix)
        mistakes = confusion.sum() - confusion.trace()
        if mistakes < TELLING_MISTAKES or np.count_nonzero(confusion.sum(axis=0)) == 1:
            continue  # networks that are nearly always right, or always predict one class, agree without being copies
        other = first.setdefault((record.dataset.test_fingerprint, record.predictions), name)
        if record.recipe != records[other].recipe:
            yield (f"{name}: its predictions are those of {other}, all {mistakes:,} mistakes among them, though the "
                   "recipes or seeds differ; repeat one of the two runs.")  # fmt: skip


def _normalised_differently(records: Mapping[str, Record]) -> Iterator[str]:
    """Runs on the same images, divided alike, that were not normalised alike."""
    groups: dict[tuple[Any, ...], dict[str, tuple[float, ...]]] = {}
    for name, record in records.items():
        recipe, dataset = record.recipe, record.dataset
        if recipe.normalisation == "dataset":
            divided = (dataset.fingerprint, dataset.training_images, dataset.validation_images, recipe.seed)
            groups.setdefault(divided, {})[name] = (*dataset.mean, *dataset.std)
    for group in groups.values():
        usual, _ = Counter(group.values()).most_common(1)[0]
        reference = next(name for name, constants in group.items() if constants == usual)
        for name, constants in group.items():
            if len(constants) != len(usual) or not np.allclose(constants, usual, rtol=CLOSE, atol=CLOSE):
                yield (f"{name}: dataset/mean and dataset/std are not those of {reference}, which is of the same "
                       "images, divided alike; restore the one that was changed.")  # fmt: skip


def _seen(record: Record) -> int:
    """Training images in an epoch, without those of a short last batch."""
    images = record.dataset.training_images
    batch = min(record.recipe.batch_size, images)
    return images // batch * batch


def _differ(name: str, stated: Any, computed: Any) -> Iterator[str]:
    if not np.allclose(stated, computed, rtol=CLOSE, atol=CLOSE):
        yield f"{name} is {stated}, but the other figures give {computed}."


def _contradictions(record: Record, predictions: Predictions, images: Dataset | None) -> Iterator[str]:
    """Figures of a record that do not follow from its predictions."""
    dataset, named = record.dataset, record.predictions
    classes = dataset.classes
    if named != digest(predictions):
        yield f"its predictions are named {named}, but those beside it are {digest(predictions)}."
    if len(predictions) != dataset.test_images or predictions.max(initial=0) >= len(classes):
        yield (f"there are {len(predictions):,} predictions up to class {predictions.max(initial=0)} beside it, for "
               f"{dataset.test_images:,} images of {len(classes)} classes.")  # fmt: skip
        return
    labels = stored_labels(dataset.test_fingerprint)
    if labels is None and images is not None and images.fingerprint == dataset.test_fingerprint:
        labels = labels_of(images)
    if labels is None:  # someone's own images: the predictions are known, and the labels are not
        counts = np.bincount(predictions, minlength=len(classes))
        columns = np.sum(record.confusion_matrix, axis=0)
        if not np.array_equal(counts, columns):
            yield (f"its confusion matrix has {columns.tolist()} predictions of each class, but those beside it are "
                   f"{counts.tolist()}.")  # fmt: skip
        return
    position = np.array([classes.index(name) for name in sorted(classes)])
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (position[labels], predictions), 1)
    if not np.array_equal(confusion, record.confusion_matrix):
        correct = int(confusion.trace())
        yield (f"its confusion matrix is not that of the predictions beside it, which have {correct:,} of "
               f"{len(labels):,} right.")  # fmt: skip
