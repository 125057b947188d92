"""``Dataset``: labelled images in memory, as bytes, with a fingerprint that identifies them."""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from alexnet_course.data.memory import fits
from alexnet_course.errors import CourseError
from alexnet_course.names import same_form, wrong_with_name

# How a folder was divided where the recipe does not decide it: it has its own validation images; these are its test
# images, because it has no others; its test images were chosen by their names.
Division: TypeAlias = Literal["", "own validation", "validation as test", "by name"]

DIGEST = 16  # bytes of the digest of an image or of a set

_CHUNK = 1 << 16  # pixels per step, where a temporary of the whole set would take several times its memory


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images of one size, stored as bytes, so that CIFAR-10's 60,000 images take only 184 MB.

    ``images`` is uint8 of shape N×C×H×W with values 0..255, ``labels`` int64 of shape N with indices into ``classes``.
    ``streamed``: ``images`` is a memory map that is too large for the memory, so batches are read from it one by one.
    ``held_out`` are the indices of the validation images, if the data set itself defines them; ``division`` says how a
    folder was divided. Raises ``CourseError`` where the parts do not fit together.

    >>> from alexnet_course import load_dataset
    >>> pets = load_dataset("doodles", "test").of_classes(["cat", "dog"])
    >>> train, validation = pets.split_validation(50, seed=0)
    >>> train
    Dataset(doodles: 150 images of 3×32×32, 2 classes)
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    streamed: bool = False
    held_out: Tensor | None = None
    division: Division = ""

    def __post_init__(self) -> None:
        for what, tensor, form in (("images", self.images, "N×C×H×W"), ("labels", self.labels, "N")):
            if not isinstance(tensor, Tensor):
                kind = "torch.uint8" if what == "images" else "torch.int64"
                raise CourseError(
                    f"The {what} of {self.name!r} are a {type(tensor).__name__}; expected a tensor of {kind} and shape "
                    f"{form}, so make one with torch.tensor."
                )
        shape, labels = tuple(self.images.shape), tuple(self.labels.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4:
            raise CourseError(
                f"The images of {self.name!r} are {self.images.dtype} of shape {shape}; expected torch.uint8 of "
                "shape (N, C, H, W), so convert them before making a Dataset."
            )
        if shape[1] not in (1, 3) and shape[3] in (1, 3):
            raise CourseError(
                f"The images of {self.name!r} are of shape {shape}, which looks like (N, H, W, C); expected "
                "(N, C, H, W), so give images.permute(0, 3, 1, 2)."
            )
        if self.labels.dtype != torch.int64 or len(labels) != 1:
            raise CourseError(
                f"The labels of {self.name!r} are {self.labels.dtype} of shape {labels}; expected torch.int64 of shape "
                "(N,), so convert them before making a Dataset."
            )
        if shape[0] != labels[0]:
            raise CourseError(
                f"{self.name!r} has {shape[0]:,} images but {labels[0]:,} labels; expected one label for each image, "
                "so check the code that reads them."
            )
        self._check_names()
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise CourseError(
                f"The labels of {self.name!r} run from {int(self.labels.min())} to {int(self.labels.max())}; expected "
                f"0 to {len(self.classes) - 1}, so name every class or correct the labels."
            )

    def _check_names(self) -> None:
        if isinstance(self.classes, str) or not isinstance(self.classes, Sequence):
            raise CourseError(
                f"The classes of {self.name!r} are {self.classes!r}; expected a tuple of names, one for each class."
            )
        for name in (self.name, *self.classes):
            fault = wrong_with_name(name) if isinstance(name, str) else "is not a string; give one"
            if fault is not None:
                what = "name" if name is self.name else f"classes {self.classes!r}"
                raise CourseError(
                    f"The {what} of the data set {self.name!r} cannot be used: {name!r} is not a name; it {fault}."
                )
        object.__setattr__(self, "name", same_form(self.name))
        object.__setattr__(self, "classes", tuple(map(same_form, self.classes)))  # a list is accepted, too
        if len(set(self.classes)) != len(self.classes):
            raise CourseError(f"The class names of {self.name!r} repeat: {self.classes}; give each class its own name.")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = "×".join(str(n) for n in self.images.shape[1:])
        return f"Dataset({self.name}: {len(self):,} images of {size}, {len(self.classes)} classes)"

    @property
    def side(self) -> int | None:
        """Side in pixels of the images; None if they are not squares."""
        height, width = self.images.shape[2:]
        return height if height == width else None

    @property
    def versions(self) -> tuple[int, ...]:
        """How often the images and the labels were changed in place, as PyTorch counts it."""
        return tuple(0 if part.is_inference() else part._version for part in (self.images, self.labels))

    @property
    def _digests(self) -> list[bytes]:
        """One digest for each image, of its class name, shape and pixels; in storage order.

        Computed once, and again after the tensors were changed in place, for example by label noise.
        """
        known = self.__dict__.get("_known")
        if known is None or known[0] != self.versions:
            known = self.versions, self._compute_digests()
            object.__setattr__(self, "_known", known)
        digests: list[bytes] = known[1]
        return digests

    def _compute_digests(self) -> list[bytes]:
        rows = self.images.cpu().contiguous().numpy()
        return [digest_of(self.classes[label], row) for row, label in zip(rows, self.labels.tolist(), strict=True)]

    def with_digests(self, digests: Tensor) -> "Dataset":
        """The same images with known digests (uint8 N×16), so that no image has to be read for the fingerprint."""
        other = copy(self)
        object.__setattr__(other, "_known", (self.versions, [row.tobytes() for row in digests.numpy()]))
        return other

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that identify the set of (class name, image) pairs.

        It does not depend on the order of the images, the order of the classes or the file format: CIFAR-10 from its
        archive and from a tree of PNG files have the same fingerprint.
        """
        return fingerprint_of(self._digests)

    @property
    def ordered(self) -> Tensor:
        """The images' indices in an order that depends on the images, not on how they are stored: int64, N."""
        return torch.tensor(sorted(range(len(self)), key=self._digests.__getitem__), dtype=torch.int64)

    def renamed(self, name: str) -> "Dataset":
        """The same images under another name; a computed fingerprint is kept."""
        other = copy(self)
        object.__setattr__(other, "name", name)
        other._check_names()
        return other

    def divided(self, division: Division, held_out: Tensor | None = None) -> "Dataset":
        """The same images with ``division`` and the indices (int64) of the held-out ones."""
        other = copy(self)
        object.__setattr__(other, "division", division)
        object.__setattr__(other, "held_out", held_out)
        return other

    def subset(self, indices: Sequence[int] | Tensor) -> "Dataset":
        """The images at ``indices`` (integers 0..N-1, in that order), as a ``Dataset`` of the same name and classes.

        A mask is accepted, too: N booleans, True for each image to take. Raises ``CourseError`` for an index outside
        the data set.
        """
        index = torch.as_tensor(indices, device=self.labels.device)
        if index.dtype == torch.bool:
            if index.shape != self.labels.shape:
                raise CourseError(
                    f"A mask for {self.name!r} has the shape {tuple(index.shape)}; expected one boolean for each of "
                    f"its {len(self):,} images."
                )
            index = index.nonzero()[:, 0]
        elif index.numel() and (index.dtype.is_floating_point or index.dtype.is_complex or index.dim() != 1):
            raise CourseError(
                f"The indices for a subset of {self.name!r} are {index.dtype} of shape {tuple(index.shape)}; expected "
                "integers of shape (N,)."
            )
        index = index.to(torch.int64)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise CourseError(
                f"A subset of {self.name!r} asks for indices {int(index.min())} to {int(index.max())}; expected "
                f"0 to {len(self) - 1}."
            )
        held_out = None
        if self.held_out is not None:
            held_out = torch.isin(index.cpu(), self.held_out).nonzero()[:, 0]
        images = self.images[index.to(self.images.device)]
        return replace(self, images=images, labels=self.labels[index], streamed=False, held_out=held_out)

    def of_classes(self, names: Sequence[str]) -> "Dataset":
        """Only the images of the classes ``names``, in storage order; label i stands for ``names[i]``.

        Raises ``CourseError`` for a name that is not a class of this data set, and for an empty list.
        """
        unknown = [name for name in names if name not in self.classes]
        if unknown or not names:
            what = f"no class {unknown[0]!r}" if unknown else "no data set without classes"
            raise CourseError(f"{self.name!r} has {what}; choose from {', '.join(self.classes)}.")
        numbers = [self.classes.index(name) for name in names]
        part = self.subset(torch.isin(self.labels, torch.tensor(numbers, device=self.labels.device)).nonzero()[:, 0])
        new_label = torch.zeros(len(self.classes), dtype=torch.int64, device=self.labels.device)
        new_label[numbers] = torch.arange(len(numbers), device=self.labels.device)
        return replace(part, labels=new_label[part.labels], classes=tuple(names))

    def to(self, device: torch.device | str) -> "Dataset":
        """The same images on ``device``, without a copy if they are already there. Images that do not fit into the
        memory of the device or of the machine stay where they are, and only the labels are moved."""
        other = copy(self)
        if not self.streamed and fits(self.images, torch.device(device)):
            object.__setattr__(other, "images", self.images.to(device))
        object.__setattr__(other, "labels", self.labels.to(device))
        return other

    def split_validation(self, size: int, seed: int) -> tuple["Dataset", "Dataset"]:
        """The two parts of ``split_indices`` as data sets with copies of the images."""
        train, validation = self.split_indices(size, seed)
        return self.subset(train), self.subset(validation)

    def split_indices(self, size: int, seed: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The indices of the images to train on, and of ``size`` held out for validation: two ascending int64 tensors.

        All images are divided, or only those at the indices ``among``.

        Stratified: each class gives its proportional number of images, rounded up or down. The choice depends only on
        ``seed`` and the images, not on the order in which they are stored, so an archive and a folder of the same
        images are split alike. Raises ``CourseError`` unless 1 ≤ size < N.
        """
        available = torch.arange(len(self)) if among is None else among.cpu().sort().values
        count = len(available)
        if not 1 <= size < count:
            raise CourseError(
                f"A validation set of {size:,} images cannot be split off {self.name!r}, which has {count:,}; "
                f"choose a size from 1 to {count - 1:,}."
            )
        members: dict[str, list[int]] = {name: [] for name in sorted(self.classes)}
        for index, label in zip(available.tolist(), self.labels.cpu()[available].tolist(), strict=True):
            members[self.classes[label]].append(index)
        # Largest remainders: all are rounded down, then the classes that lost most get one more.
        shares = {name: size * len(indices) // count for name, indices in members.items()}
        by_loss = sorted(members, key=lambda name: -(size * len(members[name]) % count))
        for name in by_loss[: size - sum(shares.values())]:
            shares[name] += 1
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.zeros(len(self), dtype=torch.bool)
        for name, indices in members.items():
            indices.sort(key=self._digests.__getitem__)
            order = torch.randperm(len(indices), generator=generator)
            chosen[torch.tensor(indices, dtype=torch.int64)[order[: shares[name]]]] = True
        return available[~chosen[available]], available[chosen[available]]

    def channel_statistics(self, indices: Tensor | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and (population) standard deviation of each channel, two tuples of C floats, for pixels scaled to 0..1.

        For the images at ``indices``, or for all. Computed in float64 from integer histograms, so exact, and without a
        copy of the images. Raises ``CourseError`` if there are no images.
        """
        chosen = torch.arange(len(self)) if indices is None else indices
        if not len(chosen):
            raise CourseError(f"{self.name!r} has no images, so its channels have no mean; load a split that has some.")
        channels, height, width = self.images.shape[1:]
        counts = torch.zeros(channels, 256, dtype=torch.int64, device=self.images.device)
        for part in chosen.to(self.images.device).split(max(1, _CHUNK // (height * width))):
            pixels = self.images[part]  # read only once if they are not in memory
            for channel in range(channels):
                counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
        counts = counts.cpu()
        values = torch.arange(256, dtype=torch.float64) / 255
        means, deviations = [], []
        for weights in counts.double() / counts.sum(1, keepdim=True):
            mean = (weights * values).sum()
            means.append(mean.item())
            deviations.append((weights * (values - mean) ** 2).sum().sqrt().item())
        return tuple(means), tuple(deviations)


def digest_of(class_name: str, pixels: np.ndarray) -> bytes:
    """16 bytes that identify an image (uint8 C×H×W, contiguous) and its class.

    The class's name is hashed instead of its number, so the fingerprint does not depend on the order of the classes.
    """
    shape = "×".join(str(n) for n in pixels.shape)
    digest = blake2b(f"{class_name}\0{shape}\0".encode(), digest_size=DIGEST)
    digest.update(pixels.data)
    return digest.digest()


def fingerprint_of(digests: Iterable[bytes] | np.ndarray) -> str:
    """The fingerprint of a set of images, from their digests: N of 16 bytes each, or uint8 N×16."""
    return blake2b(b"".join(sorted(bytes(digest) for digest in digests)), digest_size=DIGEST).hexdigest()
