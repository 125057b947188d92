"""The hook that saves a run in its folder, so that it can be resumed however the process ends."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar

import torch
from torch import Tensor

from alexnet_course.errors import CourseError
from alexnet_course.files import shown
from alexnet_course.training.folder import RunFolder
from alexnet_course.training.hooks import Hook
from alexnet_course.training.progress import EpochResult
from alexnet_course.training.trainer import Trainer

SHARE = 0.05  # fraction of the time that saving may take by default


class Checkpoints(Hook):
    """Save ``state()`` in ``folder`` after epochs and, unless it is 0, after every ``every_steps`` steps of an epoch.

    The save after an epoch is skipped if the last one is less than ``every_seconds`` ago or, with None, so recent that
    saving would take more than a twentieth of the time. The save after the last epoch is never skipped. With several
    processes, only the main one has the folder; the others have None and add their part to the state.

    On a GPU the state is copied, and a thread writes the copy while training continues, one at a time. On the CPU,
    training waits, since a copy would cost memory and the thread a core.
    """

    background: ClassVar[frozenset[str]] = frozenset({"cuda", "mps"})  # devices with a writing thread

    def __init__(
        self,
        folder: RunFolder | None,
        state: Callable[[], dict[str, Any]],
        every_steps: int = 0,
        every_seconds: float | None = None,
    ) -> None:
        self.folder = folder
        self.state = state
        self.every_steps = every_steps
        self.every_seconds = every_seconds
        self._saved_at = time.perf_counter()
        self._took = 0.0  # seconds that the last save took
        self._copy = HostCopy()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._failure: tuple[int, OSError] | None = None

    def save(self, trainer: Trainer, to_the_end: bool = True) -> None:
        """Write a checkpoint; without ``to_the_end``, return while a thread is still writing it.

        A full disk loses the checkpoint but does not end the run.
        """
        clock = time.perf_counter()
        with trainer.stopwatch.paused():  # saving is not training
            self.settle()  # the next copy uses the same buffers
            state = self.state()
            if self.folder is None:
                return
            if trainer.device.type in self.background:
                state = self._copy.of(state)
                if trainer.device.type == "cuda":
                    torch.cuda.synchronize(trainer.device)
                self._writing = self._writer.submit(self._write, self.folder, state, trainer.steps_done, clock)
            else:
                self._write(self.folder, state, trainer.steps_done, clock)
            if to_the_end or self._writing is None:
                self.settle()
            trainer.wall_seconds += time.perf_counter() - clock

    def _write(self, folder: RunFolder, state: dict[str, Any], step: int, began: float) -> None:
        try:
            folder.save(state, step)
        except OSError as error:
            self._failure = (step, error)
        self._saved_at = time.perf_counter()
        self._took = self._saved_at - began

    def settle(self) -> None:
        """Wait until the thread has finished writing, and warn if it failed."""
        if self._writing is not None:
            wait([self._writing])
            written, self._writing = self._writing, None
            written.result()
        if self._failure is not None and self.folder is not None:
            (step, error), self._failure = self._failure, None
            warnings.warn(f"The checkpoint of step {step} could not be saved in {shown(self.folder.path)} ({error}); "
                          f"training continues, so {self.folder.remedy} before it ends.", stacklevel=6)  # fmt: skip

    def close(self) -> None:
        """Wait for a pending write."""
        self.settle()
        self._writer.shutdown()
        self._copy.release()

    @property
    def _due(self) -> bool:
        pause = self._took * (1 / SHARE - 1) if self.every_seconds is None else self.every_seconds
        return self._writing is None and time.perf_counter() - self._saved_at >= pause

    def on_epoch_start(self, trainer: Trainer) -> None:
        if self.folder is not None:
            self.folder.check_held()

    def on_step(self, trainer: Trainer) -> None:
        if self._writing is not None and self._writing.done():
            self.settle()
        if self.every_steps and trainer.steps_of_epoch % self.every_steps == 0:
            trainer.check_finite()
            self.save(trainer, to_the_end=False)

    def on_epoch_end(self, trainer: Trainer, result: EpochResult) -> None:
        if trainer.over or trainer.group.any(self.folder is not None and self._due):
            self.save(trainer, to_the_end=trainer.over)


class HostCopy:
    """A copy of a state in CPU memory, always in the same buffers, so that there is only one."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[object, ...], Tensor] = {}

    def release(self) -> None:
        """Free the memory, which is as large as the state and may be pinned."""
        self._buffers.clear()

    def of(self, value: Any, path: tuple[object, ...] = ()) -> Any:
        """A copy of ``value``: plain values and tensors in dictionaries and lists.

        Data from a CUDA GPU are complete only after synchronisation.
        """
        if isinstance(value, Tensor):
            buffer = self._buffers.get(path)
            if buffer is None or _layout(buffer) != _layout(value):
                self._buffers.pop(path, None)
                buffer = self._buffers[path] = _host_memory(value)
            return buffer.copy_(value.detach(), non_blocking=value.is_cuda)
        if isinstance(value, dict):
            return {key: self.of(entry, (*path, key)) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.of(entry, (*path, number)) for number, entry in enumerate(value))
        return value


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.shape, tensor.stride()


def _host_memory(like: Tensor) -> Tensor:
    """CPU memory for ``like``, pinned if the system has any left, so that the GPU can write to it directly."""
    if like.is_cuda:
        try:
            return torch.empty_like(like, device="cpu", pin_memory=True)
        except RuntimeError:
            pass
    return torch.empty_like(like, device="cpu")


def check_intervals(steps: int, seconds: float | None) -> None:
    """``CourseError`` for an invalid number of steps or seconds between two checkpoints."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise CourseError(f"checkpoint_steps = {steps!r} is not a number of steps; give an integer, 0 for none within "
                          "an epoch.")  # fmt: skip
    if seconds is None:
        return
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or math.isnan(seconds) or seconds < 0:
        raise CourseError(f"checkpoint_seconds = {seconds!r} is not a time; give seconds, 0 to save after every epoch, "
                          "or leave it out.")  # fmt: skip
