"""Tests of whether two recipes differ: seed by seed, or image by image if there is one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from alexnet_course.errors import CourseError
from alexnet_course.records import FOLDER
from alexnet_course.records.predictions import Predictions, digest, load_predictions, stored_labels
from alexnet_course.records.record import Record

LEVEL = 0.05  # chance alone passes this level in one of twenty comparisons


@dataclass(frozen=True)
class Test:
    """The difference of a second recipe from a first, in points of test accuracy, with its 95 % interval."""

    __test__ = False  # or pytest takes it for a test

    points: float
    """Second minus first, in per cent of the test images."""
    chance: float
    """Half of the 95 % interval of ``points``: over seeds it covers another training, over images other images only."""
    p: float
    """Probability of so large a difference, either way, between recipes that are equally good."""
    method: str

    @property
    def seen(self) -> bool:
        return self.p < LEVEL

    @property
    def over(self) -> str:
        """What ``chance`` is about: the same two networks on other ``images``, or trainings with other ``seeds``."""
        return "images" if self.method == MCNEMAR else "seeds"

    def __str__(self) -> str:
        found = "" if self.seen else ": no difference seen"
        return f"{self.points:+.2f} ± {self.chance:.2f} points, p {write_p(self.p)} ({self.method}){found}"


MCNEMAR = "McNemar's test"


def write_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Test:
    """McNemar's exact test of two networks on the same N images; each array says which images were right.

    Only images that exactly one network gets right tell them apart; between equally good networks each of these is the
    toss of a coin. The interval is for *these two networks* on other images like these. It does not cover another
    training, which would give two other networks. Source: McNemar 1947; Dietterich 1998.

    >>> import numpy as np
    >>> from alexnet_course.results.compare import mcnemar
    >>> first = np.repeat([True, True, False, False], [70, 5, 15, 10])  # 75 of 100 right
    >>> second = np.repeat([True, False, True, False], [70, 5, 15, 10])  # 85 right, all but 5 of the same among them
    >>> print(mcnemar(first, second))
    +10.00 ± 8.54 points, p = 0.041 (McNemar's test)
    """
    if first.shape != second.shape or not first.size:
        raise CourseError(
            f"There are {first.size:,} and {second.size:,} images to compare; give the same images for both."
        )
    count, gained, lost = first.size, int((~first & second).sum()), int((first & ~second).sum())
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    spread = math.sqrt(gained + lost - (gained - lost) ** 2 / count) / count
    return Test(100 * (gained - lost) / count, 100 * 1.959964 * spread, p, MCNEMAR)


def paired_over_seeds(first: Sequence[float], second: Sequence[float]) -> Test:
    """Student's paired t-test of accuracies in per cent, one for each seed of either recipe; at least two seeds.

    The interval is that of the mean difference over seeds, so it covers another training.

    >>> from alexnet_course.results.compare import paired_over_seeds
    >>> print(paired_over_seeds([84.0, 84.4, 84.1], [84.9, 85.6, 85.0]))
    +1.00 ± 0.43 points, p = 0.010 (paired over 3 seeds)
    """
    differences = np.subtract(second, first)
    count = len(differences)
    spread = float(differences.std(ddof=1)) / math.sqrt(count)
    chance = float(stats.t.ppf(0.975, count - 1)) * spread
    p = float(stats.ttest_rel(second, first).pvalue) if spread else float(not differences.any())
    return Test(float(differences.mean()), chance, p, f"paired over {count} seeds")


def compare(first: Sequence[Record], second: Sequence[Record], folder: str | Path = FOLDER) -> Test:
    """Test the records ``second`` of one recipe against the records ``first`` of another.

    The course's one rule: with at least two seeds in both, the paired difference over seeds. With one seed in both, the
    paired difference over images, from the predictions beside the records in ``folder``; its interval covers other
    images, not another training. Raises ``CourseError`` if they share no seed, or have different test images.
    """
    pairs = [(a, b) for a in first for b in second if a.seed == b.seed]
    if not pairs:
        raise CourseError("The two recipes have no seed in common; run them with the same seeds.")
    for a, b in pairs:
        if a.dataset.test_fingerprint != b.dataset.test_fingerprint:
            raise CourseError(f"{a.recipe.run_name} and {b.recipe.run_name} were not tested on the same images; "
                              "compare runs on one data set.")  # fmt: skip
    if len(pairs) > 1:
        accuracies = [[100 * run.test_accuracy for run in runs] for runs in zip(*pairs, strict=True)]
        return paired_over_seeds(*accuracies)
    [(a, b)] = pairs
    return mcnemar(correct(a, folder), correct(b, folder))


def correct(record: Record, folder: str | Path = FOLDER) -> npt.NDArray[np.bool_]:
    """For each test image, in the order of ``Dataset.ordered``, whether the run got it right."""
    dataset = record.dataset
    labels = stored_labels(dataset.test_fingerprint)
    if labels is None:
        raise CourseError(f"The package keeps no labels of {dataset.name}, so {record.recipe.run_name} cannot be "
                          "compared image by image; run both recipes with two seeds.")  # fmt: skip
    position = np.array([dataset.classes.index(name) for name in sorted(dataset.classes)])
    return np.asarray(position[labels] == predictions_of(record, folder))


def predictions_of(record: Record, folder: str | Path = FOLDER) -> Predictions:
    """The predictions beside a record of ``folder``; ``CourseError`` if they are not those that the record names."""
    path = Path(folder) / f"{record.recipe.run_name}.npy"
    found = load_predictions(path)
    if digest(found) != record.predictions:
        raise CourseError(f"{path.name} holds other predictions than those of {path.stem}.json; restore both files of "
                          "this run.")  # fmt: skip
    return found
