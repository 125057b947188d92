"""Ctrl-C and SIGTERM as a wish that the trainer fulfils at the next good moment, with everything saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

WATCHED = (signal.SIGINT, signal.SIGTERM)


class StopWish:
    """Inside ``with wish:`` the first SIGINT or SIGTERM is only noted, in ``wish.signal``; a second one acts as usual.

    Python delivers signals to the main thread; in another thread this does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopWish:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in WATCHED}
            # One that is ignored, as in a job that a shell started in the background, stays so.
            self._before = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
