"""How much memory is free, where the system says so."""

from contextlib import suppress
from pathlib import Path

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
