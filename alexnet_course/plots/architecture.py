"""Whole networks: their blocks, the parameters of each layer, and the connections."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREY, ORANGE, PALETTE, PINK, WIDTH, plain


def network_drawing(image: ArrayLike, shapes: Sequence[tuple[int, ...]]) -> Figure:
    """Draw a network as the blocks of numbers that its layers output for an image, from left to right.

    Height and depth of a block are the height and width of the layer's output, its thickness the channels; the
    height of a linear layer's bar is its number of units, on a scale of its own.

    Args:
        image: the input, uint8, 3×H×W.
        shapes: the outputs of the layers to draw: (C, H, W) of a convolution, (units,) of a linear layer.
    """
    image = np.asarray(image)
    figure, axes = plt.subplots(figsize=(6.4, 2.4))
    left = 0.0
    for number, shape in enumerate([image.shape, *shapes]):
        if len(shape) == 3:
            colour = BLUE if number else GREY
            thickness, height, slant = shape[0] / 20, shape[1], (0.42 * shape[2], 0.3 * shape[2])
        else:
            colour = ORANGE
            thickness, height, slant = 1.5, 3 + shape[0] / 110, (0.6, 0.4)
        right, bottom, top = left + thickness, -height / 2, height / 2

        def face(*corners: tuple[float, float], opacity: float, colour: str = colour) -> None:
            axes.add_patch(Polygon(corners, facecolor=colour, alpha=opacity, edgecolor="white", linewidth=0.8))

        behind = (right + slant[0], top + slant[1])
        face((left, bottom), (right, bottom), (right, top), (left, top), opacity=0.9)
        face((left, top), (right, top), behind, (left + slant[0], behind[1]), opacity=0.5)
        face((right, bottom), (right, top), behind, (behind[0], bottom + slant[1]), opacity=0.7)
        if number == 0:
            side = Affine2D([[slant[0], 0, right], [slant[1], height, bottom], [0, 0, 1]])
            axes.imshow(image.transpose(1, 2, 0), extent=(0, 1, 0, 1), transform=side + axes.transData, zorder=2)
        label = f"{shape[0]:,}" + (f"\n{shape[1]}×{shape[2]}" if len(shape) == 3 else "")
        axes.text((left + behind[0]) / 2, bottom - 2, label, ha="center", va="top")
        left = behind[0] + (5 if len(shape) == 3 else 13)
    axes.set(xlim=(-3, left - 9), ylim=(axes.dataLim.y0 - 10, axes.dataLim.y1 + 1), aspect="equal")
    axes.axis("off")
    return figure


def shares(names: Sequence[str], quantities: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the split of each quantity over the named layers: a group of bars per layer, in per cent of the total.

    Args:
        names: the layers, from input to output.
        quantities: label -> one value per layer (parameters, neurons, ...).
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 0.55 * len(names) + 0.9))
    thickness = 0.8 / len(quantities)
    rows = np.arange(len(names))
    for index, (label, values) in enumerate(quantities.items()):
        percent = 100 * np.asarray(values, dtype=float) / np.sum(values)
        y = rows + (index - (len(quantities) - 1) / 2) * thickness
        axes.barh(y, percent, height=thickness * 0.92, color=PALETTE[index], label=plain(label))
        for position, value in zip(y, percent, strict=True):
            axes.text(value + 0.8, position, f"{value:.1f}", va="center", fontsize=9)
    axes.set_yticks(rows, list(map(plain, names)))
    axes.invert_yaxis()
    axes.set_xlabel("share of the network (%)")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
    axes.legend(loc="lower right")
    return fig


def connection_diagram(groups: Sequence[int], channels: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw which channels of one layer feed which channels of the next; colour tells the two halves apart.

    Args:
        groups: for each step from layer i to layer i + 1, in how many groups its convolution is split (1 or 2).
        channels: channels of each layer, one more than `groups`; each half is drawn as one box.
        names: text under each layer, as many as `channels`.
    """
    if not len(channels) == len(names) == len(groups) + 1:
        raise CourseError(
            f"connection_diagram got {len(groups)} steps, {len(channels)} layers and {len(names)} names; "
            "give one layer and one name more than steps."
        )
    fig, axes = plt.subplots(figsize=(WIDTH, 2.9))
    heights, width, height = (1.45, 0.25), 0.62, 0.7
    for column, (count, name) in enumerate(zip(channels, names, strict=True)):
        for half, (y, colour) in enumerate(zip(heights, (BLUE, ORANGE), strict=True)):
            axes.add_patch(Rectangle((column - width / 2, y), width, height, color=colour))
            axes.text(
                column, y + height / 2, f"{count // 2}", color="white", ha="center", va="center", fontweight="bold"
            )
            if column == 0:
                axes.text(-0.48, y + height / 2, f"GPU {half + 1}", rotation=90, ha="center", va="center", color=colour)
        axes.text(column, -0.05, plain(name), ha="center", va="top")
    for column, count in enumerate(groups):
        for source, y_source in enumerate(heights):
            for target, y_target in enumerate(heights):
                if count == 1 or source == target:
                    axes.add_patch(
                        FancyArrowPatch(
                            (column + width / 2, y_source + height / 2),
                            (column + 1 - width / 2, y_target + height / 2),
                            arrowstyle="-|>",
                            mutation_scale=12,
                            shrinkA=1,
                            shrinkB=1,
                            color="#333333" if source == target else PINK,
                            linewidth=1.6,
                        )
                    )
    axes.set(xlim=(-0.65, len(channels) - 0.5), ylim=(-0.5, 2.3))
    axes.axis("off")
    return fig


def layer_columns(columns: Mapping[str, Sequence[str]]) -> Figure:
    """Draw networks side by side as columns of boxes, from the input at the bottom to the output at the top.

    Args:
        columns: name of a network -> what each of its layers is, from input to output. Boxes whose text begins with the
            same word have one colour.
    """
    kinds = list(dict.fromkeys(text.split()[0] for texts in columns.values() for text in texts))
    if len(kinds) > len(PALETTE):
        raise CourseError(
            f"layer_columns got {len(kinds)} kinds of layers, but has {len(PALETTE)} colours; give fewer."
        )
    rows = max(map(len, columns.values()))
    fig, axes = plt.subplots(figsize=(WIDTH, 0.3 * rows + 0.8))
    for column, (name, texts) in enumerate(columns.items()):
        for row, text in enumerate(texts):
            colour = PALETTE[kinds.index(text.split()[0])]
            axes.add_patch(
                Rectangle((column + 0.06, row + 0.1), 0.88, 0.8, facecolor=colour, alpha=0.3, edgecolor=colour)
            )
            axes.text(column + 0.5, row + 0.47, plain(text), ha="center", va="center", fontsize=9)
        axes.text(column + 0.5, len(texts) + 0.25, plain(name), ha="center", va="bottom", fontweight="bold")
    axes.set(xlim=(0, len(columns)), ylim=(0, rows + 1))
    axes.axis("off")
    return fig
