"""torchinfo's table of a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alexnet_course.errors import CourseError

if TYPE_CHECKING:
    import torch


def summary(model: torch.nn.Module, input_size: Sequence[int]) -> str:
    """torchinfo's table of ``model`` for images of ``input_size``, (C, H, W) or with the batch (N, C, H, W), as text.

    Leaves the modes of the model's layers and the random state as they were. Raises CourseError where ``input_size`` is
    not three or four positive integers or the network cannot take such an image.
    """
    import torchinfo  # here, so that importing the package stays cheap
    from torchinfo.enums import Units

    from alexnet_course.shapes import evaluating, zeros_like_input

    sizes = tuple(input_size)
    if len(sizes) not in (3, 4) or not all(isinstance(value, int) and value >= 1 for value in sizes):
        raise CourseError(f"input_size is {input_size!r}, but must be positive integers: (C, H, W) or (N, C, H, W).")
    batch = zeros_like_input(model, sizes if len(sizes) == 4 else (1, *sizes))
    with evaluating(model):  # torchinfo itself would put all layers into the mode of the outermost one
        try:
            text = str(torchinfo.summary(model, input_data=batch, verbose=0))
        except RuntimeError as error:  # torchinfo wraps whatever went wrong
            if isinstance(error.__cause__, CourseError):
                raise error.__cause__ from None
            raise
    # torchinfo 1.8.0 formats an enum into "(M)", which Python 3.11 and newer spell "(Units.MEGABYTES)".
    return re.sub(r"\(Units\.(\w+)\)", lambda match: f"({Units[match[1]].value})", text)
