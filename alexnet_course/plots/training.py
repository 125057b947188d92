"""A training run: values step by step, learning rates, and the numbers in each layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREEN, GREY, ORANGE, PINK, WIDTH, named, plain
from alexnet_course.records import NOT_MEASURED


def curves(
    series: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    *,
    start: int = 1,
    level: float | None = None,
    level_label: str = "",
) -> Figure:
    """Draw one line per series against its index, with markers, and a horizontal `level` if given.

    Args:
        series: label -> values, one per step (an epoch, an iteration); at most four. A series without values is named
            in the legend as not measured. Text between two dollars in a label is set as a formula.
        start: index of the first value on the x axis.
    """
    styles = (("-", "o"), ("--", "s"), ("-.", "D"), (":", "^"))
    if len(series) > len(styles):
        raise CourseError(f"curves got {len(series)} series; give at most {len(styles)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    for (label, values), (style, marker) in zip(series.items(), styles, strict=False):
        y = np.asarray(values, dtype=float)
        shown = named(label if len(y) else f"{label}: {NOT_MEASURED}")
        axes.plot(np.arange(start, start + len(y)), y, style, marker=marker, markersize=4, label=shown)
    if level is not None:
        axes.axhline(level, color=GREY, linewidth=1.2, linestyle=":", label=level_label or None)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    if not any(len(np.asarray(values)) for values in series.values()):
        axes.set(xticks=[], yticks=[])  # numbers on the axes would mean nothing
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


def range_test_curve(points: Sequence[tuple[float, float]], marks: Mapping[str, float] | None = None) -> Figure:
    """Draw the losses of a learning-rate range test against the rate, with their running mean over nine.

    Args:
        points: (rate, loss), as `lr_range_test` gives them.
        marks: label -> a rate to point out.
    """
    rates, losses = (np.asarray(part, dtype=float) for part in zip(*points, strict=True))
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    axes.plot(rates, losses, color=GREY, linewidth=1, alpha=0.7, label="each step")
    near = [slice(max(0, position - 4), position + 5) for position in range(len(losses))]
    axes.plot(rates, [losses[part].mean() for part in near], color=BLUE, label="mean of nine steps")
    for (label, rate), colour in zip((marks or {}).items(), (ORANGE, GREEN, PINK), strict=False):
        axes.axvline(rate, color=colour, linestyle="--", linewidth=1.5, label=plain(f"{label}: {rate:.1g}"))
    axes.set_xscale("log")
    # The last losses may be beyond all measure, and would press the valley flat.
    axes.set_ylim(0.95 * losses.min(), min(1.05 * losses.max(), 1.4 * losses[0]))
    axes.set(xlabel="learning rate", ylabel="loss of the batch")
    axes.grid(axis="y")
    axes.legend()
    return fig


def layer_maps(panels: Mapping[str, ArrayLike], layers: Sequence[str], label: str, steps: Sequence[int] = ()) -> Figure:
    """Draw a quantity of every layer over the steps of a run, as colour on a logarithmic scale common to all panels.

    Args:
        panels: title -> steps × layers, positive; what is 0 or not finite stays white.
        layers: one name a column of the arrays; drawn from bottom to top.
        label: what the colour stands for.
        steps: the first and the last step; by default, they count from 1.
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
        axes.set_title(plain(title), fontsize=10)
        axes.set_xlabel("step")
        axes.spines[:].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    grid[0, 0].set_yticks(range(len(layers)), list(map(plain, layers)), fontsize=9)
    bar = fig.colorbar(image, ax=list(grid.flat), shrink=0.9, pad=0.02)
    ticks = range(int(low), int(high) + 1, 1 + int(high - low) // 6)
    bar.set_ticks(ticks, labels=[f"$10^{{{tick}}}$" for tick in ticks])
    bar.set_label(label)
    return fig


def rate_sweep(losses: Mapping[str, Mapping[float, float]], level: float, level_label: str) -> Figure:
    """Draw the loss that each learning rate ends with, one line per network; a cross at the top where it diverged.

    Args:
        losses: network -> learning rate -> loss, nan where the run diverged; at most four.
        level: the loss of a guess. Anything above 1.15 times that is drawn at the top as well.
    """
    styles = (("o-", BLUE), ("s--", ORANGE), ("D-.", GREEN), ("^:", PINK))
    if len(losses) > len(styles):
        raise CourseError(f"rate_sweep got {len(losses)} networks; give at most {len(styles)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 3.4))
    top = 1.15 * level
    for position, ((network, ends), (style, colour)) in enumerate(zip(losses.items(), styles, strict=False)):
        rates = sorted(ends)
        kept = [rate for rate in rates if ends[rate] <= top]
        axes.plot(kept, [ends[rate] for rate in kept], style, color=colour, markersize=6, label=plain(network))
        broken = [rate for rate in rates if rate not in kept]
        height = top * (1 - 0.03 * position)
        axes.plot(broken, [height] * len(broken), "x", color=colour, markersize=9, markeredgewidth=2.5)
    axes.axhline(level, color=GREY, linewidth=1.2, linestyle=":", label=level_label)
    axes.plot([], [], "x", color="#333333", markersize=8, markeredgewidth=2, label="broke down")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="training loss at the end")
    axes.grid(axis="y")
    axes.legend()
    return fig
