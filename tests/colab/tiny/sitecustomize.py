"""Tiny budgets for a chapter's full profile, and made-up images in place of CIFAR.

Python imports a module of this name by itself when it starts. test_full_profile.py puts this folder on the path of a
chapter's kernel, so it is at work there and in every ``alexnet-course …`` that the chapter calls.

- ``cifar10`` and ``cifar100`` have their 50,000 training images, so that sizes, splits and subsets are checked as in
  earnest; of test images, all of which every run looks at, there are only some.
- A run has a few epochs of a few small batches. Its recipe keeps everything but the epochs and, of the networks that a
  chapter trains dozens of times or on large images, the width.
- A start from ImageNet is one from new weights, until there is no network any more.
- A run that asks for the CPU is left alone: it is as small in the full profile as in the quick one.
- What each of the other runs would cost in earnest is noted, a line a run, in the file that the variable
  ALEXNET_COURSE_TINY_WORK names.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from alexnet_course import build_model, layer_table, training
from alexnet_course.data import Dataset, download, sources
from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.doodles import CLASSES
from alexnet_course.data.folder import KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.records import predictions
from alexnet_course.results import verify
from alexnet_course.training import run as run_module
from alexnet_course.training import trainer

WORK = "ALEXNET_COURSE_TINY_WORK"
COUNTS = {"train": 50_000, "test": 200}
EPOCHS = 5
BATCHES, BATCH_SIZE = 4, 16
RANGE_TEST_STEPS = 20
NARROW = {name: {"width": 0.125, "hidden": 64} for name in ("vgg-style-bn", "alexnet-owt")}

real_range_test = training.lr_range_test


@cache
def made_up(spec: str, split: str) -> Dataset:
    """Images of coarse squares in colours that depend on the class, with noise: a network learns them in seconds."""
    classes = tuple(f"kind {n}" for n in range(100)) if spec == "cifar100" else CLASSES
    draw = torch.Generator().manual_seed(len(classes))
    squares = torch.randint(196, (len(classes), 3, 4, 4), dtype=torch.uint8, generator=draw)
    draw.manual_seed(COUNTS[split])
    images = torch.randint(60, (COUNTS[split], 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.arange(len(images)) % len(classes)
    for label, pattern in enumerate(squares.repeat_interleave(8, 2).repeat_interleave(8, 3)):
        images[labels == label] += pattern
    dataset = Dataset(images, labels, classes, spec)
    if spec in ("cifar10", "cifar100"):  # known as the published ones are, so that a run on these can be verified
        KNOWN_FINGERPRINTS[dataset.fingerprint] = spec
        predictions.save_predictions(predictions.LABELS / f"{dataset.fingerprint}.npy", predictions.labels_of(dataset))
    return dataset


class TinyRun(run_module.Run):
    """What ``train`` makes in place of a ``Run``."""

    def __init__(self, recipe: Recipe, *, device: str = "auto", **options: Any) -> None:
        self.work: dict[str, Any] | None = None
        if device == "cpu":
            super().__init__(recipe, device=device, **options)
            return
        narrow = dict(recipe.model_options) | NARROW.get(recipe.model, {})
        tiny = recipe.replace(epochs=min(recipe.epochs, EPOCHS), model_options=narrow)
        split.clear()
        with mock.patch.object(trainer, "BatchLoader", few_batches):  # a smaller train_size would be seen by chapters
            super().__init__(tiny, device=device, **options)
        for layer in self.model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.momentum = 0.5  # or after so few steps its running statistics are far behind the weights
        self.work = {"epochs": recipe.epochs, **split, **network_of(recipe, self.train_set)}

    def __next__(self) -> Any:
        if self.work is not None:  # some are only made, to be looked at
            note(self.work)
            self.work = None
        return super().__next__()


split: dict[str, int] = {}
"""How many images the run that was made last would train on, and validate with."""


def few_batches(dataset: Dataset, batch_size: int, *, indices: torch.Tensor, **options: Any) -> BatchLoader:
    """Of the training or validation images, some that are spread over all of them."""
    split["training" if options.get("training") else "validation"] = len(indices)
    some = torch.linspace(0, len(indices) - 1, min(len(indices), BATCHES * BATCH_SIZE)).long()
    return BatchLoader(dataset, min(batch_size, BATCH_SIZE), indices=indices[some], **options)


def tiny_range_test(recipe: Recipe, *, train_set: Dataset, steps: int, **options: Any) -> list[tuple[float, float]]:
    images = {"training": steps * recipe.batch_size, "validation": 0}
    note({"epochs": 1, **images, **network_of(recipe, train_set)})
    return real_range_test(recipe, train_set=train_set, steps=min(steps, RANGE_TEST_STEPS), **options)


def network_of(recipe: Recipe, images: Dataset) -> dict[str, Any]:
    """What a step of the recipe's own network costs."""
    channels, outputs = images.images.shape[1], recipe.outputs or len(images.classes)
    with torch.device("meta"):
        network = build_model(recipe.model, num_classes=outputs, in_channels=channels, **recipe.model_options)
    table = layer_table(network, (channels, recipe.image_size, recipe.image_size))
    sums = {key: sum(getattr(layer, key) for layer in table) for key in ("parameters", "mult_adds", "activation_bytes")}
    return {"network": recipe.model, "batch_size": recipe.batch_size, "image_bytes": images.images.nbytes, **sums}


def note(work: dict[str, Any]) -> None:
    if file := os.environ.get(WORK):
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(work) + "\n")


def unplug() -> None:
    """From now on, what has not been downloaded before cannot be had."""

    def no_network(*_: object, **__: object) -> Dataset:
        raise CourseError("There is no network in this test.")

    sources.load_cifar = sources.load_cifar10_1 = trainer.start_from_imagenet = no_network
    os.environ.pop(WORK, None)  # what comes now was noted before


published = {path.name for path in predictions.LABELS.glob("*.npy")}
predictions.LABELS = Path(os.environ["ALEXNET_COURSE_TINY_LABELS"])
for path in predictions.LABELS.glob("*.npy"):  # what another process of the chapter has made up
    if path.name not in published:
        hundred = predictions.load_predictions(path).max() >= 10
        KNOWN_FINGERPRINTS[path.stem] = "cifar100" if hundred else "cifar10"
sources.load_cifar = lambda spec, split, root: made_up(spec, split)
sources.load_cifar10_1 = lambda root: made_up("cifar10.1", "test")
download.PAUSES = ()  # before it is tried again
run_module.Run = TinyRun
training.lr_range_test = tiny_range_test
trainer.start_from_imagenet = lambda model, fetch: set()
# A run is of fewer images, and so of fewer steps, than its recipe says, which verify would notice.
verify._other_split = verify._other_rates = lambda *_: iter(())
