"""``folder:PATH``: a tree of image files, decoded once and cached."""

import math
import os
import shutil
import stat
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from alexnet_course.data import cache
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.decode import OtherSize, decode_all, read_image, size_in_header, unreadable
from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.data.memory import is_large
from alexnet_course.data.tree import Listing, list_tree, say_once
from alexnet_course.errors import CourseError
from alexnet_course.files import ABANDONED, UNFINISHED, discard


def load_folder(path: Path, split: str, root: Path, size: int = 224, resize: str = "crop") -> Dataset:
    """The images of a part of ``path``, 3×H×W all of one size, classes in alphabetical order.

    ``path`` has ``train`` and ``test``, each with one folder for each class and the same classes in both. ``val`` (or
    ``valid``, ``validation``) beside them belongs to the training images, as their ``held_out`` part; in place of
    ``test`` it is the test set. If ``path`` has the class folders themselves, a fifth of each class becomes the test
    set. A warning reports such a decision once, and ``division`` records it.

    Square images of one size stay as they are. Otherwise all become squares of side ``size``; ``read_image``
    describes ``resize``, and the treatment of grey, transparent and rotated images. The decoded images are cached under
    ``root`` and read from there as long as no file changes; those that would take more than half of the free memory
    stay there and are read while they are used (``streamed``).

    The data set is named ``folder:`` and the last component of ``path``, or, if its fingerprint is that of a published
    data set, by that name. Raises ``CourseError`` for any other tree, and for a file that is not an image.
    """
    tree = list_tree(path)
    held_out = None
    listing: Listing = getattr(tree, split)
    if tree.validation is not None and split == "train":
        count = len(listing.samples)
        listing = Listing(listing.classes, listing.samples + tree.validation.samples)
        held_out = torch.arange(count, len(listing.samples))
    dataset, unkept = _Folder(path, split, listing, root).load(size, resize)
    if unkept is not None:
        cache.keep(dataset, *unkept)
    name = KNOWN_FINGERPRINTS.get(dataset.fingerprint, dataset.name)
    return dataset.renamed(name).divided(tree.division, held_out)


Place: TypeAlias = tuple[Path, str]  # a file of the cache, and its key


class _Folder:
    """The images of one part of a folder, and where they are cached."""

    def __init__(self, path: Path, split: str, listing: Listing, root: Path) -> None:
        self.what = str(path / split)
        self.name = f"folder:{path.resolve().name}"
        self.listing = listing
        self.state = _state(listing.files, path)
        self.stem = blake2b(os.fsencode(path.resolve() / split), digest_size=16).hexdigest()
        self.root = root / "folders"

    def load(self, size: int, resize: str) -> tuple[Dataset, Place | None]:
        """The images, from the cache if it is up to date, else from the files; and where to cache those."""
        as_they_are = self.root / f"{self.stem}.safetensors", self.state
        resized = self.root / f"{self.stem}-{size}-{resize}.safetensors", f"{self.state} {size} {resize}"
        for kept in (as_they_are, resized):
            dataset = cache.read(*kept)
            square = dataset is not None and dataset.images.shape[2] == dataset.images.shape[3]
            if dataset is not None and square and dataset.labels.tolist() == self.listing.labels:
                return dataset, None
        for file in self.root.glob(f"{self.stem}*"):
            if not (cache.key_of(file) or self.state).startswith(self.state):  # of earlier versions of the files
                with suppress(OSError):  # and not `discard`: truncated, it would kill a run that has it mapped
                    file.unlink(missing_ok=True)
            elif file.suffix == UNFINISHED:
                with suppress(OSError):
                    if time.time() - file.stat().st_mtime > ABANDONED:  # left by a process that was killed
                        discard(file)
        try:
            shape = read_image(self.listing.files[0]).shape
            if shape[1] != shape[2]:  # a square network would squash them, and predict crops
                raise OtherSize
            files = self.listing.files
            if is_large(len(files) * math.prod(shape)):  # before the disk is filled with them
                sizes = map(size_in_header, files)
                if any(found is not None and found != shape[:0:-1] for found in sizes):
                    raise OtherSize
            return self._decode(as_they_are, shape, None, resize)
        except OtherSize:
            say_once(f"the images in {self.what!r} have different sizes or are not square, so all are resized to "
                     f"{size}×{size} (resize = {resize!r})")  # fmt: skip
            return self._decode(resized, (3, size, size), size, resize)

    def _decode(
        self, place: Place, shape: tuple[int, ...], size: int | None, resize: str
    ) -> tuple[Dataset, Place | None]:
        path, key = place
        files, labels, classes = self.listing.files, self.listing.labels, self.listing.classes

        def fill(put: cache.Put) -> None:
            decode_all(files, self.what, put, shape, size, resize)

        if not is_large(len(files) * math.prod(shape)):
            images = np.empty((len(files), *shape), dtype=np.uint8)
            fill(images.__setitem__)
            return Dataset(torch.from_numpy(images), torch.tensor(labels), classes, self.name), place
        self._to_the_disk(len(files) * math.prod(shape), path)
        try:
            cache.write(path, key, self.name, classes, labels, shape, fill)
            streamed = cache.read(path, key)
        except OSError as error:
            raise self._no_space(f"could not be written ({error.strerror or error})", path) from error
        if streamed is None:
            raise self._no_space("could not be read again", path)
        return streamed, None

    def _to_the_disk(self, needed: int, path: Path) -> None:
        """Report that they stay on the disk, and check the space before the work, which may take an hour."""
        there = next(folder for folder in path.parents if folder.is_dir())
        free = shutil.disk_usage(there).free
        say_once(f"the {len(self.listing.samples):,} images in {self.what!r} take {needed / 2**30:,.1f} GiB decoded, "
                 f"more than half of the free memory, so they are stored in {str(path.parent)!r} and read while they "
                 "are used")  # fmt: skip
        if needed > free:
            raise self._no_space(f"need {needed / 2**30:,.1f} GiB, and only {free / 2**30:,.1f} GiB are free", path)

    def _no_space(self, what: str, path: Path) -> CourseError:
        return CourseError(
            f"The {len(self.listing.samples):,} images in {self.what!r}, which do not fit into memory, {what} in "
            f"{str(path.parent)!r}; free some space there, set ALEXNET_COURSE_CACHE to another folder, or give fewer "
            "or smaller ones."
        )


def _state(files: list[str], tree: Path) -> str:
    """A digest of the files' names, inodes, sizes and times: as long as it is the same, the cache is up to date.

    With the inodes, two folders that have swapped their names are noticed.
    """
    digest = blake2b(digest_size=16)
    for file in sorted(files):
        try:
            status = os.stat(file)
        except OSError as error:  # a link that leads nowhere
            raise unreadable(file, f" ({error.strerror})") from error
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
            raise unreadable(file, " (not a file)")
        name = file[len(str(tree)) :].encode("utf-8", "surrogateescape")  # which need not be valid UTF-8
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0".encode())
    return digest.hexdigest()
