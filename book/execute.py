"""Run every chapter in place, and make what the front page shows: the timings and the picture. ``make execute``

Of a chapter, outputs and execution counts are stored and nothing else that changes from run to run, so that a
difference in git is a difference in a result.
"""

import csv
import os
import platform
import time
from pathlib import Path

import nbformat
import torch
from nbconvert.preprocessors import ExecutePreprocessor

from alexnet_course import build_model, layer_table, load_dataset, plots
from alexnet_course.models import MODELS

BOOK = Path(__file__).resolve().parent
PICTURE = BOOK / "alexnet.png"
TIMINGS = BOOK / "timings.csv"
CHAPTER, HERE, COLAB = COLUMNS = ("Chapter", "On your computer", "On Colab")
MACHINE = "measured on"  # the last row


def run_notebook(path: Path) -> float:
    """Execute the notebook at ``path``, store its outputs there, return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    executor = ExecutePreprocessor(
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # what a cell prints is one block, however the kernel cut it up
        extra_arguments=["--log-level=ERROR"],  # no warning about the connection to the kernel, on this machine
    )
    executor.preprocess(notebook, {"metadata": {"path": BOOK}})
    seconds = time.perf_counter() - start
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    return seconds


def machine() -> str:
    """The computer in words."""
    if torch.cuda.is_available():
        processor = torch.cuda.get_device_name()
    else:
        cpu_info = Path("/proc/cpuinfo")
        lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, no GPU"
    return f"{processor}; PyTorch {torch.__version__.partition('+')[0]}"


def write_timings(rows: dict[str, str]) -> None:
    """Put ``rows`` (chapter: time) into this computer's column of timings.csv; the other column is kept."""
    here, other = (COLAB, HERE) if "COLAB_RELEASE_TAG" in os.environ else (HERE, COLAB)
    kept: dict[str, str] = {}
    if TIMINGS.exists():
        with TIMINGS.open(encoding="utf-8", newline="") as file:
            kept = {row[CHAPTER]: row[other] for row in csv.DictReader(file)}
    with TIMINGS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for chapter, text in rows.items():
            writer.writerow({CHAPTER: chapter, here: text, other: kept.get(chapter, "not measured")})


def draw_picture() -> None:
    """Draw ``alexnet-cifar-3x3`` with the first ship of the doodles as its input."""
    plots.use_style()
    doodles = load_dataset("doodles", "test")
    ship = doodles.images[doodles.labels == doodles.classes.index("ship")][0]
    layers = layer_table(build_model("alexnet-cifar-3x3"), MODELS["alexnet-cifar-3x3"].input_size)
    shapes = [layer.output_shape for layer in layers if layer.parameters]
    plots.network_drawing(ship.numpy(), shapes).savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    rows = {}
    for path in sorted(BOOK.glob("*.ipynb")):
        minutes, seconds = divmod(round(run_notebook(path)), 60)
        took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        print(f"{path.name}: {took}", flush=True)
        rows[f"{{doc}}`{path.stem}`"] = took
    write_timings(rows | {MACHINE: machine()})
    draw_picture()
