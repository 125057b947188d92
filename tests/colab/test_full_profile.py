"""Every chapter that asks for its profile is run in the full one, so that the code behind it cannot rot.

With made-up pictures, tiny budgets and no network: tiny/sitecustomize.py says how. All cells of such a chapter are run,
exercises included; what they print and draw is not looked at. A chapter that never asks for its profile (02-shapes,
05-results, trainer) is the same in both, and nbval runs it. A reader who has a GPU mostly has it on Colab, so this is
done with the older of the versions that stand for Colab's, where they can be had.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from environments import BOOK, CHAPTERS, LEAKS, WITH_PROFILES, code_cells
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from alexnet_course.notebook import PROFILE_VARIABLE
from alexnet_course.records.predictions import LABELS

TINY = Path(__file__).resolve().parent / "tiny"
NOBODY = "http://127.0.0.1:9"  # a proxy that is not there, so that nothing can be downloaded
# What Python says of an error in sitecustomize when it starts is easily overlooked.
AT_WORK = f"import sitecustomize\nassert sitecustomize.__file__.startswith({str(TINY)!r})"


def does_without_a_download(cell: NotebookNode) -> bool:
    return all(part in cell.source for part in ("try:", "load_dataset(", "except CourseError"))


def run(client: NotebookClient, cell: NotebookNode) -> None:
    if cell.source.startswith("!"):  # IPython goes on whatever became of a command
        cell.source += '\nassert _exit_code == 0, "The command failed."'
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)


def kernel_of(python: Path, scratch: Path) -> AsyncKernelManager:
    """What starts kernels of the interpreter ``python``."""
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = scratch / "kernels" / "course" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "course", "language": "python"}), encoding="utf-8")
    specs = KernelSpecManager(kernel_dirs=[str(scratch / "kernels")])
    return AsyncKernelManager(kernel_name="course", kernel_spec_manager=specs)


def failure(chapter: str, python: Path, scratch: Path) -> str:
    """What a reader would see of the first cell that fails; empty where none does.

    From the first cell that can do without a download, the chapter is run once more without one.
    """
    labels = scratch / "labels"
    shutil.copytree(LABELS, labels)
    environment = {key: value for key, value in os.environ.items() if key not in LEAKS} | {
        PROFILE_VARIABLE: "full",
        "PYTHONPATH": str(TINY),
        "ALEXNET_COURSE_TINY_LABELS": str(labels),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",  # quicker: the batches are too small to be shared out
        "http_proxy": NOBODY,
        "https_proxy": NOBODY,
        "no_proxy": "",
    }
    cells = code_cells(chapter)
    again = next((index for index, cell in enumerate(cells) if does_without_a_download(cell)), len(cells))
    to_run = [new_code_cell(AT_WORK), *cells]
    if again < len(cells):
        to_run += [new_code_cell("sitecustomize.unplug()"), *code_cells(chapter)[again:]]
    client = NotebookClient(
        new_notebook(),
        km=kernel_of(python, scratch),
        timeout=600,
        resources={"metadata": {"path": str(BOOK)}},
        extra_arguments=["--log-level=ERROR"],
    )
    with client.setup_kernel(env=environment):
        for cell in to_run:
            try:
                run(client, cell)
            except (CellControlSignal, DeadKernelError) as error:
                said = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without colours
                return f"{chapter} does not run in the full profile, cell {cell.id}:\n{said}"
    return ""


@pytest.fixture(scope="module")
def failures(
    request: pytest.FixtureRequest, oldest_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """Of each chapter that was asked for; two are run at a time."""
    asked_for = [item.callspec.params["chapter"] for item in request.session.items if item.path == Path(__file__)
                 and hasattr(item, "callspec")]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(failure, name, oldest_python, tmp_path_factory.mktemp(name)) for name in asked_for}


@pytest.mark.parametrize("chapter", WITH_PROFILES)
def test_runs_in_the_full_profile(chapter: str, failures: dict[str, Future[str]]) -> None:
    said = failures[chapter].result()
    if said:
        pytest.fail(said, pytrace=False)


def test_chapters_that_differ_are_among_them() -> None:
    """Whatever way a chapter asks for its profile or for CIFAR."""
    assert len(WITH_PROFILES) >= 5
    for name in set(CHAPTERS) - set(WITH_PROFILES):
        text = "".join(cell.source for cell in code_cells(name))
        assert not re.search(r"profile\(|load_dataset\(\"cifar", text), name
