"""The batch loader: the whole data set lives on the device as uint8, and batches are cut from it there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_course.data.augment import Augmentation, colour_pca, crop_and_flip, cutout, principal_colours
from alexnet_course.data.dataset import Dataset


class BatchLoader:
    """Batches of normalised pictures (float32, N×C×H×W, channels-last) and labels, made on ``device``.

    ``mean`` and ``std`` are the C normalisation constants of the *training* pictures on the 0..1 scale. Pictures are
    enlarged or reduced to ``size``×``size`` where that differs from theirs (S1 feeds 32-pixel pictures to a 224-pixel
    network in this way). With ``training`` the order is shuffled, ``augmentation`` is applied and a short last batch is
    left out, so that all steps of an epoch count alike; without, every picture comes once and in order.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int | None = None,
        device: torch.device | str = "cpu",
        training: bool = False,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.images = dataset.images.to(device)
        self.labels = dataset.labels.to(device)
        self.batch_size = min(batch_size, len(dataset))
        self.size = size
        self.training = training
        self.augmentation = augmentation or Augmentation()
        self.generator = generator
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]
        self.colours = principal_colours(dataset.images) if self.augmentation.colour_pca else None

    def __len__(self) -> int:
        """Batches an epoch."""
        if self.training:
            return len(self.labels) // self.batch_size
        return -(-len(self.labels) // self.batch_size)

    @property
    def images_per_epoch(self) -> int:
        return len(self) * self.batch_size if self.training else len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, device = len(self.labels), self.labels.device
        if self.training:
            order = torch.randperm(count, device=device, generator=self.generator)
        else:
            order = torch.arange(count, device=device)
        for step in range(len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.prepare(self.images[chosen]), self.labels[chosen]

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 pictures → what the network sees."""
        change, generator = self.augmentation, self.generator
        if self.training and (change.crop or change.flip):
            images = crop_and_flip(images, change.crop, change.flip, generator)
        pixels = images.to(memory_format=torch.channels_last).float() / 255
        if self.training and self.colours is not None:
            pixels = colour_pca(pixels, *self.colours, change.colour_pca, generator)
        pixels = (pixels - self.mean) / self.std
        if self.training and change.cutout:
            pixels = cutout(pixels, change.cutout, generator)
        if self.size is not None and pixels.shape[2:] != (self.size, self.size):
            smaller = self.size < max(pixels.shape[2:])  # only then is there anything to smooth
            pixels = F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=smaller)
        return pixels
