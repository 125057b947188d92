"""Ctrl-C, SIGTERM and SIGHUP as requests that the trainer fulfils after the current step, with everything saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# SIGHUP: the terminal was closed. Windows does not have it.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
WATCHED = (signal.SIGINT, signal.SIGTERM, *([HANGUP] if HANGUP is not None else []))


class StopWish:
    """Inside ``with wish:`` the first of these signals is only stored in ``wish.signal``; a second one acts as usual.

    SIGHUP is an exception: when a terminal is closed, both the system and the shell send it, and the second one must
    not interrupt the saving. Python delivers signals to the main thread; in another thread this does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopWish:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in WATCHED}
            # A signal that is ignored, as in a shell's background job, stays ignored.
            self._before = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        self._restore(but=HANGUP)

    def _restore(self, but: signal.Signals | None = None) -> None:
        for number, handler in list(self._before.items()):
            if number != but:
                signal.signal(number, handler)
                self._before.pop(number, None)  # a signal may arrive now, and do the same

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
