"""The folder of a run: its lock, its plan, its checkpoints, and at the end its weights and its record.

Every file is written atomically. The last two checkpoints are kept, in case the disk loses the newest.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from alexnet_course.errors import CourseError
from alexnet_course.files import UNFINISHED, check_target, discard, present, read_text, shown, whole_file, write_text
from alexnet_course.recipe import Recipe
from alexnet_course.records.record import PREDICTIONS, RECORD, WEIGHTS
from alexnet_course.training.checkpoint import DamagedCheckpoint, read_back, read_checkpoint, write_checkpoint
from alexnet_course.training.lock import FolderLock

PLAN, LOCK, CHECKPOINT = "run.json", ".lock", "checkpoint-*.pt"
KEPT = 2  # checkpoints
# Options that change how a step is computed, and not what: a run may go on without them on another machine.
SPEED_UPS = ("compile", "graph", "half_weights", "compiled_pools")
IMAGES = {"fingerprint": "training", "test_fingerprint": "test"}  # by the key that identifies them
DRIVE = Path("/content/drive")  # where Colab mounts Google Drive


class RunFolder:
    """The folder ``path`` of one run, locked by this process until ``release``. Raises ``CourseError`` for a file, a
    folder with other files in it, one locked by another process, and one on a drive that is not mounted.

    It is created and locked at once, so that its contents cannot change before the run begins.
    """

    _held: ClassVar[WeakValueDictionary[Path, RunFolder]] = WeakValueDictionary()  # by this process

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # the working directory may change during training
        check_mounted(path)
        try:
            self._made = not present(self.path)
            if not self._made and not self.path.is_dir():
                raise CourseError(f"{str(path)!r} is a file; give a folder for the run.")
            # A crash before the first checkpoint may leave only a lock and an unfinished file.
            files = () if self._made else self.path.iterdir()
            names = {file.name for file in files if file.suffix != UNFINISHED}
        except OSError as error:  # such as a network drive that was disconnected
            raise unreadable(path, error) from None
        if names - {LOCK} and not names & {PLAN, RECORD}:
            raise CourseError(f"{str(path)!r} already holds files, which a run would mix with; give a new folder.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CourseError(f"{str(path)!r} cannot be created ({error.strerror}); give a writable "
                              "folder.") from None  # fmt: skip
        self._damaged: list[Path] = []
        self._read_back = False  # whether a checkpoint written here has been read back
        self._saving = threading.Lock()  # held while any thread saves
        self._lock: FolderLock | None = None
        self._take()

    def _take(self) -> None:
        resolved = self.path.resolve()
        if resolved in self._held:  # a notebook cell that is run again: the earlier run gives up the folder
            self._held[resolved].release()
        lock = FolderLock(self.path / LOCK)
        try:
            lock.take()
        except OSError as error:
            raise CourseError(f"{shown(self.path)!r} cannot be written to ({error.strerror}); give a writable "
                              "folder.") from None  # fmt: skip
        finally:
            if self._made and not lock.is_mine():
                self._remove_if_empty()
        self._lock = lock
        self._held[resolved] = self

    def release(self) -> None:
        """Unlock the folder once a pending save is complete. If it holds nothing but the lock, the lock is removed, and
        so is the folder if this run created it."""
        with self._saving:
            lock, self._lock = self._lock, None
        if lock is None:
            return
        self._held.pop(self.path.resolve(), None)
        try:
            remove = self.finished or not present(self.path / PLAN)
        except (OSError, CourseError):  # the drive was disconnected
            remove = False
        lock.release(remove)
        if self._made:
            self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            self.path.rmdir()

    def clear_unfinished(self) -> None:
        """Remove files that a crash left unfinished."""
        for file in self.path.glob(f"*{UNFINISHED}"):
            discard(file)

    def check_targets(self) -> None:
        """``CourseError`` if a file that is written at the end of the run could not be."""
        for name in (WEIGHTS, PREDICTIONS):
            check_target(self.path / name)

    def check_held(self) -> None:
        if self._lock is None:
            raise CourseError(f"{shown(self.path)!r} was taken over by a later run of this process, so this one stops.")
        if not self._lock.is_mine() and not self.gone:
            raise CourseError(f"{shown(self.path / LOCK)!r} is no longer held by this process, so it stops.")

    @property
    def gone(self) -> bool:
        """Whether the folder no longer exists, for example because its drive was disconnected."""
        return not os.path.isdir(self.path)  # False on any error

    @property
    def remedy(self) -> str:
        """What to do if something could not be written, for an error message."""
        return "mount its drive again" if self.gone else "free some space"

    @property
    def finished(self) -> bool:
        return self._present(RECORD)

    def plan(self) -> dict[str, Any] | None:
        return read_plan(self.path) if self._present(PLAN) else None

    def _present(self, name: str) -> bool:
        try:
            return present(self.path / name)
        except OSError as error:
            raise unreadable(self.path / name, error) from None

    def save_plan(self, plan: dict[str, Any]) -> None:
        try:
            write_text(self.path / PLAN, json.dumps(plan, indent=1) + "\n")
        except OSError as error:
            raise CourseError(f"{shown(self.path)!r} cannot be written to ({error.strerror or error}); {self.remedy} "
                              "and start again, or give another folder.") from None  # fmt: skip

    def checkpoints(self) -> list[Path]:
        """All checkpoints, newest first; ``OSError`` if the folder cannot be read."""
        return sorted((path for path in self.path.iterdir() if path.match(CHECKPOINT)), reverse=True)

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint, as far as can be determined."""
        with suppress(OSError):
            return bool(self.checkpoints())
        return False

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a checkpoint; ``OSError`` if it cannot be written, in which case nothing has changed.

        The first one is read back: ``CourseError`` if the run could not resume from it."""
        with self._saving:
            self.check_held()
            if self.gone:
                raise FileNotFoundError("the folder is gone")
            newest = self.path / CHECKPOINT.replace("*", f"{step:09d}")
            with whole_file(newest) as part:
                write_checkpoint(part, state)
                if not self._read_back:
                    read_back(part)
                    self._read_back = True
            found = self.checkpoints()
            for old in [*self._damaged, *found[found.index(newest) :][KEPT:]]:
                if old != newest:
                    discard(old)
            self._damaged = []

    def load(self, now: dict[str, Any]) -> dict[str, Any] | None:
        """Load the newest intact checkpoint; None if there is none.

        Warns if it has to fall back to an earlier one. Raises ``CourseError`` for a checkpoint that cannot be read now,
        or that is intact but belongs to another run than the plan ``now``: resuming without it would overwrite it.
        """
        try:
            found = self.checkpoints()
        except OSError as error:
            raise unreadable(self.path, error) from None
        for position, path in enumerate(found, start=1):
            try:
                state = read_checkpoint(path)
            except DamagedCheckpoint as error:
                self._damaged.append(path)
                instead = (
                    f"Resuming from {found[position].name}" if position < len(found) else "Starting from the beginning"
                )
                warnings.warn(f"{error} {instead}.", stacklevel=6)
            except OSError as error:
                raise unreadable(path, error) from None
            else:
                refuse_another_run(state, now, path)
                return state
        return None

    def discard_checkpoints(self) -> None:
        """Remove the plan and the checkpoints of a finished run, which needs only its weights and its record."""
        for path in self.checkpoints():
            discard(path)
        (self.path / PLAN).unlink(missing_ok=True)  # not truncated first: a crash would leave an invalid plan


def check_mounted(folder: Path) -> None:
    """``CourseError`` for a folder on Google Drive if the drive is not mounted. It would be created on Colab's own
    disk, be lost with the runtime, and prevent mounting."""
    if folder.absolute().is_relative_to(DRIVE) and not DRIVE.is_mount():
        raise CourseError(f"{str(folder)!r} is on Google Drive, which is not mounted; run from google.colab import "
                          f"drive; drive.mount({str(DRIVE)!r}) first.")  # fmt: skip


def unreadable(path: Path, error: OSError) -> CourseError:
    return CourseError(f"{shown(path)!r} cannot be read ({error.strerror or error}); mount its drive again, or give a "
                       "readable folder.")  # fmt: skip


def read_plan(folder: str | Path) -> dict[str, Any]:
    """The settings that the run in ``folder`` was started with; ``CourseError`` if there is no unfinished run."""
    check_mounted(Path(folder))
    path = Path(folder) / PLAN
    try:
        plan: dict[str, Any] = json.loads(read_text(path))
        if not isinstance(plan, dict) or not {"recipe", "data", "options", "device", "precision"} <= plan.keys():
            raise ValueError("keys are missing")
    except FileNotFoundError:
        if not Path(folder).exists():
            raise CourseError(f"There is no folder {str(folder)!r}, so there is nothing to resume; give the folder of "
                              "the run, and mount its drive if it is on one.") from None  # fmt: skip
        state = "holds a finished run" if (Path(folder) / RECORD).exists() else "holds no run"
        raise CourseError(f"{str(folder)!r} {state}, so there is nothing to resume.") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise CourseError(f"{str(path)!r} is not readable as JSON ({error}); train again in a new folder.") from None
    return plan


def refuse_other_processes(plan: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """``CourseError`` if the run was started with another number of processes, each of which has a state."""
    before, here = plan.get("processes", 1), now.get("processes", 1)
    if before != here:
        processes = "1 process" if here == 1 else f"{here} processes"
        start = f"with torchrun --nproc-per-node {before}" if before > 1 else "without torchrun"
        raise CourseError(f"The run in {shown(folder)!r} cannot be resumed with {processes}, "
                          f"since it was started with {before}; resume it {start}.")  # fmt: skip


def refuse_changes(plan: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """``CourseError`` that names each setting in which a resumed run differs from how it was started."""
    changes = differences(plan, now)
    if changes:
        raise CourseError(f"The run in {shown(folder)!r} cannot be resumed with other settings: {'; '.join(changes)}. "
                          "Give the old ones to resume it, or a new folder to start again.")  # fmt: skip


def refuse_another_run(state: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """``CourseError`` if the checkpoint at ``path`` is not one of the run ``now``."""
    # Checkpoints from earlier versions of the course do not name their images.
    changes = differences({"recipe": state["recipe"], "data": state.get("data", now["data"]), "options": {}},
                          {**now, "options": {}})  # fmt: skip
    if changes:
        raise CourseError(f"{shown(path)!r} is a checkpoint of another run: {'; '.join(changes)}. Move it out of the "
                          "folder to go on.")  # fmt: skip


def differences(plan: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Each setting in which two plans differ, in words."""
    then = {**plan["recipe"], **plan["data"], **plan["options"]}
    asked = {**now["recipe"], **now["data"], **now["options"]}
    del asked["dataset"]  # only the spelling; the fingerprints identify the images
    for name in SPEED_UPS:
        asked.pop(name, None)
    # Keys that were added in a later version of the course have their defaults in runs that were started earlier.
    then = {**Recipe().as_dict(), **dict.fromkeys(now["options"], False), **then}
    return [
        f"the {IMAGES[key]} images are not those that it was started with"
        if key in IMAGES
        else f"{key} was {then.get(key)!r} and is {asked.get(key)!r}"
        for key in asked
        if asked[key] != then.get(key)
    ]
