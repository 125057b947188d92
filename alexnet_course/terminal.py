"""Standard output and error, which may not know a character.

They can also be lost while a run goes on: a terminal that is closed, a pipe whose reader has gone.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

# What the course itself prints beyond ASCII, for consoles that know no more.
PLAIN = {
    "×": "x", "±": "+-", "–": "-", "−": "-", "’": "'", "…": "...", "→": "->", "│": "|", "├": "|", "└": "`", "─": "-",
}  # fmt: skip


def _put_plainly(error: UnicodeError) -> tuple[str, int]:
    """What is written instead of characters that a stream cannot take: something like them, or their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in text), error.end


codecs.register_error("put_plainly", _put_plainly)


def print_anything() -> None:
    """Let standard output take every text, whatever its encoding; where the user said what to do instead, that is done.
    Standard error does so already."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="put_plainly")


class Terminal:
    """Standard error for progress, which must never end a run: what cannot be written is dropped."""

    def __init__(self) -> None:
        self._stream: TextIO = sys.stderr or io.StringIO()  # there is none after 2>&-

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # lost, or closed
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode(self._stream.encoding, "put_plainly").decode(self._stream.encoding))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # its encoding, and whether it is a terminal
        return getattr(self._stream, name)


def say(text: str) -> None:
    """One line to standard error, where there is one."""
    print(text, file=Terminal(), flush=True)


def open_lost_streams() -> None:
    """Where the shell has closed a standard stream, put nothing in its place: the next file to be opened would get its
    number, and with it what PyTorch writes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def flush_or_drop() -> None:
    """What standard output and error still hold, and cannot write, must not change the exit status when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # closed
            pass
