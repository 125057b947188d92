"""The learning-rate range test: one short run in which the learning rate rises until the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from alexnet_course.data import Dataset
from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training.device import autocast, choose_device, resolve_precision
from alexnet_course.training.trainer import Trainer

TOO_HIGH = 4.0  # times the lowest loss so far: beyond it the test has nothing more to show


def lr_range_test(
    recipe: Recipe,
    *,
    train_set: Dataset,
    device: str = "auto",
    lowest: float = 1e-5,
    highest: float = 1.0,
    steps: int = 100,
) -> list[tuple[float, float]]:
    """Train for ``steps`` steps with a learning rate that rises geometrically from ``lowest`` to ``highest``.

    Returns a (rate, loss) pair for each step. The loss is the batch's mean cross-entropy in nats, measured before the
    update at that rate, on augmented images, with dropout and the recipe's label smoothing. The test ends early at the
    first loss above 4 times the lowest so far, which is included, or at a loss that is not finite, which is not.

    The network, initial weights, optimiser and batches are those at the start of a run of ``recipe``; the recipe's
    ``lr``, ``schedule`` and ``epochs`` are ignored. Validation and test images are not used. Raises ``CourseError``
    unless 0 < lowest < highest and steps ≥ 2. Source: Smith 2017, section 3.3, with a geometric instead of a linear
    rise.
    """
    if not 0 < lowest < highest:
        raise CourseError(f"The rates from {lowest:g} to {highest:g} do not rise; give 0 < lowest < highest.")
    if steps < 2:
        raise CourseError(f"steps = {steps} is too few for a range; give at least 2.")
    on = choose_device(device)
    trainer = Trainer(recipe, train_set, on, resolve_precision(recipe.precision, on))
    trainer.model.train()
    trainer.train_loader.size = recipe.training_size(1)
    groups = trainer.optimiser.param_groups
    shares = [group["lr"] / groups[0]["lr"] for group in groups]  # less than 1 for the groups with body_lr
    points: list[tuple[float, float]] = []
    least = math.inf
    for step, (images, labels) in zip(range(steps), _without_end(trainer.train_loader), strict=False):
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        for group, share in zip(groups, shares, strict=True):
            group["lr"] = rate * share
        with trainer.computing():
            loss = _loss(trainer, images, labels)
            value = loss.item()
            if not math.isfinite(value):
                break
            points.append((rate, value))
            if value > TOO_HIGH * least:
                break
            least = min(least, value)
            trainer.optimiser.zero_grad(set_to_none=True)
            trainer.scaler.scale(loss).backward()
            trainer.scaler.step(trainer.optimiser)
            trainer.scaler.update()
    return points


def _loss(trainer: Trainer, images: Tensor, labels: Tensor) -> Tensor:
    with autocast(trainer.device, trainer.precision):
        logits = trainer.model(images)
    return F.cross_entropy(logits.float(), labels, label_smoothing=trainer.recipe.label_smoothing)


def _without_end(loader: BatchLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch, each in a new order."""
    while True:
        yield from loader
