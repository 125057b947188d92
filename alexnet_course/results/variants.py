"""Results from the records, as chapters show them: a recipe's accuracy, and variants against their base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet_course.records import FOLDER, NOT_MEASURED, records_of
from alexnet_course.records.interval import wilson_interval
from alexnet_course.records.record import Record
from alexnet_course.results.compare import Test, compare


def accuracy_of(recipe: str, folder: str | Path = FOLDER) -> tuple[float, float, float] | None:
    """Mean test accuracy of a recipe over its seeds, and the ends of its 95 % interval, in per cent.

    The interval is Wilson's. It covers other test images, and does not cover another training. None if nothing is
    recorded.
    """
    records = records_of(recipe, folder)
    if not records:
        return None
    count = records[0].dataset.test_images
    accuracy = sum(record.test_accuracy for record in records) / len(records)
    low, high = wilson_interval(round(accuracy * count), count)
    return 100 * accuracy, 100 * low, 100 * high


def circumstances(recipe: str, folder: str | Path = FOLDER) -> str:
    """Budget, epochs, training images and number of runs of a recipe, in a few words."""
    records = records_of(recipe, folder)
    if not records:
        return NOT_MEASURED
    used, data = records[0].recipe, records[0].dataset
    lengths = [len(record.history) for record in records]  # they differ if runs stopped early
    epochs = ("" if min(lengths) == max(lengths) else f"{min(lengths)} to ") + _count(max(lengths), "epoch")
    runs = _count(len(records), "run")
    return f"{records[0].budget}: {epochs}, {data.training_images:,} images of {used.image_size}, {runs}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Difference:
    """One variant against its base, in per cent of the test images; None if one of the two is not measured."""

    label: str
    accuracy: float | None
    test: Test | None
    runs: int = 0
    """Number of the variant's runs, one for each seed; ``points`` compares the seeds that both have."""
    why: str = ""
    """Why both are measured and not compared."""

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
        """In how many of the measured variants a test sees a difference, in words."""
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
                line = f"{difference.label:{width}} {difference.accuracy:6.2f} {difference.runs:4}  {difference.why}"
                lines.append(line.rstrip())
            else:
                verdict = "" if difference.seen else ", within"
                lines.append(f"{difference.label:{width}} {difference.accuracy:6.2f} {difference.runs:4} "
                             f"{difference.points:+6.2f}  ±{difference.chance:.2f} "
                             f"{difference.over}{verdict}")  # fmt: skip
        return "\n".join(lines)


def compare_to(base: str, variants: Mapping[str, str], folder: str | Path = FOLDER) -> Comparison:
    """The recipes ``variants`` (label → recipe) against the recipe ``base``, which may be among them.

    Each is tested against the base with ``compare``. Of twenty variants that change nothing, one passes by luck. A
    variant with another budget, other test images or other seeds than the base is not compared.
    """
    references = records_of(base, folder)
    differences = []
    for label, recipe in variants.items():
        runs = records_of(recipe, folder)
        accuracy = accuracy_of(recipe, folder)
        both = references and runs and recipe != base
        why = _not_compared(references, runs) if both else ""
        tested = compare(references, runs, folder) if both and not why else None
        differences.append(Difference(label, accuracy[0] if accuracy else None, tested, len(runs), why))
    return Comparison(circumstances(base, folder), differences)


def _not_compared(references: Sequence[Record], runs: Sequence[Record]) -> str:
    """Why these runs are not compared with those of the base; empty if they are."""
    base, variant = references[0], runs[0]
    if base.budget != variant.budget:
        return f"budget {variant.budget}, not {base.budget}"
    if base.dataset.test_fingerprint != variant.dataset.test_fingerprint:
        return "other test images"
    if not {run.seed for run in references} & {run.seed for run in runs}:
        return "no seed in common"
    return ""
