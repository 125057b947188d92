"""Accuracies side by side: years, networks, recipes, sources and mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREEN, GREY, LIGHT, ORANGE, PALETTE, PINK, WIDTH, plain
from alexnet_course.records import NOT_MEASURED

Measured = tuple[float, float, float]
"""An accuracy in per cent, then the ends of its 95 % interval."""


def error_by_year(entries: Sequence[Mapping[str, Any]], human_error: float | None = None) -> Figure:
    """Draw one bar per competition entry, in the order given.

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
        range(len(entries)), [plain(f"{e['team']} ’{e['year'] % 100:02d}") for e in entries], rotation=40, ha="right"
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


def accuracy_against_cost(networks: Mapping[str, tuple[float, float | None, Measured | None]]) -> Figure:
    """Draw the accuracy of networks against their multiply-adds for one image: published and measured.

    Args:
        networks: name -> mult-adds of one image; published accuracy in per cent, or None; measured accuracy and
            interval in per cent, or None.
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 3.8))
    for name, (cost, published, measured) in networks.items():
        millions = cost / 1e6
        axes.axvline(millions, color=LIGHT, linewidth=1.2, zorder=0)
        said = plain(name if measured or published else f"{name}: {NOT_MEASURED}")
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
    axes.set(xlabel="work for one image (million mult-adds)", ylabel="test accuracy (%)")
    axes.legend(loc="upper left", ncols=2)
    return fig


def accuracies(rows: Mapping[str, Measured | None], reference: str, xlabel: str = "test accuracy (%)") -> Figure:
    """Draw each accuracy as a dot with its interval, one line per label, and the interval of one of them as a band.

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
    for position, (label, measured) in enumerate(rows.items()):
        if measured is None:
            axes.annotate(
                NOT_MEASURED, (0.02, position), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=GREY
            )
            continue
        value, low, high = measured
        colour = BLUE if label == reference else ORANGE
        axes.errorbar(
            value, position, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3, markersize=5
        )
        axes.annotate(
            f"{value:.1f}", (high, position), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(range(len(rows)), list(map(plain, rows)))
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    axes.margins(x=0.15)
    axes.grid(axis="x")
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
        shown = plain(label if pairs else f"{label}: {NOT_MEASURED}")
        xs, ys = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        axes.plot(xs, ys, marker, markersize=6, alpha=0.75, label=shown)
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=ends, ylim=ends, aspect="equal")
    axes.grid()
    axes.legend()
    return fig


def diary(steps: Sequence[str], accuracies: Mapping[str, Sequence[Sequence[float] | None]]) -> Figure:
    """Draw `steps` from top to bottom, with the accuracies from several sources for each.

    Args:
        steps: what was done, one a row.
        accuracies: source -> for each step its accuracy in per cent, alone or with the low and the high end of its
            interval, or None where there is none; at most four sources, the first joined by a line.
    """
    styles = (("o", GREY), ("s", BLUE), ("D", ORANGE), ("^", GREEN))
    if len(accuracies) > len(styles):
        raise CourseError(f"diary got {len(accuracies)} sources; give at most {len(styles)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 0.75 * len(steps) + 1.4))
    for position, ((source, values), (marker, colour)) in enumerate(zip(accuracies.items(), styles, strict=False)):
        known = [(row + 0.16 * position, *value) for row, value in enumerate(values) if value is not None]
        rows, centres = [entry[0] for entry in known], [entry[1] for entry in known]
        if position == 0:
            axes.plot(centres, rows, color=colour, linewidth=1.2, linestyle=":")
        for row, _, *interval in known:
            if interval:
                axes.plot(interval, [row, row], color=colour, linewidth=2)
        axes.plot(
            centres, rows, marker, color=colour, markersize=7, label=plain(source if known else f"{source}: none yet")
        )
        for row, centre, *_ in known:
            axes.annotate(f"{centre:.1f}", (centre, row), xytext=(0, 6), textcoords="offset points", ha="center",
                          fontsize=9, color=colour)  # fmt: skip
    axes.set_yticks(range(len(steps)), list(map(plain, steps)))
    axes.set_ylim(len(steps) - 0.4, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x")
    fig.legend(loc="outside upper left")
    return fig


def accuracy_by_count(counts: Sequence[int], accuracies: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw accuracy against the number of training images: the mean over seeds, each seed's own, and their range.

    Args:
        counts: numbers of training images.
        accuracies: way of training -> for each count the accuracies of its runs, as fractions of 1; at most four ways.
    """
    styles = (("o-", BLUE), ("s--", ORANGE), ("D-.", GREEN), ("^:", PINK))
    if len(accuracies) > len(styles):
        raise CourseError(f"accuracy_by_count got {len(accuracies)} ways; give at most {len(styles)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 3.6))
    for position, ((way, runs), (style, colour)) in enumerate(zip(accuracies.items(), styles, strict=False)):
        percent = [100 * np.asarray(seeds, dtype=float) for seeds in runs]
        axes.plot(counts, [seeds.mean() for seeds in percent], style, color=colour, markersize=7, label=plain(way))
        axes.fill_between(
            counts, [seeds.min() for seeds in percent], [seeds.max() for seeds in percent], color=colour, alpha=0.15
        )
        for count, seeds in zip(counts, percent, strict=True):
            shifted = count * 1.04 ** (position - (len(accuracies) - 1) / 2)  # or they would hide each other
            axes.plot([shifted] * len(seeds), seeds, style[0], color=colour, markersize=3, alpha=0.7)
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="training images", ylabel="test accuracy (%)")
    axes.grid(axis="y")
    axes.legend()
    return fig


def measured_effects(rows: Sequence[Mapping[str, Any]], xlabel: str) -> Figure:
    """Draw one effect per row, in the order given: a dot at its mean, on a line from `low` to `high`.

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
        positions = [position for position, row in enumerate(rows) if row["kind"] == kind]
        chosen = [rows[position] for position in positions]
        axes.hlines(positions, [row["low"] for row in chosen], [row["high"] for row in chosen], color=colour)
        axes.plot([row["mean"] for row in chosen], positions, "o", color=colour, markersize=7, label=plain(kind))
    for position, row in enumerate(rows):
        mean = f"{row['mean']:+.1f}".replace("-", "−")
        axes.text(1.02, position, mean, transform=axes.get_yaxis_transform(), va="center", fontsize=10)
    axes.axvline(0, color=GREY, linewidth=1.2, linestyle=":")
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    low, high = min(-1.0, *(row["low"] for row in rows)), max(1.0, *(row["high"] for row in rows))
    axes.set_xlim(1.25 * low, 1.25 * high)
    ticks = [tick for tick in (-30, -10, -3, -1, 0, 1, 3, 10, 30) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [plain(row["name"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.grid(axis="x")
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig
