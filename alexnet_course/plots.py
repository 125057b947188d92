"""The figures that chapters share.

Every function takes plain data and returns a matplotlib `Figure`; none of them trains, loads or saves anything.
`use_style` is called once at the top of a chapter: it sets a colour-blind-safe palette, a white background (so that
figures stay readable in the book's dark mode) and type that can still be read on a phone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Polygon, Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike

from alexnet_course.errors import CourseError
from alexnet_course.records import NOT_MEASURED
from alexnet_course.shapes import Layer, conv_output_size

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and by lightness in grey print.
BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#767676",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY)
WIDTH = 5.4  # inches: on a phone, at 330 pixels, 11 point type is still 9 pixels high
LIGHT = "#dddddd"  # the ground on which the palette is drawn

Measured = tuple[float, float, float]
"""An accuracy in per cent, then the ends of its 95 % interval."""


def use_style() -> None:
    """Set the look that all figures of the course share."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.0, 3.6),
            "figure.dpi": 150,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.facecolor": "white",
            "axes.prop_cycle": plt.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.labelsize": 11,
            "axes.grid": False,
            "grid.color": "#dddddd",
            "font.size": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
            "image.interpolation": "nearest",
        }
    )


def error_by_year(entries: Sequence[Mapping[str, Any]], human_error: float | None = None) -> Figure:
    """Draw one bar a competition entry, in the order given.

    Args:
        entries: mappings with `year`, `team`, `error` (top-5 error in per cent) and `deep` (bool).
        human_error: top-5 error in per cent of a person, drawn as a dashed line.
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 4.0))
    for position, entry in enumerate(entries):
        axes.bar(position, entry["error"], width=0.75, color=ORANGE if entry["deep"] else GREY)
        axes.annotate(
            f"{entry['error']:g}",
            (position, entry["error"]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # stays readable over the dashed line
            zorder=3,
        )
    axes.set_xticks(
        range(len(entries)), [f"{e['team']} ’{e['year'] % 100:02d}" for e in entries], rotation=40, ha="right"
    )
    axes.set_ylabel("top-5 error (%)")
    axes.set_ylim(0, 1.15 * max(e["error"] for e in entries))
    if human_error is not None:
        axes.axhline(human_error, color=BLUE, linestyle="--", linewidth=1.5)
        axes.text(len(entries) - 0.5, human_error + 0.5, f"one person: {human_error:g}", color=BLUE, ha="right")
    for colour, label in ((GREY, "hand-made features"), (ORANGE, "deep network")):
        axes.bar(0, 0, color=colour, label=label)
    axes.legend(loc="upper right")
    return fig


def connection_diagram(groups: Sequence[int], channels: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw which channels of one layer feed which channels of the next; colour tells the two halves apart.

    Args:
        groups: for each step from layer i to layer i + 1, in how many groups its convolution is split (1 or 2).
        channels: channels of each layer, one more than `groups`; the picture draws each half as one box.
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
        axes.text(column, -0.05, name, ha="center", va="top")
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


def curves(
    series: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    *,
    start: int = 1,
    level: float | None = None,
    level_label: str = "",
) -> Figure:
    """Draw one line a series against its index, with markers, and a horizontal `level` if there is one.

    Args:
        series: label -> values, one a step (an epoch, an iteration); at most four. One without values is named in the
            legend as not measured.
        start: index of the first value on the x axis.
    """
    styles = (("-", "o"), ("--", "s"), ("-.", "D"), (":", "^"))
    if len(series) > len(styles):
        raise CourseError(f"curves got {len(series)} series; give at most {len(styles)}, to be told apart.")
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    for (label, values), (style, marker) in zip(series.items(), styles, strict=False):
        y = np.asarray(values, dtype=float)
        shown = label if len(y) else f"{label}: {NOT_MEASURED}"
        axes.plot(np.arange(start, start + len(y)), y, style, marker=marker, markersize=4, label=shown)
    if level is not None:
        axes.axhline(level, color=GREY, linewidth=1.2, linestyle=":", label=level_label or None)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend()
    return fig


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the losses and the accuracies of a run's epochs, training and validation, side by side.

    Args:
        history: a run's, one mapping an epoch.
    """
    fig, (losses, accuracies) = plt.subplots(1, 2, figsize=(6.0, 2.9))
    epochs = [entry["epoch"] for entry in history]
    for axes, figure, scale in ((losses, "loss", 1), (accuracies, "accuracy", 100)):
        for part, label, style in (("train", "training", "o-"), ("val", "validation", "s--")):
            values = [scale * entry[f"{part}_{figure}"] for entry in history]
            axes.plot(epochs, values, style, markersize=4, label=label)
        axes.set(xlabel="epoch", ylabel="loss" if figure == "loss" else "accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
    losses.legend()
    return fig


def measured_effects(rows: Sequence[Mapping[str, Any]], xlabel: str) -> Figure:
    """Draw one effect a row, in the order given: a dot at its mean, on a line from its lowest to its highest value.

    The scale is linear from -1 to 1 and logarithmic outside, so that effects of very different size fit. Raises
    `CourseError` where there are more kinds than colours.

    Args:
        rows: mappings with `name`, `kind` (each has a colour of its own), `mean`, `low` and `high`.
        xlabel: what is measured, with its unit.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    if len(kinds) > len(PALETTE):
        raise CourseError(f"measured_effects got {len(kinds)} kinds; give at most {len(PALETTE)}, one a colour.")
    fig, axes = plt.subplots(figsize=(WIDTH, 0.36 * len(rows) + 1.3))
    for kind, colour in zip(kinds, PALETTE, strict=False):
        places = [place for place, row in enumerate(rows) if row["kind"] == kind]
        chosen = [rows[place] for place in places]
        axes.hlines(places, [row["low"] for row in chosen], [row["high"] for row in chosen], color=colour)
        axes.plot([row["mean"] for row in chosen], places, "o", color=colour, markersize=7, label=kind)
    for place, row in enumerate(rows):
        mean = f"{row['mean']:+.1f}".replace("-", "−")
        axes.text(1.02, place, mean, transform=axes.get_yaxis_transform(), va="center", fontsize=10)
    axes.axvline(0, color=GREY, linewidth=1.2, linestyle=":")
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    low, high = min(-1.0, *(row["low"] for row in rows)), max(1.0, *(row["high"] for row in rows))
    axes.set_xlim(1.25 * low, 1.25 * high)
    ticks = [tick for tick in (-30, -10, -3, -1, 0, 1, 3, 10, 30) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.grid(axis="x")
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def picture_row(pictures: ArrayLike, titles: Sequence[str] = (), columns: int = 5) -> Figure:
    """Show N pictures in rows of `columns`.

    Args:
        pictures: N×C×H×W, C = 1 or 3; bytes, or floats on the 0..1 scale (values outside it are clipped).
        titles: one a picture, or none.
    """
    array = np.asarray(pictures)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise CourseError(f"picture_row got an array of shape {array.shape}; give N×C×H×W with C = 1 or 3.")
    if titles and len(titles) != len(array):
        raise CourseError(f"picture_row got {len(array)} pictures and {len(titles)} titles; give one title a picture.")
    if array.dtype == np.uint8:
        array = array / 255
    array = np.clip(array, 0.0, 1.0)
    columns = min(columns, len(array))
    rows = -(-len(array) // columns)
    cell = WIDTH / columns
    fig, grid = plt.subplots(rows, columns, figsize=(WIDTH, rows * (cell + (0.25 if titles else 0.0))), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for index, (axes, picture) in enumerate(zip(grid.flat, array, strict=False)):
        axes.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        if titles:
            axes.set_title(titles[index], fontsize=10, fontweight="normal")
    return fig


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


def crop_boxes(picture: ArrayLike, size: int) -> Figure:
    """Draw the five crops (four corners and the centre) of side `size` over a C×H×W picture (bytes or 0..1 floats)."""
    array = np.asarray(picture)
    height, width = array.shape[-2:]
    if not 0 < size <= min(height, width):
        raise CourseError(f"A crop of {size} pixels does not fit a {height}×{width} picture; take a smaller crop.")
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


def shares(names: Sequence[str], quantities: Mapping[str, Sequence[float]]) -> Figure:
    """Draw each quantity's split over the named layers: one group of horizontal bars a layer, in per cent of the total.

    Args:
        names: the layers, from input to output.
        quantities: label -> one value a layer (parameters, neurons, ...).
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 0.55 * len(names) + 0.9))
    thickness = 0.8 / len(quantities)
    rows = np.arange(len(names))
    for index, (label, values) in enumerate(quantities.items()):
        percent = 100 * np.asarray(values, dtype=float) / np.sum(values)
        y = rows + (index - (len(quantities) - 1) / 2) * thickness
        axes.barh(y, percent, height=thickness * 0.92, color=PALETTE[index], label=label)
        for place, value in zip(y, percent, strict=True):
            axes.text(value + 0.8, place, f"{value:.1f}", va="center", fontsize=9)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel("share of the network (%)")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
    axes.legend(loc="lower right")
    return fig


def network_drawing(picture: ArrayLike, shapes: Sequence[tuple[int, ...]]) -> Figure:
    """Draw a network as the blocks of numbers that its layers make of a picture, from left to right.

    Height and depth of a block are the height and width of the layer's output, its thickness the channels; linear
    layers are bars as high as they have units, on a scale of their own.

    Args:
        picture: the input, uint8, 3×H×W.
        shapes: the outputs of the layers to draw: (C, H, W) of a convolution, (units,) of a linear layer.
    """
    picture = np.asarray(picture)
    figure, axes = plt.subplots(figsize=(6.4, 2.4))
    left = 0.0
    for number, shape in enumerate([picture.shape, *shapes]):
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
            axes.imshow(picture.transpose(1, 2, 0), extent=(0, 1, 0, 1), transform=side + axes.transData, zorder=2)
        label = f"{shape[0]:,}" + (f"\n{shape[1]}×{shape[2]}" if len(shape) == 3 else "")
        axes.text((left + behind[0]) / 2, bottom - 2, label, ha="center", va="top")
        left = behind[0] + (5 if len(shape) == 3 else 13)
    axes.set(xlim=(-3, left - 9), ylim=(axes.dataLim.y0 - 10, axes.dataLim.y1 + 1), aspect="equal")
    axes.axis("off")
    return figure


def kernel_positions(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Figure:
    """Draw every place where a kernel can stand on a line of `size` pixels, one row for each output.

    Pixels that no position touches (those behind the floor of the output-size formula) are marked. The arguments are
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
    handles = [Patch(color=BLUE, label="kernel"), Patch(facecolor=LIGHT, edgecolor=GREY, label="picture")]
    if padding:
        handles.append(Patch(facecolor="white", edgecolor=GREY, linestyle=":", label="padding"))
    if not seen.issuperset(range(size)):
        handles.append(Patch(color=ORANGE, label="never seen"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, handlelength=1)
    return fig


def stacked_kernels(stacks: Sequence[Sequence[int]]) -> Figure:
    """Draw what one output pixel sees of a line of pixels through each stack of stride-1 kernels, one panel a stack.

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


def spatial_sizes(size: int, layers: Sequence[Layer]) -> list[int]:
    """The heights that a picture of `size` pixels takes on its way through `layers`, without repeats: 227, 55, 27, …"""
    heights = [size, *(layer.output_shape[1] for layer in layers if len(layer.output_shape) == 3)]
    return [height for place, height in enumerate(heights) if place == 0 or height != heights[place - 1]]


def shrinking_pictures(tables: Mapping[str, tuple[int, Sequence[Layer]]]) -> Figure:
    """Draw the sizes of a picture on its way through each network, as squares in true proportion, one row a network.

    Args:
        tables: network -> the side of its pictures (pixels) and its `layer_table`.
    """
    fig, grid = plt.subplots(len(tables), 1, figsize=(6.0, 1.75 * len(tables)), squeeze=False)
    for axes, (name, (size, layers)) in zip(grid.flat, tables.items(), strict=True):
        heights = spatial_sizes(size, layers)
        left = 0.0
        for place, height in enumerate(heights):
            side = height / max(heights)
            middle = left + max(side, 0.25) / 2
            axes.add_patch(Rectangle((middle - side / 2, 0), side, side, color=PALETTE[place % len(PALETTE)]))
            axes.text(middle, -0.06, str(height), ha="center", va="top")
            left += max(side, 0.25) + 0.12
        axes.set(xlim=(0, 3.8), ylim=(-0.3, 1.05), aspect="equal", anchor="W")
        axes.set_title(name, loc="left")
        axes.axis("off")
    return fig


def layer_labels(layers: Sequence[Layer]) -> list[str]:
    """A short name for each layer, counted by kind: conv1, pool1, conv2, …, fc1; other kinds keep their own name."""
    short = {"Conv2d": "conv", "MaxPool2d": "pool", "AvgPool2d": "pool", "Linear": "fc"}
    counts: Counter[str] = Counter()
    labels = []
    for layer in layers:
        kind = short.get(layer.kind, layer.kind)
        counts[kind] += 1
        labels.append(f"{kind}{counts[kind]}")
    return labels


def receptive_field_boxes(picture: ArrayLike, tables: Mapping[str, tuple[int, Sequence[Layer]]]) -> Figure:
    """Draw how the receptive field of a unit in the middle grows from layer to layer, as boxes on a picture.

    A dashed frame marks the edge of the picture. Boxes more than twice as wide as the picture are left out.

    Args:
        picture: C×H×W bytes or 0..1 floats, stretched to the size that each network takes.
        tables: network -> the side of its pictures (pixels) and its `layer_table`.
    """
    rows = -(-len(tables) // 2)
    fig, grid = plt.subplots(rows, 2, figsize=(6.0, 3.3 * rows), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for axes, (name, (size, layers)) in zip(grid.flat, tables.items(), strict=False):
        axes.imshow(np.asarray(picture).transpose(1, 2, 0), extent=(0, size, size, 0), alpha=0.6)
        fields = [
            (label, layer.receptive_field)
            for layer, label in zip(layers, layer_labels(layers), strict=True)
            if label.startswith(("conv", "pool")) and layer.receptive_field is not None
        ]
        drawn = [(label, field) for label, field in fields if field <= 2 * size]
        reach = 1.1 * max(size, drawn[-1][1]) / 2
        label_height = size / 2  # of the last label written, so that the next one keeps its distance
        for place, (label, field) in enumerate(drawn):
            edge = (size - field) / 2
            colour = plt.get_cmap("plasma")(0.8 * place / len(drawn))
            box = Rectangle((edge, edge), field, field, fill=False, edgecolor=colour, linewidth=1.8, path_effects=halo)
            axes.add_patch(box)
            if label_height - edge > 0.17 * reach:
                axes.text(size / 2, edge, f"{label}: {field}", ha="center", va="center", fontsize=10, bbox=paper)
                label_height = edge
        axes.add_patch(Rectangle((0, 0), size, size, fill=False, edgecolor="black", linestyle="--"))
        axes.set(xlim=(size / 2 - reach, size / 2 + reach), ylim=(size / 2 + reach, size / 2 - reach))
        axes.set_title(name)
    return fig


def number_flow(stages: Sequence[tuple[str, Sequence[int], str]]) -> Figure:
    """Draw the tensors that a computation makes one after the other, from top to bottom, each in its format's colour.

    Args:
        stages: what is done to make the tensor (nothing for the first), its shape, and the name of its number format:
            uint8, bfloat16, float16 or float32.
    """
    colours = {"uint8": GREY, "bfloat16": ORANGE, "float16": ORANGE, "float32": BLUE}
    sizes = {"uint8": 1, "bfloat16": 2, "float16": 2, "float32": 4}  # bytes
    unknown = [stage[2] for stage in stages if stage[2] not in colours]
    if unknown:
        raise CourseError(f"number_flow got the number format {unknown[0]!r}; give one of {', '.join(colours)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 0.78 * len(stages)))
    for row, (action, shape, kind) in enumerate(stages):
        count = int(np.prod(shape, dtype=np.int64))
        axes.add_patch(Rectangle((0, -row - 0.3), 5.0, 0.6, color=colours[kind]))
        text = "×".join(f"{length:,}" for length in shape) or "one number"
        axes.text(2.5, -row, f"{text}  {kind}", color="white", ha="center", va="center", fontweight="bold")
        axes.text(5.2, -row, byte_count(count * sizes[kind]), va="center")
        if row:
            axes.add_patch(
                FancyArrowPatch(
                    (0.5, 0.72 - row), (0.5, 0.28 - row), arrowstyle="-|>", mutation_scale=12, color="#333333"
                )
            )
            axes.text(0.8, 0.5 - row, action, va="center")
    axes.set(xlim=(-0.05, 6.6), ylim=(0.4 - len(stages), 0.4))
    axes.axis("off")
    return fig


def byte_count(count: float) -> str:
    """A number of bytes in the largest unit that leaves at least one: 785 kB, 228 MB (powers of 1,000)."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def queue_timeline(queueing: float, computing: float, steps: int) -> Figure:
    """Draw how a processor and the GPU that it feeds share the time of a few training steps, waiting and not waiting.

    The GPU begins a step as soon as it is queued and the one before is done. Above, the processor reads a number back
    after each step; below, once at the end.

    Args:
        queueing, computing: units of time that each step takes on the processor, and on the GPU.
    """
    fig, grid = plt.subplots(2, 1, figsize=(WIDTH, 3.9), sharex=True)
    for axes, waits in zip(grid, (True, False), strict=True):
        processor = device = 0.0  # when each is free
        for step in range(steps):
            begin = max(processor, device) if waits else processor
            processor = begin + queueing
            start = max(processor, device)
            device = start + computing
            for lane, left, width in ((1, begin, queueing), (0, start, computing)):
                axes.barh(lane, width, left=left, height=0.62, color=PALETTE[step % 4], edgecolor="white")
                axes.text(left + width / 2, lane, str(step + 1), color="white", ha="center", va="center")
        axes.axvline(device, color="#333333", linestyle="--", linewidth=1.2)
        how = "after each step" if waits else "once, at the end"
        axes.set_title(f"read back {how}: {device:g} units", loc="left")
        axes.set_yticks([0, 1], ["GPU", "processor"])
        axes.tick_params(left=False)
        axes.set_ylim(-0.5, 1.5)
    grid[1].set_xlabel("time (units)")
    return fig


def diary(steps: Sequence[str], accuracies: Mapping[str, Sequence[Sequence[float] | None]]) -> Figure:
    """Draw a path of `steps` from top to bottom, with the accuracies that several sources give for each.

    Args:
        steps: what was done, one a row.
        accuracies: source -> for each step its accuracy in per cent, alone or with the low and the high end of its
            interval, or None where there is none; at most four sources, the first joined by a line.
    """
    styles = (("o", GREY), ("s", BLUE), ("D", ORANGE), ("^", GREEN))
    if len(accuracies) > len(styles):
        raise CourseError(f"diary got {len(accuracies)} sources; give at most {len(styles)}, to be told apart.")
    fig, axes = plt.subplots(figsize=(WIDTH, 0.75 * len(steps) + 1.4))
    for place, ((source, values), (marker, colour)) in enumerate(zip(accuracies.items(), styles, strict=False)):
        known = [(row + 0.16 * place, *value) for row, value in enumerate(values) if value is not None]
        rows, centres = [entry[0] for entry in known], [entry[1] for entry in known]
        if place == 0:
            axes.plot(centres, rows, color=colour, linewidth=1.2, linestyle=":")
        for row, _, *interval in known:
            if interval:
                axes.plot(interval, [row, row], color=colour, linewidth=2)
        axes.plot(centres, rows, marker, color=colour, markersize=7, label=source if known else f"{source}: none yet")
        for row, centre, *_ in known:
            axes.annotate(f"{centre:.1f}", (centre, row), xytext=(0, 6), textcoords="offset points", ha="center",
                          fontsize=9, color=colour)  # fmt: skip
    axes.set_yticks(range(len(steps)), steps)
    axes.set_ylim(len(steps) - 0.4, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x")
    fig.legend(loc="outside upper left")
    return fig


def layer_maps(panels: Mapping[str, ArrayLike], layers: Sequence[str], label: str, steps: Sequence[int] = ()) -> Figure:
    """Draw a figure of every layer over the steps of a training, as colour on a logarithmic scale that panels share.

    Args:
        panels: title -> steps × layers, positive; what is 0 or not finite stays white.
        layers: one name a column of the arrays; drawn from bottom to top.
        label: what the colour says.
        steps: the first and the last step; 1 to their number where nothing is given.
    """
    arrays = {title: np.asarray(values, dtype=float) for title, values in panels.items()}
    for title, array in arrays.items():
        if array.ndim != 2 or array.shape[1] != len(layers):
            raise CourseError(
                f"layer_maps got {title!r} as {array.shape} and {len(layers)} layers; give steps × layers."
            )
    logs = {title: np.full(array.shape, np.nan) for title, array in arrays.items()}
    for title, array in arrays.items():
        drawn = np.isfinite(array) & (array > 0)
        logs[title][drawn] = np.log10(array[drawn])
    finite = np.concatenate([log[np.isfinite(log)] for log in logs.values()])
    low = np.floor(finite.min())
    high = max(np.ceil(finite.max()), low + 1)
    fig, grid = plt.subplots(1, len(arrays), figsize=(WIDTH, 0.19 * len(layers) + 1.0), sharey=True, squeeze=False)
    for axes, (title, log) in zip(grid.flat, logs.items(), strict=True):
        first, last = (steps[0], steps[-1]) if steps else (1, len(log))
        image = axes.imshow(
            log.T, cmap="viridis", vmin=low, vmax=high, aspect="auto", origin="lower",
            extent=(first - 0.5, last + 0.5, -0.5, len(layers) - 0.5),
        )  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.spines[:].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    grid[0, 0].set_yticks(range(len(layers)), layers, fontsize=9)
    bar = fig.colorbar(image, ax=list(grid.flat), shrink=0.9, pad=0.02)
    ticks = range(int(low), int(high) + 1, 1 + int(high - low) // 6)
    bar.set_ticks(ticks, labels=[f"$10^{{{tick}}}$" for tick in ticks])
    bar.set_label(label)
    return fig


def rate_sweep(losses: Mapping[str, Mapping[float, float]], level: float, level_label: str) -> Figure:
    """Draw the loss that each learning rate ends with, one line a network; a cross at the top where it diverged.

    Args:
        losses: network -> learning rate -> loss, nan where the run broke down; at most four.
        level: the loss of a guess. What ends above 1.15 times that is drawn at the top as well.
    """
    styles = (("o-", BLUE), ("s--", ORANGE), ("D-.", GREEN), ("^:", PINK))
    if len(losses) > len(styles):
        raise CourseError(f"rate_sweep got {len(losses)} networks; give at most {len(styles)}, to be told apart.")
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    top = 1.15 * level
    for place, ((network, ends), (style, colour)) in enumerate(zip(losses.items(), styles, strict=False)):
        rates = sorted(ends)
        kept = [rate for rate in rates if ends[rate] <= top]
        axes.plot(kept, [ends[rate] for rate in kept], style, color=colour, markersize=6, label=network)
        broken = [rate for rate in rates if rate not in kept]
        height = top * (1 - 0.03 * place)
        axes.plot(broken, [height] * len(broken), "x", color=colour, markersize=9, markeredgewidth=2.5)
    axes.axhline(level, color=GREY, linewidth=1.2, linestyle=":", label=level_label)
    axes.plot([], [], "x", color="#333333", markersize=8, markeredgewidth=2, label="broke down")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="training loss at the end")
    axes.grid(axis="y")
    axes.legend()
    return fig


def accuracy_by_count(counts: Sequence[int], accuracies: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw accuracy against the number of training pictures: the mean over seeds, each seed's own, and their range.

    Args:
        counts: numbers of training pictures.
        accuracies: way of training -> for each count the accuracies of its runs, as fractions of 1; at most four ways.
    """
    styles = (("o-", BLUE), ("s--", ORANGE), ("D-.", GREEN), ("^:", PINK))
    if len(accuracies) > len(styles):
        raise CourseError(
            f"accuracy_by_count got {len(accuracies)} ways; give at most {len(styles)}, to be told apart."
        )
    fig, axes = plt.subplots(figsize=(WIDTH, 3.6))
    for place, ((way, runs), (style, colour)) in enumerate(zip(accuracies.items(), styles, strict=False)):
        percent = [100 * np.asarray(seeds, dtype=float) for seeds in runs]
        axes.plot(counts, [seeds.mean() for seeds in percent], style, color=colour, markersize=7, label=way)
        axes.fill_between(
            counts, [seeds.min() for seeds in percent], [seeds.max() for seeds in percent], color=colour, alpha=0.15
        )
        for count, seeds in zip(counts, percent, strict=True):
            shifted = count * 1.04 ** (place - (len(accuracies) - 1) / 2)  # or they would hide each other
            axes.plot([shifted] * len(seeds), seeds, style[0], color=colour, markersize=3, alpha=0.7)
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="training pictures", ylabel="test accuracy (%)")
    axes.grid(axis="y")
    axes.legend()
    return fig


def picture_table(
    rows: Mapping[str, ArrayLike], boxes: Mapping[str, Sequence[tuple[int, int, int, int]]] | None = None
) -> Figure:
    """Show one row of pictures for each label, which is written above it.

    Args:
        rows: label -> N×C×H×W, C = 1 or 3; bytes, or floats on the 0..1 scale (values outside it are clipped). The
            longest row sets the number of columns.
        boxes: label -> for each picture of the row a frame to draw: top, left, height and width in pixels.
    """
    arrays = {label: np.asarray(pictures) for label, pictures in rows.items()}
    for label, array in arrays.items():
        if array.ndim != 4 or array.shape[1] not in (1, 3):
            raise CourseError(f"picture_table got {array.shape} for {label!r}; give N×C×H×W with C = 1 or 3.")
    columns = max(map(len, arrays.values()))
    cell = WIDTH / columns
    fig = plt.figure(figsize=(WIDTH, len(arrays) * (cell + 0.24)))
    lines = fig.subfigures(len(arrays), 1, squeeze=False)[:, 0]
    for line, (label, array) in zip(lines, arrays.items(), strict=True):
        line.suptitle(label, x=0.01, ha="left", fontsize=10)
        cells = line.subplots(1, columns, squeeze=False)[0]
        for axes in cells:
            axes.axis("off")
        shown = np.clip(array / 255 if array.dtype == np.uint8 else array, 0.0, 1.0)
        for index, (axes, picture) in enumerate(zip(cells, shown, strict=False)):
            axes.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            if boxes is not None:
                top, left, height, width = boxes[label][index]
                for colour, thickness in (("white", 3.0), (ORANGE, 1.6)):  # a frame that is seen on every ground
                    corner = (left - 0.5, top - 0.5)
                    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=thickness))
    return fig


def accuracies(rows: Mapping[str, Measured | None], reference: str, xlabel: str = "test accuracy (%)") -> Figure:
    """Draw each accuracy as a dot with its interval, one line a label, and the interval of one of them as a band.

    Args:
        rows: label -> accuracy and interval in per cent; None where nothing is measured.
        reference: the label whose interval becomes the band.
    """
    if reference not in rows:
        raise CourseError(f"accuracies got no row {reference!r} to compare with; give one of {', '.join(rows)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 0.8 + 0.3 * len(rows)))
    base = rows[reference]
    if base is not None:
        axes.axvspan(base[1], base[2], color=LIGHT, zorder=0)
    for place, (label, measured) in enumerate(rows.items()):
        if measured is None:
            axes.annotate(
                NOT_MEASURED, (0.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=GREY
            )
            continue
        value, low, high = measured
        colour = BLUE if label == reference else ORANGE
        axes.errorbar(
            value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3, markersize=5
        )
        axes.annotate(f"{value:.1f}", (high, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    axes.margins(x=0.15)
    axes.grid(axis="x")
    return fig


def accuracy_against_cost(networks: Mapping[str, tuple[float, float | None, Measured | None]]) -> Figure:
    """Draw the accuracy of networks against the work that they do for one picture: published, and measured.

    Args:
        networks: name -> mult-adds of one picture; published accuracy in per cent, or None; measured accuracy and
            interval in per cent, or None.
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 3.8))
    for name, (cost, published, measured) in networks.items():
        millions = cost / 1e6
        axes.axvline(millions, color=LIGHT, linewidth=1.2, zorder=0)
        said = name if measured or published else f"{name}: {NOT_MEASURED}"
        axes.annotate(
            said, (millions, 0.02), xycoords=("data", "axes fraction"), rotation=90, ha="right", va="bottom", fontsize=9
        )
        if published is not None:
            axes.plot(millions, published, "s", color=ORANGE, markersize=7, markerfacecolor="white", markeredgewidth=2)
        if measured is not None:
            value, low, high = measured
            axes.errorbar(millions, value, yerr=[[value - low], [high - value]], fmt="o", color=BLUE, capsize=3)
    axes.plot([], [], "s", color=ORANGE, markerfacecolor="white", markeredgewidth=2, label="published")
    axes.plot([], [], "o", color=BLUE, label="measured here")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.9 * (high - low), high + 0.25 * (high - low))  # room for the names and for the legend
    axes.margins(x=0.15)
    axes.set(xlabel="work for one picture (million mult-adds)", ylabel="test accuracy (%)")
    axes.legend(loc="upper left", ncols=2)
    return fig


def range_test_curve(points: Sequence[tuple[float, float]], marks: Mapping[str, float] | None = None) -> Figure:
    """Draw the losses of a learning-rate range test against the rate, each one and their running mean of nine.

    Args:
        points: (rate, loss), as `lr_range_test` gives them.
        marks: label -> a rate to point out.
    """
    rates, losses = (np.asarray(part, dtype=float) for part in zip(*points, strict=True))
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    axes.plot(rates, losses, color=GREY, linewidth=1, alpha=0.7, label="each step")
    near = [slice(max(0, place - 4), place + 5) for place in range(len(losses))]
    axes.plot(rates, [losses[part].mean() for part in near], color=BLUE, label="mean of nine steps")
    for (label, rate), colour in zip((marks or {}).items(), (ORANGE, GREEN, PINK), strict=False):
        axes.axvline(rate, color=colour, linestyle="--", linewidth=1.5, label=f"{label}: {rate:.1g}")
    axes.set_xscale("log")
    # The last losses may be beyond all measure, and would press the valley flat.
    axes.set_ylim(0.95 * losses.min(), min(1.05 * losses.max(), 1.4 * losses[0]))
    axes.set(xlabel="learning rate", ylabel="loss of the batch")
    axes.grid(axis="y")
    axes.legend()
    return fig


def two_accuracies(points: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str) -> Figure:
    """Draw pairs of accuracies as dots, with the line on which both are equal.

    Args:
        points: label -> pairs in per cent; one without pairs is named in the legend as not measured.
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 4.8))
    everything = [value for pairs in points.values() for pair in pairs for value in pair] or [0.0, 100.0]
    ends = (min(everything) - 2, max(everything) + 2)
    axes.plot(ends, ends, color=GREY, linewidth=1.2, linestyle=":", label="equal")
    for (label, pairs), marker in zip(points.items(), "osD^", strict=False):
        shown = label if pairs else f"{label}: {NOT_MEASURED}"
        xs, ys = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        axes.plot(xs, ys, marker, markersize=6, alpha=0.75, label=shown)
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=ends, ylim=ends, aspect="equal")
    axes.grid()
    axes.legend()
    return fig


def confusion_matrix(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw what became of each true class (a row), in per cent of its pictures.

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
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return fig
