"""Accuracy, counted picture by picture, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.dataset import Dataset
from alexnet_course.shapes import evaluating
from alexnet_course.training.device import autocast


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of a data set. Loss is the mean cross-entropy in nats, accuracies are fractions of 1."""

    loss: float
    accuracy: float
    per_class: dict[str, float]
    confusion: list[list[int]]  # rows: the true class; columns: the predicted one
    predictions: Tensor = field(compare=False, repr=False)  # int64, of shape N, the class of each picture in turn

    @property
    def count(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy for pictures like these."""
        return wilson_interval(sum(row[i] for i, row in enumerate(self.confusion)), self.count)


def wilson_interval(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for ``correct`` successes out of ``count``; 95 % with the default ``z``.

    >>> from alexnet_course.training import wilson_interval
    >>> low, high = wilson_interval(8000, 10_000)
    >>> f"{low:.2%} to {high:.2%}"
    '79.20% to 80.77%'
    """
    share = correct / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low, high = (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)
    return low if correct > 0 else 0.0, high if correct < count else 1.0  # exact there, whatever the rounding


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    input_size: int | None = None,
    batch_size: int = 500,
    precision: str = "fp32",
) -> Evaluation:
    """Evaluate ``model``, on the device where it is, on every picture of ``dataset`` once, in ``eval()`` mode.

    ``mean`` and ``std`` are the normalisation constants of the pictures that the model was *trained* on
    (``run.mean``, ``run.std``). Correct predictions are counted, so a short last batch does not skew the result. The
    model is left in the mode it was in.

    >>> from alexnet_course import evaluate, load_dataset, load_pretrained
    >>> model, record = load_pretrained("vgg-style-bn.small")
    >>> doodles = load_dataset("doodles", "test").subset(range(100))
    >>> result = evaluate(model, doodles, mean=record["dataset"]["mean"], std=record["dataset"]["std"])
    >>> result.count, len(result.per_class)
    (100, 10)
    """
    device = next(model.parameters()).device
    loader = BatchLoader(dataset, batch_size, mean=mean, std=std, size=input_size, device=device)
    return evaluate_batches(model, loader, dataset.classes, precision)


@torch.no_grad()
def evaluate_batches(
    model: nn.Module,
    loader: BatchLoader,
    classes: Sequence[str],
    precision: str,
    on_batch: Callable[[], object] | None = None,
) -> Evaluation:
    """``evaluate`` for a loader that is already on the device; one transfer back, at the end.

    ``on_batch`` is called after each batch.
    """
    device = loader.labels.device
    loss = torch.zeros((), device=device, dtype=torch.float64 if device.type != "mps" else torch.float32)
    truths: list[Tensor] = []
    guesses: list[Tensor] = []
    with evaluating(model):
        for images, labels in loader:
            with autocast(device, precision):
                logits = model(images)
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            truths.append(labels)
            guesses.append(logits[:, : len(classes)].argmax(1))  # where there are more outputs than classes, as S3 had
            if on_batch is not None:
                on_batch()
    predictions = torch.cat(guesses)
    pairs = torch.cat(truths) * len(classes) + predictions
    counts = torch.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), -1).cpu()
    correct, totals = counts.diagonal(), counts.sum(1)
    return Evaluation(
        loss=loss.item() / int(totals.sum()),
        accuracy=int(correct.sum()) / int(totals.sum()),
        per_class={name: int(correct[i]) / max(1, int(totals[i])) for i, name in enumerate(classes)},
        confusion=counts.tolist(),
        predictions=predictions.cpu(),
    )
