"""The folder of a run: its lock, its plan, its checkpoints, and at the end its weights and its record.

Nothing here is ever half written: files appear whole, and the checkpoint before the newest stays until the newest is
whole, and after that as well, in case the disk loses what it has taken.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

from alexnet_course.errors import CourseError
from alexnet_course.files import UNFINISHED, whole_file, write_text
from alexnet_course.recipe import Recipe
from alexnet_course.records.record import RECORD
from alexnet_course.training.checkpoint import read_checkpoint, write_checkpoint

PLAN, LOCK, CHECKPOINT = "run.json", ".lock", "checkpoint-*.pt"
KEPT = 2  # checkpoints
DRIVE = Path("/content/drive")  # where Colab mounts Google Drive


class RunFolder:
    """The folder ``path`` of one run, held by this process until ``release``. A file, a folder with other things in it,
    one that another process holds and one on a drive that is not mounted raise ``CourseError``."""

    _held: ClassVar[WeakValueDictionary[Path, RunFolder]] = WeakValueDictionary()  # by this process

    def __init__(self, path: Path) -> None:
        self.path = path
        check_mounted(path)
        try:
            self.existed = path.exists()
            if self.existed and not path.is_dir():
                raise CourseError(f"{str(path)!r} is a file; give a folder for the run.")
            # After a crash before the first checkpoint there may be nothing but a lock and an unfinished file.
            names = {file.name for file in path.iterdir() if file.suffix != UNFINISHED} if self.existed else set()
        except OSError as error:  # a network drive that has gone, say
            raise unreadable(path, error) from None
        if names - {LOCK} and not names & {PLAN, RECORD}:
            raise CourseError(f"{str(path)!r} already holds files, which a new run would mix with; give a new folder.")
        self._lock: FileLock | None = None
        if self.existed:
            self._take()

    def open(self) -> None:
        """Make the folder where there is none yet, and clear away what a crash left unfinished."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CourseError(f"{str(self.path)!r} cannot be made ({error.strerror}); give a folder that you may "
                              "write to.") from None  # fmt: skip
        if self._lock is None:
            self._take()
        for file in self.path.glob(f"*{UNFINISHED}"):
            file.unlink(missing_ok=True)

    def _take(self) -> None:
        place = self.path.resolve()
        if place in self._held:  # a cell of a notebook that is run again: the run before it gives way
            self._held[place].release()
        lock = FileLock(self.path / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise CourseError(f"{str(self.path)!r} is in use by another process; wait until it ends, or give another "
                              "folder.") from None  # fmt: skip
        except NotImplementedError:  # a file system without locks, as some mounted drives are
            warnings.warn(f"{str(self.path)!r} cannot be locked, so make sure that only one process uses it.",
                          stacklevel=2)  # fmt: skip
        except OSError as error:
            raise CourseError(f"{str(self.path)!r} cannot be written to ({error.strerror}); give a folder that you may "
                              "write to.") from None  # fmt: skip
        self._lock = lock
        self._held[place] = self

    def release(self) -> None:
        """Let another run have the folder; a lock that is the only thing in it goes, and so does an empty folder."""
        if self._lock is None:
            return
        self._lock.release()
        self._lock = None
        self._held.pop(self.path.resolve(), None)
        with suppress(OSError):  # where the drive has gone, there is nothing to clear away
            if (self.path / RECORD).exists() or not (self.path / PLAN).exists():
                (self.path / LOCK).unlink(missing_ok=True)
            if not self.existed and not any(self.path.iterdir()):
                self.path.rmdir()

    def check_held(self) -> None:
        if self._lock is None:
            raise CourseError(f"{str(self.path)!r} was taken over by a later run of this process, so this one stops.")

    @property
    def gone(self) -> bool:
        """Whether the folder is no longer there, as after a drive that was taken away."""
        return not os.path.isdir(self.path)  # which takes every error for a no

    @property
    def remedy(self) -> str:
        """What helps where something could not be written; the beginning of a sentence's end."""
        return "mount its drive again" if self.gone else "free some space"

    @property
    def finished(self) -> bool:
        return (self.path / RECORD).exists()

    def plan(self) -> dict[str, Any] | None:
        return read_plan(self.path) if (self.path / PLAN).exists() else None

    def save_plan(self, plan: dict[str, Any]) -> None:
        write_text(self.path / PLAN, json.dumps(plan, indent=1) + "\n")

    def checkpoints(self) -> list[Path]:
        """Newest first."""
        return sorted(self.path.glob(CHECKPOINT), reverse=True)

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a checkpoint; ``OSError`` where the disk does not take it, and then nothing has changed."""
        self.check_held()
        if self.gone:
            raise FileNotFoundError("the folder is gone")
        newest = self.path / CHECKPOINT.replace("*", f"{step:09d}")
        with whole_file(newest) as part:
            write_checkpoint(part, state)
        found = self.checkpoints()
        # Those of later steps could not be read, or the run would have gone on from there.
        later, usable = found[: found.index(newest)], found[found.index(newest) :]
        for old in [*later, *usable[KEPT:]]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole; None where there is none.

        Says so where it has to fall back to an earlier one. A file that would execute code is not opened.
        """
        found = self.checkpoints()
        for place, path in enumerate(found, start=1):
            try:
                return read_checkpoint(path)
            except CourseError as error:
                instead = f"Going on from {found[place].name}" if place < len(found) else "Starting from the beginning"
                warnings.warn(f"{error} {instead}.", stacklevel=6)
        return None

    def discard_checkpoints(self) -> None:
        """The run is finished: weights and record are all that anybody needs."""
        for path in [*self.checkpoints(), self.path / PLAN]:
            path.unlink(missing_ok=True)


def check_mounted(folder: Path) -> None:
    """``CourseError`` for a folder on Google Drive without the drive: made on Colab's own disk, where it would go away
    with the runtime, it would also stand in the way of the drive."""
    if folder.absolute().is_relative_to(DRIVE) and not DRIVE.is_mount():
        raise CourseError(f"{str(folder)!r} is on Google Drive, which is not mounted; run from google.colab import "
                          f"drive; drive.mount({str(DRIVE)!r}) first.")  # fmt: skip


def unreadable(path: Path, error: OSError) -> CourseError:
    return CourseError(f"{str(path)!r} cannot be read ({error.strerror}); mount its drive again, or give a folder that "
                       "you may read.")  # fmt: skip


def read_plan(folder: str | Path) -> dict[str, Any]:
    """What the run in ``folder`` was started with; ``CourseError`` where there is no unfinished run."""
    check_mounted(Path(folder))
    path = Path(folder) / PLAN
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not Path(folder).exists():
            raise CourseError(f"There is no folder {str(folder)!r}, so there is nothing to resume; give the folder of "
                              "the run, and mount its drive where it is on one.") from None  # fmt: skip
        state = "holds a finished run" if (Path(folder) / RECORD).exists() else "holds no run"
        raise CourseError(f"{str(folder)!r} {state}, so there is nothing to resume.") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise CourseError(f"{str(path)!r} is not readable as JSON ({error}); train again in a new folder.") from None
    return plan


def refuse_other_processes(plan: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """``CourseError`` where a run that is to go on was trained by more or fewer processes: it has as many states."""
    before, here = plan.get("processes", 1), now.get("processes", 1)
    if before != here:
        processes = "1 process" if here == 1 else f"{here} processes"
        start = f"with torchrun --nproc-per-node {before}" if before > 1 else "without torchrun"
        raise CourseError(f"The run in {str(folder)!r} cannot go on with {processes}, "
                          f"since it was started with {before}; resume it {start}.")  # fmt: skip


def refuse_changes(plan: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """``CourseError`` that names each field in which a run that is to go on differs from what it was started with."""
    then = {**plan["recipe"], **plan["data"], **plan["options"]}
    asked = {**now["recipe"], **now["data"], **now["options"]}
    # Keys that a later version of the course added have their defaults in runs that were started before.
    then = {**{key: value for key, value in Recipe().as_dict().items() if key not in then}, **then}
    changes = [f"{key} was {then.get(key)!r} and is {asked.get(key)!r}" for key in asked if asked[key] != then.get(key)]
    if changes:
        raise CourseError(f"The run in {str(folder)!r} cannot go on with other settings: {'; '.join(changes)}. Give "
                          "the old ones to go on, or a new folder to start anew.")  # fmt: skip
