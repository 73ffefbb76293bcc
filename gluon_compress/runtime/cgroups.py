"""The CPU quota that Linux's control groups give this process, in version 1 or 2, nested or not."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")


def cpu_quota(root: Path = MOUNTED, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The smallest CPU quota, in cores, of this process's group and of those above it; None without one.

    A container often sees its own group as the root, whatever path it is told, so the root always counts.
    """
    quotas = [_quota(folder) for group in _groups(root, membership) for folder in (group, *group.parents)
              if folder.is_relative_to(root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """Where the files of this process's groups may be: lines of ``number:controllers:path``, none in version 2."""
    yield from (root, root / "cpu", root / "cpu,cpuacct")
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = [part for part in path.split("/") if part not in ("", ".", "..")]
        if not controllers:
            yield from (Path(hierarchy, *below) for hierarchy in (root, root / "unified"))
        elif "cpu" in controllers.split(","):
            yield from (Path(root, name, *below) for name in (controllers, "cpu"))


def _quota(folder: Path) -> float | None:
    """The quota of one group; None without one."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()[:2]  # version 2
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max": no quota
        return None
