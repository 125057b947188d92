"""What tests that measure a time need to know of the machine."""

import os


def load_per_core() -> float:
    """How many programs share a core of this machine, on the average of the last minute; at least one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
