"""Helpers for the chapters: the profile they run in, numbers for their text, and checks of exercises."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import torch

from alexnet_course.errors import CourseError, first_line

PROFILE_VARIABLE = "ALEXNET_COURSE_PROFILE"
NO_GPU = """\
This runtime has no GPU, so the cells use small drawings and take seconds.
For CIFAR-10: Runtime → Change runtime type → T4 GPU, then Runtime → Run all."""


def profile() -> str:
    """``quick`` (doodles, seconds per cell) or ``full`` (CIFAR-10).

    The default is ``full`` on a machine with a GPU, else ``quick``; the environment variable
    ``ALEXNET_COURSE_PROFILE`` overrides it. On Colab without a GPU, it prints how to get one.
    """
    wanted = os.environ.get(PROFILE_VARIABLE)
    if not wanted:
        wanted = "full" if torch.cuda.is_available() else "quick"
        if wanted == "quick" and "google.colab" in sys.modules:
            print(NO_GPU)
    if wanted not in ("quick", "full"):
        raise CourseError(f"{PROFILE_VARIABLE} = {wanted!r} is not a profile; set it to quick or full.")
    return wanted


def glue(name: str, value: Any) -> None:
    """Make ``value`` available to the book's text as ``name``. Does nothing outside the book, such as on Colab."""
    try:
        from myst_nb import glue as myst_glue
    except ImportError:
        return
    myst_glue(name, value, display=False)


def attempt(check: Callable[[], object]) -> None:
    """Check the answer to an exercise: prints ``right``, or ``not yet:`` and the reason.

    ``check`` tests the answer with assertions. A missing or wrong answer does not stop the notebook.

    >>> from alexnet_course.notebook import attempt
    >>> attempt(lambda: 1 / 0)
    not yet: division by zero
    """
    try:
        check()
    except Exception as error:  # an unfinished answer may fail in any way
        print(textwrap.fill(f"not yet: {first_line(error)}", 76))  # the width of a page of the book
    else:
        print("right")
