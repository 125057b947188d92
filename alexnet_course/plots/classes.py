"""Accuracy per class, and which classes are confused."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import GREY, LIGHT, STYLES, WIDTH, at_most_four, plain
from alexnet_course.records import NOT_MEASURED
from alexnet_course.records.record import Record


def confusion_matrix(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw the predictions for each true class (a row), in per cent of its images.

    Args:
        counts: rows are true classes, columns predicted ones.
        classes: their names, in that order.
    """
    table = np.asarray(counts, dtype=float)
    if table.shape != (len(classes), len(classes)):
        raise CourseError(f"confusion_matrix got {table.shape} counts for {len(classes)} classes; give a square table.")
    percent = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    wrong = percent - np.diag(np.diag(percent))
    fig, axes = plt.subplots(figsize=(WIDTH, WIDTH))
    # Only mistakes are shaded: beside the diagonal nothing else would be seen.
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(2 * wrong.max(), 1))
    for row, column in np.ndindex(*table.shape):
        if round(percent[row, column]):
            weight = "bold" if row == column else "normal"
            axes.text(
                column, row, f"{percent[row, column]:.0f}", ha="center", va="center", fontsize=9, fontweight=weight
            )
    names = list(map(plain, classes))
    axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return fig


def per_class(records: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw the test accuracy of each class, a dot per recipe; the class that is hardest for all is at the bottom.

    Args:
        records: label -> the records of a recipe, one a seed, whose mean is drawn; none where nothing is measured.
            At most four labels, on the same classes.
    """
    at_most_four("per_class", records)
    kinds = {record.dataset.classes for runs in records.values() for record in runs}
    if len(kinds) > 1:
        raise CourseError("per_class got records of different classes; give runs on one data set.")
    classes: list[str] = list(*kinds)
    means = {
        label: np.array([100 * np.mean([run.per_class_accuracy[name] for run in runs]) for name in classes])
        for label, runs in records.items()
        if runs
    }
    table = np.array(list(means.values())).reshape(len(means), len(classes))
    order = np.argsort(table.mean(axis=0)) if means else np.arange(0)
    fig, axes = plt.subplots(figsize=(WIDTH, 1.4 + 0.3 * len(classes)))
    rows = np.arange(len(classes))
    if means:
        axes.hlines(rows, table.min(axis=0)[order], table.max(axis=0)[order], color=LIGHT, linewidth=3, zorder=0)
    for label, (marker, colour) in zip(records, STYLES, strict=False):
        measured = label in means
        axes.plot(means[label][order] if measured else [], rows if measured else [], marker, color=colour, markersize=7,
                  alpha=0.85, label=plain(label if measured else f"{label}: {NOT_MEASURED}"))  # fmt: skip
    axes.set_yticks(rows, [plain(classes[position]) for position in order])
    axes.set_xlabel("test accuracy of the class (%)")
    axes.grid(axis="x")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def confusion_side_by_side(matrices: Mapping[str, ArrayLike | None], classes: Sequence[str]) -> Figure:
    """Draw two to four confusion matrices on one colour scale, each row in fractions of the images of its true class.

    Colour stands for the square root of the share, so that a mistake in a hundred can be seen beside the diagonal.

    Args:
        matrices: label -> counts, rows are true classes and columns predicted ones; None where nothing is measured.
        classes: their names, in that order.
    """
    at_most_four("confusion_side_by_side", matrices)
    rows = -(-len(matrices) // 2)
    fig, grid = plt.subplots(rows, 2, figsize=(WIDTH, 1.5 + 2.35 * rows), sharex=True, sharey=True, squeeze=False)
    names = list(map(plain, classes))
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    for axes in grid.flat[len(matrices) :]:
        axes.axis("off")
    for axes, (label, counts) in zip(grid.flat, matrices.items(), strict=False):
        axes.set_title(plain(label), fontsize=10)
        table = np.zeros((len(classes), len(classes))) if counts is None else np.asarray(counts, dtype=float)
        if table.shape != (len(classes), len(classes)):
            raise CourseError(f"confusion_side_by_side got {table.shape} counts of {label!r} for "
                              f"{len(classes)} classes; give a square table.")  # fmt: skip
        percent = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(percent, cmap="Blues", norm=norm)
        if counts is None:
            axes.annotate(NOT_MEASURED, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GREY)
        axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        axes.set_yticks(range(len(classes)), names, fontsize=9)
        axes.tick_params(length=0)
    grid.flat[len(matrices) - 1 - len(matrices) % 2].tick_params(labelbottom=True)  # where nothing is below it
    fig.supxlabel("predicted", fontsize=11)
    fig.supylabel("true class", fontsize=11)
    bar = fig.colorbar(image, ax=list(grid.flat), location="top", shrink=0.7, aspect=30)
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    bar.ax.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    return fig
