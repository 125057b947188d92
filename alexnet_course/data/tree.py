"""Which images a folder holds, in which class and in which part: the layouts that people have."""

import os
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from alexnet_course.data.dataset import Division
from alexnet_course.errors import CourseError
from alexnet_course.names import same_form

SPLITS = ("train", "test")
VALIDATION = ("val", "valid", "validation")
LEFT_BEHIND = ("thumbs.db", "desktop.ini")
FOLDERS_LEFT_BEHIND = ("__MACOSX",)

TEST_SHARE = 0.2  # of a folder without parts

_said: set[str] = set()


@dataclass(frozen=True)
class Listing:
    """What a part holds: its classes in alphabetical order, and each file with the number of its class."""

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
    """The parts of a folder. ``validation`` is what it holds out itself; ``division`` says how it came by its parts,
    where it does not have ``train`` and ``test`` alone."""

    train: Listing
    test: Listing
    validation: Listing | None = None
    division: Division = ""


def list_tree(path: Path) -> Tree:
    """What ``path`` holds: ``{train,test}/CLASS/IMAGE``, with ``val`` beside them or in the place of ``test``, or
    ``CLASS/IMAGE`` alone. ``CourseError`` for any other tree, and where two parts have different classes."""
    if not path.is_dir():
        raise CourseError(
            f"There is no folder {str(path)!r}; expected one with train and test in it, or with one folder a class, so "
            "check the path after 'folder:'."
        )
    validation = [name for name in VALIDATION if (path / name).is_dir()]
    if len(validation) > 1:
        raise CourseError(
            f"{str(path)!r} has {' and '.join(validation)}; expected one folder of validation images, so put them "
            "together."
        )
    there = [name for name in SPLITS if (path / name).is_dir()]
    if not there and not validation and _folders(path):
        return _split(path)
    missing = next((name for name in SPLITS if name not in there), None)
    if missing == "train" or (missing and not validation):
        raise CourseError(
            f"{str(path)!r} has no folder {missing!r}; expected train and test, each with one folder a class, so add "
            "it."
        )
    parts = {name: _list(path / name) for name in (*there, *validation)}
    for name, part in parts.items():
        _check_same_classes(path, name, part, parts["train"])
    if not validation:
        return Tree(parts["train"], parts["test"])
    held_out = parts[validation[0]]
    if missing:
        say_once(f"{str(path)!r} has no test, so the images in {validation[0]} are its test images, looked at "
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
    """``CLASS/IMAGE`` alone: of each class, a share becomes the test set.

    Which images do is decided by a digest of each one's name, so that it is the same everywhere and each time, and a
    image that is added later changes nothing for the others. A class has one image in each part at least.
    """
    whole = _list(path)
    members: dict[int, list[str]] = {}
    for file, label in whole.samples:
        members.setdefault(label, []).append(file)
    test: set[str] = set()
    for label, files in members.items():
        if len(files) == 1:
            raise CourseError(
                f"{str(path)!r} has no train and test, and one image alone of {whole.classes[label]!r}, which cannot "
                "be in both; give more images, or make the two folders."
            )
        places = {file: _place(path, file) for file in files}
        ordered = sorted(files, key=places.__getitem__)
        chosen = [file for file in ordered if places[file] < TEST_SHARE]
        test |= set(chosen[: len(files) - 1] or ordered[:1])
    say_once(f"{str(path)!r} has no train and test, so {len(test):,} of its {len(whole.samples):,} images, about "
             f"{TEST_SHARE:.0%} of each class, are its test images, chosen by their names")  # fmt: skip

    def part(of_test: bool) -> Listing:
        return Listing(whole.classes, tuple(sample for sample in whole.samples if (sample[0] in test) == of_test))

    return Tree(part(False), part(True), division="by name")


def _place(path: Path, file: str) -> float:
    """A number from 0 to 1 that the name of an image, after that of its folder, decides."""
    name = same_form(Path(file).relative_to(path).as_posix())
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()) / 2**64


def _folders(tree: Path) -> tuple[str, ...]:
    try:
        found = (entry.name for entry in os.scandir(tree) if entry.is_dir() and not _is_left_behind(entry.name))
        return tuple(sorted(found, key=same_form))  # or one split of two might come from a Mac, and count otherwise
    except OSError as error:
        raise _closed(error) from None


def _list(tree: Path) -> Listing:
    """The images of ``tree/CLASS`` in a fixed order."""
    classes = _folders(tree)
    if not classes:
        raise CourseError(
            f"{str(tree)!r} has no class folders; expected one a class with its images in it, so sort them that way."
        )
    if len(classes) == 1:
        raise CourseError(
            f"{str(tree)!r} has one class folder alone, {classes[0]!r}; expected one for each of two classes or more, "
            "so give the folder in which train and test, or the classes, are."
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
            say_once(f"the class folder {str(tree / name)!r} has folders in it, such as {inner!r}, whose images are "
                     f"taken as {name!r}")  # fmt: skip
        samples += [(file, number) for file in files]
    return Listing(classes, tuple(samples))


def image_files(folder: Path) -> list[str]:
    """The files below ``folder``, but for what file managers and notebooks leave there: ``.DS_Store``, ``Thumbs.db``,
    ``.ipynb_checkpoints``. ``CourseError`` where a folder cannot be opened: its images are not none."""

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
        f"The folder {str(error.filename)!r} cannot be opened ({error.strerror}); give yourself the right to read it, "
        "or move it out of the tree."
    )


def say_once(text: str) -> None:
    """Warn of what was decided for the reader; once a process, however often a folder is read."""
    if text not in _said:
        _said.add(text)
        warnings.warn(f"{text[0].upper()}{text[1:]}.", stacklevel=2)
