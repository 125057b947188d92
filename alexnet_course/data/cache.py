"""Where downloads are kept, and decoded pictures kept as one safetensors file that is verified whenever it is read."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alexnet_course.data.dataset import Dataset


def cache_dir() -> Path:
    """The folder for downloads and decoded pictures: ``$ALEXNET_COURSE_CACHE``, else ``~/.cache/alexnet-course``."""
    return Path(os.environ.get("ALEXNET_COURSE_CACHE") or "~/.cache/alexnet-course").expanduser()


def write(dataset: Dataset, path: Path, key: str) -> None:
    """Keeps ``dataset`` in ``path`` under ``key``, which says what it was made from.

    The file appears whole or not at all: it is written beside ``path``, flushed to the disk, then renamed. Raises
    ``OSError`` or ``SafetensorError`` where it cannot be written.
    """
    about = {
        "key": key,
        "fingerprint": dataset.fingerprint,
        "classes": json.dumps(dataset.classes),
        "name": dataset.name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        save_file({"images": dataset.images, "labels": dataset.labels}, unfinished, metadata=about)
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path, key: str) -> Dataset | None:
    """The data set kept in ``path``, or None where there is none, its key is another, or the file is damaged.

    The fingerprint is computed again from the pixels, so that a damaged file is found out wherever the damage is.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            classes = tuple(json.loads(about["classes"]))
            dataset = Dataset(file.get_tensor("images"), file.get_tensor("labels"), classes, about["name"])
        return dataset if dataset.fingerprint == about["fingerprint"] else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
