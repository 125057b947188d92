"""How much memory is free, where the system reports it, and what fits into it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")
# In both versions of control groups: a container's limit, its use, and the part of that which is cached files.
VERSIONS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def free_memory() -> int | None:
    """Bytes that a process can still allocate, including swap; None on a system that does not report it."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        found.append(sum(int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "SwapFree")))
    for limit, used, statistics, dropped in VERSIONS:
        with suppress(OSError, ValueError):  # the word max: no limit
            found.append(int(_read(limit)))
            with suppress(OSError, ValueError, KeyError):
                of_files = dict(line.split(maxsplit=1) for line in _read(statistics).splitlines())[dropped]
                found[-1] = max(0, found[-1] - int(_read(used)) + int(of_files))
    return min(found, default=None)


def _read(name: str) -> str:
    return (CONTROL_GROUP / name).read_text(encoding="ascii")


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
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch keeps it, unused
    return images.nbytes <= SHARE * free
