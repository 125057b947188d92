"""Accuracy by class, confusions, calibration, and features of the classes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREY, LIGHT, STYLES, WIDTH, at_most_four, plain
from alexnet_course.records import NOT_MEASURED
from alexnet_course.records.record import Record
from alexnet_course.training.calibration import Bin


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


def reliability_diagram(panels: Mapping[str, Sequence[Bin]]) -> Figure:
    """Draw accuracy against confidence, one panel a label, with the share of the images in each interval below.

    On the dotted diagonal a network is calibrated; below it, it is too confident, above it not confident enough.

    Args:
        panels: label -> what `reliability` gives.
    """
    fig, grid = plt.subplots(
        2, len(panels), figsize=(WIDTH, 4.2), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for column, (label, bins) in enumerate(panels.items()):
        upper, lower = grid[:, column]
        upper.plot([0, 100], [0, 100], color=GREY, linewidth=1.2, linestyle=":")
        upper.plot([100 * each.confidence for each in bins], [100 * each.accuracy for each in bins], "o-", color=BLUE)
        upper.set_title(plain(label))
        upper.grid()
        total = sum(each.count for each in bins)
        lower.bar(
            [100 * each.low for each in bins],
            [100 * each.count / total for each in bins],
            width=[100 * (each.high - each.low) for each in bins],
            align="edge",
            color=LIGHT,
            edgecolor=GREY,
        )
        lower.set_xlabel("confidence (%)")
    grid[0, 0].set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 100))
    grid[1, 0].set_ylabel("images (%)")
    return fig


def scatter_by_class(points: Tensor, labels: Tensor, classes: Sequence[str], names: tuple[str, str]) -> Figure:
    """Draw N points (N×2) in the colours of their classes, with each class's name at the middle of its points.

    Args:
        labels: the N classes, as indices into `classes`.
        names: of the two axes.
    """
    if points.shape != (len(labels), 2):
        raise CourseError(f"scatter_by_class got {tuple(points.shape)} points, {len(labels)} labels; give N×2 and N.")
    fig, axes = plt.subplots(figsize=(WIDTH, 4.4))
    colours = plt.get_cmap("tab10" if len(classes) <= 10 else "turbo")
    for number, name in enumerate(classes):
        chosen = points[labels == number]
        colour = colours(number if len(classes) <= 10 else number / len(classes))
        axes.plot(chosen[:, 0], chosen[:, 1], "o", color=colour, markersize=2.5)
        if len(chosen):
            x, y = chosen.median(0).values.tolist()
            axes.annotate(plain(name), (x, y), ha="center", va="center", fontsize=9, color="black",
                          bbox={"facecolor": "white", "edgecolor": colour, "pad": 1.5, "alpha": 0.85})  # fmt: skip
    axes.set(xlabel=names[0], ylabel=names[1])
    return fig
