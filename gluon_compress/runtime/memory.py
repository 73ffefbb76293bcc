"""How much memory this process may still take."""
from __future__ import annotations

import re
from pathlib import Path

from .cgroups import MOUNTED, memory_left


def available_memory(statistics: Path = Path("/proc/meminfo"), root: Path = MOUNTED,
                     membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that are free or can be freed, also within the limit of this process's container; None where unknown."""
    left = [memory_left(root, membership)]
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", statistics.read_text(), re.MULTILINE)
        left.append(int(found[1]) * 1024 if found else None)
    except OSError:  # not Linux
        pass
    return min((number for number in left if number is not None), default=None)
