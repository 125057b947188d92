"""What the chapter's ten mistakes cost on CIFAR-10, as ``benchmarks/mistakes.py`` measured it.

Also three functions that make a mistake in a network before it is trained, for the chapter and for the benchmark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from alexnet_course.errors import CourseError
from alexnet_course.files import read_text
from alexnet_course.results.compare import Test, paired_over_seeds

MISTAKES_FILE = Path(__file__).with_name("mistakes.json")
KINDS = ("measuring", "training")


@dataclass(frozen=True)
class Mistake:
    """One mistake, made in one way. Accuracies are in per cent of the test images, ``wrong[i]`` beside ``right[i]``."""

    name: str
    how: str
    """What exactly was done, for example the constants or the batch size."""
    kind: str
    """``"measuring"``: the same trained weights, evaluated in two ways, so nothing was trained; ``"training"``: trained
    with and without the mistake, once per seed."""
    right: tuple[float, ...]
    wrong: tuple[float, ...]
    images: float | None = None
    """Half of the 95 % interval for other test images (``mcnemar``), where one answer per image was compared."""

    @cached_property
    def differences(self) -> list[float]:
        """Wrong minus right, in points."""
        return [wrong - right for wrong, right in zip(self.wrong, self.right, strict=True)]

    @property
    def points(self) -> float:
        """Mean of ``differences``."""
        return float(np.mean(self.differences))

    @property
    def test(self) -> Test | None:
        """The paired test over seeds; None where nothing was trained."""
        return paired_over_seeds(self.right, self.wrong) if self.kind == "training" else None

    @property
    def chance(self) -> float | None:
        """Half of the 95 % interval of ``points``: over seeds where something was trained, else over images."""
        return self.images if self.test is None else self.test.chance

    @property
    def seen(self) -> bool:
        """Whether the interval leaves out zero; without an interval, whether all differences have one sign."""
        if self.chance is not None:
            return abs(self.points) > self.chance
        return min(self.differences) > 0 or max(self.differences) < 0


@dataclass(frozen=True)
class MeasuredMistakes:
    """All rows, and how they came about; ``print`` it for the table."""

    weights: str
    """A name that ``load_pretrained`` knows."""
    accuracy: float
    """Of these weights on the test images, in per cent."""
    dataset: str
    test_fingerprint: str
    recipe: dict[str, Any]
    """What the mistakes in training were trained with, except for the seed."""
    environment: dict[str, Any]
    rows: tuple[Mistake, ...]

    def __str__(self) -> str:
        width = max(len(f"{row.name}, {row.how}") for row in self.rows)
        lines = [f"{'':{width}}  points    95 %  from"]
        for row in sorted(self.rows, key=lambda row: -abs(row.points)):
            chance = "" if row.chance is None else f"±{row.chance:.2f}"
            count = len(row.differences)
            source = f"{count} seeds" if row.test else "images" if row.images is not None else f"{count} cases"
            lines.append(f"{f'{row.name}, {row.how}':{width}}  {row.points:+6.2f}  {chance:>6}  {source}")
        return "\n".join(lines)


def load_mistakes(path: str | Path = MISTAKES_FILE) -> MeasuredMistakes:
    """The measurements that come with the package.

    Raises ``CourseError`` where the file is missing or is not one of these.

    >>> from alexnet_course.results.mistakes import load_mistakes
    >>> found = load_mistakes()
    >>> found.weights, found.dataset
    ('vgg-style-bn.small', 'cifar10')
    """
    try:
        content = json.loads(read_text(Path(path)))
        rows = []
        for row in content.pop("rows"):
            if row["kind"] not in KINDS or not row["right"] or len(row["right"]) != len(row["wrong"]):
                raise ValueError(f"the row {row['name']!r} has another kind, or unequal lists")
            rows.append(Mistake(**{**row, "right": tuple(row["right"]), "wrong": tuple(row["wrong"])}))
        return MeasuredMistakes(**content, rows=tuple(rows))
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CourseError(f"{Path(path).name} is not a file of measured mistakes ({error}); make it with "
                          "python -m benchmarks.mistakes.") from None  # fmt: skip


def relu_on_logits(network: nn.Module) -> None:
    """Apply a ReLU to the outputs of the last linear layer."""
    *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    last.register_forward_hook(lambda layer, inputs, logits: logits.relu())


def divide_alpha(network: nn.Module) -> None:
    """Divide α by the size of its window once more, in every response normalisation of PyTorch."""
    for layer in network.modules():
        if isinstance(layer, nn.LocalResponseNorm):
            layer.alpha /= layer.size


def drop_before_norms(network: nn.Module, p: float = 0.2) -> list[RemovableHandle]:
    """Apply dropout with probability ``p`` before each batch norm, in training; returns handles that remove it again.

    >>> import torch
    >>> from torch import nn
    >>> from alexnet_course.results.mistakes import drop_before_norms
    >>> network = nn.Sequential(nn.BatchNorm2d(1, affine=False, momentum=1.0))
    >>> handles = drop_before_norms(network, 0.5)
    >>> _ = network(torch.ones(1, 1, 100, 100))
    >>> bool(network[0].running_var > 0.9)  # of ones, half of them 0 and half of them 2
    True
    """
    return [
        layer.register_forward_pre_hook(lambda norm, inputs: F.dropout(inputs[0], p, norm.training))
        for layer in network.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
