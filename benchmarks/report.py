"""Measure the trainer on this machine and write the benchmark report: ``python -m benchmarks.report --data SPEC``.

The measurements go into ``benchmarks/results/``, one JSON file for each machine; ``benchmarks/README.md`` and its
figure are made from all of these files. With ``--render`` nothing is measured. Leave the machine idle meanwhile.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from alexnet_course import load_dataset, plots
from alexnet_course.bench import (
    COMPILED,
    MATRIX,
    OURS,
    PLAIN,
    S0,
    TUNED,
    WAYS,
    Contender,
    bench,
    epochs_to_earn_back,
    matrix_shares,
    our_epochs,
    our_loop,
    ratios,
    spread,
)
from alexnet_course.errors import CourseError
from alexnet_course.files import write_text
from alexnet_course.recipe import Recipe
from benchmarks.command import run

HERE = Path(__file__).parent
RESULTS = HERE / "results"
MODEL = "alexnet-cifar-3x3"
BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
DATA_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


def measure(dataset: str, device: str) -> dict[str, Any]:
    """The comparison of ``alexnet-course bench``, and the rate by batch size and by data-set size."""

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    result = bench(MODEL, dataset, device=device, compile=True, ways=True, progress=progress)
    recipe = Recipe(model=MODEL, dataset=dataset, schedule="constant", lr=1e-3)
    available = len(load_dataset(dataset, "train"))
    by_batch, by_size, peaks = {}, {}, {}
    for batch in BATCH_SIZES:
        if batch <= available * 9 // 10:
            progress(f"batch size {batch}")
            with Contender(our_loop, recipe.replace(batch_size=batch), device, True) as contender:
                by_batch[str(batch)] = [contender.rate(3.0) for _ in range(4)][1:]  # the first one is a warm-up
                peaks[str(batch)] = contender.peak_bytes()
    for size in DATA_SIZES:
        if size <= available:
            progress(f"{size} images")
            with Contender(our_epochs, recipe, device, size) as contender:
                turns = 3 if size <= 10_000 else 1  # each epoch is a turn, and long ones vary little
                by_size[str(size)] = [contender.rate(3.0, warm_up=False) for _ in range(turns)]
    return {
        **result,
        "by_batch_size": by_batch,
        "peak_bytes_by_batch_size": peaks,
        "by_data_size": by_size,
        "data_size_batch": recipe.batch_size,
    }


def draw(results: list[dict[str, Any]]) -> Figure:
    """Images per second against batch size and against data-set size, with the spread of the turns."""
    plots.use_style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.4), sharey=True)
    for result in results:
        for panel, key in zip(axes, ("by_batch_size", "by_data_size"), strict=True):
            sizes = [int(size) for size in result[key]]
            middle = [statistics.median(rates) for rates in result[key].values()]
            below = [m - min(rates) for m, rates in zip(middle, result[key].values(), strict=True)]
            above = [max(rates) - m for m, rates in zip(middle, result[key].values(), strict=True)]
            panel.errorbar(sizes, middle, (below, above), marker="o", capsize=3, label=machine(result))
    for panel, label, key in zip(
        axes, ("batch size", "training images"), ("by_batch_size", "by_data_size"), strict=True
    ):
        panel.set_xscale("log")
        panel.set(xlabel=label)
        ticks = [int(size) for size in results[0][key]]
        panel.set_xticks(ticks, [f"{size:,}" for size in ticks], rotation=45, ha="right")
        panel.minorticks_off()
        panel.grid(axis="y")
    axes[0].set(ylabel="images a second", ylim=(0, None))
    axes[0].legend(loc="lower right")
    return figure


def machine(result: dict[str, Any]) -> str:
    about = result["environment"]
    return f"{about['device']}, {about['cores']} cores"


def render(results: list[dict[str, Any]]) -> str:
    """The report as Markdown."""
    about = f"""\
# Benchmark report

Made by `python -m benchmarks.report` from the files in [results](results); nothing in it was written by hand. Every
contender trains `{MODEL}` on the same images in a process of its own; they take turns of three seconds. Ratios
are those of one turn; the median is given with the smallest and the largest. A training step is counted as three
forward passes with two operations a multiply-add. `alexnet-course bench` makes the first table on your machine.

![Two panels: images a second against the batch size, and against the number of training images](speed.png)

Left: training alone, on all images. Right: whole epochs, validation included, in a recipe's default batches."""
    parts = [about]
    for result in results:
        parts += ["", *section(result)]
    return "\n".join(parts) + "\n"


def section(result: dict[str, Any]) -> list[str]:
    about, batch = result["environment"], result["batch_size"]
    names = {
        S0: "S0's loop: torchvision, PIL, `DataLoader(batch_size=32, num_workers=2)`, fp32, `.item()` every step",
        TUNED: f"the same with batches of {batch} and its best `num_workers`, {result['workers']}",
        PLAIN: f"our loop with PyTorch's own functions: batches of {batch}, {about['precision']}, channels-last, fused",
        OURS: f"**our loop as it is**: batches of {batch}, {about['precision']}",
        **{name: f"our loop{name.removeprefix(OURS)}" for name in WAYS},
        COMPILED: "our loop through `torch.compile`",
    }
    lines = [
        f"## {machine(result)}",
        "",
        f"PyTorch {about['torch']}, Python {about['python']}, {about['system']}, {about['threads']} threads; images "
        f"of {result['dataset']['name']}; package {about['package']} at commit {about['git_commit']}.",
        "",
        "| | images a second | times S0's loop | times the tuned loop | of the matrix rate |",
        "|---|---|---|---|---|",
    ]
    for name, text in names.items():
        if name in result["rates"]:
            shares = [100 * share for share in matrix_shares(result, name)]
            columns = (
                spread(result["rates"][name], "{:,.0f}"),
                spread(ratios(result, name, S0), "{:.1f}"),
                spread(ratios(result, name, TUNED), "{:.1f}"),
                spread(shares, "{:.0f}") + " %",
            )
            lines.append(f"| {text} | {' | '.join(columns)} |")
    rate = spread([value / 1e12 for value in result["rates"][MATRIX]], "{:.2f}")
    lines += ["", f"The matrix rate in {about['precision']} is {rate} TFLOP/s."]
    if COMPILED in result["rates"]:
        epochs = epochs_to_earn_back(result)
        lines.append(
            f"Compiling takes {result['first_step_seconds'][COMPILED]:.0f} s and "
            + ("is never earned back." if epochs is None else f"is earned back after {epochs:.1f} epochs.")
        )
    peaks = {size: peak for size, peak in result["peak_bytes_by_batch_size"].items() if peak is not None}
    in_words = ", ".join(f"{peak / 2**30:.2f} GiB with batches of {size}" for size, peak in peaks.items())
    lines.append(f"Peak memory on the GPU: {in_words or 'not measured, there is none'}.")
    lines += ["", "Where the time of a step goes, by PyTorch's profiler:", "", "| kind | share |", "|---|---|"]
    by_share = sorted(result["profile"].items(), key=lambda item: -item[1])
    lines += [f"| {kind} | {100 * share:.0f} % |" for kind, share in by_share if share >= 0.005]
    return lines


def load_results() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="doodles", metavar="SPEC")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--render", action="store_true", help="only write the report again")
    options = parser.parse_args()
    if not options.render:
        result = measure(options.data, options.device)
        RESULTS.mkdir(exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", machine(result).lower()).strip("-")
        write_text(RESULTS / f"{name}.json", json.dumps(result, indent=1) + "\n")
    results = load_results()
    if not results:
        raise CourseError(f"{RESULTS} has no measurements to write a report of; leave --render out to measure.")
    figure, text = draw(results), render(results)
    write_text(HERE / "README.md", text)
    figure.savefig(HERE / "speed.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(run(main, "report"))
