"""A checkpoint: the state of a run and of every random generator, in one file that cannot execute code."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from alexnet_course.errors import CourseError
from alexnet_course.files import present, shown
from alexnet_course.training.faults import is_out_of_memory

FORMAT = "alexnet-course/checkpoint-1"


class DamagedCheckpoint(CourseError):
    """A file that is not what was written: the checkpoint before it is as good as there is."""


class _Disk(io.FileIO):
    """A file that notes what the disk could not give, whoever takes the error for something else."""

    error: OSError | None = None

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.error = error
            raise


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, plain values and tensors; ``OSError`` where the disk does not take it."""
    try:
        torch.save({"format": FORMAT, **state}, path)
    except RuntimeError as error:  # PyTorch's way to say that a write failed
        raise OSError(f"{str(error).splitlines()[0]}; is the disk full?") from None


def read_back(path: Path) -> None:
    """``CourseError`` where a checkpoint that was just written could not be gone on from; ``OSError`` where it cannot
    be read now. As much is read as there is, but none of it is kept."""
    try:
        read_checkpoint(path, "meta")
    except DamagedCheckpoint as error:
        raise CourseError(f"The first checkpoint of the run is not read as it was written: {error!s:.300} Give a "
                          "folder on another disk.") from None  # fmt: skip
    except CourseError:
        raise CourseError("The first checkpoint of the run holds more than numbers, texts and tensors, so nothing "
                          "could go on from it; let its hooks and its network keep those alone.") from None  # fmt: skip


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """One checkpoint, its tensors on ``device``.

    ``DamagedCheckpoint``, a ``CourseError``, where the file is not what was written; ``CourseError`` where it is whole,
    but something else, would execute code, or does not fit into memory; ``OSError`` where it cannot be read now.
    """
    name = repr(shown(path))
    if not path.is_file() and present(path):
        raise CourseError(f"{name} is not a file; move it out of the folder.")
    with _Disk(path) as disk:
        try:
            file = io.BufferedReader(disk)
            with zipfile.ZipFile(file) as archive:  # torch.load does not look at the check sums in it
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"wrong check sum of {damaged.partition('/')[2]}")
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        except pickle.UnpicklingError:
            raise CourseError(f"{name} holds more than numbers and texts, which could execute code, so it is not "
                              "opened; move it out of the folder.") from None  # fmt: skip
        except Exception as error:  # whatever noise in a file can lead to
            if disk.error is not None:
                raise disk.error from None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if isinstance(error, MemoryError) or is_out_of_memory(error):
                raise CourseError(f"{name} does not fit into memory ({reason}); give it more.") from None
            raise DamagedCheckpoint(f"{name} is damaged ({reason}).") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CourseError(f"{name} is not a checkpoint of this version of the course; move it out of the folder.")
    return state
