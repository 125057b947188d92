"""Which images a folder holds, in which class and in which part, for all common layouts."""

import errno
import os
import stat
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from alexnet_course.data.dataset import Division
from alexnet_course.errors import CourseError
from alexnet_course.names import same_form

SPLITS = ("train", "test")
VALIDATION = ("val", "valid", "validation")
OTHER_NAMES = ("training", "testing")
LEFT_BEHIND = ("thumbs.db", "desktop.ini")
FOLDERS_LEFT_BEHIND = ("__MACOSX",)

TEST_SHARE = 0.2  # of a folder without parts

_said: set[str] = set()


@dataclass(frozen=True)
class Listing:
    """One part of a folder: its classes in alphabetical order, and each file with the number of its class."""

    classes: tuple[str, ...]
    samples: tuple[tuple[str, int], ...]

    @property
    def files(self) -> list[str]:
        return [file for file, _ in self.samples]

    @property
    def labels(self) -> list[int]:
        return [label for _, label in self.samples]


@dataclass(frozen=True)
class Tree:
    """The parts of a folder. ``validation`` is its own validation set, if it has one; ``division`` says how it was
    divided, if it has not just ``train`` and ``test``."""

    train: Listing
    test: Listing
    validation: Listing | None = None
    division: Division = ""


def list_tree(path: Path) -> Tree:
    """The parts of ``path``: ``{train,test}/CLASS/IMAGE``, with ``val`` beside them or in place of ``test``, or only
    ``CLASS/IMAGE``. Raises ``CourseError`` for any other tree, and if two parts have different classes."""
    try:
        there_is_one = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ENAMETOOLONG):
            raise CourseError(f"{str(path)!r} cannot be read as a folder of images ({error.strerror}); check the path "
                              "after 'folder:'.") from None  # fmt: skip
        there_is_one = False
    if not there_is_one:
        raise CourseError(
            f"There is no folder {str(path)!r}; expected one with train and test in it, or with one folder for each "
            "class, so check the path after 'folder:'."
        )
    validation = [name for name in VALIDATION if (path / name).is_dir()]
    if len(validation) > 1:
        raise CourseError(
            f"{str(path)!r} has {' and '.join(validation)}; expected one folder of validation images, so merge them."
        )
    there = [name for name in SPLITS if (path / name).is_dir()]
    folders = _folders(path)
    if len(folders) > 1 and {name.lower() for name in folders} <= {*SPLITS, *VALIDATION, *OTHER_NAMES}:
        wrong = [name for name in folders if name not in (*SPLITS, *VALIDATION)]
        if wrong:
            raise CourseError(
                f"{str(path)!r} has {' and '.join(map(repr, wrong))}, which are not the names of its parts; expected "
                "train and test, and val where there are validation images, so rename them."
            )
    if not there and not validation and folders:
        return _split(path)
    missing = next((name for name in SPLITS if name not in there), None)
    if missing == "train" or (missing and not validation):
        or_class = ""
        if there and len(folders) > len(there):
            or_class = f", or rename {there[0]} if it is a class"
        raise CourseError(
            f"{str(path)!r} has no folder {missing!r}; expected train and test, each with one folder for each class, "
            f"so add it{or_class}."
        )
    parts = {name: _list(path / name) for name in (*there, *validation)}
    for name, part in parts.items():
        _check_same_classes(path, name, part, parts["train"])
    if not validation:
        return Tree(parts["train"], parts["test"])
    held_out = parts[validation[0]]
    if missing:
        say_once(f"{str(path)!r} has no folder test, so the images in {validation[0]} are its test images, evaluated "
                 "once, at the end of a run")  # fmt: skip
        return Tree(parts["train"], held_out, division="validation as test")
    return Tree(parts["train"], parts["test"], held_out, "own validation")


def _check_same_classes(path: Path, name: str, part: Listing, train: Listing) -> None:
    differing = sorted(set(map(same_form, part.classes)) ^ set(map(same_form, train.classes)))
    if differing:
        where = name if differing[0] in map(same_form, part.classes) else "train"
        raise CourseError(
            f"{str(path)!r} has different classes in train and {name}: {differing[0]!r} is only in {where}; give both "
            "the same class folders."
        )


def _split(path: Path) -> Tree:
    """A folder with ``CLASS/IMAGE`` only: a fraction of each class becomes the test set.

    A digest of each image's name decides, so the choice is the same everywhere and each time, and an image that is
    added later changes nothing for the others. A class has at least one image in each part.
    """
    whole = _list(path)
    members: dict[int, list[str]] = {}
    for file, label in whole.samples:
        members.setdefault(label, []).append(file)
    test: set[str] = set()
    for label, files in members.items():
        if len(files) == 1:
            raise CourseError(
                f"{str(path)!r} has no folders train and test, and only one image of {whole.classes[label]!r}, which "
                "cannot be in both parts; give more images, or make the two folders."
            )
        places = {file: _place(path, file) for file in files}
        ordered = sorted(files, key=places.__getitem__)
        chosen = [file for file in ordered if places[file] < TEST_SHARE]
        test |= set(chosen[: len(files) - 1] or ordered[:1])
    say_once(f"{str(path)!r} has no folders train and test, so {len(test):,} of its {len(whole.samples):,} images, "
             f"about {TEST_SHARE:.0%} of each class, are its test images, chosen by their names")  # fmt: skip

    def part(of_test: bool) -> Listing:
        return Listing(whole.classes, tuple(sample for sample in whole.samples if (sample[0] in test) == of_test))

    return Tree(part(False), part(True), division="by name")


def _place(path: Path, file: str) -> float:
    """A number from 0 to 1 that depends only on the name of an image within its folder."""
    name = same_form(Path(file).relative_to(path).as_posix())
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()) / 2**64


def _folders(tree: Path) -> tuple[str, ...]:
    try:
        found = (entry.name for entry in os.scandir(tree) if entry.is_dir() and not _is_left_behind(entry.name))
        return tuple(sorted(found, key=same_form))  # so that splits from a Mac and from Linux agree
    except OSError as error:
        raise _closed(error) from None


def _list(tree: Path) -> Listing:
    """The images of ``tree/CLASS`` in a fixed order."""
    classes = _folders(tree)
    if not classes:
        raise CourseError(
            f"{str(tree)!r} has no class folders; expected one for each class, so sort the images into such folders."
        )
    if len(classes) == 1:
        raise CourseError(
            f"{str(tree)!r} has only one class folder, {classes[0]!r}; expected one for each of two classes or more, "
            "so give the folder that holds train and test, or the classes."
        )
    samples: list[tuple[str, int]] = []
    for number, name in enumerate(classes):
        files = image_files(tree / name)
        if not files:
            raise CourseError(
                f"The class folder {str(tree / name)!r} is empty; put images in it, or remove the class from all parts."
            )
        nested = next((file for file in files if os.path.dirname(file) != str(tree / name)), None)
        if nested is not None:
            inner = os.path.relpath(os.path.dirname(nested), tree / name)
            say_once(f"the class folder {str(tree / name)!r} has folders in it, such as {inner!r}, whose images count "
                     f"as {name!r}")  # fmt: skip
        samples += [(file, number) for file in files]
    return Listing(classes, tuple(samples))


def image_files(folder: Path) -> list[str]:
    """The files below ``folder``, without those that file managers and notebooks leave there: ``.DS_Store``,
    ``Thumbs.db``, ``.ipynb_checkpoints``. Raises ``CourseError`` if a folder cannot be opened."""

    def stop(error: OSError) -> None:
        raise _closed(error)

    found = []
    for parent, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        folders[:] = [name for name in folders if not _is_left_behind(name)]
        found += [os.path.join(parent, name) for name in files if not _is_left_behind(name)]
    return sorted(found, key=lambda file: (os.path.dirname(file), os.path.basename(file)))


def _is_left_behind(name: str) -> bool:
    """Whether a file or folder is one that systems, notebooks and archives put beside images."""
    return name[0] == "." or name.lower() in LEFT_BEHIND or name in FOLDERS_LEFT_BEHIND


def _closed(error: OSError) -> CourseError:
    return CourseError(
        f"The folder {str(error.filename)!r} cannot be opened ({error.strerror}); change its permissions, or "
        "move it out of the tree."
    )


def say_once(text: str) -> None:
    """Warn of a decision; only once in a process, however often a folder is read."""
    if text not in _said:
        _said.add(text)
        warnings.warn(f"{text[0].upper()}{text[1:]}.", stacklevel=2)
