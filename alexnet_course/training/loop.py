"""The training loop, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alexnet_course.training.hooks import Hook
from alexnet_course.training.progress import EpochResult
from alexnet_course.training.trainer import Trainer


def epochs(trainer: Trainer, hooks: Sequence[Hook] = ()) -> Iterator[EpochResult]:
    """Train until the recipe's last epoch, or until the recipe ends the run earlier; yields one result per epoch.

    The ``hooks`` observe, save and stop. After a checkpoint was loaded, its epoch is resumed where it was saved.
    """

    def after_batch() -> None:
        for hook in hooks:
            hook.on_evaluation_batch(trainer)

    while not trainer.over:
        with trainer.computing():
            for hook in hooks:
                hook.on_epoch_start(trainer)
            trainer.start_epoch()
            for images, labels in trainer.batches():
                trainer.step(images, labels)
                for hook in hooks:
                    hook.on_step(trainer)
            trainer.end_training()  # waits until the device has finished all steps
            result = trainer.end_epoch(trainer.validate(after_batch))
            for hook in hooks:
                hook.on_epoch_end(trainer, result)
        yield result
