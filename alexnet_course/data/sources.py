"""``load_dataset``: from a short string such as ``cifar10`` or ``folder:images`` to a ``Dataset``."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as memory
from hashlib import blake2b
from pathlib import Path

import numpy as np
import PIL
import torch

from alexnet_course.data import cache, doodles
from alexnet_course.data.cifar import CIFAR10_1, TORCHVISION, load_cifar, load_cifar10_1
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.decode import RESIZES
from alexnet_course.data.folder import load_folder
from alexnet_course.data.tree import SPLITS
from alexnet_course.errors import CourseError, nearest
from alexnet_course.files import expanded


def _doodles(split: str, root: Path) -> Dataset:
    """The doodles in memory, or new ones if those have been changed."""
    dataset, versions = _drawn(split, root)
    if dataset.versions != versions:
        _drawn.cache_clear()
        dataset, _ = _drawn(split, root)
    return dataset


@memory  # a notebook loads them again and again
def _drawn(split: str, root: Path) -> tuple[Dataset, tuple[int, ...]]:
    """Drawn once, which takes seconds, then read from the cache until the code or the libraries behind it change."""
    made_with = (Path(doodles.__file__).read_bytes(), f"{PIL.__version__} {np.__version__}".encode())
    key = blake2b(b"\0".join(made_with), digest_size=16).hexdigest()
    path = root / "doodles" / f"{split}.safetensors"
    dataset = cache.read(path, key)
    if dataset is None:
        images, labels = doodles.draw_doodles(split)
        dataset = Dataset(torch.from_numpy(images), torch.from_numpy(labels), doodles.CLASSES, "doodles")
        cache.keep(dataset, path, key)
    return dataset, dataset.versions


@dataclass(frozen=True)
class Source:
    """A data set that is identified by its name; ``load(split, root)`` may store files in the folder ``root``."""

    load: Callable[[str, Path], Dataset]
    splits: tuple[str, ...] = SPLITS


def _cifar(name: str) -> Source:
    return Source(lambda split, root: load_cifar(name, split, root))


LARGEST = 4096  # side in pixels that images may be resized to

# A new data set is an entry here.
SOURCES = {
    **{name: _cifar(name) for name in TORCHVISION},
    CIFAR10_1: Source(lambda split, root: load_cifar10_1(root), ("test",)),
    "doodles": Source(_doodles),
}


def load_dataset(
    spec: str,
    split: str | None = None,
    root: str | Path | None = None,
    *,
    size: int = 224,
    resize: str = "crop",
) -> Dataset:
    """The images that ``spec`` names, as uint8 N×C×H×W with their labels.

    ``spec`` is one of

    - ``cifar10``, ``cifar100`` (3×32×32; Krizhevsky 2009): from the first of several servers with the file that
      torchvision uses (verified by its checksum) or with images of the same fingerprint;
    - ``cifar10.1`` (3×32×32; Recht et al. 2018, version 6): 2,000 newer test images, checksum verified;
    - ``folder:PATH``: a tree ``PATH/{train,test}/CLASS/IMAGE``, with ``val`` beside them or in place of ``test``,
      or ``PATH/CLASS/IMAGE``, a fifth of which becomes the test set; decoded once and then cached;
    - ``doodles`` (3×32×32): drawn by this package once, then cached; needs no network.

    ``split`` is ``"train"``, ``"test"``, or None for train where there is one and test otherwise. Downloads and caches
    are stored under ``root``, by default ``$ALEXNET_COURSE_CACHE`` or ``~/.cache/alexnet-course``. Images of a folder
    that have different sizes are resized to ``size × size`` pixels: ``resize`` is ``"crop"`` (the short side is
    resized to it, and the centre cropped) or ``"pad"`` (the long side is resized to it, and the rest is black).

    Raises ``CourseError`` for an unknown spec or split, for a tree or download that is not as expected, and if a
    download is needed but there is no network. Every call for ``doodles`` in a process returns the same tensors, until
    one of them is changed.

    >>> from alexnet_course import load_dataset
    >>> doodles = load_dataset("doodles", "test")
    >>> doodles
    Dataset(doodles: 1,000 images of 3×32×32, 10 classes)
    >>> doodles.images.shape, doodles.images.dtype
    (torch.Size([1000, 3, 32, 32]), torch.uint8)
    """
    if split not in (None, *SPLITS):
        raise CourseError(f"Unknown split {split!r}; expected {nearest(str(split), SPLITS)}.")
    if split is not None and split not in splits_of(spec):
        raise CourseError(f"{spec!r} has no {split} split; ask for its test split, or train on 'cifar10'.")
    if resize not in RESIZES:
        raise CourseError(f"resize = {resize!r} is not a choice; nearest: {nearest(resize, RESIZES)}.")
    if not 1 <= size <= LARGEST:
        raise CourseError(f"size = {size} is out of range; it must be at least 1 and at most {LARGEST} pixels.")
    kept = expanded(root) if root is not None else cache.cache_dir()
    if spec.startswith("folder:"):
        path = spec.removeprefix("folder:")
        if not path:
            raise CourseError("The spec 'folder:' names no path; expected, for example, 'folder:data/cifar10'.")
        return load_folder(expanded(path), split or "train", kept, size, resize)
    if spec in SOURCES:
        source = SOURCES[spec]
        return source.load(split or source.splits[0], kept)
    if os.path.isdir(expanded(spec)):
        raise CourseError(f"Unknown data set {spec!r}; to read the folder of that name, write 'folder:{spec}'.")
    raise CourseError(f"Unknown data set {spec!r}; expected {nearest(spec, specs())}.")


def specs() -> list[str]:
    """All forms that a spec can have."""
    return [*SOURCES, "folder:PATH"]


def splits_of(spec: str) -> tuple[str, ...]:
    """The splits of the data set: ``train`` and ``test``, or only ``test`` for CIFAR-10.1."""
    return SOURCES[spec].splits if spec in SOURCES else SPLITS
