"""What published models reach on CIFAR-10 and on the newer images of CIFAR-10.1. ``new_images/SOURCES.md`` says where
the figures are from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_course.errors import CourseError
from alexnet_course.records import FOLDER

NEW_IMAGES = FOLDER / "new_images"
IMAGES = {"v4": 2021, "v6": 2000}  # of each version of CIFAR-10.1


@dataclass(frozen=True)
class OnNewImages:
    """One published model. Accuracies are in per cent."""

    model: str
    cifar10: float
    """On CIFAR-10's 10,000 test images."""
    v4: float | None
    """On version 4 of CIFAR-10.1; None where it is not published."""
    v6: float | None
    """On version 6."""

    def on(self, version: str) -> float | None:
        """The accuracy on a version of CIFAR-10.1, ``v4`` or ``v6``."""
        if version not in IMAGES:
            raise CourseError(f"There is no version {version!r} of CIFAR-10.1 here; give one of {', '.join(IMAGES)}.")
        return self.v4 if version == "v4" else self.v6


def published_on_new_images(file: str = "models") -> tuple[OnNewImages, ...]:
    """The thirty ``models`` whose predictions the authors of CIFAR-10.1 published, or the ``write-ups``' own figures.

    >>> from alexnet_course.records.new_images import published_on_new_images
    >>> [alexnet] = [found for found in published_on_new_images() if found.model == "alexnet_tf_ben"]
    >>> alexnet.cifar10, alexnet.v6
    (81.98, 69.2)
    """
    path = NEW_IMAGES / f"{file}.csv"
    if not path.exists():
        raise CourseError(f"There are no figures {file!r} on CIFAR-10.1; give 'models' or 'write-ups'.")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    try:
        return tuple(
            OnNewImages(row["model"], _percent(row["cifar10"]), *(_percent(row[v]) if row[v] else None for v in IMAGES))
            for row in rows
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CourseError(f"{path.name} is not readable as accuracies on CIFAR-10.1 ({error!r}); restore it.") from None


def line_through(models: Sequence[OnNewImages], version: str) -> tuple[float, float]:
    """Slope and intercept of the least-squares line from the accuracy on CIFAR-10 to that on ``version``, in per cent.

    >>> from alexnet_course.records.new_images import OnNewImages, line_through
    >>> slope, intercept = line_through([OnNewImages("a", 80, 60, None), OnNewImages("b", 90, 80, None)], "v4")
    >>> round(slope, 6), round(intercept, 6)
    (2.0, -100.0)
    """
    pairs = [(found.cifar10, percent) for found in models if (percent := found.on(version)) is not None]
    if len({old for old, _ in pairs}) < 2:
        raise CourseError(
            f"{len(pairs)} models have a figure on {version}; a line needs two with different accuracies."
        )
    old, new = np.transpose(pairs)
    slope, intercept = np.polyfit(old, new, 1)
    return float(slope), float(intercept)


def _percent(fraction: str) -> float:
    return round(100 * float(fraction), 6)  # without the noise of floating point
