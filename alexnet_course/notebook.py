"""What chapters need of the place they run in: the profile, numbers for the text, and a look at an answer."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import torch

from alexnet_course.errors import CourseError

PROFILE_VARIABLE = "ALEXNET_COURSE_PROFILE"
NO_GPU = """\
This runtime has no GPU, so the cells use little drawings and take seconds.
For CIFAR-10: Runtime → Change runtime type → T4 GPU, then Runtime → Run all."""


def profile() -> str:
    """``quick`` (doodles, seconds a cell) or ``full`` (CIFAR-10).

    ``full`` is the default where there is a GPU; the environment variable ``ALEXNET_COURSE_PROFILE`` overrides it.
    On Colab, where a GPU is there for the asking, it says where to ask.
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
    """Give ``value`` to the text of the book under ``name``. Outside the book (on Colab, say) it does nothing."""
    try:
        from myst_nb import glue as myst_glue
    except ImportError:
        return
    myst_glue(name, value, display=False)


def attempt(check: Callable[[], object]) -> None:
    """Whether what stands in an exercise's cell is an answer: prints ``right``, or ``not yet:`` and why.

    ``check`` looks at the answer with assertions. An answer that is not there yet stops nothing.

    >>> from alexnet_course.notebook import attempt
    >>> attempt(lambda: 1 / 0)
    not yet: division by zero
    """
    try:
        check()
    except Exception as error:  # whatever an unfinished answer can run into
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        print(textwrap.fill(f"not yet: {reason}", 76))  # what fits on a page of the book
    else:
        print("right")
