"""The CPU quota and the memory that Linux's control groups give this process, in version 1 or 2, nested or not."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")


def cpu_quota(root: Path = MOUNTED, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The smallest CPU quota, in cores, of this process's group and of those above it; None without one.

    A container often sees its own group as the root, whatever path it is told, so the root always counts.
    """
    quotas = (_quota(folder) for folder in _with_parents(_groups("cpu", root, membership), root))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_left(root: Path = MOUNTED, membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """The bytes that this process's group, and those above it, may still take; None without a limit."""
    left = (_memory_left(folder) for folder in _with_parents(_groups("memory", root, membership), root))
    return min((number for number in left if number is not None), default=None)


def _with_parents(groups: Iterator[Path], root: Path) -> Iterator[Path]:
    return (folder for group in groups for folder in (group, *group.parents) if folder.is_relative_to(root))


def _groups(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Where the files of this process's groups may be: lines of ``number:controllers:path``, none in version 2."""
    yield from (root, root / controller, *([root / "cpu,cpuacct"] if controller == "cpu" else []))
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = [part for part in path.split("/") if part not in ("", ".", "..")]
        if not controllers:
            yield from (Path(hierarchy, *below) for hierarchy in (root, root / "unified"))
        elif controller in controllers.split(","):
            yield from (Path(root, name, *below) for name in (controllers, controller))


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


def _memory_left(folder: Path) -> int | None:
    """What one group's limit leaves, its page cache counted as free; None without a limit."""
    names = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")  # versions 2 and 1
    for limit, used in names:
        try:
            cached = _statistic(folder / "memory.stat", ("inactive_file", "total_inactive_file"))
            return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()) + cached)
        except (OSError, ValueError):  # "max": no limit
            continue
    return None


def _statistic(path: Path, names: tuple[str, ...]) -> int:
    """The largest of the numbers with these names in a file of ``name number`` lines."""
    lines = (line.split() for line in path.read_text().splitlines())
    return max((int(number) for name, number in lines if name in names), default=0)
