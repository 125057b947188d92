"""How much memory is free, where the system reports it, and what fits into it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEMINFO = Path("/proc/meminfo")
# The container's limit, in the two versions of Linux's control groups.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def free_memory() -> int | None:
    """Bytes that a process can still allocate, including swap; None on a system that does not report it."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        found.append(sum(int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "SwapFree")))
    for limit in LIMITS:
        with suppress(OSError, ValueError):  # the word max: no limit
            found.append(int(limit.read_text(encoding="ascii")))
    return min(found, default=None)


SHARE = 0.5  # of the free memory, for the images; the network, its optimiser and its batches need the rest


def is_large(count: int) -> bool:
    """Whether this many bytes of images are too much to be in memory at once."""
    free = free_memory()
    return free is not None and count > SHARE * free


def fits(images: torch.Tensor, device: torch.device) -> bool:
    """Whether ``images`` may be copied to ``device``: always to a CPU, and to a GPU if half of its free memory stays
    free."""
    import torch

    if device.type != "cuda" or images.device.type == "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= SHARE * free
