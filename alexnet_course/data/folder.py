"""``folder:PATH``: a tree ``PATH/{train,test}/CLASS/PICTURE``, decoded once and cached."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from alexnet_course.data import cache
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.data.memory import free_memory
from alexnet_course.errors import CourseError
from alexnet_course.names import same_form

SPLITS = ("train", "test")
LEFT_BEHIND = ("Thumbs.db", "desktop.ini")

_PROGRESS_FROM = 2000  # files; fewer are decoded before a bar would be read
_TASK = 256  # files a task of the thread pool: 60,000 tasks of one file would cost more than they share out


def load_folder(path: Path, split: str, root: Path) -> Dataset:
    """The pictures of ``path/split``, 3×H×W all of one size, classes in alphabetical order.

    ``path`` has ``train`` and ``test``, each with one folder a class and the same classes in both. The decoded pictures
    are kept under ``root`` and read from there for as long as no file changes. A picture is turned as its camera noted
    that it was held, and what is transparent becomes white. The
    data set is called ``folder:`` and the last component of ``path``, or, if its fingerprint is a published data set's,
    by that name. Raises ``CourseError`` for a tree that is not so.
    """
    listing = {part: _list(path, part) for part in SPLITS}
    names = {part: set(map(same_form, listing[part].classes)) for part in SPLITS}
    differing = sorted(names["train"] ^ names["test"])
    if differing:
        where = "train" if differing[0] in names["train"] else "test"
        raise CourseError(
            f"{str(path)!r} has different classes in train and test: {differing[0]!r} is only in {where}; give both "
            "the same class folders."
        )
    files = [file for file, _ in listing[split].samples]
    classes = listing[split].classes
    tree = path.resolve() / split
    kept = root / "folders" / f"{blake2b(os.fsencode(tree), digest_size=16).hexdigest()}.safetensors"
    key = _state(files, path / split)
    dataset = cache.read(kept, key)
    if dataset is None:
        labels = torch.tensor([label for _, label in listing[split].samples], dtype=torch.int64)
        dataset = Dataset(_decode(files, str(path / split)), labels, classes, f"folder:{path.resolve().name}")
        cache.keep(dataset, kept, key)
    return dataset.renamed(KNOWN_FINGERPRINTS.get(dataset.fingerprint, dataset.name))


@dataclass(frozen=True)
class Listing:
    """What a split holds: its classes in alphabetical order, and each file with the number of its class."""

    classes: tuple[str, ...]
    samples: tuple[tuple[str, int], ...]


def _list(path: Path, split: str) -> Listing:
    """The pictures of ``path/split`` in a fixed order."""
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
    try:
        found = (entry.name for entry in os.scandir(tree) if entry.is_dir() and entry.name[0] != ".")
        classes = tuple(sorted(found, key=same_form))  # or one split of two might come from a Mac, and count otherwise
    except OSError as error:
        raise _closed(error) from None
    if not classes:
        raise CourseError(
            f"{str(tree)!r} has no class folders; expected one a class with its pictures in it, so sort them that way."
        )
    if len(classes) == 1:
        raise CourseError(
            f"{str(tree)!r} has one class folder alone, {classes[0]!r}; expected one for each of two classes or more, "
            "so give the folder in which train and test hold the classes themselves."
        )
    samples: list[tuple[str, int]] = []
    for number, name in enumerate(classes):
        files = picture_files(tree / name)
        if not files:
            raise CourseError(
                f"The class folder {str(tree / name)!r} is empty; put pictures in it, or remove the class from train "
                "and test."
            )
        samples += [(file, number) for file in files]
    return Listing(classes, tuple(samples))


def picture_files(folder: Path) -> list[str]:
    """The files below ``folder``, but for what file managers and notebooks leave there: ``.DS_Store``, ``Thumbs.db``,
    ``.ipynb_checkpoints``. ``CourseError`` where a folder cannot be opened: its pictures are not none."""

    def stop(error: OSError) -> None:
        raise _closed(error)

    found = []
    for parent, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [os.path.join(parent, name) for name in files if name[0] != "." and name not in LEFT_BEHIND]
    return sorted(found, key=lambda file: (os.path.dirname(file), os.path.basename(file)))


def _closed(error: OSError) -> CourseError:
    return CourseError(
        f"The folder {str(error.filename)!r} cannot be opened ({error.strerror}); give yourself the right to read it, "
        "or move it out of the tree."
    )


def _state(files: list[str], tree: Path) -> str:
    """A digest of the files' names, numbers, sizes and times: while it stays, the cached pixels are theirs.

    The number is the file system's own (its inode), so that two folders which have changed their names are noticed.
    """
    digest = blake2b(digest_size=16)
    for file in sorted(files):
        try:
            status = os.stat(file)
        except OSError as error:  # a link that leads nowhere
            raise _unreadable(file, f" ({error.strerror})") from error
        if not stat.S_ISREG(status.st_mode):  # a pipe, on which one would wait, or a device without an end
            raise _unreadable(file, " (not a file)")
        name = file[len(str(tree)) :].encode("utf-8", "surrogateescape")  # which may be no text in UTF-8
        digest.update(name + f"\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0".encode())
    return digest.hexdigest()


def _decode(files: list[str], what: str) -> torch.Tensor:
    """The pictures in ``files`` as uint8 N×3×H×W. H×W is the size of the first; another size is an error."""
    first = read_picture(files[0])
    needed, free = len(files) * first.size, free_memory()
    if free is not None and needed > free:  # or the system would end the process, in the middle
        raise CourseError(
            f"The {len(files):,} images of {what!r} need {needed / 2**30:,.1f} GiB of memory, and only "
            f"{free / 2**30:,.1f} GiB are free; give fewer or smaller ones, or use a machine with more."
        )
    images = np.empty((len(files), *first.shape), dtype=np.uint8)

    def decode(start: int) -> int:
        part = files[start : start + _TASK]
        for number, file in enumerate(part, start):
            pixels = read_picture(file)
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


def read_picture(file: str) -> np.ndarray:
    """One picture as uint8 3×H×W."""
    try:
        with Image.open(file) as picture:
            mode = picture.mode
            upright = ImageOps.exif_transpose(picture)  # as cameras note how they were held
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            pixels = np.asarray(upright.convert("RGB"))
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
