"""Ctrl-C, SIGTERM and SIGHUP as a wish that the trainer fulfils at the next good moment, with everything saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# SIGHUP: the terminal was closed. Windows does not have it.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
WATCHED = (signal.SIGINT, signal.SIGTERM, *([HANGUP] if HANGUP is not None else []))


class StopWish:
    """Inside ``with wish:`` the first of these signals is only noted, in ``wish.signal``; a second one acts as usual.

    But for SIGHUP: of a terminal that is closed, system and shell both tell, and the second must not end the saving.
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
        self.signal = self.signal or signal.Signals(number)
        self._restore(but=HANGUP)

    def _restore(self, but: signal.Signals | None = None) -> None:
        for number, handler in list(self._before.items()):
            if number != but:
                signal.signal(number, handler)
                self._before.pop(number, None)  # a signal may come now, and do the same

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
