"""A computer in training: the tensors that it makes, and the time that its parts take."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREY, ORANGE, PALETTE, WIDTH


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
    """Draw how the CPU and the GPU share the time of a few training steps, with and without waiting.

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
