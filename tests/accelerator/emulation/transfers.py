"""What makes the host wait for the device, noted with the line that asked for it."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from emulation.graphs import FORBIDDEN, RECORDING

READ = "read"  # the host waits for values, or for a size that depends on values
COPY = "copy"  # to the device, from memory that is not pinned or with the host waiting
WAIT = "wait"  # synchronize
QUEUED = "queued"  # from or to pinned memory, in the order of the stream: nobody waits

DEBUG_MODES = {"default": 0, "warn": 1, "error": 2}
debug_mode = 0  # torch.cuda.get_sync_debug_mode()

HERE, TORCH = str(Path(__file__).parent), str(Path(torch.__file__).parent)
LISTENERS: list[list[Transfer]] = []


@dataclass(frozen=True)
class Transfer:
    kind: str
    operation: str
    where: str  # the lines outside of PyTorch that led there, the innermost first

    def __str__(self) -> str:
        return f"{self.kind} ({self.operation}) at {self.where}"


def note(kind: str, operation: object) -> None:
    if RECORDING and kind != QUEUED:
        raise RuntimeError(FORBIDDEN)
    if debug_mode and kind != QUEUED:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
    if not LISTENERS:
        return
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith((HERE, TORCH))]
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1][:3]]
    for listener in LISTENERS:
        listener.append(Transfer(kind, str(operation), " < ".join(lines)))


def set_debug_mode(mode: int | str) -> None:
    """Takes the place of ``torch.cuda.set_sync_debug_mode``."""
    global debug_mode
    warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=2)
    debug_mode = mode if isinstance(mode, int) else DEBUG_MODES[mode]


@contextmanager
def transfers() -> Iterator[list[Transfer]]:
    """The list that grows, inside the ``with``, by everything that is noted."""
    seen: list[Transfer] = []
    LISTENERS.append(seen)
    try:
        yield seen
    finally:
        LISTENERS[:] = [other for other in LISTENERS if other is not seen]
