"""Augmentation on the device: a few tensor operations for a whole batch, with separate random draws for each image.

Every function takes a ``torch.Generator`` on the images' device, so that a run can be repeated bit for bit. A new
augmentation is an entry in ``AUGMENTATIONS``, and a recipe can name it: ``augment = {NAME = STRENGTH}``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from alexnet_course.errors import CourseError, nearest


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed. The default changes nothing.

    ``crop``: pixels of zero padding on each side before a crop back to size; ``cut``: side in pixels of a square that
    is cropped from the padded image instead, 0: none; ``flip``: mirror left to right with probability 1/2;
    ``alternate``: mirror each image in every other epoch instead, which the batch loader does (Jordan 2024);
    ``cutout``: side in pixels of a square that is blanked; ``colour_pca``: standard deviation of the paper's colour
    shift (section 4.1, where it is 0.1); ``autoaugment``: the policy, ``"cifar10"`` or ``"imagenet"``; ``others``:
    further entries of ``AUGMENTATIONS`` by name, each with its strength.
    """

    crop: int = 0
    flip: bool = False
    alternate: bool = False
    cutout: int = 0
    colour_pca: float = 0.0
    autoaugment: str = ""
    cut: int = 0
    others: Mapping[str, Any] = field(default_factory=dict)


# Images, the generator and, for changes that draw on the CPU, a seed of the batch → images of the same shape.
Change: TypeAlias = Callable[[Tensor, "torch.Generator | None", "int | None"], Tensor]


@dataclass(frozen=True)
class AugmentationSpec:
    """One entry of ``AUGMENTATIONS``.

    ``stage``: the images that it takes and returns are uint8 (``"pixels"``), float32 on the 0..1 scale (``"colours"``),
    or normalised, so that zero is the mean colour (``"normalised"``); N×C×H×W in each case. ``make`` returns the change
    that an ``Augmentation`` asks for, or None where it asks for none. It gets all training images (uint8, on the
    device) and the indices of those that the network trains on. With ``seeded`` the change is given a seed for each
    batch. The seeds are drawn for a whole epoch at once, because a GPU waits while it hands over what it has drawn.
    """

    stage: Literal["pixels", "colours", "normalised"]
    make: Callable[[Augmentation, Tensor, Tensor], Change | None]
    seeded: bool = False


def crop_and_flip(
    images: Tensor, padding: int, flip: bool, generator: torch.Generator | None = None, size: int = 0
) -> Tensor:
    """Shift every image by up to ``padding`` pixels (zeros move in) and mirror half of them, in one gather.

    ``images`` is N×C×H×W of any type; the result has the same shape and type or, with ``size``, that height and width,
    cropped from anywhere in the padded image. Paper section 4.1 (translations and horizontal reflections), where it is
    224 of 256 pixels without padding; padding without ``size`` is the usual form on CIFAR-10.
    """
    count, channels = images.shape[:2]
    height, width = (size or side for side in images.shape[2:])
    device = images.device
    above, beside = (side + 2 * padding - (size or side) for side in images.shape[2:])
    top = torch.randint(above + 1, (count, 1), device=device, generator=generator)
    left = torch.randint(beside + 1, (count, 1), device=device, generator=generator)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    if flip:
        mirrored = torch.rand(count, 1, device=device, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, (padding, padding, padding, padding))
    sample = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def cutout(images: Tensor, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Set a square of ``size × size`` pixels to zero in every image, its centre anywhere in the image.

    ``images`` is N×C×H×W, normalised, so that zero is the mean colour. Source: DeVries & Taylor 2017; after the paper.
    """
    count, _, height, width = images.shape
    device = images.device

    def covered(length: int) -> Tensor:
        start = torch.randint(length, (count, 1), device=device, generator=generator) - size // 2
        offset = torch.arange(length, device=device) - start
        return (offset >= 0) & (offset < size)

    hole = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images.masked_fill(hole, 0)


def principal_colours(images: Tensor, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues (3, ascending) and eigenvectors (3×3, in columns) of the covariance of all RGB pixel values.

    ``images`` is uint8 N×3×H×W; only those at ``indices`` count, or all. The values are scaled to 0..1, and the
    result is float64. Paper section 4.1.
    """
    if images.shape[1] != 3:
        raise CourseError(f"The images have {images.shape[1]} channels, but principal colours are those of RGB; "
                          "leave colour_pca at 0.")  # fmt: skip
    chosen = torch.arange(len(images)) if indices is None else indices
    count = len(chosen) * images.shape[2] * images.shape[3]
    total = torch.zeros(3, dtype=torch.float64)
    products = torch.zeros(3, 3, dtype=torch.float64)
    step = max(1, 5000 * 32**2 // (images.shape[2] * images.shape[3]))  # never a float copy of the whole data set
    for part in chosen.to(images.device).split(step):
        pixels = images[part].movedim(1, -1).reshape(-1, 3).to(torch.float64).cpu() / 255
        total += pixels.sum(0)
        products += pixels.T @ pixels
    mean = total / count
    eigenvalues, eigenvectors = torch.linalg.eigh(products / count - mean.outer(mean))
    return eigenvalues, eigenvectors


def colour_pca(
    images: Tensor,
    eigenvalues: Tensor,
    eigenvectors: Tensor,
    strength: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Add to every image one colour, drawn along the principal colours of the data set (paper section 4.1).

    ``images`` is float N×3×H×W on the 0..1 scale. For each image three numbers are drawn from N(0, ``strength``²);
    the colour added to all its pixels is their sum over eigenvector × number × eigenvalue, as the paper writes it.
    """
    draws = torch.randn(images.shape[0], 3, device=images.device, generator=generator) * strength
    basis = (eigenvectors * eigenvalues).to(images.device, torch.float32)  # no copy where they are on the device
    return images + (draws @ basis.T).to(images.dtype)[:, :, None, None]


def autoaugment(
    images: Tensor, generator: torch.Generator | None = None, policy: str = "cifar10", seed: int | None = None
) -> Tensor:
    """torchvision's AutoAugment, drawn for each image separately; bit-identical to applying it image by image.

    ``images`` is uint8 N×3×H×W, and so is the result. ``policy`` is ``"cifar10"`` or ``"imagenet"``, the data set
    for which the changes were searched. All draws are made on the CPU, from ``seed`` or, if that is None, from a seed
    that ``generator`` draws (for which a GPU has to be waited for). Each change is then made to all images that drew it
    at once.
    Source: Cubuk et al. 2019; S0 used torchvision's default, which is ImageNet's.
    """
    if seed is None:
        seed = int(torch.randint(2**62, (1,), device=images.device, generator=generator))
    change = _autoaugment(policy)
    draws = torch.Generator().manual_seed(seed)  # neither dropout's nor a GPU's
    drawn = [change.draw(draws, *images.shape[2:]) for _ in range(len(images))]
    groups: dict[tuple[int, str, float], list[int]] = {}
    for turn in range(2):  # a policy is two changes, one after the other
        for image, changes in enumerate(drawn):
            if changes[turn] is not None:
                groups.setdefault((turn, *changes[turn]), []).append(image)
    members = torch.tensor([image for group in groups.values() for image in group], dtype=torch.int64)
    if images.device.type == "cuda":  # from pinned memory, and in one piece, because a GPU waits for any other copy
        members = members.pin_memory()
    chosen = members.to(images.device, non_blocking=True).split([len(group) for group in groups.values()])
    result = images.clone()
    for (_, kind, magnitude), group in zip(groups, chosen, strict=True):
        result[group] = change.apply(result[group], kind, magnitude)
    return result


class Constants(TorchFunctionMode):
    """Inside this, ``torch.tensor`` copies the same numbers to a device only once, because a GPU waits for each copy.

    torchvision's functions make their matrices and kernels in this way, again at each call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.tensor:
            return func(*args, **(kwargs or {}))
        key = repr((args, kwargs))
        if key not in self.known:
            self.known[key] = func(*args, **(kwargs or {}))
        return self.known[key].clone()  # the caller may write into it


@cache
def _autoaugment(policy: str) -> Any:
    """torchvision's AutoAugment with its draws separated from its changes."""
    from torchvision.transforms import AutoAugmentPolicy, v2  # here, because importing torchvision takes a second

    class Apart(v2.AutoAugment):
        constants = Constants()

        def draw(self, draws: torch.Generator, height: int, width: int) -> list[tuple[str, float] | None]:
            """Two changes for one image, each a kind and a magnitude, or None; the same draws as ``forward``."""
            changes: list[tuple[str, float] | None] = []
            policy = self._policies[int(torch.randint(len(self._policies), (), generator=draws))]
            for kind, probability, level in policy:
                if not torch.rand((), generator=draws) <= probability:
                    changes.append(None)
                    continue
                magnitudes, signed = self._AUGMENTATION_SPACE[kind]
                scale = magnitudes(10, height, width)
                magnitude = float(scale[level]) if scale is not None else 0.0
                if scale is not None and signed and torch.rand((), generator=draws) <= 0.5:
                    magnitude *= -1
                changes.append((kind, magnitude))
            return changes

        def apply(self, images: Tensor, kind: str, magnitude: float) -> Tensor:
            with self.constants if images.device.type == "cuda" else nullcontext():
                changed: Tensor = self._apply_image_or_video_transform(
                    images, kind, magnitude, interpolation=self.interpolation, fill=self._fill
                )
            return changed

        def prepare(self, images: Tensor) -> None:
            """Make every change once to images of this size, so that all its constants are on their device."""
            for kind, _, level in itertools.chain.from_iterable(self._policies):
                magnitudes, signed = self._AUGMENTATION_SPACE[kind]
                scale = magnitudes(10, *images.shape[2:])
                magnitude = float(scale[level]) if scale is not None else 0.0
                for each in (magnitude, -magnitude) if signed else (magnitude,):
                    self.apply(images, kind, each)

    return Apart(AutoAugmentPolicy(policy))


def _autoaugment_of(wanted: Augmentation, images: Tensor, indices: Tensor) -> Change | None:
    if not wanted.autoaugment:
        return None
    if images.device.type == "cuda":
        _autoaugment(wanted.autoaugment).prepare(images[:1])
    return lambda batch, generator, seed: autoaugment(batch, generator, wanted.autoaugment, seed)


def _crop_and_flip_of(wanted: Augmentation, images: Tensor, indices: Tensor) -> Change | None:
    flip = wanted.flip and not wanted.alternate
    if not (wanted.crop or flip or wanted.cut):
        return None
    return lambda batch, generator, seed: crop_and_flip(batch, wanted.crop, flip, generator, wanted.cut)


def _colour_pca_of(wanted: Augmentation, images: Tensor, indices: Tensor) -> Change | None:
    if not wanted.colour_pca:
        return None
    kind = torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no double
    # On the device, or every step would copy them there.
    values, vectors = (tensor.to(images.device, kind) for tensor in principal_colours(images, indices))
    return lambda batch, generator, seed: colour_pca(batch, values, vectors, wanted.colour_pca, generator)


def _cutout_of(wanted: Augmentation, images: Tensor, indices: Tensor) -> Change | None:
    if not wanted.cutout:
        return None
    return lambda batch, generator, seed: cutout(batch, wanted.cutout, generator)


def mixed(images: Tensor, labels: Tensor, kind: str, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images combined with others of their batch, and the shares of the classes as labels (N×``classes``, float32).

    ``images`` are N×C×H×W, normalised, ``labels`` N; ``kind`` is ``"mixup"`` or ``"cutmix"``, with its paper's uniform
    distribution of shares, drawn once a batch, from ``seed``. Sources: Zhang et al. 2018; Yun et al. 2019.
    """
    from torchvision.transforms import v2  # here, because importing torchvision takes a second

    change = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[kind](alpha=1.0, num_classes=classes)
    with torch.random.fork_rng(devices=[]):  # it draws from the CPU's global generator
        torch.random.default_generator.manual_seed(seed)
        result: tuple[Tensor, Tensor] = change(images, torch.eye(classes, device=labels.device)[labels])
    return result


# In the order in which they are made, stage by stage.
AUGMENTATIONS = {
    "autoaugment": AugmentationSpec("pixels", _autoaugment_of, seeded=True),
    "crop_and_flip": AugmentationSpec("pixels", _crop_and_flip_of),
    "colour_pca": AugmentationSpec("colours", _colour_pca_of),
    "cutout": AugmentationSpec("normalised", _cutout_of),
}


class Changes:
    """The changes of an ``Augmentation``, in order, each at its stage.

    ``images`` are all training images (uint8 N×C×H×W) on the device, ``indices`` those that the network trains on.
    Raises ``CourseError`` where ``wanted.others`` has a name that is not registered.
    """

    def __init__(self, wanted: Augmentation, images: Tensor, indices: Tensor) -> None:
        for name in wanted.others:
            if name not in AUGMENTATIONS:
                raise CourseError(f"augment names {name!r}, which is not a registered augmentation; nearest: "
                                  f"{nearest(name, AUGMENTATIONS)}.")  # fmt: skip
        made = [(spec, spec.make(wanted, images, indices)) for spec in AUGMENTATIONS.values()]
        self._made = [(spec.stage, change) for spec, change in made if change is not None]
        self.seeded = any(spec.seeded for spec, change in made if change is not None)

    def at(self, stage: str, images: Tensor, generator: torch.Generator | None, seed: int | None) -> Tensor:
        """``images`` after the changes of ``stage``."""
        for at, change in self._made:
            if at == stage:
                images = change(images, generator, seed)
        return images
