"""Figures from the records, as chapters show them: a recipe's accuracy, and how far variants are from their base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alexnet_course.records import FOLDER, NOT_MEASURED, records_of
from alexnet_course.records.interval import wilson_interval
from alexnet_course.results.compare import Test, compare


def accuracy_of(recipe: str, folder: str | Path = FOLDER) -> tuple[float, float, float] | None:
    """Test accuracy of a recipe's records, the mean over seeds, and the ends of its 95 % interval, in per cent.

    The interval is Wilson's: how far the figure would move with other test images, and not with another seed. None
    where nothing is recorded.
    """
    records = records_of(recipe, folder)
    if not records:
        return None
    count = records[0].dataset.test_images
    accuracy = sum(record.test_accuracy for record in records) / len(records)
    low, high = wilson_interval(round(accuracy * count), count)
    return 100 * accuracy, 100 * low, 100 * high


def circumstances(recipe: str, folder: str | Path = FOLDER) -> str:
    """How the recorded runs of a recipe were made, in a few words: budget, epochs, training images, seeds."""
    records = records_of(recipe, folder)
    if not records:
        return NOT_MEASURED
    used, data = records[0].recipe, records[0].dataset
    lengths = [len(record.history) for record in records]  # which differ where runs stopped early
    epochs = ("" if min(lengths) == max(lengths) else f"{min(lengths)} to ") + _count(max(lengths), "epoch")
    runs = _count(len(records), "run")
    return f"{records[0].budget}: {epochs}, {data.training_images:,} images of {used.image_size}, {runs}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Difference:
    """One variant beside its base, in per cent of the test images; None where one of the two is not measured."""

    label: str
    accuracy: float | None
    test: Test | None
    runs: int = 0
    """Of the variant, one a seed; ``points`` compares the seeds that base and variant both have."""

    @property
    def points(self) -> float | None:
        """Accuracy minus that of the base."""
        return self.test.points if self.test else None

    @property
    def chance(self) -> float | None:
        """Half of the 95 % interval of ``points``."""
        return self.test.chance if self.test else None

    @property
    def seen(self) -> bool:
        return self.test is not None and self.test.seen

    @property
    def over(self) -> str | None:
        """What ``chance`` is about (``Test.over``): other images for one seed, other seeds where there are several."""
        return self.test.over if self.test else None


@dataclass(frozen=True)
class Comparison:
    """Variants of one base; ``print`` it for the table."""

    base: str
    """How the base was made."""
    differences: list[Difference]

    @property
    def seen(self) -> str:
        """How many of the measured variants differ by more than chance, in words."""
        measured = [difference for difference in self.differences if difference.points is not None]
        if not measured:
            return NOT_MEASURED
        return f"{sum(difference.seen for difference in measured)} of {len(measured)}"

    def __str__(self) -> str:
        width = max(map(len, ["base", *(difference.label for difference in self.differences)]))
        lines = [f"base: {self.base}", f"{'':{width}} test % runs points   95 %  over"]
        for difference in self.differences:
            if difference.accuracy is None:
                lines.append(f"{difference.label:{width}} {NOT_MEASURED}")
            elif difference.points is None:
                lines.append(f"{difference.label:{width}} {difference.accuracy:6.2f} {difference.runs:4}")
            else:
                verdict = "" if difference.seen else ", within"
                lines.append(f"{difference.label:{width}} {difference.accuracy:6.2f} {difference.runs:4} "
                             f"{difference.points:+6.2f}  ±{difference.chance:.2f} "
                             f"{difference.over}{verdict}")  # fmt: skip
        return "\n".join(lines)


def compare_to(base: str, variants: Mapping[str, str], folder: str | Path = FOLDER) -> Comparison:
    """The recipes ``variants`` (label → recipe) beside the recipe ``base``, which may be among them.

    Each is tested against the base with ``compare``: over the seeds that both have, or, where they share only one, over
    the images. Of twenty variants that change nothing, one will look as if it did.
    """
    references = records_of(base, folder)
    differences = []
    for label, recipe in variants.items():
        runs = records_of(recipe, folder)
        accuracy = accuracy_of(recipe, folder)
        tested = compare(references, runs, folder) if references and runs and recipe != base else None
        differences.append(Difference(label, accuracy[0] if accuracy else None, tested, len(runs)))
    return Comparison(circumstances(base, folder), differences)
