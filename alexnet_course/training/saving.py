"""The hook that saves a run in its folder, so that it can go on after whatever ends the process."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from alexnet_course.training.folder import RunFolder
from alexnet_course.training.hooks import Hook
from alexnet_course.training.progress import EpochResult
from alexnet_course.training.trainer import Trainer


class Checkpoints(Hook):
    """Save ``state()`` in ``folder`` after every epoch and, unless that is 0, after every ``every_steps`` steps of one.

    The save after an epoch is left out where the last one is less than ``every_seconds`` ago, but for the last epoch.
    Of several processes, only the main one has the folder; the others have None and add what is theirs to the state.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        state: Callable[[], dict[str, Any]],
        every_steps: int = 0,
        every_seconds: float = 0.0,
    ) -> None:
        self.folder = folder
        self.state = state
        self.every_steps = every_steps
        self.every_seconds = every_seconds
        self._saved_at = time.perf_counter()

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the run."""
        clock = time.perf_counter()
        with trainer.stopwatch.paused():  # saving is not training
            state = self.state()
            if self.folder is None:
                return
            try:
                self.folder.save(state, trainer.steps_done)
            except OSError as error:
                warnings.warn(f"The checkpoint of step {trainer.steps_done} could not be saved in {self.folder.path} "
                              f"({error}); training goes on, so {self.folder.remedy} before it ends.",
                              stacklevel=5)  # fmt: skip
            self._saved_at = time.perf_counter()
            trainer.wall_seconds += self._saved_at - clock

    def on_epoch_start(self, trainer: Trainer) -> None:
        if self.folder is not None:
            self.folder.check_held()

    def on_step(self, trainer: Trainer) -> None:
        if self.every_steps and trainer.steps_of_epoch % self.every_steps == 0:
            trainer.check_finite()
            self.save(trainer)

    def on_epoch_end(self, trainer: Trainer, result: EpochResult) -> None:
        due = self.folder is not None and time.perf_counter() - self._saved_at >= self.every_seconds
        if trainer.over or trainer.group.any(due):
            self.save(trainer)
