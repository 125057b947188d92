"""The batch loader: the whole data set lives on the device as uint8, and batches are cut from it there.

One that does not fit stays where it is, and each batch is read from there in time (``Ahead``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_course.data.augment import Augmentation, Changes
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.streaming import Ahead
from alexnet_course.errors import CourseError
from alexnet_course.shapes import memory_format

AT_ONCE = 2**30  # bytes of images that are made at once; CIFAR's training images in half precision are a quarter


class BatchLoader:
    """Batches of normalised images (float32, N×C×H×W, mostly channels-last) and labels, made on ``device``.

    Of ``dataset``, the images at ``indices`` take part, or all. Images that are on the device already are not
    copied, so the loaders of two parts of a data set share its memory. ``mean`` and ``std`` are the C normalisation
    constants of the *training* images on the 0..1 scale. Images are enlarged or reduced to ``size × size`` where
    that differs from theirs (S1 feeds 32-pixel images to a 224-pixel network in this way); with ``cut``, larger ones
    are cut to it instead: at random by the ``augmentation``, at the centre without (paper, section 4.1). With
    ``training`` the order is shuffled and a short last batch is left out, so that all steps of an epoch count alike;
    without, every image comes once and in order. ``augmentation`` is for training images; S0's test images had it
    too.

    With ``at_once`` the batches of a whole epoch, or as many as take up ``AT_ONCE`` bytes, are made together and kept
    in that format. A GPU then has a hundred times less to launch for them.

    ``state`` is the position inside an epoch. A loader with the same images and settings goes on from it, after
    ``resume``, with the batch that comes next.
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
        device: torch.device | str = "cpu",
        training: bool = False,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        at_once: torch.dtype | None = None,
    ) -> None:
        dataset = dataset.to(device)
        self.images, self.labels = dataset.images, dataset.labels
        on_gpu = torch.device(device).type == "cuda"
        away = dataset.streamed or (on_gpu and self.images.device.type == "cpu")
        self._ahead = Ahead(self.images, pinned=on_gpu) if away else None
        self.indices = (torch.arange(len(dataset)) if indices is None else indices).to(device)
        self.batch_size = min(batch_size, len(self.indices))
        self.size = size
        self.training = training
        self.generator = generator
        if not all(value > 0 for value in std):
            raise CourseError(f"std = {tuple(std)} would divide by what is not above 0; give 1 for a channel that is "
                              "the same everywhere.")  # fmt: skip
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]
        self.std = torch.tensor(std, dtype=torch.float32, device=device)[:, None, None]
        self.cut = size if cut and size is not None and min(self.images.shape[2:]) >= size else 0
        changes = Augmentation() if augmentation is None else replace(augmentation, cut=self.cut)
        self.changes = Changes(changes, self.images, self.indices)
        self.at_once = at_once
        self._made: tuple[int, Tensor] | None = None  # at_once: the number of the first batch, and the images of all
        self._before: Tensor | None = None  # the state of the generator before it drew for these
        self._order = self.indices  # of the epoch under way
        self._order_here: tuple[Tensor, Tensor] | None = None  # the same, and on the CPU, for whoever reads
        self._step = 0  # batches of it that are done
        self._seeds: list[int] = []  # one a batch, where a change wants one
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
            if self.training:
                shuffled = torch.randperm(len(self.indices), device=self.indices.device, generator=self.generator)
                self._order = self.indices[shuffled]
            if self.changes.seeded:
                drawn = torch.randint(2**62, (len(self),), device=self.indices.device, generator=self.generator)
                self._seeds = drawn.tolist()
        self._resumed = False
        while self._step < len(self):
            self._step += 1  # before the batch goes out, so that a state taken with it in hand counts it as done
            yield self.batch(self._step - 1)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch number ``step`` (from 0) of the epoch under way; where it is augmented, with new random numbers,
        unless it was made ``at_once`` with others and is still there."""
        labels = self.labels[self._chosen(self._order, step)]
        if self.at_once is None:
            return self._prepared(step), labels
        first = step // self._together * self._together
        if self._made is None or self._made[0] != first:
            self._made = None  # before the next ones need the memory
            self._before = self._random()
            self._made = first, self._prepared(first, self._together).to(self.at_once)
        place = (step - first) * self.batch_size
        return self._made[1][place : place + self.batch_size], labels

    @property
    def _together(self) -> int:
        """How many batches are made at once."""
        side = [self.size, self.size] if self.size is not None else list(self.images.shape[2:])
        assert self.at_once is not None
        bytes_of_one = self.batch_size * self.images.shape[1] * side[0] * side[1] * self.at_once.itemsize
        return min(len(self), max(1, AT_ONCE // bytes_of_one))

    def _prepared(self, first: int, count: int = 1) -> Tensor:
        """The images of ``count`` batches, or fewer at the end of the epoch, from number ``first`` on."""
        count = min(count, len(self) - first)
        return self.prepare(self._pixels(first, count), self._seeds[first] if self._seeds else None)

    def _chosen(self, order: Tensor, first: int, count: int = 1) -> Tensor:
        return order[first * self.batch_size : (first + count) * self.batch_size]

    def _pixels(self, first: int, count: int) -> Tensor:
        if self._ahead is None:
            return self.images[self._chosen(self._order, first, count)]
        if self._order_here is None or self._order_here[0] is not self._order:
            self._order_here = self._order, self._order.cpu()  # once an epoch, because a GPU has to be waited for
        order, then = self._order_here[1], first + count
        following = self._chosen(order, then, min(count, len(self) - then)) if then < len(self) else order[:0]
        return self._ahead.read(self._chosen(order, first, count), following)

    def _random(self) -> Tensor | None:
        return self.generator.get_state() if self.generator is not None else None

    def state(self) -> dict[str, Any]:
        """Order of the epoch under way, batches of it that are done, and what the random generator will draw next."""
        random = self._random()
        if self._made is not None and self._step % self._together and self._step < len(self):
            random = self._before  # the batches that come next will be made again, and have to be the same
        return {"order": self._order.cpu(), "step": self._step, "random": random, "seeds": self._seeds}

    def resume(self, state: dict[str, Any]) -> None:
        """Let the next epoch be the rest of the one that ``state`` was taken in."""
        self._order, self._step = state["order"].to(self.indices.device), state["step"]
        self._seeds = state.get("seeds", [])
        if self.generator is not None:
            set_or_seed(self.generator, state["random"])
        self._resumed = self._step > 0

    def rewind(self) -> None:
        """The epoch under way is over, with all that follows it: a state taken from now on is that of a new one."""
        self._step = 0
        self._made = None

    def prepare(self, images: Tensor, seed: int | None = None) -> Tensor:
        """uint8 images → what the network sees; ``seed`` is for changes that are ``seeded``, which draw one themselves
        where none is given."""
        images = images.to(self.mean.device, non_blocking=True)
        images = self.changes.at("pixels", images, self.generator, seed)
        if self.cut:
            images = centre(images, self.cut)
        pixels = images.to(memory_format=memory_format(images.device)).float() / 255
        pixels = self.changes.at("colours", pixels, self.generator, seed)
        pixels = (pixels - self.mean) / self.std
        pixels = self.changes.at("normalised", pixels, self.generator, seed)
        if self.size is not None and pixels.shape[2:] != (self.size, self.size):
            smaller = self.size < max(pixels.shape[2:])  # only then is there anything to smooth
            pixels = F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=smaller)
        return pixels


def centre(images: Tensor, size: int) -> Tensor:
    """The ``size × size`` pixels in the middle of N×C×H×W images that are not smaller."""
    top, left = ((side - size) // 2 for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]


def set_or_seed(generator: torch.Generator, state: Tensor) -> None:
    """Let ``generator`` go on from ``state``.

    Where that is of another kind of device, whose states are of another size, it starts anew, from a seed that depends
    on ``state`` alone.
    """
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        generator.manual_seed(int.from_bytes(blake2b(state.numpy().tobytes(), digest_size=7).digest()))
