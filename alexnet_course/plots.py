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
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike

from alexnet_course.errors import CourseError
from alexnet_course.shapes import Layer, conv_output_size

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and by lightness in grey print.
BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#767676",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY)
WIDTH = 5.4  # inches: on a phone, at 330 pixels, 11 point type is still 9 pixels high
LIGHT = "#dddddd"  # the ground on which the palette is drawn


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
        series: label -> values, one a step (an epoch, an iteration); at most four.
        start: index of the first value on the x axis.
    """
    styles = (("-", "o"), ("--", "s"), ("-.", "D"), (":", "^"))
    if len(series) > len(styles):
        raise CourseError(f"curves got {len(series)} series; give at most {len(styles)}, to be told apart.")
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    for (label, values), (style, marker) in zip(series.items(), styles, strict=False):
        y = np.asarray(values, dtype=float)
        axes.plot(np.arange(start, start + len(y)), y, style, marker=marker, markersize=4, label=label)
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
