"""Evaluation: accuracy, counted image by image, with its confidence interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.dataset import Dataset
from alexnet_course.records.interval import wilson_interval as wilson_interval
from alexnet_course.shapes import evaluating
from alexnet_course.training.device import autocast, fp32_in_full
from alexnet_course.training.kernels import right_functions
from alexnet_course.training.parallel import ALONE, Group


@dataclass(frozen=True)
class Evaluation:
    """A network's results on a data set. Loss is the mean cross-entropy in nats; accuracies are fractions of 1."""

    loss: float
    accuracy: float
    per_class: dict[str, float]
    confusion: list[list[int]]  # rows: the true class; columns: the predicted one
    predictions: Tensor = field(compare=False, repr=False)  # int64, of shape N, the class of each image in order

    @property
    def count(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy, over images like these."""
        return wilson_interval(sum(row[i] for i, row in enumerate(self.confusion)), self.count)


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    input_size: int | None = None,
    cut: bool = False,
    side: int | None = None,
    batch_size: int = 500,
    precision: str = "fp32",
) -> Evaluation:
    """Evaluate ``model``, on its own device and in ``eval()`` mode, once on every image of ``dataset``.

    ``mean`` and ``std`` are the normalisation constants of the images that the model was *trained* on
    (``run.mean``, ``run.std``). Images are resized to ``input_size`` or, with ``cut``, cropped to it at their centre if
    they are larger. With ``side``, the side in pixels of the training images, other images are first resized to that.
    Correct predictions are counted, so a short last batch does not skew the result. The model's mode is restored
    afterwards.

    >>> from alexnet_course import evaluate, load_dataset, load_pretrained
    >>> model, record = load_pretrained("vgg-style-bn.small")
    >>> doodles = load_dataset("doodles", "test").subset(range(100))
    >>> result = evaluate(model, doodles, mean=record.dataset.mean, std=record.dataset.std)
    >>> result.count, len(result.per_class)
    (100, 10)
    """
    device = next(model.parameters()).device
    loader = BatchLoader(dataset, batch_size, mean=mean, std=std, size=input_size, cut=cut, side=side, device=device)
    with fp32_in_full(device):
        return evaluate_batches(model, loader, dataset.classes, precision)


@torch.no_grad()
def evaluate_batches(
    model: nn.Module,
    loader: BatchLoader,
    classes: Sequence[str],
    precision: str,
    on_batch: Callable[[], object] | None = None,
    group: Group = ALONE,
) -> Evaluation:
    """``evaluate`` for a loader that is already on the device; results are copied back once, at the end.

    ``on_batch`` is called after each batch. Each process of a ``group`` evaluates a part of each batch, and all get the
    overall result.
    """
    device = loader.labels.device
    loss = torch.zeros((), device=device, dtype=torch.float64 if device.type != "mps" else torch.float32)
    truths: list[Tensor] = []
    guesses: list[Tensor] = []

    def look() -> None:
        with evaluating(model):
            for images, labels in loader:
                truths.append(labels)
                guesses.append(torch.zeros_like(labels, dtype=torch.int64))
                mine, theirs, into = group.part(images), group.part(labels), group.part(guesses[-1])
                if len(mine):  # a small last batch may have no images for this process
                    with autocast(device, precision), right_functions(device, precision):
                        logits = model(mine)
                    loss.add_(F.cross_entropy(logits.float(), theirs, reduction="sum"))
                    into.copy_(logits[:, : len(classes)].argmax(1))  # there may be more outputs than classes, as in S3
                if on_batch is not None:
                    on_batch()

    group.together(look)
    loss, predictions = group.total(loss), group.total(torch.cat(guesses))
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
