"""Atomic file writes: a file appears complete or not at all, even if the process or the disk fails."""

from __future__ import annotations

import codecs
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_course.errors import CourseError

if TYPE_CHECKING:
    from torch import Tensor

UNFINISHED = ".unfinished"
ABANDONED = 60.0  # seconds without a write after which an unfinished file counts as left by a process that is gone


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path next to ``path`` to write to; at the end it is flushed to disk and renamed to ``path``.

    After an error or a crash, ``path`` is unchanged. Raises ``OSError`` if the file cannot be written, or if ``path``
    exists and is not a regular file.
    """
    refuse_what_is_no_file(path)
    part = beside(path)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        with suppress(OSError):  # a new file has no mode to keep, and some mounted drives have none at all
            shutil.copymode(path, part)
        part.replace(path)
        if os.name == "posix":  # the new name must reach the disk too
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                with suppress(OSError):  # some mounted drives cannot sync a folder
                    os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        discard(part)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or as editors on Windows save it: with a byte-order mark, or in UTF-16 with one.

    Raises ``UnicodeDecodeError`` for any other encoding, and ``OSError`` if the file cannot be read or is a pipe or a
    device, which may never end.
    """
    refuse_what_is_no_file(path)
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(encoding).replace("\r\n", "\n")


def expanded(path: str | Path) -> Path:
    """``path`` with ``~`` replaced by the home folder; ``CourseError`` if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # as in a container, for a user without a name
        raise CourseError(f"{str(path)!r} begins with a home folder that this system does not know; set HOME, or give "
                          "the full path (for the cache: in ALEXNET_COURSE_CACHE).") from None  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; ``OSError`` if it cannot be written.

    The library's ``save_file`` would use a temporary file that other users cannot read and that stays behind if the
    process is killed.
    """
    from safetensors.torch import save

    content = save(tensors, about)
    with whole_file(path) as part:
        part.write_bytes(content)


def check_target(path: Path) -> None:
    """``CourseError`` if ``path`` cannot be written to; call it before long work whose result goes there."""
    try:
        refuse_what_is_no_file(path)
        part = beside(path)
        try:
            part.touch()
        finally:
            discard(part)
    except OSError as error:
        raise CourseError(f"{str(path)!r} cannot be written to ({error.strerror}); give the path of a file in a "
                          "writable folder.") from None  # fmt: skip


def refuse_existing(path: Path) -> None:
    """``CourseError`` if ``path`` exists, so that no file is overwritten."""
    if present(path):
        raise CourseError(f"{str(path)!r} already exists and is not overwritten; give another path, or remove it.")


def refuse_what_is_no_file(path: Path) -> None:
    """``OSError`` for a folder, a pipe or a device, which must not be replaced and may never end when read."""
    if present(path) and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))


def beside(path: Path) -> Path:
    """Where this process, and no other, writes ``path`` until it is complete."""
    return path.with_name(f"{path.name}.{_token(os.getpid())}{UNFINISHED}")


@cache
def _token(process: int) -> str:
    """Random, since processes in two containers that share a folder may have the same number; and another one after a
    fork. It is short, because names may be long already."""
    return secrets.token_hex(4)


def discard(path: Path) -> None:
    """Remove a file if it exists, and free its space. A mounted drive moves deleted files to a bin, where they still
    count, so the file is truncated first, unless it is a link or has other hard links."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            with suppress(PermissionError):  # it may still be removable
                os.truncate(path, 0)
        path.unlink()


def present(path: Path) -> bool:
    """Whether ``path`` exists; ``OSError`` if that is unknown, where ``Path.exists`` would return False."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def shown(path: Path) -> str:
    """``path`` for messages: relative to the working directory if it lies inside."""
    with suppress(OSError, ValueError):  # the working directory was removed; the path lies outside
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
