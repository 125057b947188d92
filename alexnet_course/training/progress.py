"""A stopwatch for the training time of an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from alexnet_course.records.record import EpochResult as EpochResult


class Stopwatch:
    """The training time of an epoch in seconds, excluding time inside ``with stopwatch.paused()``."""

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
