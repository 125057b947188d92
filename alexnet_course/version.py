"""The version of the package, and the commit of its checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__version__ = "0.1.0"


def git_commit() -> str | None:
    """The commit of the course's checkout, with ``+changes`` if files differ from it; None outside a checkout."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, check=True, timeout=10)
        return os.fsdecode(run.stdout).strip()  # as paths are decoded, whose bytes may not be text in this locale

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent.resolve():
            return None  # installed inside another project's checkout
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None
