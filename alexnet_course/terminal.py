"""Robust standard output and error: they may lack a character, or be lost during a run.

A stream is lost when its terminal is closed or the reader of its pipe exits.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

# ASCII replacements for the characters that the course prints.
PLAIN = {
    "×": "x", "±": "+-", "–": "-", "−": "-", "’": "'", "…": "...", "→": "->", "│": "|", "├": "|", "└": "`", "─": "-",
}  # fmt: skip


def _put_plainly(error: UnicodeError) -> tuple[str, int]:
    """An error handler for encoding: replace characters that a stream lacks by similar ones or by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in text), error.end


codecs.register_error("put_plainly", _put_plainly)


def print_anything() -> None:
    """Let standard output accept any text, whatever its encoding, unless the user has chosen an error handler.
    Standard error does so already."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="put_plainly")


class Terminal:
    """Standard error for progress messages, which must never end a run: text that cannot be written is dropped."""

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

    def __getattr__(self, name: str) -> Any:  # such as encoding and isatty
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Print one line to standard error, if there is one."""
    print(text, file=Terminal(), flush=True)


def open_lost_streams() -> None:
    """Open the null device for each standard stream that the shell has closed. Otherwise the next file to be opened
    would get its number, and with it what PyTorch writes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def flush_or_drop() -> None:
    """Flush standard output and error, and drop what cannot be written, which would change Python's exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # closed
            pass
