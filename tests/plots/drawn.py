"""What tests of figures share: what is read from a figure, and a record to draw."""

from types import SimpleNamespace

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def texts(figure: Figure) -> list[str]:
    """Everything that is written inside the panels, titles left out."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def written(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def inner_legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines_of(axes: Axes, marker: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == marker]


def points(axes: Axes, marker: str) -> list[tuple[float, float]]:
    """Places of the dots with this marker, those of the legend left out."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(x, pytest.approx(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def record(*history, budget="long", **classes):
    """A record with these validation accuracies and accuracies of its classes, as fractions of 1."""
    return SimpleNamespace(
        budget=budget,
        history=[SimpleNamespace(epoch=epoch, val_accuracy=value) for epoch, value in enumerate(history, start=1)],
        dataset=SimpleNamespace(classes=tuple(classes)),
        per_class_accuracy=classes,
    )
