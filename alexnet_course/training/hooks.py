"""Hooks: objects that observe, save or stop a training run without any change to the loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alexnet_course.training.faults import TrainingStopped
from alexnet_course.training.signals import StopWish

if TYPE_CHECKING:
    from alexnet_course.training.progress import EpochResult
    from alexnet_course.training.trainer import Trainer


class Hook:
    """The base class of hooks. Pass instances of a subclass to ``train(hooks=…)``; the methods do nothing by default.

    An exception in a hook ends the run. Time in a hook counts as training, and random numbers drawn from the global
    generators come from the run's. State that a hook needs when a run is resumed belongs in ``state_dict``.
    """

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Called before the first step of an epoch, or before the next one if a run is resumed within an epoch."""

    def on_step(self, trainer: Trainer) -> None:
        """Called after every optimiser step."""

    def on_evaluation_batch(self, trainer: Trainer) -> None:
        """Called after every batch of validation or test images."""

    def on_epoch_end(self, trainer: Trainer, result: EpochResult) -> None:
        """Called after an epoch, including its validation."""

    def on_end(self, trainer: Trainer) -> None:
        """Called after the last epoch, before the evaluation on the test images; again if a run is resumed there."""

    def state_dict(self) -> dict[str, Any]:
        """State to save with the run: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``. Called only if one was saved and it is not empty."""


@dataclass
class Call(Hook):
    """Call a function without arguments after every step."""

    after_step: Callable[[], object]

    def on_step(self, trainer: Trainer) -> None:
        self.after_step()


class Stop(Hook):
    """Save and stop the run on Ctrl-C or SIGTERM, after ``ask``, or after a deadline.

    ``save`` saves the run; ``kept`` ends the message, and says what was saved. ``deadline`` is a
    ``time.monotonic()``.
    """

    def __init__(self, save: Callable[[], object], kept: str, deadline: float | None = None) -> None:
        self.signals = StopWish()  # records signals inside ``with stop.signals``
        self.save = save
        self.kept = kept
        self.deadline = deadline
        self._asked_by = ""

    def ask(self, by: str) -> None:
        """Ask the run to stop after its next step; ``by`` completes "Stopped by …"."""
        self._asked_by = by

    def heed(self, trainer: Trainer) -> None:
        wish = self.signals.signal
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.ask("its deadline")
        by, group = wish.name if wish is not None else self._asked_by, trainer.group
        if not group.any(bool(by)):
            return
        by, wish = next(asked for asked in group.gather((by, wish)) if asked[0])  # perhaps only another process was
        self.save()
        group.any(False)  # wait until all have saved: torchrun ends the others when one exits
        stopped = TrainingStopped(f"Stopped by {by} at step {trainer.steps_done:,} of {trainer.steps:,}; {self.kept}.")
        stopped.signal = wish
        raise stopped

    def on_epoch_start(self, trainer: Trainer) -> None:
        self.heed(trainer)

    def on_step(self, trainer: Trainer) -> None:
        self.heed(trainer)

    def on_evaluation_batch(self, trainer: Trainer) -> None:
        if trainer.group.size == 1:  # several processes do not synchronise inside an evaluation, but stop after it
            self.heed(trainer)
