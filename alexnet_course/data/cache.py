"""Where downloads are kept, and decoded pictures kept as one safetensors file that is verified whenever it is read."""

import json
import os
import warnings
from pathlib import Path

from safetensors import SafetensorError, safe_open

from alexnet_course.data.dataset import Dataset
from alexnet_course.files import expanded, refuse_what_is_no_file, write_tensors


def cache_dir() -> Path:
    """The folder for downloads and decoded pictures: ``$ALEXNET_COURSE_CACHE``, else ``~/.cache/alexnet-course``."""
    return expanded(os.environ.get("ALEXNET_COURSE_CACHE") or "~/.cache/alexnet-course")


def keep(dataset: Dataset, path: Path, key: str) -> None:
    """Keeps ``dataset`` in ``path`` under ``key``, which says what it was made from.

    A failure costs the next run some seconds and this one nothing, so it is only warned of.
    """
    about = {
        "key": key,
        "fingerprint": dataset.fingerprint,
        "classes": json.dumps(dataset.classes),
        "name": dataset.name,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"images": dataset.images, "labels": dataset.labels}, about)
    except OSError as error:
        warnings.warn(
            f"The pictures of {dataset.name!r} could not be kept in {str(path.parent)!r} ({error}), so the next run "
            "makes them again; free some space there, or name another folder in ALEXNET_COURSE_CACHE.",
            stacklevel=4,  # the line that called load_dataset
        )


def read(path: Path, key: str) -> Dataset | None:
    """The data set kept in ``path``, or None where there is none, its key is another, or the file is damaged.

    The fingerprint is computed again from the pixels, so that a damaged file is found out wherever the damage is.
    """
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            classes = tuple(json.loads(about["classes"]))
            dataset = Dataset(file.get_tensor("images"), file.get_tensor("labels"), classes, about["name"])
        return dataset if dataset.fingerprint == about["fingerprint"] else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
