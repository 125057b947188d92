"""What chapters need of the place they run in: the profile, and numbers for the text."""

from __future__ import annotations

import os
from typing import Any

import torch

from alexnet_course.errors import CourseError

PROFILE_VARIABLE = "ALEXNET_COURSE_PROFILE"


def profile() -> str:
    """``quick`` (doodles, seconds a cell) or ``full`` (CIFAR-10).

    ``full`` is the default where there is a GPU; the environment variable ``ALEXNET_COURSE_PROFILE`` overrides it.
    """
    wanted = os.environ.get(PROFILE_VARIABLE) or ("full" if torch.cuda.is_available() else "quick")
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
