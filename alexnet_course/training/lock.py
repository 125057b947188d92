"""The lock on a run's folder, so that only one process works there: the system's lock, or else a lock file."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from alexnet_course.errors import CourseError
from alexnet_course.files import shown

# Errors of file systems without locks, such as some mounted drives. ENOTSUP equals EOPNOTSUPP only on Linux.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}

if sys.platform == "win32":
    import msvcrt

    def lock_file(file: int) -> None:
        """``PermissionError`` if another process has it. The locked byte lies after the text."""
        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

    def unlock_file(file: int) -> None:
        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def lock_file(file: int) -> None:
        """``BlockingIOError`` or, on some file systems, ``PermissionError`` if another process has it."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock_file(file: int) -> None:
        """Unlock explicitly, because a process forked from this one would keep the lock."""
        fcntl.flock(file, fcntl.LOCK_UN)


class FolderLock:
    """The file ``path``, locked from ``take`` to ``release``; it names the owner.

    The system releases its lock when the process ends, for whatever reason. If the file system has no locks, the file
    itself is the lock: one left by a dead process of this machine is taken over, one of another machine has to be
    deleted by hand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The time distinguishes this process from an earlier one of the same number, as in a restarted container.
        self._owner = f"{os.getpid()} {socket.gethostname()} {time.time_ns()}"
        self._file: int | None = None  # open while the system's lock on it is held

    def take(self) -> None:
        """``CourseError`` if another process has the folder, ``OSError`` if the file cannot be created."""
        for tries_left in reversed(range(9)):  # one is enough, unless the file was just removed (see below)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                lock_file(file)
            except OSError as error:
                os.close(file)
                if isinstance(error, BlockingIOError | PermissionError):
                    raise self._in_use("wait until it ends, or give another folder") from None
                if error.errno not in NO_LOCKS:
                    raise
                self._take_softly()
                return
            self._file = file
            if os.fstat(file).st_nlink or not tries_left:  # some drives do not count links
                break
            self._close()  # its owner has removed the file in the meantime
        assert self._file is not None
        with suppress(OSError):  # a full disk: the lock works without the name
            os.ftruncate(self._file, 0)
            os.write(self._file, self._owner.encode())

    def _take_softly(self) -> None:
        if self._is_held():
            raise self._in_use(f"wait until it ends or, if it has died, delete {shown(self.path)!r} and start again")
        self.path.unlink(missing_ok=True)
        with suppress(FileExistsError), open(self.path, "x", encoding="utf-8") as file:
            file.write(self._owner)
        if not self.is_mine():  # if two processes found it free, the one that wrote last has it
            raise self._in_use("wait until it ends, or give another folder")

    def _read(self) -> str:
        """The owner, as written in the file; empty if there is none or the file cannot be read."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _is_held(self) -> bool:
        """Whether the process that wrote its name into the file may still be there."""
        process, _, rest = self._read().partition(" ")
        if not rest.startswith(f"{socket.gethostname()} ") or not process.isdecimal() or os.name != "posix":
            return bool(process)
        if int(process) == os.getpid():
            return False  # an earlier process of this number
        try:
            os.kill(int(process), 0)  # signal 0 only checks
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # another user's process
            return True
        return True

    def _in_use(self, advice: str) -> CourseError:
        process, host, *_ = [*self._read().split(" "), "", ""]
        who = f"process {process} on {host}" if host else "another process"
        return CourseError(f"{shown(self.path.parent)!r} is in use by {who}; {advice}.")

    def is_mine(self) -> bool:
        """Whether it is still held: a lock file may have been deleted, or taken by another process."""
        return self._file is not None or self._read() == self._owner

    def release(self, remove: bool = False) -> None:
        """Release the lock; ``remove`` the file or leave it empty. A lock file is always removed."""
        with suppress(OSError):  # if the drive was disconnected, there is nothing to remove
            if self._file is None:
                if self.is_mine():
                    self.path.unlink()
            elif remove:
                self.path.unlink()  # while locked, so that a process that has it open notices
            else:
                os.ftruncate(self._file, 0)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                unlock_file(self._file)
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self._close()
