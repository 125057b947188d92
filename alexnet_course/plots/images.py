"""Images, and other arrays of their shape, in rows and with frames."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREEN, ORANGE, PINK, WIDTH, plain


def image_row(images: ArrayLike, titles: Sequence[str] = (), columns: int = 5) -> Figure:
    """Show N images in rows of `columns`.

    Args:
        images: N×C×H×W, C = 1 or 3; bytes, or floats on the 0..1 scale (values outside it are clipped).
        titles: one for each image, or none.
    """
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise CourseError(f"image_row got an array of shape {array.shape}; give N×C×H×W with C = 1 or 3.")
    if titles and len(titles) != len(array):
        raise CourseError(f"image_row got {len(array)} images and {len(titles)} titles; give one title an image.")
    if array.dtype == np.uint8:
        array = array / 255
    array = np.clip(array, 0.0, 1.0)
    columns = min(columns, len(array))
    rows = -(-len(array) // columns)
    cell = WIDTH / columns
    fig, grid = plt.subplots(rows, columns, figsize=(WIDTH, rows * (cell + (0.25 if titles else 0.0))), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for index, (axes, image) in enumerate(zip(grid.flat, array, strict=False)):
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        if titles:
            axes.set_title(plain(titles[index]), fontsize=10, fontweight="normal")
    return fig


def kernel_rows(kernels: Mapping[str, ArrayLike], columns: int = 16) -> Figure:
    """Show the kernels of a first layer as small images, one block for each entry of `kernels`.

    Args:
        kernels: title to N×3×k×k. Zero is grey; each kernel is scaled by its own largest weight.
        columns: how many stand in a row.
    """
    arrays = {title: np.asarray(values, dtype=float) for title, values in kernels.items()}
    for title, array in arrays.items():
        if array.ndim != 4 or array.shape[1] != 3:
            raise CourseError(f"kernel_rows got an array of shape {array.shape} for {title}; give N×3×k×k.")
    counts = [-(-len(array) // columns) for array in arrays.values()]
    cell = WIDTH / columns
    fig, grid = plt.subplots(len(arrays), figsize=(WIDTH, sum(counts) * cell + 0.35 * len(arrays)), squeeze=False,
                             height_ratios=counts)  # fmt: skip
    for axes, (title, array), rows in zip(grid.flat, arrays.items(), counts, strict=True):
        side = array.shape[-1] + 1  # a pixel of white between kernels
        canvas = np.ones((rows * side - 1, columns * side - 1, 3))
        for index, kernel in enumerate(array):
            top, left = (side * place for place in divmod(index, columns))
            shown = 0.5 + kernel / (2 * max(np.abs(kernel).max(), 1e-12))
            canvas[top : top + side - 1, left : left + side - 1] = shown.transpose(1, 2, 0)
        axes.imshow(canvas, interpolation="nearest")
        axes.set_title(plain(title), fontsize=10, fontweight="normal")
        axes.axis("off")
    return fig


def crop_boxes(image: ArrayLike, size: int) -> Figure:
    """Draw the five crops (four corners and the centre) of side `size` over a C×H×W image (bytes or 0..1 floats)."""
    array = np.asarray(image)
    height, width = array.shape[-2:]
    if not 0 < size <= min(height, width):
        raise CourseError(f"A crop of {size} pixels does not fit a {height}×{width} image; take a smaller crop.")
    down, right = height - size, width - size
    corners = {
        "top left": (0, 0),
        "top right": (0, right),
        "bottom left": (down, 0),
        "bottom right": (down, right),
        "centre": (round(down / 2), round(right / 2)),
    }
    fig, axes = plt.subplots(figsize=(4.4, 3.2))
    axes.imshow(array.transpose(1, 2, 0), alpha=0.75)
    for (name, (top, left)), colour in zip(corners.items(), (BLUE, ORANGE, GREEN, PINK, "black"), strict=True):
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), size, size, fill=False, edgecolor=colour, linewidth=2.5, label=name)
        )
    axes.set(xlim=(-1.5, width + 0.5), ylim=(height + 0.5, -1.5))
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    axes.axis("off")
    return fig


def evidence_map(image: ArrayLike, evidence: ArrayLike, titles: tuple[str, str] = ("", "")) -> Figure:
    """Show an image and, beside it in grey, where the evidence for a class is: brighter means more.

    Args:
        image: C×H×W, C = 1 or 3; bytes, or floats on the 0..1 scale (values outside it are clipped).
        evidence: h×w, not negative, as of `alexnet_course.features.grad_cam`; it is stretched over the image.
        titles: of the image, and of the map beside it.
    """
    array, heat = np.asarray(image), np.asarray(evidence, dtype=float)
    if array.ndim != 3 or array.shape[0] not in (1, 3) or heat.ndim != 2:
        raise CourseError(f"evidence_map got an image of shape {array.shape} and evidence of shape {heat.shape}; give "
                          "C×H×W with C = 1 or 3, and h×w.")  # fmt: skip
    shown = np.clip(array / 255 if array.dtype == np.uint8 else array, 0.0, 1.0).transpose(1, 2, 0)
    height, width = shown.shape[:2]
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2 * height / width + 0.3))
    left.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1)
    right.imshow(shown.mean(axis=2), cmap="gray", vmin=0, vmax=1)
    # Against the largest of this map: how much evidence there is, the probability says.
    right.imshow(
        heat / max(heat.max(), np.finfo(float).tiny), cmap="inferno", vmin=0, vmax=1, alpha=0.6,
        interpolation="bilinear", extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    for axes, title in zip((left, right), titles, strict=True):
        axes.set_title(plain(title), fontsize=10, fontweight="normal")
        axes.axis("off")
    return fig


def image_table(
    rows: Mapping[str, ArrayLike], boxes: Mapping[str, Sequence[tuple[int, int, int, int]]] | None = None
) -> Figure:
    """Show one row of images for each label, which is written above it.

    Args:
        rows: label -> N×C×H×W, C = 1 or 3; bytes, or floats on the 0..1 scale (values outside it are clipped). The
            longest row sets the number of columns.
        boxes: label -> for each image of the row a frame to draw: top, left, height and width in pixels.
    """
    arrays = {label: np.asarray(images) for label, images in rows.items()}
    for label, array in arrays.items():
        if array.ndim != 4 or array.shape[1] not in (1, 3):
            raise CourseError(f"image_table got {array.shape} for {label!r}; give N×C×H×W with C = 1 or 3.")
    columns = max(map(len, arrays.values()))
    cell = WIDTH / columns
    fig = plt.figure(figsize=(WIDTH, len(arrays) * (cell + 0.24)))
    lines = fig.subfigures(len(arrays), 1, squeeze=False)[:, 0]
    for line, (label, array) in zip(lines, arrays.items(), strict=True):
        line.suptitle(plain(label), x=0.01, ha="left", fontsize=10)
        cells = line.subplots(1, columns, squeeze=False)[0]
        for axes in cells:
            axes.axis("off")
        shown = np.clip(array / 255 if array.dtype == np.uint8 else array, 0.0, 1.0)
        for index, (axes, image) in enumerate(zip(cells, shown, strict=False)):
            axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            if boxes is not None:
                top, left, height, width = boxes[label][index]
                for colour, thickness in (("white", 3.0), (ORANGE, 1.6)):  # a frame that is seen on every ground
                    corner = (left - 0.5, top - 0.5)
                    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=thickness))
    return fig
