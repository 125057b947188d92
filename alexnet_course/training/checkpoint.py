"""A checkpoint: the state of a run and of every random generator, in one file that cannot execute code."""

from __future__ import annotations

import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
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


def random_state(device: torch.device) -> dict[str, Any]:
    """Every global random generator: Python's, numpy's, torch's, and the device's own where it has one."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo what happened since ``random_state``. A generator whose state was not saved is left alone."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
