"""How far a run is, and how long it has taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """One epoch. Losses are mean cross-entropies, accuracies fractions of 1; the training figures are those of the
    augmented pictures, with dropout, while the weights moved. ``lr`` is the rate of the epoch's last step; ``seconds``
    are those of the whole epoch, ``images_per_second`` counts its training part alone."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    images_per_second: float


class Stopwatch:
    """The seconds that an epoch has been trained for, without those inside ``with stopwatch.paused()``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        self.seconds = self.read()
        self._since = None

    def read(self) -> float:
        return self.seconds + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        running = self._since is not None
        self.stop()
        yield
        if running:
            self.start()
