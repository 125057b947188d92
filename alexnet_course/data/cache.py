"""The cache: downloads, and decoded images in one safetensors file, which is verified each time it is read.

For images that do not fit into memory, only the digests in the file are read at first, and the images as needed.
"""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alexnet_course.data.dataset import DIGEST, Dataset, digest_of, fingerprint_of
from alexnet_course.data.memory import is_large
from alexnet_course.files import expanded, refuse_what_is_no_file, whole_file

Put = Callable[[int, np.ndarray], None]  # the number of an image, and its pixels: uint8 C×H×W


def cache_dir() -> Path:
    """The folder for downloads and decoded images: ``$ALEXNET_COURSE_CACHE``, else ``~/.cache/alexnet-course``."""
    return expanded(os.environ.get("ALEXNET_COURSE_CACHE") or "~/.cache/alexnet-course")


def keep(dataset: Dataset, path: Path, key: str) -> None:
    """Store ``dataset`` in ``path`` under ``key``, which identifies what it was made from.

    A failure costs the next run a few seconds and nothing else, so it is a warning.
    """

    def fill(put: Put) -> None:
        for number, pixels in enumerate(dataset.images.numpy()):
            put(number, pixels)

    shape = tuple(dataset.images.shape[1:])
    try:
        write(path, key, dataset.name, dataset.classes, dataset.labels.tolist(), shape, fill)
    except OSError as error:
        warnings.warn(
            f"The images of {dataset.name!r} could not be stored in {str(path.parent)!r} ({error}), so the next run "
            "has to make them again; free some space there, or set ALEXNET_COURSE_CACHE to another folder.",
            stacklevel=4,  # the line that called load_dataset
        )


def write(
    path: Path,
    key: str,
    name: str,
    classes: Sequence[str],
    labels: Sequence[int],
    shape: tuple[int, ...],
    fill: Callable[[Put], object],
) -> None:
    """Write images of one ``shape`` into a file for ``read``, one by one, so that they are never all in memory.

    ``fill`` calls its argument for each image, in any order and from any thread. The file appears complete or not at
    all; raises ``OSError`` where the disk cannot store it. Its layout is that of safetensors: the length of a header,
    the header in JSON, then the tensors.
    """
    count, size = len(labels), int(np.prod(shape))
    at = np.cumsum([0, 8 * count, DIGEST * count, size * count]).tolist()
    tensors = {"labels": ("I64", [count]), "digests": ("U8", [count, DIGEST]), "images": ("U8", [count, *shape])}
    digests = np.zeros((count, DIGEST), dtype=np.uint8)

    def header(fingerprint: str) -> bytes:
        about = {"key": key, "fingerprint": fingerprint, "classes": json.dumps(list(classes)), "name": name}
        layout = {
            tensor: {"dtype": kind, "shape": form, "data_offsets": at[number : number + 2]}
            for number, (tensor, (kind, form)) in enumerate(tensors.items())
        }
        text = json.dumps({"__metadata__": about, **layout}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, open(part, "wb") as file:
        begin = len(header("0" * 2 * DIGEST))
        writing = Lock()

        def put(number: int, pixels: np.ndarray) -> None:
            row = np.ascontiguousarray(pixels)
            digests[number] = np.frombuffer(digest_of(classes[labels[number]], row), dtype=np.uint8)
            with writing:
                file.seek(begin + at[2] + number * size)
                file.write(row.data)

        fill(put)
        file.seek(0)
        file.write(header(fingerprint_of(digests)))
        file.write(np.array(labels, dtype="<i8").tobytes())
        file.write(digests.tobytes())


def read(path: Path, key: str) -> Dataset | None:
    """The data set stored in ``path``, or None if there is none, if its key differs, or if the file is damaged.

    The fingerprint is computed again from the pixels, so damage is found wherever it is. If there are too many pixels
    for the memory, the data set is ``streamed``: the fingerprint is computed from the digests that were made when the
    pixels were written, and no pixel is read.
    """
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            classes = tuple(json.loads(about["classes"]))
            images: Tensor = file.get_tensor("images")  # a memory map
            streamed = is_large(images.nbytes)
            dataset = Dataset(images, file.get_tensor("labels"), classes, about["name"], streamed=streamed)
            if streamed:
                dataset = dataset.with_digests(file.get_tensor("digests"))
        return dataset if dataset.fingerprint == about["fingerprint"] else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def key_of(path: Path) -> str | None:
    """The key of the file ``path``; None if it is not a file of this kind."""
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("key")
    except (OSError, SafetensorError):
        return None
