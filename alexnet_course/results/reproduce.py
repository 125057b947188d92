"""``alexnet-course reproduce``: repeat a run from its record alone, and compare the two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from alexnet_course.data import Dataset
from alexnet_course.data.sources import specs
from alexnet_course.errors import CourseError, nearest
from alexnet_course.files import expanded
from alexnet_course.records import FOLDER, RECORD
from alexnet_course.records.check import read_fitting
from alexnet_course.records.record import Record
from alexnet_course.training.device import choose_device, computes
from alexnet_course.training.run import Run, train


@dataclass(frozen=True)
class Reproduction:
    """A recorded run and its repetition; ``print`` it for both accuracies and the verdict."""

    recorded: Record
    repeated: Record

    @property
    def exact(self) -> bool:
        """Every loss, accuracy and prediction is the same, to the last bit."""
        return _figures(self.recorded) == _figures(self.repeated)

    @property
    def within(self) -> bool:
        """The repeated accuracy lies in the recorded one's 95 % interval."""
        low, high = self.recorded.test_accuracy_interval
        return low <= self.repeated.test_accuracy <= high

    @property
    def differences(self) -> list[str]:
        """The differences of the environments, which may explain different bits."""
        before = [dict(environment) for environment in self.recorded.environments]
        now = dict(self.repeated.environment)
        lines = []
        for key in now:
            values = list(dict.fromkeys(environment[key] for environment in before))  # one, unless it was resumed
            if key not in ("package", "git_commit") and values != [now[key]]:
                lines.append(f"{key} {now[key]}, recorded with {' and '.join(map(str, values))}")
        return lines

    def __str__(self) -> str:
        lines = []
        for label, record in (("recorded", self.recorded), ("repeated", self.repeated)):
            low, high = record.test_accuracy_interval
            accuracy = f"{record.test_accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"
            lines.append(f"{label}: test accuracy {accuracy}, validation {record.val_accuracy:.2%}")
        if self.exact:
            return "\n".join([*lines, "bit-identical: every loss, accuracy and prediction"])
        verdict = "inside" if self.within else "OUTSIDE"
        lines.append(f"not bit-identical; the repeated accuracy is {verdict} the recorded interval")
        return "\n".join([*lines, *self.differences])


def find_record(name: str, folder: str | Path = FOLDER) -> Record:
    """The record with this path, run folder or name; a name is that of a package record or of a run in ``runs/``."""
    path = expanded(name)
    if path.is_dir():
        path = path / RECORD
    elif path.suffix != ".json":
        path = Path(folder) / f"{name}.json"
        own = Path("runs", name, RECORD)
        if own.exists() and not path.exists():
            path = own
    if not path.exists():
        known = [file.stem for file in Path(folder).glob("*.json")]
        raise CourseError(f"There is no record {name!r}; give the path of one, the folder of a finished run, or a name "
                          f"from the results table, nearest: {nearest(name, known)}.")  # fmt: skip
    return read_fitting(path)


def repetition(
    record: Record,
    *,
    train_set: Dataset | None = None,
    test_set: Dataset | None = None,
    **options: Any,
) -> Run:
    """A run like the recorded one, with the same recipe, seed, precision, threads and images; iterate to train.

    A CPU without bf16 chooses the precision itself for a run that was recorded in bf16.

    ``options`` are those of ``train``. Without ``train_set`` and ``test_set`` the recorded data set is loaded by its
    name or, if it has none, from its folder. Raises ``CourseError``, before anything is trained, if the images are not
    the recorded ones.
    """
    dataset, environment = record.dataset, record.environment
    images = {"train": train_set, "test": test_set}
    if train_set is None or test_set is None:
        loaded = dict(zip(images, record.recipe.both(recorded_images(record)), strict=True))
        images = {split: loaded[split] if given is None else given for split, given in images.items()}
    for split, recorded in (("train", dataset.fingerprint), ("test", dataset.test_fingerprint)):
        found = images[split]
        assert found is not None
        if found.fingerprint != recorded:
            raise CourseError(f"The {split} images of {found.name} have the fingerprint {found.fingerprint}, but the "
                              f"record was made on {recorded} ({dataset.name}); give those "
                              "with --data.")  # fmt: skip
    options = {"epoch_at_once": environment.epoch_at_once, **options}  # it draws other random numbers
    device = choose_device(options.get("device", "auto"))
    if device.type == "cpu" and "(cpu)" in environment.device:
        torch.set_num_threads(environment.threads)  # another number of threads would change the order of sums
        if computes(device, environment.precision):
            options = {"precision": environment.precision, **options}
    return train(record.recipe, train_set=images["train"], test_set=images["test"], **options)


def recorded_images(record: Record) -> str:
    """The spec of the recorded data set: its name or, if it has none, its folder."""
    return record.dataset.name if record.dataset.name in specs() else record.recipe.dataset


def _figures(record: Record) -> tuple[Any, ...]:
    """The numbers that a repetition must reproduce: all but the times, which always differ."""
    history = [replace(entry, seconds=0.0, images_per_second=1.0) for entry in record.history]
    after = record.test_accuracy, record.test_loss, record.augmented_test_accuracy
    return history, *after, record.confusion_matrix, record.predictions
