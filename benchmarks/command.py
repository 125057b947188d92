"""What the commands of this folder have in common: how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from alexnet_course.errors import CourseError


def run(main: Callable[[], int | None], name: str) -> int:
    """Run ``main`` and return the exit status, as ``alexnet-course`` does: an error of the course is one sentence."""
    try:
        return main() or 0
    except CourseError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped", file=sys.stderr)
        return 130


def whole(text: str) -> int:
    """An argument that is an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)
