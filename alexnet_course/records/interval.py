"""The confidence interval of an accuracy."""

from __future__ import annotations

import math


def wilson_interval(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for ``correct`` successes out of ``count``; 95 % with the default ``z``.

    For a network's accuracy it covers other test images, and does not cover another training. Source: Wilson 1927.

    >>> from alexnet_course.training import wilson_interval
    >>> low, high = wilson_interval(8000, 10_000)
    >>> f"{low:.2%} to {high:.2%}"
    '79.20% to 80.77%'
    """
    fraction = correct / count
    centre = fraction + z * z / (2 * count)
    half = z * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    low, high = (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)
    return low if correct > 0 else 0.0, high if correct < count else 1.0  # exact at both ends, without rounding
