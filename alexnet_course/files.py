"""Files that appear whole or not at all, whatever happens to the process or to the disk meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".unfinished"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it is flushed to the disk and takes the name ``path`` at the end.

    After an error, or a crash at any moment, ``path`` is what it was before. Raises ``OSError`` where the disk does not
    take the file.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
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
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
