"""``folder:PATH``: a tree ``PATH/{train,test}/CLASS/PICTURE``, read through torchvision, decoded once and cached."""

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from alexnet_course.data import cache
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError

SPLITS = ("train", "test")

_PROGRESS_FROM = 2000  # files; fewer are decoded before a bar would be read
_TASK = 256  # files a task of the thread pool: 60,000 tasks of one file would cost more than they share out


def load_folder(path: Path, split: str, root: Path) -> Dataset:
    """The pictures of ``path/split``, 3×H×W all of one size, classes in alphabetical order.

    ``path`` has ``train`` and ``test``, each with one folder a class and the same classes in both. The decoded pictures
    are kept under ``root`` and read from there for as long as no file's name, size or modification time changes. The
    data set is called ``folder:`` and the last component of ``path``, or, if its fingerprint is a published data set's,
    by that name. Raises ``CourseError`` for a tree that is not so.
    """
    listing = {part: _list(path, part) for part in SPLITS}
    differing = sorted(set(listing["train"].classes) ^ set(listing["test"].classes))
    if differing:
        where = "train" if differing[0] in listing["train"].classes else "test"
        raise CourseError(
            f"{str(path)!r} has different classes in train and test: {differing[0]!r} is only in {where}; give both "
            "the same class folders."
        )
    files = [file for file, _ in listing[split].samples]
    classes = tuple(listing[split].classes)
    tree = path.resolve() / split
    kept = root / "folders" / f"{blake2b(str(tree).encode(), digest_size=16).hexdigest()}.safetensors"
    key = _state(files, path / split)
    dataset = cache.read(kept, key)
    if dataset is None:
        labels = torch.tensor([label for _, label in listing[split].samples], dtype=torch.int64)
        dataset = Dataset(_decode(files, str(path / split)), labels, classes, f"folder:{path.resolve().name}")
        cache.keep(dataset, kept, key)
    return dataset.renamed(KNOWN_FINGERPRINTS.get(dataset.fingerprint, dataset.name))


def _list(path: Path, split: str) -> Any:
    """The torchvision ``ImageFolder`` of ``path/split``: its ``classes``, and its ``samples`` in a fixed order."""
    from torchvision.datasets import ImageFolder  # here, so that importing the package does not take its seconds

    tree = path / split
    if not path.is_dir():
        raise CourseError(
            f"There is no folder {str(path)!r}; expected one with train and test in it, so check the path after "
            "'folder:'."
        )
    if not tree.is_dir():
        raise CourseError(
            f"{str(path)!r} has no folder {split!r}; expected train and test, each with one folder a class, so add it."
        )

    class Visible(ImageFolder):
        """Passes over what file managers and notebooks leave: ``.DS_Store``, ``.ipynb_checkpoints``, ``Thumbs.db``."""

        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            classes = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and entry.name[0] != ".")
            if not classes:
                raise CourseError(
                    f"{directory!r} has no class folders; expected one a class with its pictures in it, so sort them "
                    "that way."
                )
            return classes, {name: number for number, name in enumerate(classes)}

    def is_picture(file: str) -> bool:
        inner = file[len(str(tree)) :].replace(os.sep, "/")
        return "/." not in inner and not inner.endswith(("/Thumbs.db", "/desktop.ini"))

    listing = Visible(str(tree), is_valid_file=is_picture, allow_empty=True)
    empty = set(range(len(listing.classes))) - set(listing.targets)
    if empty:
        raise CourseError(
            f"The class folder {str(tree / listing.classes[min(empty)])!r} is empty; put pictures in it, or remove the "
            "class from train and test."
        )
    return listing


def _state(files: list[str], tree: Path) -> str:
    """A digest of the files' names, sizes and modification times: while it stays, the cached pixels are theirs."""
    digest = blake2b(digest_size=16)
    for file in sorted(files):
        try:
            status = os.stat(file)
        except OSError as error:  # a link that leads nowhere
            raise _unreadable(file, f" ({error.strerror})") from error
        digest.update(f"{file[len(str(tree)) :]}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _decode(files: list[str], what: str) -> torch.Tensor:
    """The pictures in ``files`` as uint8 N×3×H×W. H×W is the size of the first; another size is an error."""
    first = _read(files[0])
    images = np.empty((len(files), *first.shape), dtype=np.uint8)

    def decode(start: int) -> int:
        part = files[start : start + _TASK]
        for number, file in enumerate(part, start):
            pixels = _read(file)
            if pixels.shape != first.shape:
                raise CourseError(
                    f"{file!r} is {pixels.shape[2]}×{pixels.shape[1]} pixels but {files[0]!r} is "
                    f"{first.shape[2]}×{first.shape[1]}; scale all pictures to one size."
                )
            images[number] = pixels
        return len(part)

    bar = tqdm(total=len(files), desc=f"decoding {what}", unit="picture", disable=len(files) < _PROGRESS_FROM)
    with bar, ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        try:
            for count in pool.map(decode, range(0, len(files), _TASK)):
                bar.update(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(images)


def _read(file: str) -> np.ndarray:
    """One picture as uint8 3×H×W."""
    try:
        with Image.open(file) as picture:
            mode, pixels = picture.mode, np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise whatever they come across
        raise _unreadable(file, "" if isinstance(error, UnidentifiedImageError) else f" ({error})") from error
    if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I"):
        raise CourseError(
            f"{file!r} is a grayscale picture (mode {mode}); expected colour, so convert all pictures to RGB."
        )
    return pixels.transpose(2, 0, 1)


def _unreadable(file: str, reason: str) -> CourseError:
    return CourseError(
        f"{file!r} cannot be read as a picture{reason}; expected a PNG, JPEG or other image file, so replace it or "
        "move it out of the tree."
    )
