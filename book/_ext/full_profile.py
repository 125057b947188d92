"""The time and memory that a chapter takes in the profile ``full``, on a GPU.

If ``gpu.json`` has them, they are measured: ``python -m benchmarks.first_gpu
OUT --part times`` writes that file. Otherwise they are estimated from the
chapter's training runs: ``full_profile.json`` lists them, and is written and
tested by running the chapter with tiny budgets (tests/colab).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

RUNS, MEASURED = "full_profile.json", "gpu.json"

# Assumptions of the estimate. No T4 was available.
CARD = "T4"
PEAK = 65e12  # operations per second in fp16: NVIDIA's data sheet
PART_OF_PEAK = 8
STEP = 0.003  # seconds in which a CPU launches the kernels of a step
FORWARD_AND_BACK = 3  # cost of a step, in forward passes
STATE = 16  # bytes per weight: weight, gradient, AdamW's two averages
HALF = 2  # fp16 takes half as much as fp32


def seconds(runs: list[dict[str, Any]]) -> float:
    """The time to train ``runs`` on the T4."""
    return 2 * mult_adds(runs) / (PEAK / PART_OF_PEAK) + STEP * steps(runs)


def mult_adds(runs: list[dict[str, Any]]) -> int:
    """Multiply-adds of all training, and of validation after each epoch."""
    return sum(
        run["runs"]
        * run["epochs"]
        * (FORWARD_AND_BACK * run["training"] + run["validation"])
        * run["mult_adds"]
        for run in runs
    )


def steps(runs: list[dict[str, Any]]) -> int:
    return sum(
        run["runs"] * run["epochs"] * (run["training"] // run["batch_size"])
        for run in runs
    )


def peak_bytes(runs: list[dict[str, Any]]) -> int:
    """Memory of the largest run: images, weights and a batch's activations."""
    return max(
        run["image_bytes"]
        + STATE * run["parameters"]
        + run["batch_size"] * run["activation_bytes"] // HALF
        for run in runs
    )


def gigabytes(size: int) -> str:
    return f"up to {math.ceil(size / 1e9)} GB of its memory"


def minutes(time: float) -> str:
    """``time`` in words, with no more digits than an estimate justifies."""
    count = time / 60
    if count < 1:
        return "less than a minute"
    if count >= 100:
        return f"about {count / 60:.1f} hours"
    return f"about {count:.0f} minute{'s' if round(count) > 1 else ''}"


def cost(book: Path, page: str) -> str:
    """A sentence or two about ``page``; empty if it does not train on a GPU."""
    stored, measured = book / RUNS, book / MEASURED
    if measured.exists():
        found = json.loads(measured.read_text(encoding="utf-8"))
        if page in found["chapters"]:
            took = found["chapters"][page]
            return (
                f"All cells together, with CIFAR-10: "
                f"{minutes(took['seconds'])} and "
                f"{gigabytes(took['peak_bytes'])}, measured on "
                f"{found['device']} with PyTorch {found['torch']}."
            )
    if not stored.exists():
        return ""
    runs = json.loads(stored.read_text(encoding="utf-8")).get(page)
    if not runs:
        return ""
    trillions = f"{mult_adds(runs) / 1e12:,.0f}"
    return (
        f"Training on CIFAR-10 takes {minutes(seconds(runs))} on Colab's "
        f"{CARD}, and {gigabytes(peak_bytes(runs))}. This is "
        f"estimated, not measured: {trillions} trillion multiply-adds at "
        f"1/{PART_OF_PEAK} of the GPU's peak, and {steps(runs):,} training "
        f"steps, each of which takes {1000 * STEP:.0f} ms to launch."
    )
