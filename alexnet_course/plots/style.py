"""What all figures of the course have in common: colours, width, markers and type."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.rcsetup import cycler

from alexnet_course.errors import CourseError

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and by lightness in grey print.
BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#767676",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY)
LIGHT = "#dddddd"  # the ground on which the palette is drawn
WIDTH = 5.4  # inches: on a phone, at 330 pixels, 11 point type is still 9 pixels high
MOST = 4  # series in one figure; more cannot be told apart
# Marker and colour of each series.
STYLES = (("o", BLUE), ("s", ORANGE), ("D", GREEN), ("^", PINK))


def use_style(dpi: int = 150) -> None:
    """Set the look that all figures of the course share; called once at the top of a chapter.

    The palette is safe for the colour-blind, the ground white, so that figures stay readable in the book's dark mode,
    and the type large enough for a phone. With a smaller ``dpi``, a chapter of many figures stays a small file.
    """
    plt.rcParams.update(
        {
            "figure.figsize": (6.0, 3.6),
            "figure.dpi": dpi,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.facecolor": "white",
            "axes.prop_cycle": cycler(color=PALETTE),
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


def plain(text: str) -> str:
    """``text`` as a figure shows it, letter for letter: matplotlib reads text between two dollars as a formula."""
    return named(text.replace("$", r"\$"))


def named(label: str) -> str:
    """``label`` for a legend, where matplotlib leaves out whatever begins with an underscore."""
    return f"\u200b{label}" if label.startswith("_") else label


def at_most_four(function: str, series: Mapping[str, Any]) -> None:
    """Raise `CourseError` in the name of `function` where there are more series than styles."""
    if len(series) > MOST:
        raise CourseError(f"{function} got {len(series)} labels; give at most {MOST}.")
