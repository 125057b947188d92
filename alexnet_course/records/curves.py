"""Published learning curves, to compare our own runs with. ``curves/SOURCES.md`` names their source."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from alexnet_course.errors import CourseError
from alexnet_course.records import FOLDER
from alexnet_course.records.record import Record

CURVES = FOLDER / "curves"
# A run reproduces another if their best validation accuracies are within this many points. S3's own two runs of one
# setting are 1.67 apart, though the second waited longer before it divided the learning rate.
TOLERANCE = 2.0


@dataclass(frozen=True)
class Curve:
    """One published run, epoch by epoch. Accuracies are fractions of 1, as in records."""

    recipe: str
    """Name of the recipe that reproduces the run."""
    source: str
    """Repository, branch and log."""
    epochs: tuple[int, ...]
    """From 1."""
    val_accuracy: tuple[float, ...]
    """After each epoch, on the write-up's own validation images; fractions of 1."""
    test_accuracy: tuple[float, ...] = ()
    """After each epoch; empty if not published."""
    lr: tuple[float, ...] = ()
    """Learning rate during each epoch; empty if not published."""

    @property
    def best(self) -> tuple[int, float]:
        """Epoch and value of the best validation accuracy, the first of equals."""
        accuracy = max(self.val_accuracy)
        return self.epochs[self.val_accuracy.index(accuracy)], accuracy

    @property
    def drops(self) -> list[int]:
        """The epochs from which the learning rate was lower, as `drops` finds them; empty if it was not published."""
        return drops(self.epochs, self.lr) if self.lr else []


class AtEpoch(NamedTuple):
    """Validation accuracies after the same epoch, in per cent."""

    epoch: int
    ours: float
    theirs: float
    points: float
    """Ours minus theirs."""


@dataclass(frozen=True)
class CurveDifference:
    """The difference between a run of ours and a published one, in per cent of each side's validation images."""

    epochs: tuple[AtEpoch, ...]
    """Those that both runs have; at least one."""
    ours: float
    """Our best validation accuracy, of all our epochs."""
    theirs: float
    """The best published one, of all published epochs."""

    @property
    def last(self) -> AtEpoch:
        """The last epoch that both runs have."""
        return self.epochs[-1]

    @property
    def points(self) -> float:
        """Our best validation accuracy minus the published one."""
        return self.ours - self.theirs

    @property
    def reproduces(self) -> bool:
        """Whether the best validation accuracies are at most ``TOLERANCE`` points apart, either way.

        For a shorter run, False says nothing about the recipe; compare ``last`` instead.
        """
        return round(abs(self.points), 6) <= TOLERANCE

    def __str__(self) -> str:
        found = "reproduced" if self.reproduces else "not reproduced"
        return f"{self.ours:.2f} % against {self.theirs:.2f} %, {self.points:+.2f} points: {found}".replace("-", "−")


def list_curves() -> list[str]:
    """The names of the recipes whose run a write-up published epoch by epoch.

    >>> from alexnet_course.records.curves import list_curves
    >>> list_curves()[0]
    'alexnet-cifar-5x5-lrn.published-adam'
    """
    return sorted({recipe for recipe, _ in _files()})


def published_curve(recipe: str, run: int = 1) -> Curve | None:
    """The published learning curve of the recipe of this name; None if there is none.

    If the write-up published two runs of one setting, ``run`` 1 is the one that it quotes, and 2 the other. Raises
    ``CourseError`` for a file without the form that ``SOURCES.md`` describes.

    >>> from alexnet_course.records.curves import published_curve
    >>> curve = published_curve("alexnet-cifar-5x5.published-sgd")
    >>> curve.best
    (105, 0.8466)
    >>> curve.drops
    [44, 80, 96]
    """
    path = _files().get((recipe, run))
    return _read(path, recipe) if path else None


def difference(record: Record, curve: Curve) -> CurveDifference:
    """The difference between ``record`` and ``curve`` after each epoch that both have, and between their best epochs.

    Validation accuracies are compared, because a test accuracy must not choose an epoch. The two sides have different
    validation images, each its own random fifth of the training images; with 10,000 images, chance makes differences of
    about a point. Raises ``CourseError`` if the record has another recipe, or no epoch in common.

    >>> from alexnet_course import load_records
    >>> from alexnet_course.records.curves import Curve, difference
    >>> record = load_records(pattern="vgg-style.modern-*")[0]
    >>> curve = Curve(record.recipe.name, "made up", epochs=(1, 2), val_accuracy=(0.1, 0.2))
    >>> difference(record, curve).last.epoch
    2
    """
    name = record.recipe.name
    if name != curve.recipe:
        raise CourseError(f"The record is one of {name}, the curve one of {curve.recipe}; give a record of the latter.")
    ours = {entry.epoch: _percent(entry.val_accuracy) for entry in record.history}
    theirs = dict(zip(curve.epochs, map(_percent, curve.val_accuracy), strict=True))
    common = [epoch for epoch in curve.epochs if epoch in ours]
    if not common:
        raise CourseError(f"The record of {name} and its published curve have no epoch in common; give the record of "
                          "a whole run.")  # fmt: skip
    at = (AtEpoch(epoch, ours[epoch], theirs[epoch], round(ours[epoch] - theirs[epoch], 6)) for epoch in common)
    return CurveDifference(tuple(at), max(ours.values()), max(theirs.values()))


def drops(epochs: Sequence[int], rates: Sequence[float]) -> list[int]:
    """The epochs whose learning rate is at most half of that of the epoch before.

    >>> from alexnet_course.records.curves import drops
    >>> drops([1, 2, 3, 4], [0.1, 0.1, 0.01, 0.01])
    [3]
    """
    return [epoch for epoch, before, rate in zip(epochs[1:], rates, rates[1:], strict=False) if rate <= before / 2]


def _percent(fraction: float) -> float:
    return round(100 * fraction, 6)  # without the noise of floating point


@cache
def _files() -> dict[tuple[str, int], Path]:
    """Recipe and number of the run -> file. Of a second run the name ends in ``.run2``."""
    found = {}
    for path in sorted(CURVES.glob("*.csv")):
        recipe, _, run = path.stem.partition(".run")
        found[recipe, int(run or 1)] = path
    return found


@cache
def _read(path: Path, recipe: str) -> Curve:
    with path.open(encoding="utf-8", newline="") as file:
        source = file.readline().removeprefix("#").strip()
        rows = list(csv.DictReader(file))
    try:
        epochs = tuple(int(row["epoch"]) for row in rows)
        columns = {
            name: tuple(float(row[name]) for row in rows)
            for name in ("val_accuracy", "test_accuracy", "lr")
            if name == "val_accuracy" or name in rows[0]
        }
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise CourseError(f"{path.name} is not readable as a learning curve ({error!r}); restore it.") from None
    if list(epochs) != sorted(set(epochs)):
        raise CourseError(f"{path.name} is not readable as a learning curve (its epochs do not rise); restore it.")
    return Curve(recipe, source, epochs, **columns)
