"""Files that appear whole or not at all, whatever happens to the process or to the disk meanwhile."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_course.errors import CourseError

if TYPE_CHECKING:
    from torch import Tensor

UNFINISHED = ".unfinished"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it is flushed to the disk and takes the name ``path`` at the end.

    After an error, or a crash at any moment, ``path`` is what it was before. Raises ``OSError`` where the disk does not
    take the file, and where ``path`` is something else than a file.
    """
    refuse_what_is_no_file(path)
    part = beside(path)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        if os.name == "posix":  # the new name must reach the disk too
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                with suppress(OSError):  # some mounted drives cannot do that for a folder
                    os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        discard(part)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or as editors on Windows save it: with a byte-order mark, or in UTF-16 with one.

    Raises ``UnicodeDecodeError`` for any other encoding, and ``OSError`` where the file cannot be read, for a pipe, on
    which one would wait, and for a device, which may have no end.
    """
    refuse_what_is_no_file(path)
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(encoding).replace("\r\n", "\n")


def expanded(path: str | Path) -> Path:
    """``path`` with the home folder in the place of its ``~``; ``CourseError`` where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # as in a container, for a user without a name
        raise CourseError(f"{str(path)!r} begins with a home folder that this system does not know; set HOME, or give "
                          "the whole path (of the cache: in ALEXNET_COURSE_CACHE).") from None  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all; ``OSError`` where the disk does not take it.

    The library's own ``save_file`` writes to a file of its own beside ``path``. Nobody else may read that, and it stays
    behind where the process is killed.
    """
    from safetensors.torch import save

    content = save(tensors, about)
    with whole_file(path) as part:
        part.write_bytes(content)


def check_target(path: Path) -> None:
    """``CourseError`` where no file can be written to ``path``: for before the work whose result goes there."""
    try:
        refuse_what_is_no_file(path)
        part = beside(path)
        try:
            part.touch()
        finally:
            discard(part)
    except OSError as error:
        raise CourseError(f"{str(path)!r} cannot be written to ({error.strerror}); give the path of a file in a folder "
                          "that you may write to.") from None  # fmt: skip


def refuse_existing(path: Path) -> None:
    """``CourseError`` where there is something at ``path``, for what must take nobody's file away."""
    if present(path):
        raise CourseError(f"{str(path)!r} exists already and is not overwritten; give another path, or remove it.")


def refuse_what_is_no_file(path: Path) -> None:
    """``OSError`` for a folder, a pipe or a device, which a file must not replace, and which may have no end."""
    if present(path) and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")


def discard(path: Path) -> None:
    """Remove a file, if it is there, and give back its space: a mounted drive keeps what is deleted in a bin, where it
    counts, so the file is emptied first. What has another name as well, or is a link, keeps its content there."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            with suppress(PermissionError):  # of a file that may be removed all the same
                os.truncate(path, 0)
        path.unlink()


def present(path: Path) -> bool:
    """Whether there is something at ``path``; ``OSError`` where that cannot be told, which ``Path.exists`` calls no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def shown(path: Path) -> str:
    """``path`` as a sentence should name it: seen from the working directory where it is in there."""
    with suppress(OSError, ValueError):  # a working directory that has been removed; a path outside of it
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
