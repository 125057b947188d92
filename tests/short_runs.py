"""Runs of a second or so, for tests of what happens when one stops and goes on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from alexnet_course.recipe import Recipe


def recipe(**changes: Any) -> Recipe:
    """Three epochs of 6 steps on the training images of ``data``."""
    values = {"model": "cnn4", "epochs": 3, "batch_size": 16, "precision": "fp32", "validation_size": 20, "lr": 0.01}
    return Recipe(**{**values, **changes})


def wait_for_checkpoint(process: subprocess.Popen[Any], out: Path, seconds: float = 120) -> None:
    """Until the training ``process`` has written one into the folder ``out``; an error where it ends or hangs first."""
    until = time.monotonic() + seconds
    while not list(out.glob("*.pt")):
        assert process.poll() is None, process.stderr.read() if process.stderr else "the process has ended"
        assert time.monotonic() < until
        time.sleep(0.005)
