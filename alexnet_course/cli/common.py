"""What several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from alexnet_course.errors import CourseError

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
    """Whether this process speaks for all that ``torchrun`` started, which run into the same errors together."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def add_networks(sub: argparse.ArgumentParser) -> None:
    text = "run this Python file first, which registers networks of your own (register_model)"
    sub.add_argument("--networks", action="append", default=[], metavar="FILE", help=text)


def add_trained(sub: argparse.ArgumentParser) -> None:
    """What ``load_trained`` takes."""
    sub.add_argument("run", metavar="RUN", help="the folder of a finished run, or weights of the package by name")


def moved_images(recipe: Recipe, spec: str | None) -> dict[str, Any]:
    """The arguments for a run of ``recipe`` whose images are now those of the data set ``spec``; none where they were
    not moved."""
    return {f"{split}_set": recipe.images(split, spec) for split in ("train", "test")} if spec else {}


def with_interval(accuracy: float, interval: Sequence[float]) -> str:
    return f"{accuracy:.2%} (95 % interval {interval[0]:.2%} to {interval[1]:.2%})"


def free_folder(folder: Path, option: str = "--out") -> Path:
    """``folder``, or ``folder-2``, ``-3``… where it is taken, so that nothing is overwritten; made at once, so that
    of two that start together each gets its own."""
    candidate, number = folder, 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            number += 1
            candidate = folder.with_name(f"{folder.name}-{number}")
        except OSError as error:
            raise CourseError(f"{str(candidate)!r} cannot be made ({error.strerror}); give a folder that you may write "
                              f"to with {option}.") from None  # fmt: skip
