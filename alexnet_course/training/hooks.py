"""What may look on while a network trains, save it, or stop it, without the loop knowing."""

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
    """Give objects of a subclass to ``train(hooks=…)``: the loop calls each of these, which do nothing by themselves.

    What a hook raises ends the run. Its time counts as training. What it draws from the global random generators is
    drawn from the run's. A hook that must know after an interruption what it knew before says so in ``state_dict``.
    """

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch, or before the next one where a run goes on inside an epoch."""

    def on_step(self, trainer: Trainer) -> None:
        """After every optimiser step."""

    def on_evaluation_batch(self, trainer: Trainer) -> None:
        """After every batch of held-out or test images."""

    def on_epoch_end(self, trainer: Trainer, result: EpochResult) -> None:
        """After an epoch, its validation included."""

    def on_end(self, trainer: Trainer) -> None:
        """After the last epoch, before the test images are looked at; again where a run goes on from there."""

    def state_dict(self) -> dict[str, Any]:
        """What to save with the run: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken. Called only where there is one that is not empty."""


@dataclass
class Call(Hook):
    """Call a function without arguments after every step."""

    after_step: Callable[[], object]

    def on_step(self, trainer: Trainer) -> None:
        self.after_step()


class Stop(Hook):
    """Stop where it was asked for, once the run is saved: by Ctrl-C or SIGTERM, by ``ask``, or after a deadline.

    ``save`` saves the run, ``kept`` says what is kept of it, as the end of the message. ``deadline`` is a
    ``time.monotonic()``.
    """

    def __init__(self, save: Callable[[], object], kept: str, deadline: float | None = None) -> None:
        self.signals = StopWish()  # notes the signals inside ``with stop.signals``
        self.save = save
        self.kept = kept
        self.deadline = deadline
        self._asked_by = ""

    def ask(self, by: str) -> None:
        """Let the run stop after its next step; ``by`` is the end of "Stopped by …"."""
        self._asked_by = by

    def heed(self, trainer: Trainer) -> None:
        wish = self.signals.signal
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.ask("its deadline")
        by, group = wish.name if wish is not None else self._asked_by, trainer.group
        if not group.any(bool(by)):
            return
        by, wish = next(asked for asked in group.gather((by, wish)) if asked[0])  # where only another was asked to
        self.save()
        group.any(False)  # nobody leaves before all is saved: torchrun ends the others with the first
        stopped = TrainingStopped(f"Stopped by {by} at step {trainer.steps_done:,} of {trainer.steps:,}; {self.kept}.")
        stopped.signal = wish
        raise stopped

    def on_epoch_start(self, trainer: Trainer) -> None:
        self.heed(trainer)

    def on_step(self, trainer: Trainer) -> None:
        self.heed(trainer)

    def on_evaluation_batch(self, trainer: Trainer) -> None:
        if trainer.group.size == 1:  # several do not wait for each other inside an evaluation, but stop after it
            self.heed(trainer)
