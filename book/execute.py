"""Run every chapter in place, for ``make execute``.

Also updates the timings and the image of the front page. Only a chapter's
outputs and execution counts are stored, and nothing else that changes from run
to run, so that a difference in git is a difference in a result.
"""

import base64
import csv
import io
import os
import time
from pathlib import Path

import nbformat
import torch
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image, ImageChops

from alexnet_course import build_model, layer_table, load_dataset, plots
from alexnet_course.models import MODELS
from alexnet_course.training.device import choose_device, device_name

BOOK = Path(__file__).resolve().parent
IMAGE = BOOK / "alexnet.png"
TIMINGS = BOOK / "timings.csv"
CHAPTER, HERE, COLAB = COLUMNS = ("Chapter", "On your computer", "On Colab")
MACHINE = "measured on"  # the last row


def few_colours(image: Image.Image) -> Image.Image:
    """The image with a palette of 256 colours, if that looks the same.

    It does for diagrams, whose many colours are the soft edges of lines and
    letters. It does not for photographs, which come back as they are.
    """
    if image.mode != "RGB" or image.getcolors(2000) is None:
        return image
    palette = image.quantize(
        256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    off = ImageChops.difference(image, palette.convert("RGB"))
    visible = off.convert("L").point(lambda value: 255 * (value > 24))
    seen = visible.histogram()[255] / (image.width * image.height)
    return palette if seen < 1e-3 else image


def smaller(png: str) -> str:
    """The image ``png`` in base64, to the eye the same, in fewer bytes.

    Matplotlib stores how opaque each pixel is, although all of them are, and
    three bytes per pixel where a palette needs one; and it compresses in a
    hurry.
    """
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        if (
            image.mode == "RGBA"
            and image.getchannel("A").getextrema()[0] == 255
        ):
            kept = image.convert("RGB")
        else:
            kept = image.copy()
        stored = io.BytesIO()
        few_colours(kept).save(
            stored, "png", optimize=True, dpi=image.info.get("dpi")
        )
    return base64.b64encode(stored.getvalue()).decode()


def store_smaller_images(notebook: nbformat.NotebookNode) -> None:
    """Change the images of all outputs of ``notebook`` in place."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])


def run_notebook(path: Path) -> float:
    """Execute the notebook at ``path``, store its outputs, return seconds."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    executor = ExecutePreprocessor(
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        # What a cell prints is one block, however the kernel cut it up.
        coalesce_streams=True,
        # No warning about the connection to the kernel, which is local.
        extra_arguments=["--log-level=ERROR"],
    )
    executor.preprocess(notebook, {"metadata": {"path": BOOK}})
    seconds = time.perf_counter() - start
    store_smaller_images(notebook)
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        # Of IPython, which knows commands that begin with ! or %.
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    nbformat.write(notebook, path)
    return seconds


def machine() -> str:
    """A description of the computer."""
    version = torch.__version__.partition("+")[0]
    name = device_name(choose_device())
    return f"{name}, {os.cpu_count()} cores; PyTorch {version}"


def write_timings(rows: dict[str, str]) -> None:
    """Write ``rows`` (chapter: time) to this computer's column of timings.csv.

    The other column is kept.
    """
    here, other = (
        (COLAB, HERE) if "COLAB_RELEASE_TAG" in os.environ else (HERE, COLAB)
    )
    kept: dict[str, str] = {}
    if TIMINGS.exists():
        with TIMINGS.open(encoding="utf-8", newline="") as file:
            kept = {row[CHAPTER]: row[other] for row in csv.DictReader(file)}
    with TIMINGS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for chapter, text in rows.items():
            writer.writerow(
                {
                    CHAPTER: chapter,
                    here: text,
                    other: kept.get(chapter, "not measured"),
                }
            )


def draw_image() -> None:
    """Draw ``alexnet-cifar-3x3`` with the first doodle of a ship as input."""
    plots.use_style()
    doodles = load_dataset("doodles", "test")
    ship = doodles.images[doodles.labels == doodles.classes.index("ship")][0]
    layers = layer_table(
        build_model("alexnet-cifar-3x3"), MODELS["alexnet-cifar-3x3"].input_size
    )
    shapes = [layer.output_shape for layer in layers if layer.parameters]
    plots.network_drawing(ship.numpy(), shapes).savefig(
        IMAGE, metadata={"Software": None}
    )


if __name__ == "__main__":
    rows = {}
    for path in sorted(BOOK.glob("*.ipynb")):
        minutes, seconds = divmod(round(run_notebook(path)), 60)
        took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        print(f"{path.name}: {took}", flush=True)
        rows[f"{{doc}}`{path.stem}`"] = took
    write_timings(rows | {MACHINE: machine()})
    draw_image()
