"""Checkpoints: the state of a run and of its random generators, in one file that cannot execute code."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from alexnet_course.errors import CourseError, first_line
from alexnet_course.files import present, shown
from alexnet_course.training.faults import is_out_of_memory

FORMAT = "alexnet-course/checkpoint-1"


class DamagedCheckpoint(CourseError):
    """A checkpoint file that is damaged; the previous checkpoint should be used instead."""


class _Disk(io.FileIO):
    """A file that remembers a read error, which PyTorch may report as something else."""

    error: OSError | None = None

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.error = error
            raise


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, which has plain values and tensors; ``OSError`` if it cannot be written."""
    try:
        torch.save({"format": FORMAT, **state}, path)
    except RuntimeError as error:  # PyTorch's error for a failed write
        raise OSError(f"{first_line(error)}; is the disk full?") from None


def read_back(path: Path) -> None:
    """Read a checkpoint that was just written and discard it: ``CourseError`` if a run could not resume from it,
    ``OSError`` if it cannot be read now."""
    try:
        read_checkpoint(path, "meta")
    except DamagedCheckpoint as error:
        raise CourseError(f"The first checkpoint of the run cannot be read back as written: {error!s:.300} Give a "
                          "folder on another disk.") from None  # fmt: skip
    except CourseError:
        raise CourseError("The first checkpoint of the run holds more than numbers, texts and tensors, so the run "
                          "could not resume from it; let its hooks and its network keep only those."
                          ) from None  # fmt: skip


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, with its tensors on ``device``.

    Raises ``DamagedCheckpoint``, a ``CourseError``, if the file is damaged; ``CourseError`` if it is intact but not a
    checkpoint, would execute code, or does not fit into memory; ``OSError`` if it cannot be read now.
    """
    name = repr(shown(path))
    if not path.is_file() and present(path):
        raise CourseError(f"{name} is not a file; move it out of the folder.")
    with _Disk(path) as disk:
        try:
            file = io.BufferedReader(disk)
            with zipfile.ZipFile(file) as archive:  # torch.load does not verify its checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"wrong checksum of {damaged.partition('/')[2]}")
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        except pickle.UnpicklingError:
            raise CourseError(f"{name} holds objects that could execute code, so it is not opened; move it out of the "
                              "folder.") from None  # fmt: skip
        except Exception as error:  # a damaged file may fail in any way
            if disk.error is not None:
                raise disk.error from None
            reason = first_line(error)
            if isinstance(error, MemoryError) or is_out_of_memory(error):
                raise CourseError(f"{name} does not fit into memory ({reason}); free some memory.") from None
            raise DamagedCheckpoint(f"{name} is damaged ({reason}).") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CourseError(f"{name} is not a checkpoint of this version of the course; move it out of the folder.")
    return state
