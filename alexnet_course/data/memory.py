"""How much memory is free, where the system says so, and what fits into it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEMINFO = Path("/proc/meminfo")
# Of the container, by the two versions of Linux's control groups.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def free_memory() -> int | None:
    """Bytes that a process can still take at most, swap among them; None on a system that does not say."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        found.append(sum(int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "SwapFree")))
    for limit in LIMITS:
        with suppress(OSError, ValueError):  # the word max: there is none
            found.append(int(limit.read_text(encoding="ascii")))
    return min(found, default=None)


SHARE = 0.5  # of the free memory that images may have: the network, its optimiser and its batches need some


def is_large(count: int) -> bool:
    """Whether so many bytes of images should not be in memory all at once."""
    free = free_memory()
    return free is not None and count > SHARE * free


def fits(images: torch.Tensor, device: torch.device) -> bool:
    """Whether ``images`` may be copied to ``device``: to a GPU where they leave half of its free memory, and to where
    they are."""
    import torch

    if device.type != "cuda" or images.device.type == "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= SHARE * free
