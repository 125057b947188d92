"""``alexnet-course --version``."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from alexnet_course.training.device import choose_device, device_name
from alexnet_course.version import __version__, git_commit


def version_text() -> str:
    """The version and what an issue report needs about the environment, without paths or personal names."""
    lines = {
        "commit": git_commit() or "none: installed, not a checkout",
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": installed_version("torchvision"),
        "numpy": installed_version("numpy"),
        "device": device_name(choose_device()),
        "platform": platform.platform(),
    }
    return "\n".join([f"alexnet-course {__version__}", *(f"  {name:<11}  {text}" for name, text in lines.items())])


def installed_version(name: str) -> str:
    """The version of a package, without the slow import; works for a broken installation too."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
