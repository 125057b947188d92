"""A chapter, run cell by cell in a kernel of its own, with made-up images and tiny budgets: colab/tiny says how."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from alexnet_course.notebook import PROFILE_VARIABLE
from alexnet_course.records.predictions import LABELS

BOOK = Path(__file__).resolve().parents[1] / "book"
NOBODY = "http://127.0.0.1:9"  # a proxy that is not there, so that nothing can be downloaded
# What is set for the environment of this process shall not reach the others.
LEAKS = {"ALEXNET_COURSE_PROFILE", "JUPYTER_PATH", "MPLBACKEND", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}


def tiny_environment(start: Path, scratch: Path) -> dict[str, str]:
    """Variables for a process in which the sitecustomize.py in the folder ``start`` is at work."""
    labels = scratch / "labels"
    shutil.copytree(LABELS, labels)
    return {key: value for key, value in os.environ.items() if key not in LEAKS} | {
        PROFILE_VARIABLE: "full",
        "PYTHONPATH": str(start),
        "ALEXNET_COURSE_TINY_LABELS": str(labels),
        "CUDA_VISIBLE_DEVICES": "",
        "TORCH_HOME": str(scratch / "torch"),  # where weights may be that somebody has downloaded
        "OMP_NUM_THREADS": "1",  # quicker: the batches are too small to be shared out
        "http_proxy": NOBODY,
        "https_proxy": NOBODY,
        "no_proxy": "",
    }


def failure(
    name: str, cells: Sequence[NotebookNode], python: Path, scratch: Path, start: Path, more: Mapping[str, str]
) -> str:
    """What a reader would see of the first of the ``cells`` of the chapter that fails; empty where none does."""
    # What Python says of an error in sitecustomize when it starts is easily overlooked.
    at_work = f"import sitecustomize\nassert sitecustomize.__file__.startswith({str(start)!r})"
    client = NotebookClient(
        new_notebook(),
        km=_kernel_of(python, scratch),
        timeout=600,
        resources={"metadata": {"path": str(BOOK)}},
        extra_arguments=["--log-level=ERROR"],
    )
    # By default nbclient does not end a kernel whose manager it was given, and a chapter can hold gigabytes.
    with client.setup_kernel(cleanup_kc=True, env={**tiny_environment(start, scratch), **more}):
        for cell in [new_code_cell(at_work), *cells]:
            try:
                _run(client, cell)
            except (CellControlSignal, DeadKernelError) as error:
                said = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without colours
                return f"{name} does not run in the full profile, cell {cell.id}:\n{said}"
    return ""


def _run(client: NotebookClient, cell: NotebookNode) -> None:
    if cell.source.startswith("!"):  # IPython goes on whatever became of a command
        cell.source += '\nassert _exit_code == 0, "The command failed."'
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)


def _kernel_of(python: Path, scratch: Path) -> AsyncKernelManager:
    """What starts kernels of the interpreter ``python``."""
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = scratch / "kernels" / "course" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "course", "language": "python"}), encoding="utf-8")
    specs = KernelSpecManager(kernel_dirs=[str(scratch / "kernels")])
    return AsyncKernelManager(kernel_name="course", kernel_spec_manager=specs)
