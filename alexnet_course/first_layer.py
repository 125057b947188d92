"""Kernels of the first layer, what training made of them, and how colourful they are.

Most trained networks of the course do not come with the package. Of some it has the first layer alone, in fp16, in
``weights/RUN.conv1.npy``; RUN names the run's record. The files were made of the folders of finished runs with
``python -m benchmarks.weights --first-layer FOLDER``, which you can do with a run of your own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from alexnet_course.errors import CourseError, nearest
from alexnet_course.pretrained import FOLDER
from alexnet_course.training.finished import load_run

ENDING = ".conv1.npy"


def first_convolution(model: nn.Module) -> nn.Conv2d:
    """The network's first convolution. Raises ``CourseError`` where it has none."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module
    raise CourseError(f"{type(model).__name__} has no convolution, so it has no kernels to keep; give one that has.")


def keep_first_layer(run: str | Path, folder: str | Path = FOLDER) -> Path:
    """Store the first kernels of the finished run in the folder ``run``, in fp16; returns the file's path."""
    model, record = load_run(run)
    path = Path(folder) / f"{record.recipe.run_name}{ENDING}"
    np.save(path, first_convolution(model).weight.detach().half().cpu().numpy())
    return path


def load_first_layer(run: str, folder: str | Path = FOLDER) -> Tensor:
    """Kernels of the first layer of a trained network, as they were stored: N×C×k×k, float32.

    ``run`` is the name of a record. Works offline. Raises ``CourseError`` for a run whose kernels are not there.

    >>> from alexnet_course.first_layer import load_first_layer
    >>> load_first_layer("ablation.cnn4.two-towers-seed0").shape
    torch.Size([32, 3, 5, 5])
    """
    known = sorted(path.name.removesuffix(ENDING) for path in Path(folder).glob(f"*{ENDING}"))
    if run not in known:
        raise CourseError(f"There are no kernels of a run {run!r}; nearest: {nearest(run, known)}.")
    return torch.from_numpy(np.load(Path(folder) / f"{run}{ENDING}")).float()


def learned(kernels: Tensor, start: Tensor) -> Tensor:
    """What training added to ``start``: the part of ``kernels`` that is no multiple of it, N×C×k×k.

    Weight decay shrinks all initial weights alike, so the multiple is that of least squares over all kernels.
    """
    if kernels.shape != start.shape:
        raise CourseError(f"The kernels are {tuple(kernels.shape)} and the start is {tuple(start.shape)}; give the "
                          "same layer before and after training.")  # fmt: skip
    return kernels - start * (kernels * start).sum() / start.square().sum()


def colourfulness(kernels: Tensor) -> Tensor:
    """The share of each kernel's energy that is off the grey axis: 0 for a grey kernel, 1 for one without grey.

    ``kernels`` are N×3×k×k, energy is the sum of squares, and what is grey is the mean of red, green and blue at each
    position. Independent random weights have 2/3 on average, since two of three directions are colours.
    """
    if kernels.dim() != 4 or kernels.shape[1] != 3:
        raise CourseError("Colourfulness is that of N×3×k×k kernels of red, green and blue, not of "
                          f"{tuple(kernels.shape)}; give the first layer of a network for colour images.")  # fmt: skip
    grey = 3 * kernels.mean(dim=1).square().sum(dim=(1, 2))
    return 1 - grey / kernels.square().sum(dim=(1, 2, 3))
