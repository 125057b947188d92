"""Helpers shared by several commands."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from alexnet_course.errors import CourseError
from alexnet_course.files import expanded

if TYPE_CHECKING:
    from alexnet_course.recipe import Recipe

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, name: str, command: Callable[[argparse.Namespace], None], text: str, example: str
) -> argparse.ArgumentParser:
    """A command with its help; ``command`` runs it."""
    sub = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  alexnet-course {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=command)
    return sub


def is_main_process() -> bool:
    """Whether this process prints for all that ``torchrun`` started, since all of them raise the same errors."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def add_networks(sub: argparse.ArgumentParser) -> None:
    text = "run this Python file first, which registers networks of your own (register_model)"
    sub.add_argument("--networks", action="append", default=[], metavar="FILE", help=text)


def add_trained(sub: argparse.ArgumentParser) -> None:
    """Add the argument for ``load_trained``."""
    sub.add_argument("run", metavar="RUN", help="folder of a finished run, or name of the package's pretrained weights")


def moved_images(recipe: Recipe, spec: str | None) -> dict[str, Any]:
    """The arguments for a run of ``recipe`` with the images of the data set ``spec``; empty if ``spec`` is None."""
    return dict(zip(("train_set", "test_set"), recipe.both(spec), strict=True)) if spec else {}


def check_images_are_there(spec: str, given: str | None) -> None:
    """``CourseError`` if ``spec``, the data set of a run, is a folder that is not there, unless another one is given.

    It may have been moved, or its path is relative and the working directory another one.
    """
    path = spec.removeprefix("folder:")
    if given is None and path != spec and not expanded(path).is_dir():
        raise CourseError(f"There is no folder {path!r} here, where the images should be; say where they are now with "
                          "--data, as in --data folder:PATH.")  # fmt: skip


def with_interval(accuracy: float, interval: Sequence[float]) -> str:
    return f"{accuracy:.2%} (95 % interval {interval[0]:.2%} to {interval[1]:.2%})"


def free_folder(folder: Path, option: str = "--out") -> Path:
    """Create ``folder``, or ``folder-2``, ``-3``… if it exists, so that nothing is overwritten and runs that start at
    the same time get different folders."""
    candidate, number = folder, 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            if not os.path.lexists(candidate):  # a folder above it is a link that leads nowhere
                raise CourseError(f"{str(candidate)!r} cannot be created, because a folder above it is a broken link; "
                                  f"give a writable folder with {option}.") from None  # fmt: skip
            number += 1
            candidate = folder.with_name(f"{folder.name}-{number}")
        except OSError as error:
            raise CourseError(f"{str(candidate)!r} cannot be created ({error.strerror}); give a writable folder with "
                              f"{option}.") from None  # fmt: skip


def free_file(file: Path) -> Path:
    """``file``, or ``NAME-2.SUFFIX``, ``-3``… if it exists, so that nothing is overwritten."""
    numbered = (file.with_stem(f"{file.stem}-{number}") for number in count(2))
    return next(candidate for candidate in chain([file], numbered) if not os.path.lexists(candidate))


@contextmanager
def removed_if_empty(folder: Path | None) -> Iterator[None]:
    """Remove the new ``folder`` if it is empty after an error."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if folder is not None:
                folder.rmdir()
        raise
