"""A checkpoint: the state of a run and of every random generator, in one file that cannot execute code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from alexnet_course.errors import CourseError

FORMAT = "alexnet-course/checkpoint-1"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, plain values and tensors; ``OSError`` where the disk does not take it."""
    try:
        torch.save({"format": FORMAT, **state}, path)
    except RuntimeError as error:  # PyTorch's way to say that a write failed
        raise OSError(f"{str(error).splitlines()[0]}; is the disk full?") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """One checkpoint, on the CPU; ``CourseError`` where the file is damaged, something else, or would execute code."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the check sums in it
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong check sum of {damaged.partition('/')[2]}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CourseError(f"{str(path)!r} holds more than numbers and texts, which could execute code, so it is not "
                          "opened.") from None  # fmt: skip
    except Exception as error:  # whatever noise in a file can lead to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CourseError(f"{str(path)!r} is damaged ({reason}).") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CourseError(f"{str(path)!r} is not a checkpoint of this version of the course.")
    return state
