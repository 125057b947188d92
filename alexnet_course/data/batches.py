"""The batch loader: the whole data set stays on the device as uint8, and batches are taken from it there.

A data set that does not fit stays where it is, and each batch is read ahead (``Ahead``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_course.data.augment import Augmentation, Changes, mixed
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.streaming import Ahead
from alexnet_course.errors import CourseError
from alexnet_course.shapes import memory_format

AT_ONCE = 2**30  # bytes of images prepared at once; CIFAR's training images in half precision take a quarter of it


class BatchLoader:
    """Batches of normalised images (float32, N×C×H×W, mostly channels-last) and labels, made on ``device``.

    The images of ``dataset`` at ``indices`` are used, or all. Images that are already on the device are not
    copied, so the loaders of two parts of a data set share its memory. ``mean`` and ``std`` are the C normalisation
    constants of the *training* images on the 0..1 scale. Images of another size are resized to ``size × size`` (S1
    gives 32-pixel images to a 224-pixel network in this way); with ``cut``, larger ones are cropped to it instead: at
    random with an ``augmentation``, at the centre without (paper, section 4.1). With ``side``, the side in pixels of
    the training images, others are first resized to that, so that the network sees them at the scale it learned. With
    ``training`` the order is shuffled and a short last batch is left out, so that all steps of an epoch count alike;
    without it, every image comes once and in order. ``augmentation`` is for training images; S0 used it on test images,
    too. The principal colours that it may need are those of the images themselves, or of the training images in the
    loader ``fitted_to``.

    With ``at_once`` the batches of a whole epoch, or as many as fit into ``AT_ONCE`` bytes, are prepared together and
    kept in that format. That saves a GPU most of its kernel launches.

    With ``mix`` (``"mixup"``, ``"cutmix"``) the images of a batch are combined, and the labels are the shares of the
    classes: N×classes, or N×``outputs`` for a network with more outputs. ``size`` may change between epochs.

    ``state`` is the position inside an epoch. After ``resume``, a loader with the same images and settings continues
    from there with the next batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        indices: Tensor | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        size: int | None = None,
        cut: bool = False,
        side: int | None = None,
        device: torch.device | str = "cpu",
        training: bool = False,
        augmentation: Augmentation | None = None,
        fitted_to: BatchLoader | None = None,
        generator: torch.Generator | None = None,
        at_once: torch.dtype | None = None,
        mix: str = "none",
        outputs: int = 0,
    ) -> None:
        dataset = dataset.to(device)
        self.images, self.labels = dataset.images, dataset.labels
        on_gpu = torch.device(device).type == "cuda"
        away = dataset.streamed or (on_gpu and self.images.device.type == "cpu")
        self._ahead = Ahead(self.images, pinned=on_gpu) if away else None
        self.indices = (torch.arange(len(dataset)) if indices is None else indices).to(device)
        if not len(self.indices):
            raise CourseError(f"{dataset.name!r} has no images to make batches of; give some.")
        self.batch_size = min(batch_size, len(self.indices))
        self.size = size
        self.training = training
        self.generator = generator
        if not all(value > 0 for value in std):
            raise CourseError(f"std = {tuple(std)} would divide by a number that is not above 0; give 1 for a "
                              "constant channel.")  # fmt: skip
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]
        self.std = torch.tensor(std, dtype=torch.float32, device=device)[:, None, None]
        self.side = side
        shortest = min(self.images.shape[2:]) if side is None else side
        self.cut = size if cut and size is not None and shortest >= size else 0
        changes = Augmentation() if augmentation is None else replace(augmentation, cut=self.cut)
        colours_of = self if fitted_to is None else fitted_to
        self.changes = Changes(changes, colours_of.images, colours_of.indices)
        self._mirrored: Tensor | None = None  # alternate: whether each image is mirrored in the odd epochs
        if changes.flip and changes.alternate:
            self._mirrored = torch.rand(len(dataset), device=self.indices.device, generator=generator) < 0.5
        self._epoch = 0
        self.mix, self.classes = mix, outputs or len(dataset.classes)
        self.at_once = at_once
        self._made: tuple[int, Tensor] | None = None  # at_once: number of the first batch, and the images
        self._before: Tensor | None = None  # the generator's state before it drew for these
        self._order = self.indices  # of the current epoch
        self._order_here: tuple[Tensor, Tensor] | None = None  # the same, and its copy on the CPU
        self._step = 0  # batches of it that are finished
        self._seeds: list[int] = []  # one a batch, for changes that need one
        self._resumed = False

    def __len__(self) -> int:
        """Batches an epoch."""
        if self.training:
            return len(self.indices) // self.batch_size
        return -(-len(self.indices) // self.batch_size)

    @property
    def images_per_epoch(self) -> int:
        return len(self) * self.batch_size if self.training else len(self.indices)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._made = None
        if not self._resumed:
            self._order, self._step = self.indices, 0
            self._epoch += 1
            if self.training:
                shuffled = torch.randperm(len(self.indices), device=self.indices.device, generator=self.generator)
                self._order = self.indices[shuffled]
            if self.changes.seeded or self.mix != "none":
                drawn = torch.randint(2**62, (len(self),), device=self.indices.device, generator=self.generator)
                self._seeds = drawn.tolist()
        self._resumed = False
        while self._step < len(self):
            self._step += 1  # first, so that a state taken while the batch is in use counts it
            yield self.batch(self._step - 1)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch number ``step`` (from 0) of the current epoch. Augmented batches get new random numbers, unless
        they were prepared ``at_once`` and are still there."""
        images, labels = self._images(step), self.labels[self._chosen(self._order, step)]
        if self.mix == "none":
            return images, labels
        return mixed(images, labels, self.mix, self.classes, self._seeds[step])

    def _images(self, step: int) -> Tensor:
        """The images of batch number ``step``."""
        if self.at_once is None:
            return self._prepared(step)
        first = step // self._together * self._together
        if self._made is None or self._made[0] != first:
            self._made = None  # frees the memory for the next ones
            self._before = self._random()
            self._made = first, self._prepared(first, self._together).to(self.at_once)
        start = (step - first) * self.batch_size
        return self._made[1][start : start + self.batch_size]

    @property
    def _together(self) -> int:
        """How many batches are prepared at once."""
        side = [self.size, self.size] if self.size is not None else list(self.images.shape[2:])
        assert self.at_once is not None
        bytes_of_one = self.batch_size * self.images.shape[1] * side[0] * side[1] * self.at_once.itemsize
        return min(len(self), max(1, AT_ONCE // bytes_of_one))

    def _prepared(self, first: int, count: int = 1) -> Tensor:
        """The images of ``count`` batches from number ``first`` on, or fewer at the end of the epoch."""
        count = min(count, len(self) - first)
        pixels = self._pixels(first, count)
        if self._mirrored is not None:
            mirrored = self._mirrored[self._chosen(self._order, first, count)] ^ (self._epoch % 2 == 0)
            pixels = torch.where(mirrored.to(pixels.device)[:, None, None, None], pixels.flip(3), pixels)
        return self.prepare(pixels, self._seeds[first] if self._seeds else None)

    def _chosen(self, order: Tensor, first: int, count: int = 1) -> Tensor:
        return order[first * self.batch_size : (first + count) * self.batch_size]

    def _pixels(self, first: int, count: int) -> Tensor:
        if self._ahead is None:
            return self.images[self._chosen(self._order, first, count)]
        if self._order_here is None or self._order_here[0] is not self._order:
            self._order_here = self._order, self._order.cpu()  # once an epoch, because it waits for the GPU
        order, then = self._order_here[1], first + count
        following = self._chosen(order, then, min(count, len(self) - then)) if then < len(self) else order[:0]
        return self._ahead.read(self._chosen(order, first, count), following)

    def _random(self) -> Tensor | None:
        return self.generator.get_state() if self.generator is not None else None

    def state(self) -> dict[str, Any]:
        """Order of the current epoch, its finished batches, and the state of the random generator."""
        random = self._random()
        if self._made is not None and self._step % self._together and self._step < len(self):
            random = self._before  # the next batches will be prepared again and must be the same
        return {
            "order": self._order.cpu(),
            "step": self._step,
            "random": random,
            "seeds": self._seeds,
            "epoch": self._epoch,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Make the next epoch the rest of the one in which ``state`` was taken."""
        self._order, self._step = state["order"].to(self.indices.device), state["step"]
        self._seeds, self._epoch = state.get("seeds", []), state.get("epoch", 0)
        if self.generator is not None:
            set_or_seed(self.generator, state["random"])
        self._resumed = self._step > 0

    def rewind(self) -> None:
        """End the current epoch: a state taken from now on is that of a new one."""
        self._step = 0
        self._made = None

    def prepare(self, images: Tensor, seed: int | None = None) -> Tensor:
        """uint8 images → the network's input. ``seed`` is for changes that are ``seeded``; without it they draw one."""
        images = images.to(self.mean.device, non_blocking=True)
        if self.side is not None and images.shape[2:] != (self.side, self.side):
            images = _resized(images.float(), self.side).round().to(torch.uint8)
        images = self.changes.at("pixels", images, self.generator, seed)
        if self.cut:
            images = centre(images, self.cut)
        pixels = images.to(memory_format=memory_format(images.device)).float() / 255
        pixels = self.changes.at("colours", pixels, self.generator, seed)
        pixels = (pixels - self.mean) / self.std
        pixels = self.changes.at("normalised", pixels, self.generator, seed)
        if self.size is not None and pixels.shape[2:] != (self.size, self.size):
            pixels = _resized(pixels, self.size)
        return pixels


def _resized(images: Tensor, side: int) -> Tensor:
    """N×C×H×W floating-point images as squares of ``side`` pixels."""
    smaller = side < max(images.shape[2:])  # only then antialiasing matters
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=smaller)


def centre(images: Tensor, size: int) -> Tensor:
    """The ``size × size`` pixels in the middle of N×C×H×W images, which are at least as large."""
    top, left = ((side - size) // 2 for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]


def set_or_seed(generator: torch.Generator, state: Tensor) -> None:
    """Make ``generator`` continue from ``state``.

    If the state is of another kind of device and so of another size, the generator is seeded with a number that depends
    on ``state`` alone.
    """
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        generator.manual_seed(int.from_bytes(blake2b(state.numpy().tobytes(), digest_size=7).digest()))
