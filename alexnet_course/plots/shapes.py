"""Positions of kernels on an image, sizes from layer to layer, and receptive fields."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon, Rectangle
from numpy.typing import ArrayLike

from alexnet_course.models import layer_names
from alexnet_course.plots.style import BLUE, GREY, LIGHT, ORANGE, PALETTE, SKY, WIDTH, plain
from alexnet_course.shapes import Layer, conv_output_size


def pooling_windows(size: int, settings: Sequence[tuple[int, int]]) -> Figure:
    """Draw, along one row of `size` pixels, the windows of each (kernel, stride) pooling.

    A pixel's shade says how many windows see it: none (white), one (light) or two (dark).
    """
    fig, grid = plt.subplots(len(settings), 1, figsize=(WIDTH, 1.6 * len(settings)), squeeze=False)
    for axes, (kernel, stride) in zip(grid.flat, settings, strict=True):
        starts = range(0, size - kernel + 1, stride)
        for pixel in range(size):
            seen = sum(begin <= pixel < begin + kernel for begin in starts)
            colour = ("white", "#dcebf5", SKY)[min(seen, 2)]
            axes.add_patch(Rectangle((pixel, 0), 1, 0.8, facecolor=colour, edgecolor="#555555", linewidth=0.8))
        for index, begin in enumerate(starts):
            y = -0.22 - 0.28 * (index % 2)
            colour = (BLUE, ORANGE)[index % 2]
            axes.plot([begin + 0.1, begin + kernel - 0.1], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
        axes.set_title(f"kernel {kernel}, stride {stride}: {len(starts)} windows over {size} pixels", loc="left")
        axes.set(xlim=(-0.1, size + 0.1), ylim=(-0.7, 0.95))
        axes.axis("off")
    return fig


def kernel_positions(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Figure:
    """Draw every position that a kernel can have on a line of `size` pixels, one row for each output.

    Pixels that no position touches (which the floor in the output-size formula drops) are marked. The arguments are
    those of `conv_output_size`, and so is the `CourseError` for a kernel that does not fit.
    """
    count = conv_output_size(size, kernel, stride, padding, dilation)
    starts = [row * stride - padding for row in range(count)]
    positions = [range(start, start + dilation * (kernel - 1) + 1, dilation) for start in starts]
    seen = {column for position in positions for column in position}
    fig, axes = plt.subplots(figsize=(6.0, 0.9 + 0.36 * count))
    for row, position in enumerate(positions):
        for column in range(-padding, size + padding):
            inside = 0 <= column < size
            colour = (LIGHT if column in seen else ORANGE) if inside else "white"
            axes.add_patch(
                Rectangle(
                    (column + 0.05, row + 0.1),
                    0.9,
                    0.8,
                    facecolor=BLUE if column in position else colour,
                    edgecolor=GREY,
                    linestyle="-" if inside else ":",
                )
            )
    axes.set(xlim=(-padding - 0.1, size + padding + 0.1), ylim=(count, 0))
    axes.set_xticks(np.arange(size) + 0.5, [str(pixel) for pixel in range(size)])
    axes.set_yticks(np.arange(count) + 0.5, [f"output {row}" for row in range(count)])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    handles = [Patch(color=BLUE, label="kernel"), Patch(facecolor=LIGHT, edgecolor=GREY, label="image")]
    if padding:
        handles.append(Patch(facecolor="white", edgecolor=GREY, linestyle=":", label="padding"))
    if not seen.issuperset(range(size)):
        handles.append(Patch(color=ORANGE, label="never seen"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, handlelength=1)
    return fig


def spatial_sizes(size: int, layers: Sequence[Layer]) -> list[int]:
    """The heights of the maps that `layers` make of an image of `size` pixels, without repeats: 227, 55, 27, …"""
    heights = [size, *(layer.output_shape[1] for layer in layers if len(layer.output_shape) == 3)]
    return [height for index, height in enumerate(heights) if index == 0 or height != heights[index - 1]]


def shrinking_images(tables: Mapping[str, tuple[int, Sequence[Layer]]]) -> Figure:
    """Draw the sizes of an image on its way through each network, as squares in true proportion, one row per network.

    Args:
        tables: network -> the side of its images (pixels) and its `layer_table`.
    """
    fig, grid = plt.subplots(len(tables), 1, figsize=(6.0, 1.75 * len(tables)), squeeze=False)
    for axes, (name, (size, layers)) in zip(grid.flat, tables.items(), strict=True):
        heights = spatial_sizes(size, layers)
        left = 0.0
        for index, height in enumerate(heights):
            side = height / max(heights)
            middle = left + max(side, 0.25) / 2
            axes.add_patch(Rectangle((middle - side / 2, 0), side, side, color=PALETTE[index % len(PALETTE)]))
            axes.text(middle, -0.06, str(height), ha="center", va="top")
            left += max(side, 0.25) + 0.12
        axes.set(xlim=(0, 3.8), ylim=(-0.3, 1.05), aspect="equal", anchor="W")
        axes.set_title(plain(name), loc="left")
        axes.axis("off")
    return fig


def receptive_field_boxes(image: ArrayLike, tables: Mapping[str, tuple[int, Sequence[Layer]]]) -> Figure:
    """Draw how the receptive field of a unit in the middle grows from layer to layer, as boxes on an image.

    A dashed frame marks the edge of the image. Boxes more than twice as wide as the image are left out.

    Args:
        image: C×H×W bytes or 0..1 floats, stretched to the size that each network takes.
        tables: network -> the side of its images (pixels) and its `layer_table`.
    """
    rows = -(-len(tables) // 2)
    fig, grid = plt.subplots(rows, 2, figsize=(6.0, 3.3 * rows), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for axes, (name, (size, layers)) in zip(grid.flat, tables.items(), strict=False):
        axes.imshow(np.asarray(image).transpose(1, 2, 0), extent=(0, size, size, 0), alpha=0.6)
        fields = [
            (label, layer.receptive_field)
            for layer, label in zip(layers, layer_names(layers), strict=True)
            if label.startswith(("conv", "pool")) and layer.receptive_field is not None
        ]
        drawn = [(label, field) for label, field in fields if field <= 2 * size]
        reach = 1.1 * max(size, drawn[-1][1]) / 2
        label_height = size / 2  # of the last label written, so that the next one keeps its distance
        for index, (label, field) in enumerate(drawn):
            edge = (size - field) / 2
            colour = plt.get_cmap("plasma")(0.8 * index / len(drawn))
            box = Rectangle((edge, edge), field, field, fill=False, edgecolor=colour, linewidth=1.8, path_effects=halo)
            axes.add_patch(box)
            if label_height - edge > 0.17 * reach:
                axes.text(size / 2, edge, plain(f"{label}: {field}"), ha="center", va="center", fontsize=10, bbox=paper)
                label_height = edge
        axes.add_patch(Rectangle((0, 0), size, size, fill=False, edgecolor="black", linestyle="--"))
        axes.set(xlim=(size / 2 - reach, size / 2 + reach), ylim=(size / 2 + reach, size / 2 - reach))
        axes.set_title(plain(name))
    return fig


def stacked_kernels(stacks: Sequence[Sequence[int]]) -> Figure:
    """Draw what one output pixel sees of a line of pixels through each stack of stride-1 kernels, one panel per stack.

    Args:
        stacks: kernel sizes from the first layer to the last; `[[5], [3, 3]]` sets one 5 beside two 3s.
    """
    rows = -(-len(stacks) // 2)
    deepest = max(map(len, stacks))
    widest = max(1 + sum(kernel - 1 for kernel in stack) for stack in stacks)
    fig, grid = plt.subplots(rows, 2, figsize=(6.0, 2.3 * rows), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, stack in zip(grid.flat, stacks, strict=False):
        widths = [1]  # of the part that the output depends on: the output itself, then layer by layer down
        for kernel in reversed(stack):
            widths.append(widths[-1] + kernel - 1)
        for depth, width in enumerate(widths):
            left, y = -width / 2, -1.6 * depth
            if depth:
                above = widths[depth - 1] / 2
                corners = [(-above, y + 1.6), (above, y + 1.6), (-left, y + 0.8), (left, y + 0.8)]
                axes.add_patch(Polygon(corners, facecolor=SKY, alpha=0.3))
            colour = BLUE if depth == 0 else LIGHT if depth == len(stack) else SKY
            for cell in range(width):
                axes.add_patch(Rectangle((left + cell + 0.05, y), 0.9, 0.8, facecolor=colour, edgecolor=GREY))
        axes.set_title(f"{', '.join(f'{kernel}×{kernel}' for kernel in stack)}: sees {widths[-1]}")
        axes.set(xlim=(-widest / 2 - 0.1, widest / 2 + 0.1), ylim=(-1.6 * deepest - 0.1, 1.0))
    return fig
